"""What every set of images is here: arrays in a training and a test part, a name and a hash."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images in a training and a test part; the arrays are read-only.

    train_images: uint8 (N, H, W, C) with 1 channel (grey) or 3 (red, green, blue); train_labels: uint8 (N,).
    test_images and test_labels: the same with a length of their own.
    name: what to call the data in front of people.
    sha256: hash of the whole content; which layout of it was hashed stands with the function that made the data.
    source: where the data came from, in words.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str
    sha256: str
    source: str


def write_records(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Images uint8 (N, H, W, C) and labels uint8 (N,) as records: the label, then all of each channel, row by row.

    For 32 x 32 x 3 this is the layout of CIFAR-10's binary files. ValueError for other dtypes or shapes.
    """
    if images.dtype != np.uint8 or labels.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"records take images uint8 (N, H, W, C) and labels uint8 (N,); got {images.dtype} {images.shape} and "
            f"{labels.dtype} {labels.shape}"
        )
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, np.newaxis], planes], axis=1).tobytes()


def records_sha256(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> str:
    """SHA-256 of the training records and then the test records (see `write_records`)."""
    digest = hashlib.sha256(write_records(train_images, train_labels))
    digest.update(write_records(test_images, test_labels))
    return digest.hexdigest()
