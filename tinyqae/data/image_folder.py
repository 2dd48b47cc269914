"""A person's own images as training data: every picture of a folder, cut into small squares."""

import contextlib
import logging
import operator
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.util import img_as_ubyte

from tinyqae.data.images import ImageData, records_sha256
from tinyqae.errors import DataError

# A damaged file, or one that is no image, ends in any of these, depending on the reader that scikit-image chooses.
UNREADABLE = (
    ArithmeticError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
JPEG_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")


def image_folder_patches(folder: str | os.PathLike, patch: int = 32, holdout: float = 0.1, seed: int = 0) -> ImageData:
    """The images of `folder` and its sub-folders, cut into squares of `patch` pixels that do not overlap.

    Images come back as uint8 (N, patch, patch, 3); labels are uint8 (N,) and all 0. The hash is that of the records
    (see `records_sha256`). What remains at the right and lower edges is dropped, and an image smaller than a patch is
    skipped. Grey images become RGB, transparent ones lie on white, of an animation the first picture is taken.

    About the part `holdout` of the images, drawn with `seed` and at least one, makes the test patches; no image has
    patches in both parts. Hidden files are left alone, and one UserWarning names all files that cannot be read as RGB
    images (among them JPEGs in CMYK). Raises DataError for a folder that is absent or has less than two usable images,
    ValueError for a patch below 1, a holdout not between 0 and 1 or a negative seed, TypeError for a patch or a seed
    that is not whole.
    """
    patch, seed = operator.index(patch), operator.index(seed)
    if patch < 1 or seed < 0:
        raise ValueError(f"patch must be at least 1 and seed at least 0, got {patch} and {seed}")
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie between 0 and 1, got {holdout}")
    folder = Path(folder).expanduser()
    patches_of_images, unreadable, too_small = _read_all(folder, patch)
    if unreadable:
        warnings.warn(f"{len(unreadable)} files skipped, not readable: {', '.join(unreadable)}", stacklevel=2)
    if len(patches_of_images) < 2:
        raise DataError(
            f"{folder} has {len(patches_of_images)} usable images, and at least 2 are needed, one of them to test on: "
            f"{too_small} are smaller than {patch} x {patch} pixels, {len(unreadable)} files cannot be read as images"
        )
    count = len(patches_of_images)
    held_out = min(max(1, round(holdout * count)), count - 1)
    test_numbers = set(np.random.default_rng(seed).permutation(count)[:held_out].tolist())
    train_images = _read_only(
        np.concatenate([patches for number, patches in enumerate(patches_of_images) if number not in test_numbers])
    )
    test_images = _read_only(np.concatenate([patches_of_images[number] for number in sorted(test_numbers)]))
    train_labels, test_labels = (_read_only(np.zeros(len(images), np.uint8)) for images in (train_images, test_images))
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        name=f"images of the folder {folder.resolve().name}",
        sha256=records_sha256(train_images, train_labels, test_images, test_labels),
        source=(
            f"{count} images in patches of {patch} x {patch} pixels, {held_out} of them held out; "
            f"skipped: {too_small} too small, {len(unreadable)} not readable"
        ),
    )


def _read_all(folder: Path, patch: int) -> tuple[list[np.ndarray], list[str], int]:
    """The patches of each usable image, the names of unreadable files and the number of too small images."""
    # Imported here, because it takes as long as all other imports of tinyqae.data together.
    from skimage.io import imread

    patches_of_images, unreadable, too_small = [], [], 0
    for name in _visible_files(folder):
        try:
            with _quiet_readers():
                image = _as_rgb(imread(folder / name), name)
        except UNREADABLE:
            unreadable.append(name)
            continue
        if min(image.shape[:2]) < patch:
            too_small += 1
        else:
            patches_of_images.append(_cut(image, patch))
    return patches_of_images, unreadable, too_small


@contextlib.contextmanager
def _quiet_readers() -> Iterator[None]:
    """Keep the readers' own remarks on a damaged file, of which there can be hundreds, from the user."""
    remarks = logging.getLogger("tifffile")
    before, remarks.disabled = remarks.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        remarks.disabled = before


def _visible_files(folder: Path) -> list[str]:
    """The files below `folder` as relative paths with forward slashes, in an order that is the same everywhere."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder} is not a folder")
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [(Path(parent) / name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def _as_rgb(image: np.ndarray, name: str) -> np.ndarray:
    """uint8 (H, W, 3) of what scikit-image reads; ValueError for what is no image."""
    if image.ndim == 4:
        image = image[0]
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4) or 0 in image.shape:
        raise ValueError(f"an array of shape {image.shape} is not an image")
    if image.shape[-1] == 4 and name.lower().endswith(JPEG_ENDINGS):
        raise ValueError("JPEG knows no transparency: these four channels are cyan, magenta, yellow and black")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("an infinite or undefined value is not a brightness")
    image = img_as_ubyte(image)
    channels = image.shape[-1]
    if channels in (2, 4):
        opacity = image[..., -1:].astype(np.uint16)
        # At most 255 * 255 + 127, which 16 bits hold.
        image = ((image[..., :-1] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _cut(image: np.ndarray, patch: int) -> np.ndarray:
    """uint8 (N, patch, patch, 3): the whole patches of an image (H, W, 3), row by row."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    whole = image[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch, 3)
    return whole.transpose(0, 2, 1, 3, 4).reshape(rows * columns, patch, patch, 3)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
