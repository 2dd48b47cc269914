"""The autoencoders: encoder, bottleneck, decoder."""
from ..model_files import load
from .base import Autoencoder
from .cnn import CNNAutoencoder
from .images import ImageAutoencoder
from .mlp import MLPAutoencoder
from .seq2seq import Seq2SeqAutoencoder

__all__ = ["Autoencoder", "CNNAutoencoder", "ImageAutoencoder", "MLPAutoencoder", "Seq2SeqAutoencoder", "load"]
