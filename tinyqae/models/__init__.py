"""The autoencoders: encoder, bottleneck, decoder."""
from .base import Autoencoder, load
from .mlp import MLPAutoencoder

__all__ = ["Autoencoder", "MLPAutoencoder", "load"]
