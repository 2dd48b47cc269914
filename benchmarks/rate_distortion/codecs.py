"""The baselines: image codecs of Pillow, text compressors of Python, and which part of their files is payload.

Files of small images are mostly header: nine tenths of a JPEG of 28x28 pixels are tables. So each codec is measured twice:
by whole files, and by the *payload*, a file without the bytes that are the same for every image of that size and setting,
and without lengths and checksums, as an archive of many images could store it:

    JPEG        the entropy-coded scan after SOS, without EOI, of the same picture with the standard Huffman tables. The
                whole file has tables optimized for its image, which is smaller; those tables belong to the image, so
                leaving them out would be cheating. Both decode to the same pixels.
    JPEG 2000   the packets of the tile, between SOD and EOC, of the bare codestream (.j2k, smaller than .jp2)
    WebP        the VP8 frame without its start code and size, 7 bytes; no RIFF and chunk headers
    AVIF        the frame's OBUs in the mdat box, without their headers and without the sequence header
    PNG         the deflate stream in the IDAT chunks, without zlib's 2 bytes before and 4 after it

and for texts

    gzip        the raw deflate stream                      xz      the raw LZMA2 stream
    bz2         without magic numbers and checksums         zstd    without magic number, frame and window descriptor
"""

import bz2
import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, features

# OBU types that hold a picture (AV1 specification, section 6.2.2): frame header, tile group, and both in one.
AVIF_FRAME_OBUS = (3, 4, 6)

ZSTD_LEVEL = 19
ZSTD_DICTIONARY_BYTES = 112_640
"""The default size of `zstd --train`."""


# ---- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageCodec:
    """One codec and the settings that are measured, coarse to fine.

    word: the name of a setting. options(setting, shape): arguments of Pillow's save. payload: file -> its payload.
    feature: Pillow's name for the underlying library. payload_options: of the file that the payload is taken from, if it is
    a different one.
    """

    name: str
    format: str
    feature: str
    word: str
    settings: tuple
    options: Callable
    payload: Callable
    payload_options: dict = field(default_factory=dict)

    def missing(self):
        """Why it cannot be measured here, or None."""
        return None if features.check(self.feature) else f"this build of Pillow has no {self.name}"

    def encode(self, image, setting):
        """(file, payload) of an image, uint8 (H, W, C): bytes."""
        options = self.options(setting, image.shape)
        file = _save(image, self.format, options)
        other = _save(image, self.format, options | self.payload_options) if self.payload_options else file
        return file, self.payload(other)


