"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes, read from the six published binary files.

What counts as CIFAR-10 is the hash of each file. Other content of the same layout is taken only when asked for, and is
then called a proxy wherever its name appears.
"""

import hashlib
import os
import sys
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from tinyqae.data.cache import (
    SourceFailed,
    data_directory,
    file_hash,
    make_writable,
    one_process_at_a_time,
    write_atomically,
)
from tinyqae.data.cache import download as download_file
from tinyqae.data.images import ImageData
from tinyqae.errors import DataError

DIRECTORY = "cifar-10-batches-bin"
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9dddda3db29a59bca1dd"
ARCHIVE_NAME = "cifar-10-binary.tar.gz"
ALLOW_VARIABLE = "TINYQAE_ALLOW_MODIFIED_DATA"

SIDE = 32
CHANNELS = 3
CLASSES = 10
IMAGES_PER_FILE = 10_000
RECORD_BYTES = 1 + CHANNELS * SIDE * SIDE


class CifarFile(NamedTuple):
    """One of the six files and the SHA-1 of its content."""

    name: str
    sha1: str


# The five training files in their order and then the test file: the code relies on this order. CIFAR-10's own page has
# only the archive's hash. The hashes of the files are those that Apache MXNet (gluon.data.vision.CIFAR10) checks.
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
    files, one after the other.

    The files are looked for in the folder "cifar-10-batches-bin" of the data directory: `data_dir`, or else what the
    environment variable TINYQAE_DATA says, or else the user's cache directory. Missing ones are unpacked from the
    published archive, which may lie in the same folder; with `download`, it is fetched otherwise. With `progress`, the
    standard error stream shows from where and how far. An existing file is never changed.

    With `allow_modified_data`, or with 1 in the environment variable TINYQAE_ALLOW_MODIFIED_DATA, files with other
    content are taken too, and the name is then "CIFAR-10 proxy". Raises DataError for a file that is altered without
    that permission, of a wrong size or unreadable, or that is missing and cannot be fetched or stored.
    """
    allowed = allow_modified_data or os.environ.get(ALLOW_VARIABLE) == "1"
    directory = data_directory(data_dir) / DIRECTORY
    missing = _missing(directory)
    # What is there is checked first, so that nobody waits for a download and is refused afterwards.
    contents, modified = _read_checked(directory, [file for file in FILES if file not in missing], allowed)
    sources = ["the files in the data directory"] if contents else []
    if missing:
        sources.append(_fetch(directory, missing, download, progress))
        fetched, fetched_modified = _read_checked(directory, missing, allowed)
        contents |= fetched
        modified = modified or fetched_modified
    train_images, train_labels, test_images, test_labels = _arrays(directory, contents)
    digest = hashlib.sha256()
    for file in FILES:
        digest.update(contents[file])
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        name="CIFAR-10 proxy" if modified else "CIFAR-10",
        sha256=digest.hexdigest(),
        source=" and ".join(sources),
    )


def read_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of a binary file; both are read-only views of `content`.

    The file is N records of 3,073 bytes: the label, then the red, the green and the blue values, each row by row.
    Raises DataError for an empty file, one that does not end with a record, or a label above 9.
    """
    if not content or len(content) % RECORD_BYTES:
        raise DataError(f"not a file of CIFAR-10 records: {len(content)} bytes, expected a multiple of {RECORD_BYTES}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise DataError(f"record {first} has the label {labels[first]}, expected 0 to {CLASSES - 1}")
    images = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return images, labels


def _arrays(directory: Path, contents: dict[CifarFile, bytes]) -> list[np.ndarray]:
    """Train images, train labels, test images, test labels, each in one piece of memory and read-only."""
    batches = []
    for file in FILES:
        try:
            batches.append(read_batch(contents[file]))
        except DataError as error:
            raise DataError(f"{directory / file.name}: {error}") from error
    arrays = []
    for part in (batches[:-1], batches[-1:]):
        images = np.empty((sum(len(labels) for _, labels in part), SIDE, SIDE, CHANNELS), np.uint8)
        np.concatenate([batch_images for batch_images, _ in part], out=images)
        arrays += [images, np.concatenate([labels for _, labels in part])]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _missing(directory: Path) -> list[CifarFile]:
    return [file for file in FILES if not os.path.isfile(directory / file.name)]


def _read(directory: Path, file: CifarFile) -> bytes:
    """The content of a stored file, which must have the right size."""
    path = directory / file.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if len(content) != IMAGES_PER_FILE * RECORD_BYTES:
        raise DataError(
            f"{path} has {len(content)} bytes, expected {IMAGES_PER_FILE * RECORD_BYTES}: it is truncated or another "
            "file. Delete it, or put the right one in its place; what is missing is downloaded at the next start"
        )
    return content


def _read_checked(directory: Path, files: list[CifarFile], allow_modified: bool) -> tuple[dict[CifarFile, bytes], bool]:
    """The content of each file, and whether any of it is not CIFAR-10's."""
    contents = {file: _read(directory, file) for file in files}
    found = {file: _sha1(content) for file, content in contents.items()}
    modified = [file for file in files if found[file] != file.sha1]
    if modified and not allow_modified:
        listed = "\n".join(f"  {file.name} has the SHA-1 {found[file]}, expected {file.sha1}" for file in modified)
        raise DataError(
            f"{directory} does not hold the original CIFAR-10:\n{listed}\n"
            "Delete these files, and the originals are downloaded at the next start. Or take them as they are with "
            f"--allow-modified-data (allow_modified_data=True, or {ALLOW_VARIABLE}=1 in the environment): every output "
            'then says "CIFAR-10 proxy"'
        )
    return contents, bool(modified)


