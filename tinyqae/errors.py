"""What can go wrong, by kind, so that a program can catch it and a person can read it.

Every message names the thing, its value and what would be right. Wrong arguments raise ValueError or TypeError.
"""


class TinyqaeError(Exception):
    """The parent of every error below: a condition of the outside world, not a mistake in the code."""


class DataError(TinyqaeError):
    """A data set is missing, truncated, altered, or cannot be downloaded or stored."""


class CheckpointError(TinyqaeError):
    """A file of weights is missing, corrupt, or not for this model."""


class CodecError(TinyqaeError):
    """A compressed file is damaged, cut short, or not one that this version reads."""


class BackendError(TinyqaeError):
    """The array backend asked for is not there (no CuPy, no driver, no device, no memory)."""


class MissingPackage(TinyqaeError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class TrainingDiverged(TinyqaeError):
    """The loss became infinite or NaN; the last good checkpoint is kept."""
