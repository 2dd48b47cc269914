"""Bits of codes <-> bytes: packed, or entropy-coded with probabilities that adapt to the stream.

PACKED is np.packbits over all bits of all items, one after the other, first bit highest: N L bits, filled up with zeros
to a whole byte.

CODED is binary range coding (Martin 1979; here `constriction`, Bamler 2022, arXiv:2201.01741). The probability that a
bit is 1 comes from counts of bits coded before, as p = (2 n1 + 1) / (2 n + 2) (Krichevsky and Trofimov 1981, IEEE
Trans. Inf. Theory 27:199): n bits seen in the same context, n1 of them 1. Counts are integers and p is one IEEE
division of integers, so every machine and backend computes the same probabilities.

A context is the bit's channel and the values of a few bits coded before, its parents. A flat code (L,) is a map with
h = w = 1 and L channels. Bits of a map (h, w, c) are coded place by place in raster order, channel by channel at a
place. A parent of channel k is a channel below k at the same place, or any channel at the place to the left or above
(0 beyond the border). Each channel has its own parents, up to MAX_PARENTS, the same ones at all places. The encoder
chooses them, adding the one that saves most until it would save less than writing it down costs (the minimum
description length), and writes them at the head of the stream; the decoder is told and needs no floating-point sums.
Fixed parents, such as the bits to the left and above in the same channel, save much less: most of what can be known
about a bit of a latent map is in the other channels.

Items are coded in blocks of 1, 1, 2, 4, ... up to LARGEST_BLOCK. Counts change only between two calls of the range
coder, each of which codes one bit of every item of a block: the first items teach the counts quickly, and later ones
are coded at the speed of NumPy.
"""
import importlib
import math
import operator

import numpy as np

from ..errors import CodecError, MissingPackage

PACKED, CODED = 0, 1
"""The methods, as the container stores them. What they mean never changes: a new scheme takes a new number."""

LARGEST_BLOCK = 1024
PARENT_COUNT_BITS = 3
MAX_PARENTS = (1 << PARENT_COUNT_BITS) - 1
# Where a parent may be, as (rows down, columns right); a flat code has the first alone.
NEIGHBOURS = ((0, 0), (0, -1), (-1, 0))

MAX_CODE_SIZE = 1 << 16
"""The largest L, in bits. Codes of models have tens to thousands."""

MAX_CODED_BITS = 1 << 29
"""The most bits, count times L, of a CODED payload: 512 MiB as bools.

A payload's length does not bound what it decodes to: a channel that never changes takes about log2(N h w) / 2 + 4 bits
in all. This does, and is nearly twice what the large CNN makes of 20,000 x 20,000 pixels.
"""

# What the encoder's choice of parents looks at; the format does not depend on these.
_SAMPLED_BITS, _SAMPLED_ROWS = 1 << 20, 1 << 13
_SHORT_LIST = 32  # candidates a channel that are looked at together; all of them are looked at alone
_MOST_CHANNELS_WITH_PARENTS = 1024


def encode_bits(bits, shape, parents=None):
    """The bytes of codes, by the method that makes fewer.

    Args:
        bits: bool array (N, L), N codes of L bits, N may be 0.
        shape: the layout of a code, (L,) or (h, w, c) with h w c = L.
        parents: each channel's parents, as choose_parents found them for like codes; None: it is asked now, which takes
            most of the time.

    Returns:
        (method, payload): PACKED or CODED, and bytes; at most ceil(N L / 8) of them. PACKED whenever the package
        constriction is not installed, or the codes exceed MAX_CODED_BITS.

    Raises:
        TypeError: bits is not a bool NumPy array, or shape holds no integers.
        ValueError: bits is not (N, L), shape does not fit, or L exceeds MAX_CODE_SIZE.
    """
    height, width, channels = map_shape(shape)
    if not isinstance(bits, np.ndarray) or bits.dtype != np.bool_:
        raise TypeError(f"bits is {getattr(bits, 'dtype', type(bits).__name__)}, expected a bool NumPy array")
    if bits.ndim != 2 or bits.shape[1] != height * width * channels:
        raise ValueError(f"bits has shape {bits.shape}, expected (N, {height * width * channels}) for codes of shape "
                         f"{tuple(shape)}")
    packed = np.packbits(bits).tobytes()
    constriction = _constriction()
    if constriction is None or not 0 < bits.size <= MAX_CODED_BITS:
        return PACKED, packed
    maps = bits.reshape(-1, height, width, channels)
    coder = _Encoder(constriction)
    if parents is None:
        parents = choose_parents(bits, shape)
    _write_parents(coder, parents, height * width)
    _code_items(coder, parents, maps)
    coded = coder.payload()
    return (CODED, coded) if len(coded) < len(packed) else (PACKED, packed)


