"""From files to what the codec compresses: pictures, stacks of images, texts.

What a file is is found from its first bytes, not from its name. Sizes are checked before memory is taken for pixels, and
whatever is wrong with a file is a DataError: one line that names the file and says what would be right.
"""
import contextlib
import gzip
import io
import math
import os
import re
import sys
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..data.mnist import read_idx
from ..errors import DataError
from ..metrics.image import to_uint8
from .outputs import one_line, plain_names

MAX_PIXELS = 1 << 27
"""The most pixels of one image, 11,585 x 11,585."""

MAX_STACK_BYTES = 1 << 31
"""The most bytes of one file of images, as it is and unpacked, and of all pictures together as arrays."""

MAX_TEXT_BYTES = 1 << 28
"""The most bytes of a text."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP, _NPY, _IDX_IMAGES = b"\x1f\x8b", b"\x93NUMPY", b"\x00\x00\x08\x03"
_ANY_IDX = re.compile(rb"\x00\x00[\x08\x09\x0b-\x0e][\x01-\x04]")
_IDX_HEADER_BYTES = 16

# Pillow would let Ghostscript run the program that an EPS is, and open any other picture that an IPTC file contains.
_FORMATS_LEFT_OUT = {"EPS", "IPTC"}
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_AS_RGB = {"P", "RGB", "RGBX", "YCbCr", "HSV", "CMYK", *_WITH_ALPHA} - {"LA", "La"}

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Inputs:
    """Images to compress.

    images: a list of uint8 arrays (H, W), grey, or (H, W, 3), red, green and blue; or, of a stack, one uint8 array
        (N, H, W) or (N, H, W, 3). At least one image, no side 0.
    names: the pictures' file names without ending, plain and different from each other (see outputs.plain_names); None
        for a stack.
    bytes: the size of all files in bytes, as they were given.
    notes: what was done to the images beyond reading them, a line each.
    """

    images: list | np.ndarray
    names: list | None
    bytes: int
    notes: list


@dataclass(frozen=True)
class TextInput:
    """A text to compress, and its size as a file in bytes; text.encode() is the file again, byte for byte."""

    text: str
    bytes: int


def read_images(paths, *, stdin=None):
    """The images in files: any number of pictures, or one stack.

    A picture is a file that Pillow reads, or an .npy file (H, W) or (H, W, 3). It becomes 8 bits grey or RGB, as a viewer
    shows it: the right way up, transparent parts on white. A stack is an .npy file (N, H, W), (N, H, W, 1) or (N, H, W, 3)
    or an IDX file (N, H, W), also packed with gzip. Whatever has three axes, the last of 3, is one colour picture. Values
    are uint8, bool (0 and 255) or floating-point in [0, 1], which are rounded to bytes.

    Args:
        paths: list of str or paths. A directory stands for the visible files in it, sorted, "-" for standard input.
        stdin: binary stream that is read for "-", default sys.stdin.buffer.

    Returns:
        Inputs.

    Raises:
        DataError: a file is missing, damaged, too large or of no form named above; or a stack is not alone.
    """
    files = _files(map(os.fspath, paths))
    pictures, notes, size, size_as_arrays = [], [], 0, 0
    for path in files:
        data, name = _read(path, stdin, MAX_STACK_BYTES)
        size += len(data)
        array, is_stack = _images_of(data, name, notes)
        if is_stack:
            if len(files) > 1:
                raise DataError(f"{name} is a stack of images; give it alone, not with {len(files) - 1} other files")
            return Inputs(array, None, size, notes)
        size_as_arrays += array.nbytes
        if size_as_arrays > MAX_STACK_BYTES:
            raise DataError(f"with {name}, all pictures take more than {_mebibytes(MAX_STACK_BYTES)}; give fewer at once")
        pictures.append(array)
    return Inputs(pictures, plain_names("stdin" if path == "-" else Path(path).stem for path in files), size, notes)


def read_text(paths, *, stdin=None):
    """The text in a file in UTF-8: all its characters, the newlines and a byte order mark as they are.

    Args:
        paths: list of one str or path, "-" for standard input.
        stdin: binary stream that is read for "-", default sys.stdin.buffer.

    Returns:
        TextInput.

    Raises:
        DataError: there is more than one path; the file is missing, empty, too large, or not in UTF-8.
    """
    paths = [os.fspath(path) for path in paths]
    if len(paths) != 1:
        raise DataError(f"expected one text file, got {len(paths)}; texts are compressed one at a time")
    data, name = _read(paths[0], stdin, MAX_TEXT_BYTES)
    try:
        return TextInput(data.decode("utf-8"), len(data))
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a text in UTF-8: byte {error.start} is 0x{data[error.start]:02x}; if it is a text, "
                        "say iconv -f LATIN1 -t UTF-8, or whichever encoding it has") from None


def _files(paths):
    """The paths, with the files of directories in their place."""
    files = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            found = [os.path.join(path, name) for name in sorted(os.listdir(path)) if not name.startswith(".")]
        except OSError as error:
            raise DataError(f"cannot read {one_line(path)}: {error.strerror}") from error
        found = [file for file in found if os.path.isfile(file)]
        if not found:
            raise DataError(f"the directory {one_line(path)} has no visible files; give one with pictures in it")
        files += found
    if not files:
        raise DataError("there is no input; give files, a directory, or - for standard input")
    return files


def _read(path, stdin, limit):
    """(bytes of a file, its name in messages), the bytes at least one and at most `limit`."""
    name = "standard input" if path == "-" else one_line(path)
    try:
        if path == "-":
            data = _read_at_most(stdin or sys.stdin.buffer, limit + 1)
        else:
            with open(path, "rb") as file:
                _check_length(name, os.fstat(file.fileno()).st_size, limit)
                data = _read_at_most(file, limit + 1)
    except (OSError, ValueError) as error:  # ValueError for a path with a zero byte
        raise DataError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    _check_length(name, len(data), limit)
    if not data:
        raise DataError(f"{name} is empty; expected at least one image or line")
    return data, name


def _check_length(name, length, limit):
    if length > limit:
        raise DataError(f"{name} is too large: it has more than {_mebibytes(limit)}; give it in parts")


def _read_at_most(stream, limit):
    """The next `limit` bytes, or fewer where the stream ends. Takes no more memory than it needs, whatever the limit."""
    data = bytearray()
    while len(data) < limit and (chunk := stream.read(min(_CHUNK, limit - len(data)))):
        data += chunk
    return data


def _mebibytes(size):
    return f"{size >> 20} MiB"


def _images_of(data, name, notes):
    """(uint8 array, whether it is a stack) of a file's bytes; adds to the notes what was done to it."""
    if data.startswith(_ZIP):
        raise DataError(f"{name} is a zip archive, as .npz files are; unpack it and give what is in it")
    if data.startswith(_GZIP):
        return _idx_stack(_unpacked_idx(data, name), name), True
    if _ANY_IDX.match(data):
        return _idx_stack(data, name), True
    if data.startswith(_NPY):
        return _npy_images(data, name, notes)
    return _picture(data, name, notes), False


