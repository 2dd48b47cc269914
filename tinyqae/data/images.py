"""The common form of all image data sets: training and test arrays, a name and a hash."""

import hashlib
import io
import operator
import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Labelled images in a training and a test part; the arrays are made read-only.

    Attributes:
        train_images, test_images: uint8 (N, H, W, C) with 1 channel (grey) or 3 (red, green, blue).
        train_labels, test_labels: uint8 (N,).
        name: the name of the data for display.
        source: a description of where it came from.
        sha256: hash of the whole content, in the layout documented by the function that made the data.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str
    sha256: str
    source: str

    def __post_init__(self) -> None:
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.flags.writeable = False

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.train_images.shape[1:]))
        return f"<{self.name}: {len(self.train_images):,} training and {len(self.test_images):,} test images, {size}>"


def write_records(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Images uint8 (N, H, W, C) and labels uint8 (N,) as records: the label, then all of each channel, row by row.

    For 32 x 32 x 3 this is the layout of CIFAR-10's binary files. ValueError for other dtypes or shapes.
    """
    if images.dtype != np.uint8 or labels.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"records take images uint8 (N, H, W, C) and labels uint8 (N,); got {images.dtype} {images.shape} "
            f"and {labels.dtype} {labels.shape}"
        )
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, np.newaxis], planes], axis=1).tobytes()


def records_sha256(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> str:
    """SHA-256 of the training records and then the test records (see `write_records`)."""
    return hashlib.sha256(write_records(train_images, train_labels) + write_records(test_images, test_labels)).hexdigest()


def draw_both_parts(
    draw: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]],
    train: int,
    test: int,
    seed: int,
    name: str,
    sha256: Callable[..., str],
    what: str,
) -> ImageData:
    """ImageData of the images and labels drawn by draw(count, random); the test part depends only on `test` and `seed`.

    sha256: a function of the four arrays. ValueError for fewer than 1 picture or a negative seed, TypeError for numbers
    that are not integers.
    """
    train, test, seed = map(operator.index, (train, test, seed))
    if min(train, test) < 1 or seed < 0:
        raise ValueError(f"train and test must be at least 1 and seed at least 0, got {train}, {test} and {seed}")
    arrays = *draw(train, np.random.default_rng([seed, 0])), *draw(test, np.random.default_rng([seed, 1]))
    return ImageData(*arrays, name=name, sha256=sha256(*arrays), source=f"{what} drawn by this program with seed {seed}")


class _Dtype:
    """A NumPy dtype in a pickle. The state has the byte order in second place."""

    def __init__(self, name: str, *ignored: object):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """An array in a pickle. NumPy's own C code for this trusts its input."""

    def __init__(self, *ignored: object):
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if not re.fullmatch("[iuf][1248]", dtype.name) or dtype.order not in ("|", "<", ">", "="):
            raise pickle.UnpicklingError(f"an array of {ascii(dtype.name)} is not allowed in this file")
        content = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(content, dtype.order + dtype.name).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """An unpickler that can rebuild arrays of numbers and refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": _Array, "ndarray": None, "dtype": _Dtype}
        if name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in this file")
        return allowed[name]


def unpickle_arrays(content: bytes) -> Any:
    """The content of a Python 2 pickle: arrays, strings, numbers, lists and dicts. UnpicklingError for anything else."""
    # A pickle of a few bytes may put a value at index 10^9 of the memo, or declare a string of that length, so that as much
    # memory is allocated. genops rejects the string.
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"the memo index {argument} is out of range")
    # Python 2 wrote arrays and text as the same type of string; latin1 maps each byte to the character with its number.
    return _arrays(_Unpickler(io.BytesIO(content), encoding="latin1").load())


def _arrays(value: Any) -> Any:
    """`value` with NumPy's arrays in place of ours, in dicts, lists and tuples too."""
    if isinstance(value, dict):
        return {key: _arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(part) for part in value]
    return value.array if isinstance(value, _Array) else value
