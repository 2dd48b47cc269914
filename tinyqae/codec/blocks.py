"""Building blocks shared by the parts of a file: varints, checksums, deflated blocks and a reader."""

import zlib

from ..errors import CodecError

MAX_VARINT_BYTES = 9
RAW, DEFLATED = b"\0", b"\1"


def varint(number: int) -> bytes:
    """A number in [0, 2^63) as unsigned LEB128 (DWARF version 5, section 7.6)."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def checksum(*parts: bytes | memoryview) -> bytes:
    """CRC-32 (as in zlib and PNG) of the concatenated parts: 4 bytes, little-endian."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc.to_bytes(4, "little")


def deflate(data: bytes) -> bytes:
    """A byte for the method, then the data, raw or deflated (RFC 1951), whichever is shorter."""
    deflated = zlib.compress(data, 9, wbits=-zlib.MAX_WBITS)
    return DEFLATED + deflated if len(deflated) < len(data) else RAW + data


def inflate(block: bytes, limit: int) -> bytes:
    """The inverse of `deflate`; CodecError for invalid blocks, and for one that would expand beyond `limit` bytes."""
    how, data = block[:1], block[1:]
    if how == RAW and len(data) <= limit:
        return data
    if how == DEFLATED:
        decompressor = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        try:
            inflated = decompressor.decompress(data, limit)
        except zlib.error as error:
            raise CodecError(f"this .tqae file is damaged: its extra bytes cannot be inflated ({error})") from error
        if decompressor.eof and not decompressor.unused_data:
            return inflated
    raise CodecError("this .tqae file is damaged: its extra bytes are truncated, too long or in an unknown format")


class Reader:
    """Reads bytes in order. CodecError if there are too few or too many; `what` is their name in messages."""

    def __init__(self, data: bytes, what: str):
        self.data, self.what, self.offset = data, what, 0

    def take(self, name: str, length: int) -> bytes:
        """The next `length` bytes."""
        start, self.offset = self.offset, self.offset + length
        if self.offset > len(self.data):
            raise CodecError(f"{self.what} is truncated: {name} ends at byte {self.offset}, but there are {len(self.data)}")
        return self.data[start : self.offset]

    def varint(self, name: str) -> int:
        """The next varint, below 2^63."""
        data = self.data[self.offset : self.offset + MAX_VARINT_BYTES]
        length = next((i for i, byte in enumerate(data, 1) if byte < 0x80), len(data) + 1)
        if length > MAX_VARINT_BYTES or length > 1 and data[length - 1 : length] == b"\0":
            raise CodecError(
                f"{self.what} is damaged: {name} is not a varint of at most {MAX_VARINT_BYTES} bytes in its shortest form"
            )
        return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(self.take(name, length)))

    def text(self, name: str) -> str:
        """The next string: a varint, the number of bytes, and its bytes in UTF-8."""
        try:
            return self.take(name, self.varint(f"the length of {name}")).decode()
        except UnicodeDecodeError as error:
            raise CodecError(f"{self.what} is damaged: {name} is not UTF-8") from error

    def end(self) -> None:
        """Check that all bytes have been read."""
        if self.offset != len(self.data):
            raise CodecError(f"{self.what} is damaged: it has {len(self.data) - self.offset} bytes too many")
