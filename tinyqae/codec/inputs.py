"""Read the files that the codec compresses: pictures, stacks of images, texts.

A file's format is detected from its first bytes, not from its name. Sizes are checked before memory is allocated for pixels,
and any problem with a file raises a DataError: one line that names the file and says what is expected.
"""

import gzip
import io
import math
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..annotations import FilePath
from ..data import pictures
from ..data.mnist import read_idx
from ..data.pictures import damaged, one_line
from ..errors import DataError
from .outputs import plain_names

MAX_STACK_BYTES = 1 << 31
"""The largest size in bytes of one file of images, compressed or not, and of all pictures together as arrays."""

MAX_TEXT_BYTES = 1 << 28
"""The largest size of a text in bytes."""

_IDX_IMAGES = b"\x00\x00\x08\x03"
_IDX_HEADER_BYTES = 16
_CHUNK = 1 << 20

Images = tuple[np.ndarray, list[str]]


@dataclass(frozen=True)
class Inputs:
    """Images to compress.

    Attributes:
        images: a list of uint8 arrays (H, W) or (H, W, 3); or, for a stack, one uint8 array (N, H, W) or (N, H, W, 3).
        names: the pictures' file names without suffix, as returned by outputs.plain_names; None for a stack.
        bytes: the total size of the files in bytes, as given.
        notes: conversions of the images and files that were skipped, one line each.
    """

    images: list[np.ndarray] | np.ndarray
    names: list[str] | None
    bytes: int
    notes: list[str]


@dataclass(frozen=True)
class TextInput:
    """A text to compress, and the size of its file in bytes; text.encode() reproduces the file byte for byte."""

    text: str
    bytes: int


def read_images(paths: Sequence[FilePath], *, stdin: BinaryIO | None = None) -> Inputs:
    """Read images from files: any number of pictures, or one stack.

    A picture is a file that Pillow reads (see data.pictures.read_picture), or an .npy file (H, W) or (H, W, 3). A stack is
    an .npy file (N, H, W), (N, H, W, 1) or (N, H, W, 3) or an IDX file (N, H, W), which may be gzipped. An array with
    three axes, the last of length 3, is one colour picture. Values are uint8, bool (0 and 255) or floating-point in [0, 1],
    which are rounded to bytes.

    Args:
        paths: list of str or paths. A directory stands for the picture files in it and its sub-directories, as in
            data.pictures.read_folder, "-" for stdin, by default sys.stdin.buffer.

    Raises:
        DataError: a file is missing, corrupted, too large or in none of these formats, or a stack is not the only file.
    """
    if not paths:
        raise DataError("no input; give files, a directory, or - for standard input")
    images: list[np.ndarray] = []
    names: list[str] = []
    notes: dict[str, list[str]] = {}
    size = size_as_arrays = 0
    for path in [os.fspath(path) for path in paths]:
        before = len(images)
        found: Iterable[tuple[str, np.ndarray, int]]
        if os.path.isdir(path):
            found = (
                (name, picture, os.path.getsize(Path(path, name))) for name, picture in pictures.read_folder(path, notes)
            )
        else:
            found = [_read_image_file(path, stdin, notes)]
        for name, picture, length in found:
            if picture.ndim == 4:
                if len(paths) > 1:
                    raise DataError(
                        f"{_shown(path)} is a stack of images; give it alone, not with {len(paths) - 1} other files"
                    )
                stack = picture[..., 0] if picture.shape[3] == 1 else picture
                return Inputs(stack, None, length, pictures.in_lines(notes))
            images.append(picture)
            names.append(Path(name).stem)
            size += length
            size_as_arrays += picture.nbytes
            if size_as_arrays > MAX_STACK_BYTES:
                raise DataError(
                    f"the pictures up to {one_line(name)} take more than {MAX_STACK_BYTES >> 20} MiB; give fewer at once"
                )
        if len(images) == before:
            others = len(notes.get(pictures.UNREADABLE, ()))
            raise DataError(
                f"the directory {one_line(path)} has no pictures (other visible files: {others}); give one "
                "with pictures, or a single file"
            )
    return Inputs(images, plain_names(names), size, pictures.in_lines(notes))


def read_text(paths: Sequence[FilePath], *, stdin: BinaryIO | None = None) -> TextInput:
    """Read a text file in UTF-8, with newlines and a byte order mark unchanged.

    Args:
        paths: list of one str or path, "-" for stdin, default sys.stdin.buffer.

    Raises:
        DataError: there is more than one path, or the file is missing, empty, too large, or not in UTF-8.
    """
    if len(paths) != 1:
        raise DataError(f"expected one text file, got {len(paths)}; texts are compressed one at a time")
    data, name = _read(os.fspath(paths[0]), stdin, MAX_TEXT_BYTES)
    try:
        return TextInput(data.decode("utf-8"), len(data))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}; if it is text in another "
            "encoding, convert it, for example with iconv -f LATIN1 -t UTF-8"
        ) from None


def _shown(path: str) -> str:
    return "standard input" if path == "-" else one_line(path)


def _read_image_file(path: str, stdin: BinaryIO | None, notes: dict[str, list[str]]) -> tuple[str, np.ndarray, int]:
    """(path, array with four axes if it is a stack, size of the file in bytes)."""
    data, shown = _read(path, stdin, MAX_STACK_BYTES)
    read = next((reader for beginning, reader in _READERS if re.match(beginning, data)), pictures.read_picture)
    array, done = read(data, shown)
    for what in done:
        notes.setdefault(what, []).append(shown)
    return "stdin" if path == "-" else path, array, len(data)


