"""Convert the bits of codes to bytes and back: packed, or entropy-coded with adaptive probabilities.

PACKED is np.packbits over all bits of all items, the first bit in the highest position, padded with zeros.

CODED is binary range coding (Martin 1979; here `constriction`, Bamler 2022, arXiv:2201.01741). The probability that a
bit is 1 follows from counts of bits coded before, as p = (2 n1 + 1) / (2 n + 2) (Krichevsky and Trofimov 1981, IEEE
Trans. Inf. Theory 27:199), for n bits seen in the same context, n1 of them 1. It is one IEEE division of integers, so every
machine and backend computes the same probabilities.

A context is the bit's channel and the values of a few bits coded before, its parents. A flat code (L,) is a map with
h = w = 1 and L channels. Bits of a map (h, w, c) are coded place by place in raster order, channel by channel at each
place. A parent of channel k is a channel below k at the same place, or any channel at the place to the left or above
(0 beyond the border). Each channel has its own parents, up to MAX_PARENTS, the same ones at all places, which the encoder
chooses (parents.py).

Items are coded in blocks of 1, 1, 2, 4, ... up to LARGEST_BLOCK; within a block, one bit of all its items at a time.
Counts are updated between the places of a block: small first blocks let them adapt quickly, and large ones are coded at the
speed of NumPy.

Byte by byte: the CRC-32 of the packed bits, 4 bytes, little-endian; then the range coder's 32-bit words, little-endian, to
the end. The coder's stream, first with probability 1/2 for every bit: for each channel the number of its parents,
PARENT_COUNT_BITS wide, highest bit first; for each parent its index, the neighbour's index in NEIGHBOURS times the number
of channels plus its channel, as wide as the largest index. Then the blocks.

A range decoder accepts any bytes and does not detect their end. The checksum is that of the decoded bits, so that neither a
corrupted payload nor a machine that computes other probabilities yields wrong codes unnoticed.
"""

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from constriction import stream

from ..annotations import Shape
from ..errors import CodecError
from .blocks import checksum
from .parents import NEIGHBOURS, PARENT_COUNT_BITS, Parents, choose_parents, index_bits, neighbours

PACKED, CODED = 0, 1
"""The methods, as the container stores them. Their meaning never changes: a new scheme gets a new number."""

LARGEST_BLOCK = 1024
CHECKSUM_BYTES = 4
MAX_CODE_SIZE = 1 << 16  # L, in bits; codes of models have tens to thousands
# N L of a CODED payload, whose length does not bound it: a channel that never changes takes about log2(N h w) / 2 + 4 bits.
MAX_CODED_BITS = 1 << 29

# Bits coded in one step; the format does not depend on it.
_STEP_BITS = 1 << 16

# Models of a bit: with given probabilities, and with 1/2. perfect=False rounds a probability to 24 bits by a
# multiplication, the same in constriction 0.4 and 0.5. For two values, Categorical equals Bernoulli in half the time.
_BIT, _EVEN = stream.model.Categorical(perfect=False), stream.model.Bernoulli(0.5, perfect=False)