def decode_bits(payload, method, count, shape):
    """The codes that encode_bits made these bytes of.

    Args:
        payload: bytes.
        method: PACKED or CODED.
        count: N, the number of codes, 0 or more.
        shape: as encode_bits was given it.

    Returns:
        bool array (N, L).

    Raises:
        CodecError: encode_bits writes no such payload for so many codes; or the method is unknown.
        MissingPackage: the method is CODED and constriction is not installed.
        TypeError: shape holds no integers. ValueError: it is not (L,) or (h, w, c), or L exceeds MAX_CODE_SIZE.
    """
    height, width, channels = map_shape(shape)
    size = height * width * channels
    check_size(method, count, size, len(payload))
    if method == PACKED:
        bits = np.unpackbits(np.frombuffer(payload, np.uint8)).view(np.bool_)
        if bits[count * size:].any():
            raise CodecError("the payload is damaged: the bits that fill up its last byte are not all 0")
        return bits[:count * size].reshape(count, size)
    constriction = _constriction()
    if constriction is None:
        raise MissingPackage("the codes are entropy-coded; to read them, pip install 'tinyqae[codec]' (constriction)",
                             name="constriction")
    coder = _Decoder(constriction, payload)
    bits = np.empty((count, size), np.bool_)
    _code_items(coder, _read_parents(coder, channels, height * width), bits.reshape(-1, height, width, channels))
    coder.finish()
    return bits


