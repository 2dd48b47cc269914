"""Small pieces of bytes that the parts of a file share: varints, deflated blocks, and a reader that cannot be misled."""
import zlib

from ..errors import CodecError

MAX_VARINT_BYTES = 9
RAW, DEFLATED = b"\0", b"\1"


def varint(number: int) -> bytes:
    """A number from 0 on, below 2^63, as unsigned LEB128 (DWARF version 5, section 7.6)."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def of_varint(data: bytes) -> int:
    """The number that varint wrote."""
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data))


def varint_length(data: bytes) -> int | None:
    """How many bytes of those at the head of `data` are a varint: None where it goes on behind the end of data.

    CodecError where it is longer than it may be, or longer than need be.
    """
    longest = data[:MAX_VARINT_BYTES]
    length = next((i for i, byte in enumerate(longest, 1) if byte < 0x80), None)
    if length is None and len(longest) == MAX_VARINT_BYTES or length and length > 1 and not longest[length - 1]:
        raise CodecError(f"is not a number of at most {MAX_VARINT_BYTES} bytes, written as short as possible")
    return length


def deflate(data: bytes) -> bytes:
    """A byte that says how, then the bytes as they are or deflated (RFC 1951), whichever is shorter."""
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(data) + compressor.flush()
    return DEFLATED + deflated if len(deflated) < len(data) else RAW + data


def inflate(block: bytes, limit: int) -> bytes:
    """What `deflate` was given; CodecError for other blocks, and for one that would grow beyond `limit` bytes."""
    how, data = block[:1], block[1:]
    if how == RAW and len(data) <= limit:
        return data
    if how == DEFLATED:
        decompressor = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        try:
            inflated = decompressor.decompress(data, limit)
        except zlib.error as error:
            raise CodecError(f"this .tqae file is damaged: its extra bytes cannot be inflated ({error})") from error
        if decompressor.eof and not decompressor.unused_data and len(inflated) <= limit:
            return inflated
    raise CodecError("this .tqae file is damaged: its extra bytes are cut short, too long or of an unknown form")


class Reader:
    """Goes through bytes; CodecError, which names them as `what`, where they end too early or too late."""

    def __init__(self, data: bytes, what: str):
        self.data, self.what, self.offset = data, what, 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        part = self.data[self.offset:self.offset + length]
        if len(part) < length:
            raise CodecError(f"this .tqae file is damaged: {self.what} is cut short")
        self.offset += length
        return part

    def varint(self) -> int:
        """The next varint."""
        try:
            length = varint_length(self.data[self.offset:self.offset + MAX_VARINT_BYTES])
        except CodecError as error:
            raise CodecError(f"this .tqae file is damaged: a number in {self.what} {error}") from error
        return of_varint(self.take(length or MAX_VARINT_BYTES))

    def text(self, length: int) -> str:
        """The next `length` bytes, which must be UTF-8, as a str."""
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise CodecError(f"this .tqae file is damaged: {self.what} has a part that is not UTF-8") from error

    def end(self) -> None:
        """To be called when all has been read."""
        if self.offset != len(self.data):
            raise CodecError(f"this .tqae file is damaged: {self.what} has {len(self.data) - self.offset} bytes too many")
