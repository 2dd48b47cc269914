"""Write what the codec decompressed to files: pictures, stacks of images, texts. No partial file is left behind.

The names of pictures come from a file that may be untrusted. plain_name says which of them may be used as file names:
those that refer to a file in this directory on every system.
"""

import io
import os
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..annotations import FilePath
from ..checkpoint import sweep, write_atomically
from ..data.mnist import write_idx
from ..data.pictures import one_line
from ..errors import CodecError, DataError
from .pictures import MAX_NAME_BYTES, check_picture

# File systems allow 255 bytes, including the suffix and what is added for a temporary file.
LONGEST_NAME = MAX_NAME_BYTES

_FORBIDDEN = frozenset('<>:"/\\|?*')  # in names on Windows, "/" everywhere
# Devices on Windows, with any suffix. Superscript digits count as digits there, and NFKC converts them to digits.
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}

_PICTURES = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
_LOSSY = (".avif", ".gif", ".jp2", ".jpeg", ".jpg", ".webp")

TEMPORARY = ".tqae-"
"""The prefix of the names of temporary directories."""


def write_images(path: FilePath, images: Sequence[np.ndarray] | np.ndarray, names: Sequence[str] | None) -> None:
    """Write images in the format that the path selects; an existing file is overwritten.

    "-"                              standard output: the bytes of an .npy file for a stack, of a PNG for a single picture
    *.npy                            a stack (N, H, W) or (N, H, W, 3)
    *-ubyte, *.idx                   an IDX file (N, H, W), as MNIST's
    *.png, *.bmp, *.tif, *.tiff      exactly one picture
    no suffix, */, or a directory    a directory with a PNG for each image; it must be empty if it exists

    Args:
        path: str or path.
        images: a list of uint8 arrays (H, W), (H, W, 1) or (H, W, 3), or one uint8 array (N, H, W, 1) or (N, H, W, 3).
        names: for the files of a directory, without suffix, as returned by plain_names; or None, which numbers them:
            00000.png, 00001.png, ...

    Raises:
        TypeError, ValueError: images is not as described above. CodecError: names are not.
        DataError: there are no images, they do not fit the form, or the path cannot be written.
        BrokenPipeError: the reader of standard output has closed it.
    """
    path = os.fspath(path)
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ValueError(f"the stack of images has shape {images.shape}, expected (N, H, W, C)")
    for i, image in enumerate(images):
        check_picture(image, f"image {i}")
    if names is not None:
        _check_names(names, len(images))
    if not len(images):
        raise DataError(f"cannot write {one_line(path)}: there are no images to write")
    pictures = [image[..., 0] if image.shape[2:] == (1,) else image for image in images]
    form = os.path.splitext(path)[1].lower()
    if path == "-":
        form = ".npy" if isinstance(images, np.ndarray) else ".png"
    elif _is_directory(path):
        form = ""
    elif path.endswith("-ubyte"):
        form = ".idx"
    if not form:
        _write_directory(path, pictures, names)
    elif form in (".npy", ".idx"):
        write_parts(path, _stack(path, form, pictures))
    elif form in _PICTURES:
        if len(pictures) > 1:
            raise DataError(
                f"{_output(path)} can hold only one picture, not {len(pictures)}; use a name that ends in "
                ".npy, or in / for a directory of pictures"
            )
        write_parts(path, [_picture(pictures[0], _PICTURES[form])])
    else:
        why = "is lossy" if form in _LOSSY else "is not a supported format"
        raise DataError(
            f"cannot write {one_line(path)}: {one_line(form)} {why}; use a name that ends in .png, .bmp, "
            ".tif or .npy, or in / for a directory of pictures"
        )


def write_text(path: FilePath, text: str) -> None:
    """Write a text in UTF-8, unchanged; "-" is standard output, and an existing file is overwritten.

    UnicodeEncodeError for a lone surrogate; DataError and BrokenPipeError as in write_images.
    """
    path, data = os.fspath(path), text.encode()
    if _is_directory(path):
        raise DataError(f"cannot write {one_line(path)}: it names a directory; use a file name")
    write_parts(path, [data])


def plain_name(name: str) -> bool:
    """Whether a picture may have this name: it is printable, and on every system a visible file in this directory.

    This excludes names that are empty or longer than LONGEST_NAME, contain a separator, a drive or a character that Windows
    forbids or that is not printable, begin with a dot, end with a dot or a space, or are devices on Windows.
    """
    return isinstance(name, str) and _cleaned(name) == name


def plain_names(names: Iterable[str]) -> list[str]:
    """Plain names for files with these names (str, without suffix), in the same order.

    Characters that are not allowed become "_". Names that are the same on some system get -2, -3, ...
    """
    taken: dict[str, str] = {}
    numbers = Counter[str]()
    for name in names:
        clean = unique = _cleaned(name)
        while _key(unique) in taken:
            numbers[clean] += 1
            unique = f"{_cut(clean, LONGEST_NAME - 10)}-{numbers[clean] + 1}"
        taken[_key(unique)] = unique
    return list(taken.values())