def _read(path: str, stdin: BinaryIO | None, limit: int) -> tuple[bytes, str]:
    """(bytes of a file, at least 1 and at most `limit`; its name in messages)."""
    name = _shown(path)
    try:
        data = _read_at_most(stdin or sys.stdin.buffer, limit + 1) if path == "-" else pictures.read_file(path, limit)
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    if len(data) > limit:
        raise DataError(f"{name} is too large: it has more than {limit >> 20} MiB; split it into parts")
    if not data:
        raise DataError(f"{name} is empty; expected at least one image or line")
    return data, name


def _read_at_most(stream: BinaryIO | gzip.GzipFile, limit: int) -> bytes:
    """Read the next `limit` bytes, or fewer if the stream ends. Allocates only the memory it needs, whatever the limit."""
    data = bytearray()
    while len(data) < limit and (chunk := stream.read(min(_CHUNK, limit - len(data)))):
        data += chunk
    return data  # type: ignore[return-value]  # A bytearray behaves like bytes, and avoids copying 2 GiB.


# ---- formats: each reader returns a uint8 array, with four axes if it is a stack, and notes on what was done to it -----


def _zip(data: bytes, name: str) -> Images:
    raise DataError(f"{name} is a zip archive, as .npz files are; unpack it and give its contents")


def _packed_idx(data: bytes, name: str) -> Images:
    """Read a gzipped IDX file. At most one byte more than its header declares is decompressed."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            header = _read_at_most(stream, _IDX_HEADER_BYTES)
            if not header.startswith(_IDX_IMAGES):
                raise DataError(f"{name} is a gzip file, but not of IDX images; unpack it and give its contents")
            size = math.prod(int.from_bytes(header[start : start + 4], "big") for start in range(4, _IDX_HEADER_BYTES, 4))
            if size > MAX_STACK_BYTES:
                raise DataError(f"{name} declares {size} pixels; the limit is {MAX_STACK_BYTES}")
            return _idx(header + _read_at_most(stream, size + 1), name)
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(name, error) from error


def _idx(data: bytes, name: str) -> Images:
    if not data.startswith(_IDX_IMAGES):
        raise DataError(
            f"{name} is an IDX file, but not of images: it begins with {data[:4].hex(' ')}, expected "
            f"{_IDX_IMAGES.hex(' ')} (unsigned bytes, three axes)"
        )
    try:
        stack = read_idx(data)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    pictures.check_size(name, *stack.shape[1:])
    return stack[..., np.newaxis], []


def _npy(data: bytes, name: str) -> Images:
    stream = io.BytesIO(data[: 1 << 14])  # NumPy reads no header of more than 10,000 characters
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, column_major, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # a corrupted header is parsed as Python, which has a dozen ways to fail
        raise damaged(name, error) from error
    shape = tuple(map(int, shape))  # NumPy accepts True for 1.
    # A number can have thousands of digits; only reasonable ones are shown below.
    promised, stored = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if max(map(abs, shape), default=0) > MAX_STACK_BYTES or promised > MAX_STACK_BYTES:
        raise DataError(f"{name} declares more than {MAX_STACK_BYTES >> 20} MiB of pixels, which is the limit")
    full_shape, notes = shape, []
    match shape:
        case (count, 784 | 3072 as columns):
            way = "reshape(-1, 28, 28)" if columns == 784 else "reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)"
            raise DataError(
                f"{name} is an array of shape {shape}, which looks like {count} flat images; store it after "
                f"{way}, as uint8 (if it is one picture {columns} pixels wide, give a PNG)"
            )
        case (height, width) | (_, height, width, 1 | 3):
            pass
        case (height, width, 3):
            notes.append(f"an array of shape {shape}, read as one colour picture")
        case (count, height, width):
            full_shape = (*shape, 1)
            if count == 3:
                notes.append(
                    f"an array of shape {shape}, read as 3 grey pictures; if it is one colour picture, store it "
                    "after transpose(1, 2, 0)"
                )
        case _:
            hint = "; the last of 4 must be 1 or 3: transpose(0, 2, 3, 1) converts (N, 3, H, W)" if len(shape) == 4 else ""
            raise DataError(
                f"{name} is an array with {len(shape)} axes; expected a stack (N, H, W), (N, H, W, 1) or "
                f"(N, H, W, 3), or a picture (H, W) or (H, W, 3){hint}"
            )
    if dtype != np.uint8 and dtype.kind not in "bf":
        raise DataError(f"{name} holds values of type {dtype.name}; expected uint8, bool, or floating-point in [0, 1]")
    if min(shape) < 1:
        raise DataError(f"{name} holds no images: its shape is {shape}")
    if promised != stored:
        raise DataError(
            f"{name} is damaged: its shape {shape} of {dtype.name} takes {promised} bytes, but {stored} follow its header"
        )
    pictures.check_size(name, height, width)
    values = np.frombuffer(data, dtype, offset=stream.tell())
    if dtype.kind == "b":
        values = np.uint8(255) * (values.view(np.uint8) != 0)
    elif dtype.kind == "f":
        values = pictures.bytes_of_floats(values, name)
        notes.append("floating-point values rounded to bytes")
    return np.ascontiguousarray(values.reshape(full_shape, order="F" if column_major else "C")), notes


# Selected by a regular expression for the first bytes; a file that matches none is read as a picture.
_READERS = (
    (rb"PK\x03\x04|PK\x05\x06", _zip),
    (rb"\x1f\x8b", _packed_idx),
    (rb"\x00\x00[\x08\x09\x0b-\x0e][\x01-\x04]", _idx),
    (rb"\x93NUMPY", _npy),
)