def encode_bits(bits: np.ndarray, shape: Shape, parents: Parents | None = None) -> tuple[int, bytes]:
    """Encode codes to bytes, with the method that takes fewer.

    Args:
        bits: bool array (N, L), N codes of L bits, N may be 0.
        shape: the layout of a code, (L,) or (h, w, c) with h w c = L.
        parents: as returned by choose_parents for similar codes; None to call it here, which takes most of the time.

    Returns:
        (method, payload): PACKED or CODED, and at most ceil(N L / 8) bytes. PACKED if the codes exceed MAX_CODED_BITS.

    Raises:
        TypeError, ValueError: bits or shape is not as described above, or L exceeds MAX_CODE_SIZE.
    """
    height, width, channels = map_shape(shape)
    if not isinstance(bits, np.ndarray) or bits.dtype != np.bool_:
        raise TypeError(f"bits is {getattr(bits, 'dtype', type(bits).__name__)}, expected a bool NumPy array")
    if bits.ndim != 2 or bits.shape[1] != height * width * channels:
        raise ValueError(
            f"bits has shape {bits.shape}, expected (N, {height * width * channels}) for codes of shape {tuple(shape)}"
        )
    packed = np.packbits(bits).tobytes()
    if not 0 < bits.size <= MAX_CODED_BITS:
        return PACKED, packed
    encoder, maps = stream.queue.RangeEncoder(), bits.reshape(-1, height, width, channels)
    if parents is None:
        parents = choose_parents(maps)
    _write_parents(encoder, parents, height * width)
    _code_items(encoder, parents, maps)
    coded = checksum(packed) + encoder.get_compressed().astype("<u4").tobytes()
    return (CODED, coded) if len(coded) < len(packed) else (PACKED, packed)


def decode_bits(payload: bytes, method: int, count: int, shape: Shape) -> np.ndarray:
    """Decode the codes, bool (N, L), from the bytes of encode_bits; count: N, 0 or more.

    Raises:
        CodecError: the payload is corrupted, or not that of `count` codes; or the method is unknown. Of packed bits, only
            a wrong number and nonzero padding are detected; the container has a checksum for them.
        TypeError, ValueError: shape is not what encode_bits takes.
    """
    height, width, channels = map_shape(shape)
    size = height * width * channels
    check_size(method, count, size, len(payload))
    if method == PACKED:
        bits = np.unpackbits(np.frombuffer(payload, np.uint8)).view(np.bool_)
        if bits[count * size :].any():
            raise CodecError("the payload is damaged: the padding bits of its last byte are not all 0")
        return bits[: count * size].reshape(count, size)
    decoder = stream.queue.RangeDecoder(np.frombuffer(payload, "<u4", offset=CHECKSUM_BYTES).astype(np.uint32))
    bits = np.empty((count, size), np.bool_)
    # The information that the words can hold, doubled to allow for the coder's rounding of small probabilities.
    most_bits = 2 * 8 * (len(payload) - CHECKSUM_BYTES) + 128
    try:
        parents = _read_parents(decoder, channels, height * width)
        _code_items(decoder, parents, bits.reshape(-1, height, width, channels), most_bits)
    except AssertionError as error:  # constriction raises it for words that no encoder writes
        raise CodecError("the payload is damaged: the range decoder cannot read it") from error
    if not decoder.maybe_exhausted() or checksum(np.packbits(bits).data) != payload[:CHECKSUM_BYTES]:
        raise CodecError("the payload is damaged: its checksum does not match its bits")
    return bits


