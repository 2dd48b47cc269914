"""What the examples and benchmarks share: arguments, one run from data to files, and what is special about images and
sentences.
"""
from .arguments import (
    OneLineParser,
    argument_parser,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    recipe_from,
    run_main,
    start,
    widths,
)
from .runs import Run, train_from

__all__ = ["OneLineParser", "Run", "argument_parser", "non_negative_float", "non_negative_int", "positive_float",
           "positive_int", "recipe_from", "run_main", "start", "train_from", "widths"]
