"""Data sets as arrays: MNIST, checked by hash, and digits drawn from a seed for machines that cannot get it."""

from tinyqae.data.mnist import ImageData, load_mnist
from tinyqae.data.synthetic import synthetic_digits

__all__ = ["ImageData", "load_mnist", "synthetic_digits"]