def decode(file, shape):
    """Decode the bytes of a file to an image, uint8 of this shape (H, W, C)."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("L" if shape[-1] == 1 else "RGB")).reshape(shape)


def _save(image, kind, options):
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_payload(file):
    """The entropy-coded data of a JPEG with one scan."""
    at = 2  # after SOI; every segment but the scan's data has its length
    while file[at : at + 2] != b"\xff\xda":
        at += 2 + int.from_bytes(file[at + 2 : at + 4])
    start = at + 2 + int.from_bytes(file[at + 2 : at + 4])
    _require(file.endswith(b"\xff\xd9"), "JPEG", "its end")
    return file[start:-2]


def jpeg2000_payload(file):
    """The packets of a JPEG 2000 codestream with one tile-part."""
    at = 2  # after SOC
    while file[at : at + 2] != b"\xff\x90":
        at += 2 + int.from_bytes(file[at + 2 : at + 4])
    end = at + int.from_bytes(file[at + 6 : at + 10])
    while file[at : at + 2] != b"\xff\x93":
        at += 2 + int.from_bytes(file[at + 2 : at + 4])
    _require(file[end:] == b"\xff\xd9", "JPEG 2000 codestream", "its end behind the first tile-part")
    return file[at + 2 : end]


def webp_payload(file):
    """The VP8 frame of a simple lossy WebP: its tag (which says how long the first partition is) and its partitions."""
    _require(file[12:16] == b"VP8 " and file[23:26] == b"\x9d\x01\x2a", "WebP", "a VP8 key frame")
    frame = file[20 : 20 + int.from_bytes(file[16:20], "little")]
    return frame[:3] + frame[10:]


def avif_payload(file):
    """The contents of the OBUs that hold the picture."""
    at, payload = 0, b""
    while file[at + 4 : at + 8] != b"mdat":
        _require(at < len(file), "AVIF", "an mdat box")
        at += int.from_bytes(file[at : at + 4])
    end, at = at + int.from_bytes(file[at : at + 4]), at + 8
    while at < end:
        kind, has_extension, has_size = file[at] >> 3 & 15, file[at] >> 2 & 1, file[at] >> 1 & 1
        at += 1 + has_extension
        size = end - at  # an OBU without a size extends to the end
        if has_size:
            size, at = _leb128(file, at)
        if kind in AVIF_FRAME_OBUS:
            payload += file[at : at + size]
        at += size
    return payload


def png_payload(file):
    """The deflate stream of a PNG."""
    at, stream = 8, b""
    while at < len(file):
        length = int.from_bytes(file[at : at + 4])
        if file[at + 4 : at + 8] == b"IDAT":
            stream += file[at + 8 : at + 8 + length]
        at += 12 + length
    return stream[2:-4]


def _leb128(data, at):
    """(number, offset after it)."""
    number = shift = 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def _require(holds, name, what):
    if not holds:
        raise ValueError(f"this {name} file does not have {what} where Pillow puts it")


CODECS = {
    codec.name: codec
    for codec in (
        ImageCodec(
            "JPEG",
            "JPEG",
            "jpg",
            "quality",
            (1, 5, 10, 20, 35, 50, 75, 90),
            lambda quality, shape: {"quality": quality, "subsampling": "4:2:0", "optimize": True},
            jpeg_payload,
            {"optimize": False},
        ),
        # By quality: a rate, as OpenJPEG defines it, would include headers that are larger than the whole picture. Two
        # wavelet levels for a small image: the default of five costs more than it saves.
        ImageCodec(
            "JPEG 2000",
            "JPEG2000",
            "jpg_2000",
            "dB",
            (1, 11, 12, 13, 15, 17, 20, 23, 26, 30, 35, 40),
            lambda decibels, shape: {
                "quality_mode": "dB",
                "quality_layers": [decibels],
                "irreversible": True,
                "no_jp2": True,
                "num_resolutions": 3 if max(shape) <= 64 else 6,
            },
            jpeg2000_payload,
        ),
        ImageCodec(
            "WebP",
            "WEBP",
            "webp",
            "quality",
            (0, 5, 10, 20, 40, 60, 80, 95),
            lambda quality, shape: {"quality": quality, "method": 6},
            webp_payload,
        ),
        ImageCodec(
            "AVIF",
            "AVIF",
            "avif",
            "quality",
            (0, 15, 30, 50, 75),
            lambda quality, shape: {
                "quality": quality,
                "subsampling": "4:0:0" if shape[-1] == 1 else "4:2:0",
                "max_threads": 1,
            },
            avif_payload,
        ),
        ImageCodec("PNG", "PNG", "zlib", "lossless", ("",), lambda setting, shape: {"optimize": True}, png_payload),
    )
}


# ---- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextCompressor:
    """Functions of bytes: file(data) gives the whole file, payload(data) the number of bytes of its payload."""

    name: str
    file: Callable
    payload: Callable


def text_compressors(training_sentences):
    """Return (list of TextCompressor, bytes of zstd's dictionary); without the package zstandard, no zstd and None.

    training_sentences: what the dictionary is trained on.
    """
    compressors = [
        TextCompressor("gzip", lambda data: gzip.compress(data, 9, mtime=0), _raw_deflate),
        # "BZh9", the magic numbers of block and end, 6 bytes each, and their checksums.
        _less_fixed("bz2", lambda data: bz2.compress(data, 9), 4 + 6 + 6 + 4 + 4),
        TextCompressor(
            "xz",
            lambda data: lzma.compress(data, filters=_lzma(data)),
            lambda data: len(lzma.compress(data, lzma.FORMAT_RAW, filters=_lzma(data))),
        ),
    ]
    if _zstandard() is None:
        return compressors, None
    dictionary = _zstandard().train_dictionary(ZSTD_DICTIONARY_BYTES, [s.encode() for s in training_sentences])
    compressors += [_zstd("zstd"), _zstd("zstd + dictionary", dict_data=dictionary)]
    return compressors, len(dictionary.as_bytes())


def _less_fixed(name, compress, fixed):
    return TextCompressor(name, compress, lambda data: len(compress(data)) - fixed)


def _raw_deflate(data):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(compressor.compress(data) + compressor.flush())


def _lzma(data):
    # As `xz -9e`, except for memory: a dictionary larger than the text only costs time.
    return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": max(4096, len(data))}]


def _zstandard():
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        return None


def _zstd(name, **dictionary):
    compressor = _zstandard().ZstdCompressor(
        ZSTD_LEVEL, write_content_size=False, write_checksum=False, write_dict_id=False, **dictionary
    )
    return _less_fixed(name, compressor.compress, 4 + 1 + 1)
