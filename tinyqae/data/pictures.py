"""A user's own pictures: one reader, and one rule for folders, both for training and for compression."""

import io
import logging
import operator
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from tinyqae.data.images import ImageData, records_sha256
from tinyqae.errors import DataError

logging.getLogger("PIL").addHandler(logging.NullHandler())  # Otherwise its readers also print what an exception says.

MAX_PIXELS = 1 << 27  # of one image, 11,585 x 11,585
MAX_FILE_BYTES = 1 << 31

# Pillow would let Ghostscript run the program that an EPS is, and open any other picture that an IPTC file contains.
_FORMATS_LEFT_OUT = {"EPS", "IPTC"}
_GREY, _COLOURS = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "CMYK")
_SYSTEM_FILES = re.compile(r"\..*|(eh)?thumbs\.db|desktop\.ini|__MACOSX|Icon\r", re.IGNORECASE | re.DOTALL)
_SHOWN = 3
UNREADABLE, SYSTEM = "skipped, not readable as a picture", "skipped, hidden or system file"


def image_folder_patches(folder: str | os.PathLike, patch: int = 32, holdout: float = 0.1, seed: int = 0) -> ImageData:
    """The pictures of `folder` (see `read_folder`), cut into squares of `patch` pixels that do not overlap.

    Images are returned as uint8 (N, patch, patch, 3); labels are uint8 (N,) and all 0. The hash is that of the records
    (see `records_sha256`). The remainder at the right and lower edges is dropped, and a picture smaller than a patch
    is skipped. About the fraction `holdout` of the pictures, at least one, drawn with `seed`, gives the test patches; no
    picture has patches in both parts. One UserWarning says what was done to which pictures and which files were skipped.

    Raises:
        DataError: the folder is missing or has fewer than two usable pictures.
        ValueError: the patch is below 1, the holdout not between 0 and 1, or the seed negative.
        TypeError: the patch or the seed is not an integer.
    """
    patch, seed = operator.index(patch), operator.index(seed)
    if patch < 1 or seed < 0 or not 0 < holdout < 1:
        raise ValueError(
            f"patch must be at least 1, seed at least 0 and holdout between 0 and 1, got {patch}, {seed} and {holdout}"
        )
    notes: dict[str, list[str]] = {}
    folder, patches = Path(os.path.expanduser(folder)), []
    for _, picture in read_folder(folder, notes):
        rows, columns = picture.shape[0] // patch, picture.shape[1] // patch
        whole = np.atleast_3d(picture)[: rows * patch, : columns * patch]
        tiles = np.broadcast_to(whole, (*whole.shape[:2], 3)).reshape(rows, patch, columns, patch, 3).swapaxes(1, 2)
        patches.append(tiles.reshape(-1, patch, patch, 3))
    usable = [tiles for tiles in patches if len(tiles)]
    if notes:
        warnings.warn("; ".join(in_lines(notes)), stacklevel=2)
    count, too_small, unreadable = len(usable), len(patches) - len(usable), len(notes.get(UNREADABLE, ()))
    if count < 2:
        raise DataError(
            f"{folder} has {count} usable images, but at least 2 are needed, one of them for testing: "
            f"{too_small} are smaller than {patch} x {patch} pixels, {unreadable} files cannot be read as "
            "images"
        )
    held_out = min(max(1, round(holdout * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    test, train = (np.concatenate([usable[i] for i in np.sort(part)]) for part in np.split(order, [held_out]))
    arrays = train, np.zeros(len(train), np.uint8), test, np.zeros(len(test), np.uint8)
    return ImageData(
        *arrays,
        f"images of the folder {one_line(folder.resolve().name)}",
        records_sha256(*arrays),
        f"{count} images in patches of {patch} x {patch} pixels, {held_out} of them held out; "
        f"skipped: {too_small} too small, {unreadable} not readable",
    )


def read_folder(folder: str | os.PathLike[str], notes: dict[str, list[str]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (path within the folder, picture from `read_picture`) for every picture in a folder and its sub-folders.

    Hidden files and folders, system files beside pictures (Thumbs.db, ...) and files that are not pictures are skipped;
    pipes and devices are not opened. Adds to notes, {what was done: [names]}. DataError for a folder that cannot be listed.
    """
    names = []
    try:
        os.listdir(folder)  # Unlike walk, this says what is wrong.
    except OSError as error:
        raise DataError(f"{one_line(folder)} is not a readable folder: {error.strerror}") from error
    for parent, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            shown = Path(parent, name).relative_to(folder).as_posix()
            if _SYSTEM_FILES.fullmatch(name):
                notes.setdefault(SYSTEM, []).append(shown)
            elif name in files:
                names.append(shown)
        folders[:] = [name for name in folders if not _SYSTEM_FILES.fullmatch(name)]
    for name in sorted(names):
        try:
            picture, done = read_picture(read_file(Path(folder, name)), name)
        except DataError:
            picture, done = None, [UNREADABLE]
        for what in done:
            notes.setdefault(what, []).append(name)
        if picture is not None:
            yield name, picture


def in_lines(notes: dict[str, list[str]]) -> list[str]:
    """Notes, {what was done: [names]}, one line each: "a.jpg, b.jpg and 7 more: rotated ..."."""
    return [
        ", ".join(map(one_line, names[:_SHOWN]))
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        + f": {what}"
        for what, names in notes.items()
    ]


def read_file(path: str | os.PathLike, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file of at most `limit` bytes; DataError otherwise, and for a pipe or a device, which is not opened."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{one_line(path)} is a directory, pipe or device; give a file, or - for standard input")
        if status.st_size > limit:
            raise DataError(f"{one_line(path)} is too large: it has more than {limit >> 20} MiB; split it into parts")
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError for a path with a zero byte
        raise DataError(f"cannot read {one_line(path)}: {getattr(error, 'strerror', None) or error}") from error


def read_picture(data: bytes, name: str) -> tuple[np.ndarray, list[str]]:
    """A picture file as uint8 (H, W) or (H, W, 3), as a viewer shows it, and what was done to it.

    The EXIF orientation is applied, transparent parts are put on white, palettes become colours, 16 bits are reduced to 8,
    colour profiles and CMYK are converted to sRGB; of several frames, the first is read. DataError for any other file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            formats = [form for form in Image.ID if form not in _FORMATS_LEFT_OUT]
            with Image.open(io.BytesIO(data), formats=formats) as picture:
                check_size(name, picture.height, picture.width)
                return _pixels(picture, name)
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not a readable picture, .npy file or IDX file, or is damaged at its beginning "
            f"({data[:8].hex(' ')}); expected one, such as a PNG"
        ) from error
    except Image.DecompressionBombError as error:  # Pillow has a limit of its own, a little higher.
        raise DataError(f"{name} is too large: the limit is {MAX_PIXELS} pixels; cut it into parts") from error
    except Exception as error:  # Each of Pillow's forty readers fails in its own ways.
        raise damaged(name, error) from error


def _pixels(picture: Image.Image, name: str) -> tuple[np.ndarray, list[str]]:
    notes = []
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "PSD":  # its layers are frames, the whole image first
        notes.append("only the first frame read")
    how_stored = str(getattr(picture, "tile", ""))  # Loading clears it; "RGB;16B", for example, is three times 16 bits.
    if picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        notes.append("rotated according to its EXIF orientation")
    picture.load()
    check_size(name, picture.height, picture.width)  # The picture within an icon can have another size than it declares.
    ImageOps.exif_transpose(picture, in_place=True)
    mode = picture.mode
    if mode == "F":
        return bytes_of_floats(np.asarray(picture), name), [*notes, "floating-point values rounded to bytes"]
    has_16_bits = mode.startswith("I;16") or mode == "I" and picture.format in ("PNG", "PPM")
    if has_16_bits or re.search(";16[BLN]", how_stored):
        notes.append("16 bits reduced to 8")
    if has_16_bits:
        # Pillow leaves 12 bits of a TIFF as they are, and takes the upper ones itself in colour images.
        values = np.asarray(picture)
        grey = Image.fromarray((values >> (4 if "I;12" in how_stored else 8)).astype(np.uint8))
        if isinstance(clear := picture.info.get("transparency"), int):
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        picture, mode = grey, grey.mode
    if mode not in _GREY + _COLOURS:
        raise DataError(f"{name} has pixels of Pillow's mode {mode}; expected 8- or 16-bit grey or RGB, such as in a PNG")
    form = "L" if mode in _GREY else "RGB"
    if mode[-1] in "Aa" or "transparency" in picture.info:
        picture = picture.convert(f"{form}A")
    elif mode != "CMYK":
        picture = picture.convert(form)
    picture = _in_srgb(picture, notes)
    if picture.mode == f"{form}A":
        opacity = picture.getchannel("A")
        if opacity.getextrema()[0] < 255:  # type: ignore[operator]
            notes.append("transparent parts filled with white")
        white = Image.new(form, picture.size, "white")
        white.paste(picture.convert(form), mask=opacity)
        picture = white
    return np.array(picture), notes


def _in_srgb(picture: Image.Image, notes: list[str]) -> Image.Image:
    """The picture converted to sRGB from its colour profile, CMYK as RGB."""
    form = picture.mode.replace("CMYK", "RGB")
    if data := picture.info.get("icc_profile"):
        described = "(damaged)"
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
            described = ImageCms.getProfileDescription(profile).strip()
            if "srgb" in described.lower():
                return picture.convert(form)
            converted = ImageCms.profileToProfile(
                picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGBA" if form[-1] == "A" else "RGB"
            )
            notes.append(f"converted to sRGB from the colour profile {described}")
            return converted.convert(form)  # type: ignore[union-attr]
        except (ImageCms.PyCMSError, ImportError, OSError, ValueError):  # a damaged profile, or a Pillow without LittleCMS
            notes.append(f"the colour profile {described} not applied")
    if picture.mode == "CMYK":
        notes.append("CMYK converted to RGB without a colour profile")
    return picture.convert(form)


def bytes_of_floats(values: np.ndarray, name: str) -> np.ndarray:
    """Floating-point values in [0, 1] as bytes, in the same shape."""
    outside = values[~((values >= 0) & (values <= 1))]  # NaN fails both.
    if outside.size:
        raise DataError(f"{name} holds {outside[0]}; floating-point values must lie in [0, 1], or be stored as uint8")
    return np.rint(values * values.dtype.type(255)).astype(np.uint8)


def check_size(name: str, height: int, width: int) -> None:
    """DataError unless an image of this size is accepted."""
    if height < 1 or width < 1:
        raise DataError(f"{name} has no pixels: it is {width} x {height}")
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{name} is too large: {width} x {height} is {height * width} pixels, the limit is {MAX_PIXELS}; "
            "cut it into parts"
        )


def damaged(name: str, error: Exception) -> DataError:
    """The DataError for a file whose reader failed."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{name} is damaged, truncated or of an unsupported kind: {reason}")


def one_line(path: str | os.PathLike) -> str:
    """A path as messages show it: as it is, or with escapes if it would break a line or the terminal."""
    path = os.fspath(path)
    return path if path and path.isprintable() else ascii(path)
