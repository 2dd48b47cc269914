"""tinyqae: quantized autoencoders with every derivative written by hand.

The public API is the names here and the `__all__` of these modules; anything else may change without notice.

    models  bottlenecks  layers  losses  optim  schedules  callbacks  history  recipes  gradcheck  gradients  errors
    transform_coding  data  codec  metrics.image  metrics.text  metrics.rate  plots  estimator  onnx_export
"""

from . import interrupts  # isort: skip  # noqa: F401  # First, since everything else takes a while to import.
from . import backend
from .annotations import Array
from .bottlenecks import Bottleneck, Commit, Fence, Naive, Vanilla, make_bottleneck
from .data import (
    load_anki,
    load_cifar10,
    load_mnist,
    split_sentences,
    synthetic_digits,
    synthetic_sentences,
    synthetic_shapes,
)
from .models import Autoencoder, CNNAutoencoder, ImageAutoencoder, MLPAutoencoder, Seq2SeqAutoencoder, load
from .optim import SGD, Adam, RMSprop
from .schedules import constant, cosine
from .train import fit
from .transform_coding import TransformAutoencoder

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adam",
    "Array",
    "Autoencoder",
    "Bottleneck",
    "CNNAutoencoder",
    "Commit",
    "Fence",
    "ImageAutoencoder",
    "MLPAutoencoder",
    "Naive",
    "RMSprop",
    "Seq2SeqAutoencoder",
    "TransformAutoencoder",
    "Vanilla",
    "backend",
    "constant",
    "cosine",
    "fit",
    "load",
    "load_anki",
    "load_cifar10",
    "load_mnist",
    "make_bottleneck",
    "split_sentences",
    "synthetic_digits",
    "synthetic_sentences",
    "synthetic_shapes",
]