def _check_names(names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise CodecError(f"{len(names)} names for {count} images: this file was not written by tinyqae")
    for name in names:
        if not plain_name(name):
            raise CodecError(f"the image name {ascii(name)[:100]} is not a plain file name: nothing is written")
    for name, unique in zip(names, plain_names(names), strict=True):
        if name != unique:
            raise CodecError(f"two images are named {ascii(name)[:100]}, ignoring case: nothing is written")


def _key(name: str) -> str:
    """Equal for two names that are the same on some file system: up to case, or up to Unicode normalization."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _cleaned(name: str) -> str:
    """Convert a name to a plain one."""
    clean = "".join("_" if char in _FORBIDDEN or not char.isprintable() else char for char in name)
    if not clean or clean[0] == ".":
        clean = "_" + clean[1:]
    if unicodedata.normalize("NFKC", clean).split(".")[0].rstrip().upper() in _RESERVED:
        clean = "_" + clean
    clean = _cut(clean, LONGEST_NAME)
    return clean[:-1] + "_" if clean[-1] in ". " else clean


def _cut(name: str, length: int) -> str:
    """Truncate a name to at most `length` bytes in UTF-8."""
    return name.encode()[:length].decode(errors="ignore")


def _output(path: FilePath) -> str:
    return "standard output" if path == "-" else one_line(path)


def _stack(path: str, form: str, pictures: list[np.ndarray]) -> list[bytes | memoryview]:
    """The parts of an .npy or .idx file.

    A stack of grey images 3 pixels wide keeps its last axis in an .npy file, (N, H, 3, 1): without it, it would be read
    as one colour picture.
    """
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) > 1:
        raise DataError(
            f"{_output(path)} takes images of one size, but there are some of {shapes[0]} and of {shapes[1]}; "
            "use a name that ends in / for a directory of pictures"
        )
    stack = np.stack(pictures)
    if form == ".idx":
        if stack.ndim != 3:
            raise DataError(f"{one_line(path)} takes grey images, but these are in colour; use a name that ends in .npy")
        return [write_idx(stack)]
    if stack.shape[2:] == (3,):
        stack = stack[..., np.newaxis]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(stack))
    # np.save would ask for the position in the file, which a pipe does not have.
    return [header.getvalue(), stack.data]


def _picture(picture: np.ndarray, form: str) -> memoryview:
    """The bytes of a picture file."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, form)
    return data.getbuffer()


def write_parts(path: FilePath, parts: Sequence[bytes | memoryview]) -> None:
    """Write the parts, concatenated, to a file, atomically, or, for "-", to standard output."""
    if path != "-" and os.path.exists(path) and not os.path.isfile(path):
        # For example a device: renaming the finished file to its name would remove the device from the system.
        raise DataError(f"cannot write {one_line(path)}: it exists and is not a regular file; use - for standard output")
    try:
        if path == "-":
            sys.stdout.buffer.writelines(parts)
            sys.stdout.buffer.flush()
        else:
            write_atomically(path, lambda file: file.writelines(parts))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(f"cannot write {_output(path)}: {error.strerror or 'it is closed'}") from error


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) or path.endswith(("/", os.sep))


def _write_directory(path: str, pictures: list[np.ndarray], names: Sequence[str] | None) -> None:
    target = Path(path)
    if names is None:
        digits = max(5, len(str(len(pictures) - 1)))
        names = [f"{number:0{digits}}" for number in range(len(pictures))]
    try:
        # An existing directory is kept: a shell may be in it, and its parent may not be writable.
        exists = target.is_dir()
        sweep(target if exists else target.parent, f"{TEMPORARY}*")
        if exists and any(not path.name.startswith(TEMPORARY) for path in target.iterdir()):
            raise DataError(f"the directory {one_line(path)} is not empty; use an empty one or a new name")
        if not exists and os.path.lexists(target):
            raise DataError(f"cannot write {one_line(path)}: it exists and is not a directory; use another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target if exists else target.parent, prefix=TEMPORARY) as temporary:
            # A subdirectory, since the temporary directory is private and the result should be like any new directory.
            whole = Path(temporary) / "whole"
            whole.mkdir()
            for name, picture in zip(names, pictures, strict=True):
                (whole / f"{name}.png").write_bytes(_picture(picture, "PNG"))
            if exists:
                _move_all([whole / f"{name}.png" for name in names], target)
            else:
                os.rename(whole, target)
    except OSError as error:
        raise DataError(f"cannot write {one_line(path)}: {error.strerror}") from error


def _move_all(files, directory):
    """Move the files into the directory; if moving one fails, none is left there."""
    moved = []
    try:
        for file in files:
            moved.append(directory / file.name)
            os.rename(file, moved[-1])
    except BaseException:  # Including interruptions.
        for path in moved:
            path.unlink(missing_ok=True)
        raise
