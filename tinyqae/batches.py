"""Training batches, in a new random order each epoch: of images, and of sentences of all lengths.

Batch norm needs more than one example, so a last batch of one is dropped: a different example each epoch.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import backend
from .annotations import Array, DType, Function, Sentences
from .errors import TooLong
from .sentences import splice_sentences
from .tokens import END, SPACE, START, to_tokens


def as_floats(images: np.ndarray, dtype: DType = np.float32) -> np.ndarray:
    """Bytes 0..255 -> floats in [0, 1] (times 1/255); floats are checked and converted. images (N, ...), NumPy."""
    if images.dtype == np.uint8:
        return np.multiply(images, np.dtype(dtype).type(1 / 255))
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images are {images.dtype}; give bytes (uint8) or floats in [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"image values run from {images.min()} to {images.max()}; floats must be in [0, 1]")
    return images.astype(dtype, copy=False)


class Batches:
    """Batches of n examples. `epoch(random)` yields the batches of one epoch, len(self) of them."""

    epoch: Function
    checksum: Function

    def __init__(self, n: int, batch_size: int):
        self.n, self.batch_size = n, batch_size

    def __len__(self) -> int:
        return max(1, -(-self.n // self.batch_size) - (self.n % self.batch_size == 1))

    def indices(self, order: np.ndarray) -> list[np.ndarray]:
        """The indices of the examples in each batch, in this order."""
        return [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]


class ImageBatches(Batches):
    """Batches of images (N, H, W, C), bytes 0..255 or floats in [0, 1], as floats of this dtype on the device."""

    def __init__(self, images: np.ndarray, batch_size: int, dtype: DType):
        super().__init__(len(images), batch_size)
        self.images, self.dtype = images if images.dtype == np.uint8 else as_floats(images, dtype), dtype

    def checksum(self) -> int:
        """A CRC-32, which other images are very unlikely to have."""
        return zlib.crc32(np.ascontiguousarray(self.images).data)

    def epoch(self, random: np.random.Generator) -> Iterator[Array]:
        """One epoch's batches in an order drawn from `random`."""
        for index in self.indices(random.permutation(self.n)):
            yield backend.to_device(as_floats(self.images[index], self.dtype))


@dataclass
class SentenceBatch:
    """A batch of sentences, time first, on the device. tokens (T, n) and lengths (n,), or None where all have T tokens: the
    encoder's input. inputs, targets (T', n): the decoder's, one step apart. weights (T', n): of the targets in the loss, 0
    for padding, 1/characters elsewhere. characters: the number of targets that count.
    """

    tokens: Array
    lengths: Array | None
    inputs: Array
    targets: Array
    weights: Array
    characters: int

    def __len__(self) -> int:
        return self.tokens.shape[1]


class SentenceBatches(Batches):
    """Batches of sentences, each padded to the longest in its batch. The tokens are stored on the device, where batches are
    gathered; with splicing, they change each epoch and are sent again.

    Batches of similar length would save a quarter of the steps, but batch norm would then see the statistics of one length
    at a time, unlike at inference: a model trained that way made twice as many errors.

    Args:
        pad_to, reverse: as in `tokenize`.
        splice: the fraction of an epoch's sentences that are spliced from two.
    """

    def __init__(
        self,
        sentences: Sentences,
        batch_size: int,
        dtype: DType,
        *,
        pad_to: int | None = None,
        reverse: bool = False,
        splice: float = 0.0,
    ):
        super().__init__(len(sentences), batch_size)
        self.sentences, self.dtype = list(sentences), np.dtype(dtype)
        self.pad_to, self.reverse, self.splice = pad_to, reverse, splice
        self._send(sentences)

    def _send(self, sentences: Sentences) -> None:
        tokens, self.lengths, targets = tokenize(sentences, self.pad_to, self.reverse)
        inputs = np.roll(targets, 1, axis=1)
        inputs[:, 0] = START
        self.tokens, self.inputs, self.targets = map(backend.to_device, (tokens, inputs, targets))
        self.lengths_on_device = backend.to_device(self.lengths)
        self.places = backend.xp.arange(targets.shape[1])[:, None]

    def checksum(self) -> int:
        """A CRC-32, which other sentences are very unlikely to have."""
        return zlib.crc32("\n".join(self.sentences).encode())

    def epoch(self, random: np.random.Generator) -> Iterator[SentenceBatch]:
        """One epoch's batches, drawn from `random`."""
        if self.splice:
            self._send(splice_sentences(self.sentences, self.splice, random))
        order = random.permutation(self.n)
        return self._gather(order[1:] if self.n % self.batch_size == 1 < self.n else order)

    def in_order(self) -> Iterator[SentenceBatch]:
        """All sentences in batches, in their original order."""
        return self._gather(np.arange(self.n))

    def _gather(self, order: np.ndarray) -> Iterator[SentenceBatch]:
        on_device = backend.to_device(order)
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self._batch(order[rows], on_device[rows])

    def _batch(self, index: np.ndarray, rows: Array) -> SentenceBatch:
        """The SentenceBatch of the sentences `index` (on the host, to know the shapes), which are `rows` on the device."""
        xp, padded, longest = backend.xp, self.pad_to is not None, int(self.lengths[index].max())
        steps = self.targets.shape[1] if padded else longest + 1
        characters = self.targets.shape[1] * len(index) if padded else int(self.lengths[index].sum()) + len(index)
        tokens, inputs, targets = (
            xp.ascontiguousarray(xp.take(array, rows, axis=0)[:, :most].T)
            for array, most in ((self.tokens, max(longest, 1)), (self.inputs, steps), (self.targets, steps))
        )
        weight = self.dtype.type(1 / characters)
        if padded:
            return SentenceBatch(tokens, None, inputs, targets, xp.full(targets.shape, weight, self.dtype), characters)
        lengths = xp.take(self.lengths_on_device, rows)
        return SentenceBatch(tokens, lengths, inputs, targets, (self.places[:steps] <= lengths) * weight, characters)


def tokenize(
    sentences: Sentences, pad_to: int | None = None, reverse: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens (N, T) as the encoder reads them, lengths (N,), targets (N, T') of the decoder), NumPy arrays.

    Args:
        pad_to: None to keep each sentence's length. A number: every sentence is padded to this many characters with
            spaces, which count as characters, as in the report's code.
        reverse: the encoder reads from the end.

    Raises:
        ValueError: a character is outside the alphabet.
        TooLong: a sentence is longer than pad_to.
    """
    tokens, lengths = to_tokens(sentences)
    n, steps = tokens.shape
    if pad_to is not None:
        if steps > pad_to:
            longest = max(sentences, key=len)
            shown = repr(longest[:pad_to]) + "..." if len(longest) > 60 else repr(longest)
            raise TooLong(f"{shown} has {len(longest)} characters; this model takes up to {pad_to}")
        tokens = np.pad(tokens, ((0, 0), (0, pad_to - steps)), constant_values=SPACE)
    # The report's decoder writes one space more than the longest sentence and its end token.
    targets = np.pad(tokens, ((0, 0), (0, 1 if pad_to is None else 2)), constant_values=SPACE)
    targets[np.arange(targets.shape[1]) > lengths[:, None]] = END if pad_to is None else SPACE
    targets[np.arange(n), lengths] = END
    if pad_to is not None:
        lengths = np.full_like(lengths, pad_to)
    if reverse:
        places, ends = np.arange(tokens.shape[1]), lengths[:, None]
        tokens = np.take_along_axis(tokens, np.where(places < ends, ends - 1 - places, places), axis=1)
    return tokens, lengths, targets
