"""tinyqae: quantized autoencoders with every derivative written by hand."""
from . import backend
from .bottleneck import Commit, Fence, Naive, Vanilla, make_bottleneck
from .data import load_cifar10, load_mnist, synthetic_digits, synthetic_shapes
from .models import Autoencoder, CNNAutoencoder, MLPAutoencoder, load
from .optim import SGD, Adam, RMSprop, constant, cosine
from .train import fit

__version__ = "0.1.0"
__all__ = ["SGD", "Adam", "Autoencoder", "CNNAutoencoder", "Commit", "Fence", "MLPAutoencoder", "Naive", "RMSprop",
           "Vanilla", "backend", "constant", "cosine", "fit", "load", "load_cifar10", "load_mnist", "make_bottleneck",
           "synthetic_digits", "synthetic_shapes"]