def check_size(method: int, count: int, size: int, payload_bytes: int) -> None:
    """CodecError unless `payload_bytes` bytes can hold `count` codes of `size` bits; checked before memory is allocated."""
    bits = count * size
    packed = -(-bits // 8)
    if method == PACKED:
        if payload_bytes != packed:
            raise CodecError(
                f"{count} codes of {size} bits take {packed} bytes when packed; the payload has {payload_bytes}"
            )
    elif method == CODED:
        if bits > MAX_CODED_BITS:
            raise CodecError(
                f"{count} codes of {size} bits are declared; an entropy-coded payload holds at most {MAX_CODED_BITS} bits"
            )
        if payload_bytes % 4 or not CHECKSUM_BYTES < payload_bytes < packed:
            raise CodecError(
                f"the payload has {payload_bytes} bytes; entropy-coded, {count} codes of {size} bits take a "
                f"multiple of 4 bytes, and fewer than the {packed} of packed bits"
            )
    else:
        raise CodecError(f"method {method!r} is unknown; this version reads {PACKED} (packed) and {CODED} (entropy-coded)")


def map_shape(shape: Shape) -> tuple[int, int, int]:
    """(h, w, c) of a code's layout; a flat code is one place with L channels. TypeError or ValueError if invalid."""
    try:
        sides = tuple(operator.index(side) for side in shape)
    except TypeError as error:
        raise TypeError(f"shape is {shape!r}, expected whole numbers (L,) or (h, w, c)") from error
    if len(sides) not in (1, 3) or min(sides) < 1 or math.prod(sides) > MAX_CODE_SIZE:
        raise ValueError(
            f"shape is {shape!r}, expected (L,) or (h, w, c), each at least 1, and at most {MAX_CODE_SIZE} bits in all"
        )
    return (sides[0], sides[1], sides[2]) if len(sides) == 3 else (1, 1, sides[0])


def _code_items(coder: Any, parents: Parents, maps: np.ndarray, most_bits: float = math.inf) -> None:
    """Encode maps (N, h, w, c), or overwrite them with what a decoder returns.

    CodecError if a decoder has returned more than most_bits bits of information.
    """
    count, height, width, channels = maps.shape
    size, depth = height * width * channels, max(map(len, parents))
    codes, sources = maps.reshape(count, size), _sources(parents, maps.shape[1:])
    decodes = isinstance(coder, stream.queue.RangeDecoder)
    # [channel and context, the bit's value]
    counts = np.zeros((channels << depth, 2), np.int64)
    for items in _blocks(count):
        # Items last, so that the bits of one call are contiguous; the last row stands for parents beyond the border.
        rows = np.zeros((size + 1, items.stop - items.start), np.uint8)
        if not decodes:
            rows[:size] = codes[items].T
        for step in _steps(size, channels, rows.shape[1], depth):
            first = step.start % channels
            known = counts[first << depth : first + step.stop - step.start << depth]
            one = (2 * known[:, 1] + 1) / (2 * (known[:, 0] + known[:, 1]) + 2)
            probabilities = np.stack([1 - one, one], axis=1)
            if decodes:
                _decode_step(coder, rows, step, sources, probabilities)
            # For each bit twice the index of its context, consecutive over the bits of the step, plus the bit itself.
            outcomes = 2 * _contexts(rows, sources[:, step]) + rows[step]
            outcomes = (outcomes + (np.arange(len(outcomes)) << depth + 1)[:, np.newaxis]).ravel()
            if not decodes:
                coder.encode(
                    rows[step].ravel().astype(np.int32), _BIT, probabilities.repeat(2, axis=0).take(outcomes, axis=0)
                )
            tally = np.bincount(outcomes, minlength=probabilities.size).reshape(-1, 2)
            known += tally
            if decodes:
                # Beyond its end a stream reads as zeros: a few bytes of garbage would take the minute of a full payload.
                most_bits += (tally * np.log2(probabilities)).sum()
                if most_bits < 0:
                    raise CodecError("the payload is damaged: it is too short for its bits")
        if decodes:
            codes[items] = rows[:size].T


def _decode_step(decoder: Any, rows: np.ndarray, step: slice, sources: np.ndarray, probabilities: np.ndarray) -> None:
    """Overwrite rows[step] of uint8 rows (K, n), c bits of n items.

    sources (D, K): as returned by _sources. probabilities (c 2^D, 2): of a 0 and of a 1 in each context of each of the bits.
    """
    first_cells = np.arange(step.stop - step.start)[:, np.newaxis] << len(sources)
    for run in _runs(step, sources, len(rows) - 1):
        cells = _contexts(rows, sources[:, run]) + first_cells[run.start - step.start : run.stop - step.start]
        rows[run] = decoder.decode(_BIT, probabilities.take(cells.ravel(), axis=0)).reshape(cells.shape)


def _sources(parents: Parents, shape: Shape) -> np.ndarray:
    """(D, h w c): the indices in a code of each bit's parents, with D the most that a channel has. The index h w c, of a
    zero, stands for parents beyond the border, and pads those of channels with fewer.
    """
    size = math.prod(shape)
    # A border above, to the left and after the last channel, for missing parents.
    numbers = np.pad(np.arange(size).reshape(shape), ((1, 0), (1, 0), (0, 1)), constant_values=size)
    chosen = np.full((max(map(len, parents)), 1, 1, shape[2], 3), (0, 0, shape[2]))
    for channel, of_channel in enumerate(parents):
        if of_channel:
            chosen[: len(of_channel), 0, 0, channel] = of_channel
    down, right, other = np.moveaxis(chosen, -1, 0)
    y, x, _ = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1, :1]
    return numbers[y + down, x + right, other].reshape(-1, size)


