"""One run from data to files, by a recipe: what examples, the command and benchmarks share. images.py, sentences.py: what is
special about each.
"""
from .runs import Run, settings_of

__all__ = ["Run", "settings_of"]
