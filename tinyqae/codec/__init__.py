"""Compress pictures and texts to .tqae files with a trained model, and decompress them."""

from .container import IMAGES, MODEL_ID_BYTES, TEXTS, Container, Field, describe, from_bytes, to_bytes
from .files import Unpacked, compress, contents, decompress, unpack
from .models import find, name_of, shipped, shipped_models
from .payload import CODED, PACKED, decode_bits, encode_bits

__all__ = [
    "CODED",
    "IMAGES",
    "MODEL_ID_BYTES",
    "PACKED",
    "TEXTS",
    "Container",
    "Field",
    "Unpacked",
    "compress",
    "contents",
    "decode_bits",
    "decompress",
    "describe",
    "encode_bits",
    "find",
    "from_bytes",
    "name_of",
    "shipped",
    "shipped_models",
    "to_bytes",
    "unpack",
]