def _check_size(name, height, width):
    if height < 1 or width < 1:
        raise DataError(f"{name} has no pixels: it is {width} x {height}")
    if height * width > MAX_PIXELS:
        raise DataError(f"{name} is too large: {width} x {height} are {height * width} pixels, at most {MAX_PIXELS} are "
                        "read; cut it into parts")


def _unpacked_idx(data, name):
    """The IDX file in a .gz file, and no more bytes than it should have and one."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            header = _read_at_most(stream, _IDX_HEADER_BYTES)
            if not header.startswith(_IDX_IMAGES):
                raise DataError(f"{name} is a gzip file that holds no IDX file of images; unpack it and give what is in it")
            size = math.prod(int.from_bytes(header[start:start + 4], "big") for start in range(4, _IDX_HEADER_BYTES, 4))
            if size > MAX_STACK_BYTES:
                raise DataError(f"{name} promises {size} pixels; at most {MAX_STACK_BYTES} are read")
            return header + _read_at_most(stream, size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(name, error) from error


def _idx_stack(data, name):
    """uint8 (N, H, W) of an IDX file."""
    if not data.startswith(_IDX_IMAGES):
        raise DataError(f"{name} is an IDX file that begins with {data[:4].hex(' ')}, so it holds no images; expected "
                        f"{_IDX_IMAGES.hex(' ')}, unsigned bytes with three axes")
    try:
        stack = read_idx(data)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    _check_size(name, *stack.shape[1:])
    return stack


def _npy_images(data, name, notes):
    """(uint8 array, whether it is a stack) of an .npy file."""
    shape, column_major, dtype, offset = _npy_header(data, name)
    if dtype != np.uint8 and dtype.kind not in "bf":
        raise DataError(f"{name} holds values of type {dtype.name}; expected uint8, bool, or floating-point in [0, 1]")
    if len(shape) not in (2, 3, 4) or len(shape) == 4 and shape[3] not in (1, 3):
        got = f"{len(shape)} axes" if len(shape) != 4 else "four axes, the last neither 1 nor 3"
        raise DataError(f"{name} is an array with {got}; expected a stack (N, H, W), (N, H, W, 1) or (N, H, W, 3), or a "
                        "picture (H, W) or (H, W, 3)")
    # A number can have thousands of digits: it is shown below only if it is reasonable.
    if max(map(abs, shape)) > MAX_STACK_BYTES or math.prod(shape) * dtype.itemsize > MAX_STACK_BYTES:
        raise DataError(f"{name} promises more than {_mebibytes(MAX_STACK_BYTES)} of pixels, which is the most that is read")
    if min(shape) < 1:
        raise DataError(f"{name} holds no images: its shape is {shape}")
    promised, stored = math.prod(shape) * dtype.itemsize, len(data) - offset
    if promised != stored:
        raise DataError(f"{name} is damaged: its shape {shape} of {dtype.name} takes {promised} bytes, and {stored} follow "
                        "its header")
    is_stack = len(shape) == 4 or len(shape) == 3 and shape[2] != 3
    _check_size(name, *shape[1:3] if is_stack else shape[:2])
    if len(shape) == 3 and not is_stack:
        notes.append(f"{name}: an array of shape {shape}, taken for one colour picture")
    values = np.frombuffer(data, dtype, offset=offset)
    if dtype.kind == "b":
        values = (values.view(np.uint8) != 0).view(np.uint8) * np.uint8(255)
    elif dtype.kind == "f":
        values = _bytes_of_floats(values, name, notes)
    array = np.ascontiguousarray(values.reshape(shape, order="F" if column_major else "C"))
    return array[..., 0] if len(shape) == 4 and shape[3] == 1 else array, is_stack


def _npy_header(data, name):
    """(shape, whether in Fortran's order, dtype, where the values begin) of an .npy file."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    stream = io.BytesIO(data[:1 << 14])  # NumPy reads no header of more than 10,000 characters
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            if version not in readers:
                raise DataError(f"{name} is an .npy file of version {version}; expected (1, 0) or (2, 0)")
            shape, column_major, dtype = readers[version](stream)
    except DataError:
        raise
    except Exception as error:  # a damaged header is parsed as Python, which has a dozen ways to fail
        raise _damaged(name, error) from error
    return tuple(map(int, shape)), column_major, dtype, stream.tell()


def _bytes_of_floats(values, name, notes):
    """Floating-point values in [0, 1] as bytes, in the same shape."""
    flat, rounded = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start:start + _CHUNK]
        with np.errstate(invalid="ignore"):
            outside = chunk[~((chunk >= 0) & (chunk <= 1))]  # a NaN is neither
        if outside.size:
            raise DataError(f"{name} holds {outside[0]}; floating-point values must lie in [0, 1], or be stored as uint8")
        rounded[start:start + _CHUNK] = to_uint8(chunk)
    notes.append(f"{name}: floating-point values rounded to bytes")
    return rounded.reshape(values.shape)


