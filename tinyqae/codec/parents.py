"""Context modelling: choosing the parents, the bits on whose values the probabilities in payload.py depend.

Parents are added to a channel greedily, each time the one that saves most, until it would save less than storing it
costs: the minimum description length principle. Fixed parents, such as the bits to the left and above in the same channel,
save much less: most of the information about a bit of a latent map is in the other channels.

Sums of logarithms decide, which another machine may round differently. This is harmless: the choice is stored in the file.
"""

from collections.abc import Callable, Sequence

import numpy as np

PARENT_COUNT_BITS = 3
MAX_PARENTS = (1 << PARENT_COUNT_BITS) - 1

# Where a parent may be, as (rows down, columns right); a flat code has only the first.
NEIGHBOURS = ((0, 0), (0, -1), (-1, 0))

Lengths = Callable[[np.ndarray, np.ndarray], np.ndarray]
Parents = Sequence[Sequence[tuple[int, int, int]]]
_SAMPLED_BITS, _SAMPLED_ROWS = 1 << 20, 1 << 13
_SHORT_LIST = 32  # candidates per channel that are compared jointly, a multiple of 8; all are first compared individually
_MOST_CHANNELS_WITH_PARENTS = 1024


def neighbours(places: int) -> int:
    """The number of NEIGHBOURS in a map with this many places."""
    return len(NEIGHBOURS) if places > 1 else 1


def index_bits(channels: int, places: int) -> int:
    """The number of bits of a parent's index, its position among all candidates, neighbour by neighbour."""
    return (neighbours(places) * channels - 1).bit_length()


def choose_parents(maps: np.ndarray) -> Parents:
    """Choose for each channel a list of parents (rows down, columns right, channel).

    Args:
        maps: codes, bool (N, h, w, c); N at least 1, and h = w = 1 for flat ones.
    """
    count, height, width, channels = maps.shape
    places = height * width
    if channels > _MOST_CHANNELS_WITH_PARENTS:
        return [[] for _ in range(channels)]
    rows = min(_SAMPLED_ROWS, _SAMPLED_BITS // channels)
    sample = maps[:: -(-count * places // rows)]
    bordered = np.pad(sample, ((0, 0), (1, 0), (1, 0), (0, 0)))
    # (candidates, rows): the bits that may be parents, at every place of every sampled item.
    candidates = np.concatenate(
        [
            bordered[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width].reshape(-1, channels)
            for down, right in NEIGHBOURS[: neighbours(places)]
        ],
        axis=1,
    ).T.astype(np.uint8)
    description_length = _description_length(candidates.shape[1])
    # How often two bits are both 1: sums below 2^24 are exact in float32, and BLAS adds them.
    numbers = candidates.astype(np.float32)
    together = (numbers @ numbers[:channels].T).astype(np.intp)
    ones = candidates.sum(axis=1, dtype=np.intp)
    parents: list[list[tuple[int, int, int]]] = []
    for channel in range(channels):
        allowed = np.r_[:channel, channels : len(candidates)]
        both, alone, other = together[allowed, channel], ones[channel], ones[allowed]
        lengths = description_length(other - both, both) + description_length(
            candidates.shape[1] - other - alone + both, alone - both
        )
        likely = allowed[lengths.argsort(kind="stable")[:_SHORT_LIST]]
        chosen = _add_parents(candidates[channel], candidates[likely], index_bits(channels, places), description_length)
        indices = (divmod(int(likely[i]), channels) for i in chosen)
        parents.append([(*NEIGHBOURS[neighbour], other) for neighbour, other in indices])
    return parents


def _add_parents(target: np.ndarray, candidates: np.ndarray, price: int, description_length: Lengths) -> list[int]:
    """Choose the candidates, best first, that become parents of a bit, while each saves more than `price` bits.

    Args:
        target: uint8 (R,), the bit at R sampled places.
        candidates: uint8 (K, R).
    """
    chosen: list[int] = []
    context = np.zeros(len(target), np.uint8)
    # One addition counts eight candidates, which are the bytes of one number, up to 255 ones.
    bytes_of_row = np.zeros((len(target), -len(candidates) // 8 * -8), np.uint8)
    bytes_of_row[:, : len(candidates)] = candidates.T
    while len(candidates) and len(chosen) < MAX_PARENTS:
        cell = 2 * context + target
        sizes = np.bincount(cell, minlength=2 << len(chosen))
        filled = np.flatnonzero(sizes)
        starts = np.cumsum(sizes[filled]) - sizes[filled]
        cuts = np.union1d(starts, np.arange(0, len(target), 255))
        sums = np.add.reduceat(bytes_of_row.view(np.uint64).take(cell.argsort(kind="stable"), axis=0), cuts, axis=0)
        # [context, the bit's value, candidate]
        ones = np.zeros((len(sizes) // 2, 2, len(candidates)), np.intp)
        ones.reshape(len(sizes), -1)[filled] = np.add.reduceat(
            sums.view(np.uint8), cuts.searchsorted(starts), axis=0, dtype=np.intp
        )[:, : len(candidates)]
        sizes = sizes.reshape(-1, 2, 1)
        now = description_length(sizes[:, 0], sizes[:, 1]).sum()
        zeros = sizes - ones
        then = (description_length(ones[:, 0], ones[:, 1]) + description_length(zeros[:, 0], zeros[:, 1])).sum(axis=0)
        best = int(then.argmin())
        if now - then[best] <= price:
            break
        chosen.append(best)
        context = 2 * context + candidates[best]
    return chosen


def _description_length(largest: int) -> Lengths:
    """A function of the numbers of zeros and ones, integer arrays with sums up to `largest`: the number of bits that the
    Krichevsky-Trofimov code takes for them, by Stirling's approximation.
    """
    count = np.arange(largest + 1)
    logarithm = np.log2(np.maximum(count, 1))
    of_part = count * logarithm
    of_all = of_part + 0.5 * logarithm + (count > 0)
    return lambda zeros, ones: of_all.take(zeros + ones) - of_part.take(zeros) - of_part.take(ones)
