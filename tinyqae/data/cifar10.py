"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes, read from the six published binary files.

Each file must have the hash of the original. Other content of the same layout is accepted only on request, and is then
called a proxy wherever its name appears.
"""

import functools
import hashlib
import io
import os
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from tinyqae.data import cache
from tinyqae.data.images import ImageData, unpickle_arrays
from tinyqae.errors import DataError, in_one_line

DIRECTORY = "cifar-10-batches-bin"
ARCHIVE_NAME = "cifar-10-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE_NAME}"
ARCHIVE_BYTES = 170_052_171
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# The same pictures as Python pickles: what torchvision downloads, and checks by this hash.
PYTHON_DIRECTORY = "cifar-10-batches-py"
PYTHON_ARCHIVE_NAME = "cifar-10-python.tar.gz"
PYTHON_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ALLOW_VARIABLE = "TINYQAE_ALLOW_MODIFIED_DATA"

CLASSES = 10
IMAGES_PER_FILE = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32

CifarFile = namedtuple("CifarFile", "name sha1")

# The five training files in order and then the test file: the code relies on this order. CIFAR-10's own page has only
# the archive's hash. The SHA-1 hashes of the files are those that Apache MXNet (gluon.data.vision.CIFAR10) checks.
FILES = (
    CifarFile("data_batch_1.bin", "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
    CifarFile("data_batch_2.bin", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
    CifarFile("data_batch_3.bin", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
    CifarFile("data_batch_4.bin", "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
    CifarFile("data_batch_5.bin", "26e2849e66a845b7f1e4614ae70f4889ae604628"),
    CifarFile("test_batch.bin", "67eb016db431130d61cd03c7ad570b013799c88c"),
)


def load_cifar10(
    data_dir: str | os.PathLike | None = None,
    *,
    allow_modified_data: bool = False,
    download: bool = True,
    progress: bool = True,
) -> ImageData:
    """CIFAR-10 with 50,000 training and 10,000 test images, verified by hash.

    Images are uint8 (N, 32, 32, 3), labels uint8 (N,) from 0 to 9. The hash in the result is the SHA-256 of the six
    binary files, one after the other.

    The files are those in "cifar-10-batches-bin" in the data directory (see `tinyqae.data`) and in torchvision's
    "cifar-10-batches-py". Missing ones are unpacked from cifar-10-binary.tar.gz or cifar-10-python.tar.gz if that is
    there, and downloaded otherwise. With `allow_modified_data`, or with 1 in the environment variable
    TINYQAE_ALLOW_MODIFIED_DATA, files with other content are accepted too, and the name is then "CIFAR-10 proxy".
    """
    root, allowed = cache.data_directory(data_dir), allow_modified_data or os.environ.get(ALLOW_VARIABLE) == "1"
    archives = [
        (folder / name, known_hash)
        for folder in (root, root / DIRECTORY)
        for name, known_hash in ((ARCHIVE_NAME, ARCHIVE_SHA256), (PYTHON_ARCHIVE_NAME, f"md5:{PYTHON_ARCHIVE_MD5}"))
    ]
    sources = [
        (f"{path.name} in the data directory", functools.partial(_stored_archive, path, known_hash))
        for path, known_hash in archives
        if os.path.isfile(path)
    ]
    from_server = functools.partial(cache.download, ARCHIVE_URL, root / DIRECTORY, ARCHIVE_SHA256, progress, ARCHIVE_BYTES)
    contents, source = cache.load(
        "CIFAR-10",
        _paths(root),
        functools.partial(_checked, allowed),
        [(place, functools.partial(_from_archive, read)) for place, read in sources or [(ARCHIVE_URL, from_server)]],
        "the files in the data directory",
        f"{ARCHIVE_NAME} from {ARCHIVE_URL} or torchvision's {PYTHON_ARCHIVE_NAME}, still packed, into {root}, or use "
        "synthetic shapes (--dataset synthetic)",
        download or bool(sources),
        progress,
    )
    whole = b"".join(contents)
    images, labels = map(np.ascontiguousarray, read_batch(whole))
    first = 5 * IMAGES_PER_FILE
    original = not allowed or all(_sha1(content) == file.sha1 for content, file in zip(contents, FILES, strict=True))
    return ImageData(
        images[:first],
        labels[:first],
        images[first:],
        labels[first:],
        "CIFAR-10" if original else "CIFAR-10 proxy",
        hashlib.sha256(whole).hexdigest(),
        source,
    )


def missing(data_dir: Path) -> list[str]:
    """The names of the binary files that are not in the data directory, not even as torchvision's."""
    return cache.missing(_paths(data_dir))


