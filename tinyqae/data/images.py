"""What every set of images is here: arrays in a training and a test part, a name and a hash."""

import hashlib
import io
import operator
import pickle
import pickletools
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
        name: what to call the data in front of people.
        source: where it came from, in words.
        sha256: hash of the whole content; which layout of it was hashed stands with the function that made the data.
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
    """ImageData of what draw(count, random) draws, images and labels; the test part depends on `test` and `seed` alone.

    sha256: a function of the four arrays. ValueError for fewer than 1 picture or a negative seed, TypeError for numbers
    that are not whole.
    """
    train, test, seed = map(operator.index, (train, test, seed))
    if min(train, test) < 1 or seed < 0:
        raise ValueError(f"train and test must be at least 1 and seed at least 0, got {train}, {test} and {seed}")
    arrays = *draw(train, np.random.default_rng([seed, 0])), *draw(test, np.random.default_rng([seed, 1]))
    return ImageData(*arrays, name=name, sha256=sha256(*arrays), source=f"{what} drawn by this program with seed {seed}")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can rebuild NumPy arrays and refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        # The function's module was renamed in NumPy 2; an array names the present one itself.
        allowed = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in this file")
        return allowed[name]


def unpickle_arrays(content: bytes) -> Any:
    """What a pickle of Python 2 holds: arrays, strings, numbers, lists and dicts. UnpicklingError for anything else."""
    # A pickle of a few bytes may put a value at the place 10^9 of the memo, or announce a string as long, and have that much
    # memory set aside. genops refuses the string.
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"the memo has no place {argument}")
    # Python 2 wrote arrays and text as one kind of strings; latin1 turns each byte into the character of this number.
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