def check_size(method, count, size, payload_bytes):
    """CodecError unless `payload_bytes` bytes may hold `count` codes of `size` bits. To be asked before memory is."""
    bits = count * size
    packed = -(-bits // 8)
    if method == PACKED:
        if payload_bytes != packed:
            raise CodecError(f"{count} codes of {size} bits take {packed} bytes when packed; the payload has "
                             f"{payload_bytes}")
    elif method == CODED:
        if bits > MAX_CODED_BITS:
            raise CodecError(f"{count} codes of {size} bits are promised; an entropy-coded payload holds at most "
                             f"{MAX_CODED_BITS} bits")
        if payload_bytes % 4 or not 0 < payload_bytes < packed:
            raise CodecError(f"the payload has {payload_bytes} bytes; entropy-coded, {count} codes of {size} bits have a "
                             f"multiple of 4, and fewer than the {packed} of packed bits")
    else:
        raise CodecError(f"method {method!r} is unknown; this version reads {PACKED} (packed) and {CODED} (entropy-coded)")


# ---- the stream: what both sides do in the same order ------------------------------------------------------------------


def _code_items(coder, parents, maps):
    """Send maps (N, h, w, c) through the coder, which reads or overwrites them."""
    count, height, width, channels = maps.shape
    seen = [np.zeros(1 << len(chosen), np.int64) for chosen in parents]
    ones = [np.zeros(1 << len(chosen), np.int64) for chosen in parents]
    for items in _blocks(count):
        # A border of zeros above and to the left; items last, so that the bits of one call lie side by side.
        block = np.zeros((height + 1, width + 1, channels, items.stop - items.start), np.bool_)
        inside = block[1:, 1:].transpose(3, 0, 1, 2)
        if not coder.decodes:
            inside[...] = maps[items]
        for y, x, channel in np.ndindex(height, width, channels):
            context = np.zeros(block.shape[-1], np.intp)
            for down, right, other in parents[channel]:
                context += context
                context += block[1 + y + down, 1 + x + right, other]
            probability = (2 * ones[channel] + 1) / (2 * seen[channel] + 2)
            bits = coder.code(block[1 + y, 1 + x, channel], probability[context])
            seen[channel] += np.bincount(context, minlength=len(probability))
            ones[channel] += np.bincount(context[bits], minlength=len(probability))
        if coder.decodes:
            maps[items] = inside


def _blocks(count):
    """Slices of 1, 1, 2, 4, ... LARGEST_BLOCK, LARGEST_BLOCK, ... items, `count` in all."""
    start = 0
    while start < count:
        stop = min(start + min(max(start, 1), LARGEST_BLOCK), count)
        yield slice(start, stop)
        start = stop


def _write_parents(coder, parents, places):
    """For each channel the number of its parents, then each one's index among all candidates."""
    channels = len(parents)
    for chosen in parents:
        _code_number(coder, len(chosen), PARENT_COUNT_BITS)
        for down, right, other in chosen:
            _code_number(coder, NEIGHBOURS.index((down, right)) * channels + other, _index_bits(channels, places))


def _read_parents(coder, channels, places):
    """What _write_parents wrote: for each channel a list of (rows down, columns right, channel)."""
    parents = []
    for channel in range(channels):
        chosen = []
        for _ in range(_code_number(coder, 0, PARENT_COUNT_BITS)):
            neighbour, other = divmod(_code_number(coder, 0, _index_bits(channels, places)), channels)
            if neighbour >= _neighbours(places) or neighbour == 0 and other >= channel:
                raise CodecError(f"the payload is damaged: bits of channel {channel} depend on bits that come later")
            chosen.append((*NEIGHBOURS[neighbour], other))
        parents.append(chosen)
    return parents


def _code_number(coder, number, width):
    """Send `width` bits of a number through the coder, highest first, at a bit each; returns the number."""
    powers = 1 << np.arange(width)[::-1]
    return int(powers @ coder.code((number & powers) > 0, np.full(width, 0.5)))


def _neighbours(places):
    """How many of NEIGHBOURS a map of so many places has."""
    return len(NEIGHBOURS) if places > 1 else 1


def _index_bits(channels, places):
    return (_neighbours(places) * channels - 1).bit_length()


class _Encoder:
    """Takes bits and their probabilities of being 1."""

    decodes = False

    def __init__(self, constriction):
        self._encoder = constriction.stream.queue.RangeEncoder()
        # perfect=False rounds p to 24 bits by a multiplication, the same in constriction 0.4 and 0.5.
        self._model = constriction.stream.model.Bernoulli(perfect=False)

    def code(self, bits, probability):
        """Append bool bits (n,), each 1 with its float64 probability (n,); returns the bits."""
        self._encoder.encode(bits.astype(np.int32), self._model, probability)
        return bits

    def payload(self):
        return self._encoder.get_compressed().astype("<u4").tobytes()


class _Decoder(_Encoder):
    """Gives bits back, and encodes them again: only what an encoder writes is accepted.

    A range decoder reads zeros beyond the end and makes bits of anything, so damage shows in no other way.
    """

    decodes = True

    def __init__(self, constriction, payload):
        super().__init__(constriction)
        self._expected = payload
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def code(self, bits, probability):
        """Overwrite bits (n,) by the next ones of the stream; returns them."""
        try:
            bits[...] = self._decoder.decode(self._model, probability)
        except AssertionError as error:  # constriction's answer to words that no encoder writes
            raise CodecError("the payload is damaged: the range decoder cannot read it") from error
        super().code(bits, probability)
        # So that a few bytes of garbage do not cost a minute. Up to two words close the stream, and may not stay.
        if 4 * self._encoder.num_words() > len(self._expected) + 8:
            raise CodecError("the payload is damaged: it is shorter than what its bits are encoded to")
        return bits

    def finish(self):
        """CodecError unless the bits given out make exactly this payload."""
        if self.payload() != self._expected:
            raise CodecError("the payload is damaged: it is not what its bits are encoded to")


# ---- the encoder's choice ----------------------------------------------------------------------------------------------


def choose_parents(bits, shape):
    """For each channel a list of its parents (rows down, columns right, channel). bits (N, L), N at least 1, and shape as
    encode_bits takes them.

    Sums of logarithms decide here, which another machine may round otherwise. That is no harm: the file says what was
    chosen.
    """
    height, width, channels = map_shape(shape)
    maps = bits.reshape(-1, height, width, channels)
    count = len(maps)
    places = height * width
    if channels > _MOST_CHANNELS_WITH_PARENTS:
        return [[] for _ in range(channels)]
    rows = min(_SAMPLED_ROWS, _SAMPLED_BITS // channels)
    sample = maps[::-(-count * places // rows)]
    bordered = np.pad(sample, ((0, 0), (1, 0), (1, 0), (0, 0)))
    # (candidates, rows): the bits that may be parents, at every place of every sampled item.
    candidates = np.concatenate([bordered[:, 1 + down:1 + down + height, 1 + right:1 + right + width].reshape(-1, channels)
                                 for down, right in NEIGHBOURS[:_neighbours(places)]], axis=1).T.copy()
    numbers = candidates.astype(np.float32)  # exact sums below 2^24, and BLAS adds them
    ones = numbers.sum(axis=1)
    parents = []
    for channel in range(channels):
        allowed = np.r_[:channel, channels:len(candidates)]
        both = (numbers @ numbers[channel])[allowed]
        # [candidate, its value, the bit's value]
        table = np.empty((len(allowed), 2, 2))
        table[:, 1, 1] = both
        table[:, 1, 0] = ones[allowed] - both
        table[:, 0, 1] = ones[channel] - both
        table[:, 0, 0] = numbers.shape[1] - table[:, 1].sum(axis=1) - table[:, 0, 1]
        likely = allowed[_description_length(table).sum(axis=1).argsort(kind="stable")[:_SHORT_LIST]]
        chosen = _add_parents(candidates[channel], candidates[likely], _index_bits(channels, places))
        indices = (divmod(int(likely[i]), channels) for i in chosen)
        parents.append([(*NEIGHBOURS[neighbour], other) for neighbour, other in indices])
    return parents


def _add_parents(target, candidates, price):
    """Which candidates, best first, to make parents of a bit: one after the other, while it saves more than `price` bits.

    target: bool (R,), the bit in R sampled places. candidates: bool (K, R).
    """
    chosen = []
    context = np.zeros(len(target), np.int16)
    while len(candidates) and len(chosen) < MAX_PARENTS:
        cell = 2 * context + target
        sizes = np.bincount(cell, minlength=2 << len(chosen))
        filled = np.flatnonzero(sizes)
        starts = np.cumsum(sizes[filled]) - sizes[filled]
        ones = np.zeros((len(candidates), len(sizes)))
        ones[:, filled] = np.add.reduceat(candidates[:, cell.argsort(kind="stable")], starts, axis=1, dtype=np.int32)
        # [..., context, the bit's value]
        sizes, ones = sizes.reshape(-1, 2), ones.reshape(len(candidates), -1, 2)
        now = _description_length(sizes).sum()
        then = (_description_length(ones) + _description_length(sizes - ones)).sum(axis=1)
        best = int(then.argmin())
        if now - then[best] <= price:
            break
        chosen.append(best)
        context = 2 * context + candidates[best]
    return chosen


def _description_length(counts):
    """Bits that the Krichevsky-Trofimov code takes for counts (..., 2) of zeros and ones, to Stirling's approximation."""
    total = counts.sum(axis=-1)
    entropy = _x_log_x(total) - _x_log_x(counts).sum(axis=-1)
    return entropy + 0.5 * np.log2(np.maximum(total, 1)) + (total > 0)


def _x_log_x(x):
    return x * np.log2(np.maximum(x, 1))


# ---- arguments ---------------------------------------------------------------------------------------------------------


def map_shape(shape):
    """(h, w, c) of a code's layout; a flat code is one place with L channels. TypeError or ValueError for other things."""
    try:
        sides = tuple(operator.index(side) for side in shape)
    except TypeError as error:
        raise TypeError(f"shape is {shape!r}, expected whole numbers (L,) or (h, w, c)") from error
    if len(sides) not in (1, 3) or min(sides) < 1 or math.prod(sides) > MAX_CODE_SIZE:
        raise ValueError(f"shape is {shape!r}, expected (L,) or (h, w, c), each at least 1, and at most {MAX_CODE_SIZE} "
                         "bits in all")
    return sides if len(sides) == 3 else (1, 1, *sides)


def _constriction():
    """The package, or None where it is not installed."""
    try:
        return importlib.import_module("constriction")
    except ImportError:
        return None