def _fetch(directory: Path, missing: list[CifarFile], download: bool, progress: bool) -> str:
    """Unpack the missing files from the archive, which is downloaded if need be; return the source in words."""
    archive = directory / ARCHIVE_NAME
    if not os.path.isfile(archive) and not download:
        raise DataError(f"{_where_files_belong(directory, missing)}\nDownloading was not allowed")
    make_writable(directory)
    with one_process_at_a_time(directory):
        missing = _missing(directory)
        if not missing:
            return "files that another process fetched"
        if os.path.isfile(archive):
            _verify_archive(archive)
            _unpack(archive, missing)
            return f"{ARCHIVE_NAME} in the data directory"
        host = urlsplit(ARCHIVE_URL).netloc
        if progress:
            print(f"CIFAR-10: fetching {ARCHIVE_NAME} (170 MB) from {host}", file=sys.stderr)
        try:
            download_file(ARCHIVE_URL, archive, ARCHIVE_SHA256, progress=progress)
        except SourceFailed as error:
            raise DataError(
                f"{_where_files_belong(directory, missing)}\nTried in vain:\n  {host}: {error}\n"
                "To go on without CIFAR-10, use drawn shapes: --dataset synthetic"
            ) from error
        _unpack(archive, missing)
        archive.unlink()
        return host


def _where_files_belong(directory: Path, missing: list[CifarFile]) -> str:
    names = ", ".join(file.name for file in FILES)
    lacking = ", ".join(file.name for file in missing)
    return (
        f"CIFAR-10 is incomplete. Put these files into {directory}: {names}\nMissing: {lacking}\n"
        f"Or put {ARCHIVE_NAME} there, unopened, from {ARCHIVE_URL}"
    )


def _verify_archive(archive: Path) -> None:
    try:
        found = file_hash(archive, "SHA-256")
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror}") from error
    if found != ARCHIVE_SHA256:
        raise DataError(
            f"{archive} is truncated or altered: it has the SHA-256 {found}, expected {ARCHIVE_SHA256}. Delete it, and "
            "it is downloaded at the next start"
        )


def _unpack(archive: Path, files: list[CifarFile]) -> None:
    """Write `files` from the archive beside it.

    No path of the archive is ever used as a path: a member counts only if it is a regular file of exactly the expected
    name and size, its bytes are read, and they are written under the name in FILES.
    """
    wanted = {f"{DIRECTORY}/{file.name}": file for file in files}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                if member.name in wanted and member.isreg() and member.size == IMAGES_PER_FILE * RECORD_BYTES:
                    content = members.extractfile(member).read()
                    file = wanted.pop(member.name)
                    found = _sha1(content)
                    if found != file.sha1:
                        raise DataError(f"{member.name} in {archive} has the SHA-1 {found}, expected {file.sha1}")
                    write_atomically(archive.with_name(file.name), content)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive} cannot be unpacked ({error})") from error
    if wanted:
        raise DataError(f"{archive} lacks {', '.join(wanted)}, as regular files of the right size")


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
