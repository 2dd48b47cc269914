"""The exceptions, by kind of failure, for programs to catch and for users to read.

Every message names the thing, its value and what is expected. Invalid arguments raise ValueError or TypeError.
"""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from .annotations import FilePath

__all__ = [
    "BackendError",
    "CheckpointError",
    "CodecError",
    "DataError",
    "FileError",
    "MissingPackage",
    "TinyqaeError",
    "TooFewExamples",
    "TrainingDiverged",
    "stop_if_diverged",
]


class TinyqaeError(Exception):
    """The base class of every error below: a condition of the outside world, not a mistake in the code."""


def in_one_line(error: Exception) -> str:
    """The message of an error, such as another library's, whose lines are joined to one."""
    return " ".join(str(error).split())


class DataError(TinyqaeError):
    """A data set is missing, truncated, altered, or cannot be downloaded or stored."""


class FileError(TinyqaeError):
    """The base class of errors in files whose content may be in the message: unprintable characters are escaped."""

    def __init__(self, message: str):
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in message))


class CheckpointError(FileError):
    """A file of weights is missing, corrupt, or not for this model."""


class CodecError(FileError):
    """A compressed file is damaged, truncated, or not supported by this version."""


class BackendError(TinyqaeError):
    """The requested array backend is unavailable (no CuPy, no driver, no device, no memory)."""


class MissingPackage(TinyqaeError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class TrainingDiverged(TinyqaeError):
    """The loss became infinite or NaN; the last good checkpoint is kept."""


class TooFewExamples(TinyqaeError, ValueError):
    """A batch or a data set has too few examples for the operation."""


class TooLong(TinyqaeError, ValueError):
    """A sentence is longer than the model accepts."""


def require_positive(argument: str, value: Any) -> int:
    """`value`; ValueError unless it is a whole number above 0 that can be the size of an array."""
    if not (isinstance(value, numbers.Integral) and 0 < int(value) < 2**31):
        raise ValueError(
            f"{argument}={value!r} must be a whole number above 0"
            + " and below 2147483648" * (isinstance(value, numbers.Integral) and int(value) > 0)
        )
    return int(value)


def require_range(argument: str, value: float, low: float, high: float) -> None:
    """ValueError unless low <= value < high."""
    if not low <= value < high:
        raise ValueError(f"{argument}={value!r} must be at least {low} and below {high}")


def require_two_values(x: np.ndarray) -> int:
    """The number of values per channel of x (..., C); TooFewExamples for a single one, which has no variance."""
    m = x.size // x.shape[-1]
    if m < 2:
        raise TooFewExamples(f"batch norm in training needs at least 2 values of each channel, got {m}: use a larger batch")
    return m


def stop_if_diverged(values: Mapping[str, float], epoch: int, lr: float, checkpoint: FilePath | None = None) -> None:
    """TrainingDiverged unless all of these numbers, by name, are finite. epoch: the number of epochs finished before."""
    kept = (
        f"The weights after epoch {epoch} are kept in {checkpoint}."
        if checkpoint is not None and epoch > 0
        else "No checkpoint had been written yet."
    )
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the {name} became {value} in epoch {epoch + 1} at learning rate {lr:.3g}. {kept} "
                "Try a smaller learning rate or weight of the added loss."
            )
