"""The autoencoders: encoder, bottleneck, decoder."""
from ..model_files import load
from .base import Autoencoder
from .cnn import CNNAutoencoder
from .mlp import MLPAutoencoder
from .seq2seq import Seq2SeqAutoencoder

__all__ = ["Autoencoder", "CNNAutoencoder", "MLPAutoencoder", "Seq2SeqAutoencoder", "load"]
