"""What the examples, the command and the benchmarks share: arguments, one run from data to files, and what is special about
images and sentences.
"""
from .arguments import OneLineParser, non_negative_float, non_negative_int, positive_float, positive_int, run_main
from .programs import ANKI_LSTM, CIFAR_CNN, MNIST_MLP, Program
from .runs import Run

__all__ = ["ANKI_LSTM", "CIFAR_CNN", "MNIST_MLP", "OneLineParser", "Program", "Run", "non_negative_float",
           "non_negative_int", "positive_float", "positive_int", "run_main"]
