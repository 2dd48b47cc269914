"""A text as lines: those in a model's alphabet become codes, all others are stored verbatim.

The extra bytes of a file of text, deflated by blocks.deflate:

    1        flags: bit 0: the text ends with a line feed, bit 1: every line feed follows a carriage return
    4        CRC-32 of the text in UTF-8, as decoded on the writer's machine, little-endian
    varint   number of verbatim lines
    each     varint number of coded lines since the previous one, varint length, and the line in UTF-8

The checksum lets the reader detect that a character was decoded differently, on a machine that sums in another order or
runs another version: the bits of codes are the same everywhere, but a network's output may differ in rare cases.
"""

from dataclasses import dataclass

from ..data import clean_sentence
from ..errors import CodecError
from .blocks import Reader, checksum, deflate, inflate, varint

MAX_VERBATIM_BYTES = 1 << 28
"""The largest total size of verbatim lines in bytes."""

_ENDS, _RETURNS = 1, 2


@dataclass(frozen=True)
class Lines:
    """A text split into coded and verbatim lines.

    Attributes:
        coded: the lines that become codes.
        verbatim: for every other line the number of coded lines before it, and the line.
        ends, returns: see the flags above.
    """

    coded: list[str]
    verbatim: list[tuple[int, str]]
    ends: bool
    returns: bool


def take_apart(text: str, longest: int) -> Lines:
    """Split a text into Lines. Those that are not empty, in the alphabet of tinyqae.tokens and at most `longest` characters
    long become codes. ValueError for a text with lone surrogates, which UTF-8 cannot encode.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode: character {error.start} is {text[error.start]!r}") from error
    returns = "\n" in text and text.count("\n") == text.count("\r\n")
    ends = text.endswith("\n")
    lines = text.split("\r\n" if returns else "\n")
    if ends:
        lines.pop()
    coded, verbatim = [], []
    # An empty text has no lines.
    for line in lines if text else ():
        if 0 < len(line) <= longest and clean_sentence(line) == line:
            coded.append(line)
        else:
            verbatim.append((len(coded), line))
    return Lines(coded, verbatim, ends, returns)


def put_together(lines: Lines, decoded: list[str]) -> str:
    """Join Lines to a text, with `decoded`, a list of str, in place of the coded ones."""
    parts: list[str] = []
    start = 0
    for before, line in lines.verbatim:
        parts += [*decoded[start:before], line]
        start = before
    newline = "\r\n" if lines.returns else "\n"
    return newline.join(parts + decoded[start:]) + newline * lines.ends


def to_extra(lines: Lines, text: str) -> bytes:
    """The extra bytes for Lines, of which `text` is the decoded text."""
    encoded = [line.encode() for _, line in lines.verbatim]
    if (kept := sum(map(len, encoded))) > MAX_VERBATIM_BYTES:
        raise ValueError(
            f"{len(encoded)} lines with {kept} bytes are not in the model's alphabet or too long for it; a "
            f"file stores at most {MAX_VERBATIM_BYTES} bytes of such lines"
        )
    parts = [bytes([_ENDS * lines.ends | _RETURNS * lines.returns]), checksum(text.encode()), varint(len(encoded))]
    start = 0
    for (before, _), line in zip(lines.verbatim, encoded, strict=True):
        parts += [varint(before - start), varint(len(line)), line]
        start = before
    return deflate(b"".join(parts))


def from_extra(extra: bytes, count: int) -> tuple[Lines, bytes]:
    """(Lines, checksum) from the extra bytes of a file with `count` codes; `coded` is empty. CodecError if invalid."""
    reader = Reader(inflate(extra, limit=2 * MAX_VERBATIM_BYTES), "the list of lines of this .tqae file")
    flags, stored = reader.take("flags", 1)[0], reader.take("checksum", 4)
    verbatim, start = [], 0
    for _ in range(reader.varint("the number of lines")):
        start += reader.varint("a distance")
        verbatim.append((start, reader.text("a line")))
    reader.end()
    if flags > (_ENDS | _RETURNS) or start > count:
        raise CodecError("this .tqae file is damaged: its list of lines does not match its codes")
    return Lines([], verbatim, bool(flags & _ENDS), bool(flags & _RETURNS)), stored
