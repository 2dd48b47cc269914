"""Codes of models <-> bytes of files: the payload (packed or entropy-coded bits) and the container around it."""
from .container import IMAGES, MODEL_ID_BYTES, TEXTS, Container, Field, describe, from_bytes, to_bytes
from .payload import CODED, PACKED, decode_bits, encode_bits

__all__ = ["CODED", "IMAGES", "MODEL_ID_BYTES", "PACKED", "TEXTS", "Container", "Field", "decode_bits", "describe",
           "encode_bits", "from_bytes", "to_bytes"]
