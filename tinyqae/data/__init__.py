"""Data sets as arrays and sentences: MNIST and CIFAR-10 checked by hash, Anki, a user's own, and synthetic stand-ins.

load_mnist, load_cifar10 and load_anki look in the data directory (see `cache.data_directory`). With `download`, missing
files are downloaded; with `progress`, standard error shows the source and the progress. Existing files are never changed.
They raise DataError for a file that is altered or unreadable, or that is missing and cannot be downloaded or stored.
"""

from tinyqae.data.anki import TextData, clean_sentence, clean_text, load_anki, load_text
from tinyqae.data.cifar10 import load_cifar10
from tinyqae.data.images import ImageData
from tinyqae.data.mnist import load_mnist
from tinyqae.data.pictures import image_folder_patches
from tinyqae.data.synthetic import synthetic_digits
from tinyqae.data.synthetic_shapes import synthetic_shapes
from tinyqae.data.synthetic_text import synthetic_sentences
from tinyqae.sentences import SentenceSplit, splice_sentences, split_sentences

__all__ = [
    "ImageData",
    "SentenceSplit",
    "TextData",
    "clean_sentence",
    "clean_text",
    "image_folder_patches",
    "load_anki",
    "load_cifar10",
    "load_mnist",
    "load_text",
    "splice_sentences",
    "split_sentences",
    "synthetic_digits",
    "synthetic_sentences",
    "synthetic_shapes",
]
