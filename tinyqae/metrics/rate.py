"""How much a code saves and how well its bits are used: bits per item, compression ratio, entropy."""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["bit_activity", "bit_entropy", "bits_per_item", "code_usage", "compression_ratio", "image_bits"]

CODE_BITS_PER_VALUE = {"binary": 1, "float32": 32}
"""Bits that one latent value takes in a code: thresholded to a bit, or stored as it is (the vanilla bottleneck)."""


def bits_per_item(latent_size: int, code: str) -> int:
    """Size of one item's code in bits: N for a "binary" code, 32 N for "float32" values. latent_size: N."""
    if code not in CODE_BITS_PER_VALUE:
        raise ValueError(f"code is {code!r}, expected one of {', '.join(map(repr, CODE_BITS_PER_VALUE))}")
    return CODE_BITS_PER_VALUE[code] * _positive_int("latent_size", latent_size)


def image_bits(shape: Iterable[int]) -> int:
    """Size of one uncompressed image (H, W, C) in bits: 8 per channel value."""
    return 8 * math.prod(_positive_int("a side of shape", side) for side in shape)


def compression_ratio(original_bits: float, compressed_bits: float) -> float:
    """Size of the original over size of the compressed data (report, section 6.2.1, equation 1); higher is smaller.
    ValueError unless both sizes are finite and above 0.
    """
    for name, size in (("original_bits", original_bits), ("compressed_bits", compressed_bits)):
        if not 0 < size < math.inf:
            raise ValueError(f"{name} is {size}, expected a finite size above 0")
    return original_bits / compressed_bits


def bit_activity(bits: np.ndarray) -> np.ndarray:
    """Share of the items in which each bit is 1. bits: bool (M, N), M items of N bits -> float64 (N,), in [0, 1]."""
    _check_matrix("bits", bits, np.bool_)
    return bits.mean(axis=0)


def bit_entropy(bits: np.ndarray) -> np.ndarray:
    """Entropy of each bit over the items, in bits: -p log2 p - (1 - p) log2(1 - p), p the bit's activity.

    Dependence between the bits of a code is ignored, so the sum over N bounds the code's entropy from above.
    bits: bool (M, N) -> float64 (N,), in [0, 1].
    """
    activity = bit_activity(bits)
    probability = np.stack([activity, 1 - activity])
    log = np.log2(probability, where=probability > 0, out=np.zeros_like(probability))  # 0 log 0 counts as 0
    return np.abs(np.sum(probability * log, axis=0))  # not a minus sign, which would print a dead bit as -0.0


def code_usage(latent: np.ndarray, bits: np.ndarray | None = None) -> dict[str, float]:
    """How decided the latent is and how well its bits are used.

    Args:
        latent: floats (M, N), the values before the threshold.
        bits: bool (M, N), the code, or None for latent > 1/2.

    Returns:
        A dict over the M items:

        distance_to_bit     mean of min(z, 1 - z), z the latent clipped to [0, 1]. From 0, where thresholding loses nothing,
                            to 1/2; uniform latents have 1/4.
        dead_bits           int, how many of the N bits never change over the M items
        mean_bit_entropy    mean over the N bits of their entropy (`bit_entropy`), in [0, 1]
    """
    _check_matrix("latent", latent, np.floating)
    if np.isnan(latent).any():
        raise ValueError("latent holds NaN; code_usage takes the numbers of a trained encoder")
    bits = latent > 0.5 if bits is None else bits
    entropy = bit_entropy(bits)
    if bits.shape != latent.shape:
        raise ValueError(f"latent and bits differ in shape: {latent.shape} and {bits.shape}")
    clipped = np.clip(latent, 0, 1)
    return {
        "distance_to_bit": float(np.minimum(clipped, 1 - clipped).mean(dtype=np.float64)),
        "dead_bits": int(np.count_nonzero((bits == bits[0]).all(axis=0))),
        "mean_bit_entropy": float(entropy.mean()),
    }


def _positive_int(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return operator.index(value)


def _check_matrix(name: str, array: np.ndarray, kind: type[np.generic]) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, expected a NumPy array")
    if not np.issubdtype(array.dtype, kind):
        expected = "bool" if kind is np.bool_ else "a floating-point type"
        raise TypeError(f"{name} has dtype {array.dtype}, expected {expected}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (M, N) with M and N at least 1")