def _picture(data, name, notes):
    """uint8 (H, W) or (H, W, 3) of a picture's bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Far above MAX_PIXELS, so that the picture's size can be told; some readers take memory already here.
            with _pillow_refuses_above(8 * MAX_PIXELS):
                picture = _opened(data)
                _check_size(name, picture.height, picture.width)
            # The picture within an icon can be another size than it says.
            with _pillow_refuses_above(MAX_PIXELS), picture:
                return _pixels(picture, name, notes)
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{name} is no picture, .npy file or IDX file that can be read, or damaged at its beginning "
                        f"({data[:8].hex(' ')}); expected one, such as a PNG") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is too large: at most {MAX_PIXELS} pixels are read; cut it into parts") from error
    except Exception as error:  # each of Pillow's forty readers fails in its own ways
        raise _damaged(name, error) from error


def _damaged(name, error):
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{name} is damaged, cut short or of an unusual kind: {reason}")


@contextlib.contextmanager
def _pillow_refuses_above(pixels):
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels // 2  # it warns from here and refuses from twice this on
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _opened(data):
    Image.init()
    return Image.open(io.BytesIO(data), formats=[form for form in Image.ID if form not in _FORMATS_LEFT_OUT])


def _pixels(picture, name, notes):
    """uint8 (H, W) or (H, W, 3) of an opened picture."""
    frames = getattr(picture, "n_frames", 1) if picture.format != "PSD" else 1  # its frames are layers, the merged one first
    if picture.format == "MPO" and frames > 1:
        # What many telephones write: a JPEG, and behind it a preview or the view of a second lens.
        notes.append(f"{name}: the first of its {frames} pictures taken")
    elif frames > 1:
        raise DataError(f"{name} has {frames} frames; give one frame of it")
    how_stored = str(picture.tile)  # loading clears it; "RGB;16B", for example, are three times 16 bits
    if picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        notes.append(f"{name}: turned as its EXIF orientation says")
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    mode = picture.mode
    if mode == "F":
        return _bytes_of_floats(np.asarray(picture), name, notes)
    has_16_bits = mode.startswith("I;16") or mode == "I" and picture.format in ("PNG", "PPM")
    if has_16_bits or re.search(";16[BLN]", how_stored):
        notes.append(f"{name}: 16 bits reduced to 8")
    if has_16_bits:
        # Pillow leaves 12 bits of a TIFF as they are, and takes the upper ones itself where there are colours.
        return (np.asarray(picture) >> (4 if "I;12" in how_stored else 8)).astype(np.uint8)
    if mode == "CMYK":
        notes.append(f"{name}: CMYK turned into RGB, without regard to a colour profile")
    if mode in ("1", "L", "LA", "La"):
        form, form_with_alpha = "L", "LA"
    elif mode in _AS_RGB:
        form, form_with_alpha = "RGB", "RGBA"
    else:
        raise DataError(f"{name} has pixels of Pillow's kind {mode}; expected 8 or 16 bits grey or RGB, such as in a PNG")
    if mode in _WITH_ALPHA or "transparency" in picture.info:
        picture = picture.convert(form_with_alpha)
        opacity = picture.getchannel("A")
        if opacity.getextrema()[0] < 255:
            notes.append(f"{name}: transparent parts put on white")
        white = Image.new(form, picture.size, "white")
        white.paste(picture.convert(form), mask=opacity)
        picture = white
    return np.array(picture.convert(form))
