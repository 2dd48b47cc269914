"""The autoencoders: encoder, bottleneck, decoder."""
from .base import Autoencoder, load
from .cnn import CNNAutoencoder
from .mlp import MLPAutoencoder

__all__ = ["Autoencoder", "CNNAutoencoder", "MLPAutoencoder", "load"]
