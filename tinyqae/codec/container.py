"""The .tqae file: a header, extra bytes of the caller, and the codes.

Version 1, byte by byte. Numbers are little-endian; a varint is an unsigned LEB128 number: seven bits per byte, least
significant first, the highest bit set in all bytes but the last, in as few bytes as possible and at most 9.

    bytes    content
    4        magic, "TQAE"
    1        version, 1
    1        flags: bit 0 method (0 packed, 1 entropy-coded; see payload.py), bit 1 kind (0 images, 1 texts),
             bit 2 layout (0 flat, 1 a map); the others are 0
    8        model id: the first bytes of the SHA-256 returned by model.model_id()
    varint   count N of codes
    varint   size L of a code in bits; for a map three varints, its height, width and channels
    varint   length of the extra bytes
    varint   length of the payload
    4        CRC-32 of all bytes above
    ...      extra bytes of the caller, such as original image sizes or verbatim lines
    ...      payload: the codes
    4        CRC-32 of the extra bytes and the payload

The header with both checksums takes 26 bytes for one image or text of fewer than 128 bits without extra bytes, and 28
for a map whose sides are below 128. The last checksum ends the file: trailing bytes are rejected.
"""

import math
import operator
from dataclasses import dataclass
from typing import NamedTuple

from ..annotations import Shape
from ..errors import CodecError
from .blocks import Reader, checksum, varint
from .payload import CODED, PACKED, check_size, map_shape

MAGIC, VERSION = b"TQAE", 1
MODEL_ID_BYTES = 8
IMAGES, TEXTS = 0, 1
"""The kinds, as stored."""


@dataclass(frozen=True)
class Container:
    """The contents of a .tqae file.

    Attributes:
        model_id: the first MODEL_ID_BYTES of the id of the model that made the codes.
        kind: IMAGES or TEXTS.
        method, count, shape, payload: the arguments of payload.decode_bits.
        extra: bytes that the caller needs besides the codes; their meaning depends on kind.
    """

    model_id: bytes
    kind: int
    method: int
    count: int
    shape: Shape
    extra: bytes
    payload: bytes


class Field(NamedTuple):
    """`length` bytes of a file from `offset` on, and their value: a number, or the bytes themselves."""

    offset: int
    length: int
    name: str
    value: int | bytes


def to_bytes(container: Container) -> bytes:
    """Serialize a Container to the bytes of a file.

    Raises:
        TypeError, ValueError: a field is not as described in Container.
        CodecError: the payload's length does not fit the number of codes.
    """
    c = container
    if len(c.model_id) != MODEL_ID_BYTES:
        raise ValueError(f"model_id has {len(c.model_id)} bytes, expected the first {MODEL_ID_BYTES} of the SHA-256")
    for name, value, known in (("kind", c.kind, (IMAGES, TEXTS)), ("method", c.method, (PACKED, CODED))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, known))}")
    if c.count < 0:
        raise ValueError(f"count is {c.count}, expected 0 or more")
    check_size(c.method, operator.index(c.count), math.prod(map_shape(c.shape)), len(c.payload))
    return b"".join(stored for _, _, stored in _parts(c))


def from_bytes(data: bytes) -> Container:
    """Parse the bytes of a file. CodecError says what is wrong with invalid ones, before memory is allocated."""
    reader = Reader(bytes(data), "this .tqae file")
    if reader.data[: len(MAGIC)] != MAGIC:
        raise CodecError(f"this is not a .tqae file: it begins with {reader.data[: len(MAGIC)]!r}, not {MAGIC!r}")
    reader.take("magic", len(MAGIC))
    version = reader.take("version", 1)[0]
    if version != VERSION:
        raise CodecError(f"this .tqae file has version {version}; this version of tinyqae reads version {VERSION}")
    flags = reader.take("flags", 1)[0]
    model_id = reader.take("model id", MODEL_ID_BYTES)
    count = reader.varint("count")
    shape = tuple(map(reader.varint, _sides(is_map=bool(flags & 4))))
    extra_length, payload_length = reader.varint("extra length"), reader.varint("payload length")
    computed = checksum(reader.data[: reader.offset])
    if reader.take("header checksum", 4) != computed:
        raise CodecError("the header of this .tqae file is damaged: its checksum does not match")
    # The following guards against maliciously crafted files: accidental damage does not pass the checksum.
    if flags >> 3:
        raise CodecError(f"this .tqae file has flags {flags:#010b}; this version of tinyqae supports the lowest three bits")
    try:
        map_shape(shape)
    except ValueError as error:
        raise CodecError(f"this .tqae file has codes of an invalid size: {error}") from error
    check_size(flags & 1, count, math.prod(shape), payload_length)
    left = len(data) - reader.offset - (extra_length + payload_length + 4)
    if left > 0:
        raise CodecError(f"this .tqae file is too long: {left} bytes follow its end")
    extra, payload = reader.take("extra", extra_length), reader.take("payload", payload_length)
    if reader.take("checksum", 4) != checksum(extra, payload):
        raise CodecError("this .tqae file is damaged: the checksum of its contents does not match")
    return Container(model_id, flags >> 1 & 1, flags & 1, count, shape, extra, payload)


def describe(data: bytes) -> list[Field]:
    """List the fields of a file, which together cover all its bytes. CodecError as in from_bytes."""
    fields, offset = [], 0
    for name, value, stored in _parts(from_bytes(data)):  # A valid file has only one encoding.
        fields.append(Field(offset, len(stored), name, value))
        offset += len(stored)
    return fields


def _parts(c: Container) -> list[tuple[str, int | bytes, bytes]]:
    """(name, value, bytes) of each part of a file."""
    is_map = len(c.shape) == 3
    flags = c.method | c.kind << 1 | is_map << 2
    numbers = {
        "count": c.count,
        **dict(zip(_sides(is_map), c.shape, strict=True)),
        "extra length": len(c.extra),
        "payload length": len(c.payload),
    }
    parts: list[tuple[str, int | bytes, bytes]] = [
        ("magic", MAGIC, MAGIC),
        ("version", VERSION, bytes([VERSION])),
        ("flags", flags, bytes([flags])),
        ("model id", c.model_id, c.model_id),
    ]
    parts += [(name, number, varint(operator.index(number))) for name, number in numbers.items()]
    in_front = checksum(*(stored for _, _, stored in parts))
    rest = {"header checksum": in_front, "extra": c.extra, "payload": c.payload, "checksum": checksum(c.extra, c.payload)}
    return parts + [(name, stored, stored) for name, stored in rest.items()]


def _sides(is_map: bool) -> tuple[str, ...]:
    return ("height", "width", "channels") if is_map else ("size",)
