"""What the examples, the command and the benchmarks share: arguments, one run from data to files, and what is special about
images and sentences.
"""
from .arguments import (
    OneLineParser,
    add_backend_argument,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    run_main,
    use_backend,
)
from .programs import ANKI_LSTM, CIFAR_CNN, MNIST_MLP, Program
from .runs import Run

__all__ = ["ANKI_LSTM", "CIFAR_CNN", "MNIST_MLP", "OneLineParser", "Program", "Run", "add_backend_argument",
           "non_negative_float", "non_negative_int", "positive_float", "positive_int", "run_main", "use_backend"]