def _paths(root: Path) -> cache.Paths:
    return {file.name: [root / DIRECTORY / file.name, root / PYTHON_DIRECTORY / Path(file.name).stem] for file in FILES}


def _checked(allow_modified: bool, path: Path, content: bytes) -> bytes:
    """The records of a stored file, after checking their number, their labels, and that they are the original."""
    content = content if path.suffix else records_of_pickle(content)
    if len(content) != IMAGES_PER_FILE * RECORD_BYTES:
        raise DataError(f"it has {len(content)} bytes, expected {IMAGES_PER_FILE * RECORD_BYTES}")
    read_batch(content)
    [expected] = [file.sha1 for file in FILES if Path(file.name).stem == path.stem]
    if not allow_modified and (found := _sha1(content)) != expected:
        raise DataError(
            f"it is not CIFAR-10's original: it has the SHA-1 {found}, expected {expected}. With "
            f"--allow-modified-data (allow_modified_data=True, or {ALLOW_VARIABLE}=1 in the environment), all "
            'files are accepted as they are, and every output says "CIFAR-10 proxy"'
        )
    return content


def _stored_archive(path: Path, known_hash: str) -> bytes:
    import pooch

    if not pooch.core.hash_matches(path, known_hash):
        raise DataError("it is truncated or altered; delete it to download the original on the next run")
    return path.read_bytes()


def _from_archive(read: Callable[[], bytes], names: list[str]) -> cache.Brought:
    """The binary files `names` in either archive.

    No path in the archive is ever used as a path: a member is read only if it is a regular file with an expected name. The
    number of bytes read is bounded, and they are checked.
    """
    wanted = {Path(file.name).stem: file for file in FILES if file.name in names}
    with tarfile.open(fileobj=io.BytesIO(read()), mode="r:gz") as members:
        for member in members:
            path = PurePosixPath(member.name)
            if member.isreg() and path.stem in wanted and str(path.parent) in (DIRECTORY, PYTHON_DIRECTORY):
                content = members.extractfile(member).read(2 * IMAGES_PER_FILE * RECORD_BYTES)  # type: ignore[union-attr]
                content, file = content if path.suffix else records_of_pickle(content), wanted[path.stem]
                if _sha1(content) != file.sha1:
                    raise DataError(f"its {path.name} has the SHA-1 {_sha1(content)}, expected {file.sha1}")
                yield file.name, content


def read_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of a binary file; both are read-only views of `content`.

    The file is N records of 3,073 bytes: the label, then the red, the green and the blue values, each row by row.

    Raises:
        DataError: the file is empty, ends within a record, or has a label above 9.
    """
    if not content or len(content) % RECORD_BYTES:
        raise DataError(f"not a file of CIFAR-10 records: {len(content)} bytes, expected a multiple of {RECORD_BYTES}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise DataError(f"record {first} has the label {labels[first]}, expected 0 to {CLASSES - 1}")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def records_of_pickle(content: bytes) -> bytes:
    """The binary file with the content of a Python file: a dict of "data", uint8 (N, 3072), and "labels", a list."""
    try:
        batch = unpickle_arrays(content)
        data, labels = batch["data"], np.array(batch["labels"])
        if data.dtype != np.uint8 or (labels & 255 != labels).any():
            raise ValueError("its values are not bytes")
        return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], data], axis=1).tobytes()
    except Exception as error:  # A damaged pickle has a dozen ways to fail.
        raise DataError(f"not one of CIFAR-10's Python files ({in_one_line(error)})") from error


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
