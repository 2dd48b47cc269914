"""The .tqae file: a header, what the caller keeps beside the codes, and the codes.

Version 1, byte by byte. Numbers are little-endian; a varint is an unsigned LEB128 number: seven bits per byte, lowest
first, the highest bit set in all bytes but the last, as few bytes as possible and at most 9.

    bytes    what
    4        magic, "TQAE"
    1        version, 1
    1        flags: bit 0 method (0 packed, 1 entropy-coded; see payload.py), bit 1 kind (0 images, 1 texts),
             bit 2 layout (0 flat, 1 a map); the others are 0
    8        model id: the first bytes of the SHA-256 that model.model_id() gives
    varint   count N of codes
    varint   size L of a code in bits; for a map three varints, its height, width and channels
    varint   length of the extra bytes
    varint   length of the payload
    4        CRC-32 of all bytes above
    ...      extra bytes: the caller's, such as original image sizes or lines kept verbatim
    ...      payload: the codes
    4        CRC-32 of the extra bytes and the payload

The header with both checksums takes 26 bytes for one image or text of fewer than 128 bits without extra bytes, and 28
for a map whose sides are below 128. Lengths are those of the whole file: bytes after the last checksum are refused.
"""
import math
import operator
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..annotations import Shape
from ..errors import CodecError
from .blocks import MAX_VARINT_BYTES, of_varint, varint, varint_length
from .payload import CODED, PACKED, check_size, map_shape

MAGIC, VERSION = b"TQAE", 1
MODEL_ID_BYTES = 8
IMAGES, TEXTS = 0, 1
"""The kinds, as stored."""


@dataclass(frozen=True)
class Container:
    """What a .tqae file holds.

    model_id: bytes.fromhex(model.model_id())[:MODEL_ID_BYTES] of the model that made the codes.
    kind: IMAGES or TEXTS, what the codes are of.
    method, count, shape, payload: what payload.decode_bits needs: PACKED or CODED, the number of codes, the layout (L,)
        or (h, w, c) of each, and bytes.
    extra: bytes that the caller needs beside the codes, to be understood by kind.
    """

    model_id: bytes
    kind: int
    method: int
    count: int
    shape: Shape
    extra: bytes
    payload: bytes


class Field(NamedTuple):
    """`length` bytes of a file from `offset` on, and what they say: a number, or the bytes themselves."""

    offset: int
    length: int
    name: str
    value: int | bytes


def to_bytes(container: Container) -> bytes:
    """The file that holds a Container, as bytes.

    Raises:
        TypeError, ValueError: a field is not what Container says.
        CodecError: the payload's length is not one of so many codes.
    """
    c = container
    if len(c.model_id) != MODEL_ID_BYTES:
        raise ValueError(f"model_id has {len(c.model_id)} bytes, expected the first {MODEL_ID_BYTES} of the SHA-256")
    for name, value, known in (("kind", c.kind, (IMAGES, TEXTS)), ("method", c.method, (PACKED, CODED))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, known))}")
    count = operator.index(c.count)
    if count < 0:
        raise ValueError(f"count is {count}, expected 0 or more")
    check_size(c.method, count, math.prod(map_shape(c.shape)), len(c.payload))
    shape = tuple(map(operator.index, c.shape))
    flags = c.method | c.kind << 1 | (len(shape) == 3) << 2
    header = MAGIC + bytes([VERSION, flags]) + c.model_id
    header += b"".join(map(varint, (count, *shape, len(c.extra), len(c.payload))))
    return b"".join((header, _checksum(header), c.extra, c.payload, _checksum(c.extra, c.payload)))


def from_bytes(data: bytes) -> Container:
    """The Container in the bytes of a file. CodecError says what is wrong with others, before memory is taken."""
    return _read(data)[0]


def describe(data: bytes) -> list[Field]:
    """The bytes of a file one after the other: a list of Field that covers them all. CodecError as in from_bytes."""
    return _read(data)[1]


def _read(data: bytes) -> tuple[Container, list[Field]]:
    """(Container, fields) of a file."""
    reader = _Reader(data)
    if reader.data[:len(MAGIC)] != MAGIC:
        raise CodecError(f"this is no .tqae file: it begins with {reader.data[:len(MAGIC)]!r}, not {MAGIC!r}")
    reader.take("magic", len(MAGIC))
    version = reader.take("version", 1, _integer)
    if version != VERSION:
        raise CodecError(f"this .tqae file has version {version}; this version of tinyqae reads version {VERSION}")
    flags = reader.take("flags", 1, _integer)
    method, kind, is_map = flags & 1, flags >> 1 & 1, flags >> 2 & 1
    model_id = reader.take("model id", MODEL_ID_BYTES)
    count = reader.varint("count")
    shape = tuple(map(reader.varint, ("height", "width", "channels") if is_map else ("size",)))
    extra_length = reader.varint("extra length")
    payload_length = reader.varint("payload length")
    computed = _checksum(reader.data[:reader.offset])
    if reader.take("header checksum", 4) != computed:
        raise CodecError("the header of this .tqae file is damaged: its checksum does not fit")
    # What follows guards against files that were made on purpose: an accident does not pass the checksum.
    if flags >> 3:
        raise CodecError(f"this .tqae file has flags {flags:#010b}; this version of tinyqae knows the lowest three bits")
    try:
        map_shape(shape)
    except ValueError as error:
        raise CodecError(f"this .tqae file has codes of an impossible size: {error}") from error
    check_size(method, count, math.prod(shape), payload_length)
    left = len(data) - reader.offset - (extra_length + payload_length + 4)
    if left > 0:
        raise CodecError(f"this .tqae file is too long: {left} bytes follow its end")
    extra = reader.take("extra", extra_length)
    payload = reader.take("payload", payload_length)
    if reader.take("checksum", 4) != _checksum(extra, payload):
        raise CodecError("this .tqae file is damaged: the checksum of its contents does not fit")
    return Container(model_id, kind, method, count, shape, extra, payload), reader.fields


class _Reader:
    """Goes through bytes and keeps a Field for each step."""

    def __init__(self, data: bytes):
        self.data, self.offset = bytes(data), 0
        self.fields: list[Field] = []

    def take(self, name: str, length: int, convert: Callable[[bytes], Any] = bytes) -> Any:
        """The next `length` bytes, converted; CodecError when there are fewer."""
        end = self.offset + length
        if end > len(self.data):
            raise CodecError(f"this .tqae file is cut short: {name} ends at byte {end}, the file at byte {len(self.data)}")
        value = convert(self.data[self.offset:end])
        self.fields.append(Field(self.offset, length, name, value))
        self.offset = end
        return value

    def varint(self, name: str) -> int:
        """The next varint, below 2^63."""
        try:
            length = varint_length(self.data[self.offset:self.offset + MAX_VARINT_BYTES])
        except CodecError as error:
            raise CodecError(f"this .tqae file is damaged: {name} {error}") from error
        # Where the data ends within a number, ask for one byte more than there is.
        return self.take(name, length or len(self.data) - self.offset + 1, of_varint)


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _checksum(*parts: bytes) -> bytes:
    """CRC-32 (that of zlib and PNG) of the parts, one after the other, as it is stored."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc.to_bytes(4, "little")
