"""Data sets as arrays and sentences: MNIST, CIFAR-10 and Anki checked by hash, a person's own, and drawn stand-ins."""
from tinyqae.data.anki import TextData, clean_sentence, clean_text, load_anki, load_text
from tinyqae.data.cifar10 import load_cifar10
from tinyqae.data.images import ImageData
from tinyqae.data.mnist import load_mnist
from tinyqae.data.pictures import image_folder_patches
from tinyqae.data.sentence_split import SentenceSplit, split_sentences
from tinyqae.data.splice import splice_sentences
from tinyqae.data.synthetic import synthetic_digits
from tinyqae.data.synthetic_shapes import synthetic_shapes
from tinyqae.data.synthetic_text import synthetic_sentences

__all__ = ["ImageData", "SentenceSplit", "TextData", "clean_sentence", "clean_text", "image_folder_patches", "load_anki",
           "load_cifar10", "load_mnist", "load_text", "splice_sentences", "split_sentences", "synthetic_digits",
           "synthetic_sentences", "synthetic_shapes"]
