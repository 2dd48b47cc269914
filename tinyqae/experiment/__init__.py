"""What the examples, the command and the benchmarks share: arguments, one run from data to files, and what is special about
images and sentences.
"""
from .arguments import (
    OneLineParser,
    add_backend_argument,
    add_engine_argument,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    require_writable,
    run_main,
    use_backend,
    widths,
)
from .programs import ANKI_LSTM, CIFAR_CNN, MNIST_MLP, Program
from .runs import Run, settings_of

__all__ = ["ANKI_LSTM", "CIFAR_CNN", "MNIST_MLP", "OneLineParser", "Program", "Run", "add_backend_argument",
           "add_engine_argument", "non_negative_float", "non_negative_int", "positive_float", "positive_int",
           "require_writable", "run_main", "settings_of", "use_backend", "widths"]
