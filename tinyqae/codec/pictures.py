"""Cut pictures of any size into tiles of a model's size and join them again, by the sizes in the extra bytes.

The extra bytes of a file of images are empty if every code is an image of the model's own size, without a name. Otherwise,
deflated by blocks.deflate:

    varint   number of pictures P
    P times  varint height, varint width
    1        1 if names follow, else 0
    P times  varint length, and a name in UTF-8

A picture is cut into tiles from its upper left corner, row by row; at the right and lower edges it is padded with its
last column and row, which cost the fewest bits in most models.
"""

from collections.abc import Sequence

import numpy as np

from ..annotations import Shape
from ..errors import CodecError
from .blocks import Reader, deflate, inflate, varint

MAX_VALUES = 1 << 31
"""The most values that a file of pictures decodes to, one byte each: 2 GiB. Compressing more is also refused."""

MAX_NAME_BYTES = 200

Size = tuple[int, int]
Sizes = tuple[Size, ...]
Names = tuple[str, ...] | None


def count_tiles(sizes: Sizes, tile: Size) -> int:
    """The number of tiles (height, width) that pictures of these sizes take."""
    return sum(-(-height // tile[0]) * -(-width // tile[1]) for height, width in sizes)


def cut(pictures: Sequence[np.ndarray], input_shape: Shape, names: Sequence[str] | None = None) -> np.ndarray:
    """Cut pictures, uint8 arrays (H, W), (H, W, 1) or (H, W, 3), into tiles, uint8 (N, h, w, C), for a model of
    input_shape (h, w, C).

    A grey picture gets three equal channels if the model has three; a colour picture is not converted to grey.
    TypeError or ValueError names the picture that does not fit, by its number if there are no names.
    """
    height, width, channels = input_shape
    for i, picture in enumerate(pictures):
        shown = f"the picture {names[i]}" if names else f"picture {i}"
        check_picture(picture, shown)
        if picture.shape[2:] == (3,) and channels < 3:
            raise ValueError(
                f"{shown} is in colour, but this model takes only grey; convert it to grey, or use a colour model"
            )
    count = count_tiles(tuple(picture.shape[:2] for picture in pictures), (height, width))
    if count * height * width * channels > MAX_VALUES:
        raise ValueError(
            f"the pictures take {count} tiles of {height}x{width}x{channels}, but a file holds at most "
            f"{MAX_VALUES} values; compress them in several parts"
        )
    tiles, start = np.empty((count, height, width, channels), np.uint8), 0
    for picture in pictures:
        rows, columns = picture.shape[:2]
        padded = np.pad(np.atleast_3d(picture), ((0, -rows % height), (0, -columns % width), (0, 0)), mode="edge")
        grid = padded.reshape(len(padded) // height, height, -1, width, padded.shape[2]).swapaxes(1, 2)
        stop = start + grid.shape[0] * grid.shape[1]
        tiles[start:stop] = grid.reshape(-1, height, width, padded.shape[2])
        start = stop
    return tiles


def join(tiles: np.ndarray, sizes: Sizes) -> list[np.ndarray]:
    """Join the tiles (N, h, w, C) from `cut` to pictures of these sizes, a list of uint8 arrays (H, W, C)."""
    height, width, channels = tiles.shape[1:]
    pictures, start = [], 0
    for rows, columns in sizes:
        down, across = -(-rows // height), -(-columns // width)
        stop = start + down * across
        grid = tiles[start:stop].reshape(down, across, height, width, channels)
        whole = grid.swapaxes(1, 2).reshape(down * height, across * width, channels)
        pictures.append(np.ascontiguousarray(whole[:rows, :columns]))
        start = stop
    return pictures


def to_extra(sizes: Sizes, names: Sequence[str] | None) -> bytes:
    """The extra bytes that hold the pictures' sizes and names."""
    parts = [varint(number) for number in (len(sizes), *(side for size in sizes for side in size))]
    parts.append(bytes([names is not None]))
    for name in names or ():
        encoded = name.encode()
        if not 0 < len(encoded) <= MAX_NAME_BYTES:
            raise ValueError(f"name {name!r} has {len(encoded)} bytes in UTF-8, expected 1 to {MAX_NAME_BYTES}")
        parts += [varint(len(encoded)), encoded]
    return deflate(b"".join(parts))


def from_extra(extra: bytes, count: int, tile: Size | None = None) -> tuple[Sizes, Names]:
    """(sizes, names) from the extra bytes of a file with `count` codes. CodecError if they are invalid or, if the size of
    a tile (height, width) is given, unless the pictures take `count` tiles.
    """
    # A picture has at least one tile.
    data = inflate(extra, limit=count * (2 * 9 + 9 + MAX_NAME_BYTES) + 16)
    reader = Reader(data, "the list of pictures of this .tqae file")
    number = reader.varint("the number of pictures")
    if number > count:
        raise CodecError(f"this .tqae file declares {number} pictures but only {count} tiles")
    sizes = tuple((reader.varint("a height"), reader.varint("a width")) for _ in range(number))
    named = reader.take("the names flag", 1)[0]
    names = tuple(reader.text("a name") for _ in range(number)) if named == 1 else None
    reader.end()
    if named > 1 or any(min(size) < 1 for size in sizes) or tile and count_tiles(sizes, tile) != count:
        raise CodecError("this .tqae file is damaged: its list of pictures does not match its codes")
    return sizes, names


def check_picture(picture: np.ndarray, what: str) -> None:
    """TypeError or ValueError, which names it `what`, unless it is a uint8 array (H, W), (H, W, 1) or (H, W, 3)."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        raise TypeError(f"{what} is {getattr(picture, 'dtype', type(picture).__name__)}, expected a uint8 array")
    if picture.ndim < 2 or picture.shape[2:] not in ((), (1,), (3,)) or 0 in picture.shape:
        raise ValueError(f"{what} has shape {picture.shape}, expected (H, W), (H, W, 1) or (H, W, 3), not empty")
