"""tinyqae: quantized autoencoders with every derivative written by hand."""
from . import backend
from .bottleneck import Commit, Fence, Naive, Vanilla, make_bottleneck
from .data import load_mnist, synthetic_digits
from .models import Autoencoder, MLPAutoencoder, load
from .optim import SGD, Adam, RMSprop, constant, cosine
from .train import fit

__version__ = "0.1.0"
__all__ = ["SGD", "Adam", "Autoencoder", "Commit", "Fence", "MLPAutoencoder", "Naive", "RMSprop", "Vanilla",
           "backend", "constant", "cosine", "fit", "load", "load_mnist", "make_bottleneck", "synthetic_digits"]