def _contexts(rows: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The values of parents as the bits of one number, the first parent's lowest. rows: uint8 (K, n), zeros and ones;
    sources: indices of rows, (D, ...), D below 8. Returns uint8 (..., n).
    """
    if not len(sources):
        return np.zeros((*sources.shape[1:], rows.shape[1]), np.uint8)
    values = rows.take(sources, axis=0)
    contexts = values[-1]
    for value in values[-2::-1]:
        contexts += contexts
        contexts += value
    return contexts


def _blocks(count: int) -> Iterator[slice]:
    """Slices of 1, 1, 2, 4, ... LARGEST_BLOCK, LARGEST_BLOCK, ... items, `count` in all."""
    start = 0
    while start < count:
        stop = min(start + min(max(start, 1), LARGEST_BLOCK), count)
        yield slice(start, stop)
        start = stop


def _steps(size: int, channels: int, items: int, depth: int) -> Iterator[slice]:
    """Consecutive slices of a code's bits, each within one place and of about _STEP_BITS bits (or contexts)."""
    most = max(1, _STEP_BITS // max(items, 1 << depth))
    for place in range(0, size, channels):
        for start in range(place, place + channels, most):
            yield slice(start, min(start + most, place + channels))


def _runs(step: slice, sources: np.ndarray, border: int) -> Iterator[slice]:
    """Slices of the bits of a step, as long as can be decoded together: no bit is a parent of another. border: the index
    in `sources` of a parent that is always 0.
    """
    parents, start = sources[:, step], step.start
    latest = np.where(parents < border, parents, -1).max(axis=0, initial=-1)
    for bit, parent in enumerate(latest.tolist(), start):
        if parent >= start:
            yield slice(start, bit)
            start = bit
    yield slice(start, step.stop)


def _write_parents(encoder: Any, parents: Parents, places: int) -> None:
    """Encode for each channel the number of its parents, then the index of each among all candidates."""
    channels = len(parents)
    indices = [NEIGHBOURS.index((down, right)) * channels + other for chosen in parents for down, right, other in chosen]
    for numbers, width in ([*map(len, parents)], PARENT_COUNT_BITS), (indices, index_bits(channels, places)):
        bits = np.array(numbers, np.int32)[:, np.newaxis] >> np.arange(width, dtype=np.int32)[::-1] & 1
        encoder.encode(bits.ravel(), _EVEN)


def _read_parents(decoder: Any, channels: int, places: int) -> Parents:
    """Decode what _write_parents encoded: for each channel a list of (rows down, columns right, channel)."""

    def read(count: int, width: int) -> list[int]:
        return (decoder.decode(_EVEN, count * width).reshape(count, width) @ (1 << np.arange(width)[::-1])).tolist()

    counts = read(channels, PARENT_COUNT_BITS)
    indices = iter(read(sum(counts), index_bits(channels, places)))
    parents = []
    for channel, count in enumerate(counts):
        chosen = [divmod(next(indices), channels) for _ in range(count)]
        if any(neighbour >= neighbours(places) or neighbour == 0 and other >= channel for neighbour, other in chosen):
            raise CodecError(f"the payload is damaged: bits of channel {channel} depend on bits that come later")
        parents.append([(*NEIGHBOURS[neighbour], other) for neighbour, other in chosen])
    return parents
