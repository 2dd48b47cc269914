"""Batches of sentences: spliced, padded, weighted, and in as many parts as threads work on them."""
import zlib
from dataclasses import dataclass

import numpy as np

from .. import backend, fused
from ..data.splice import splice_sentences
from ..symbols import START

# Multiplications of a step in a recurrent product from which waking another thread pays, by kernels: plain ones are many
# short calls, during which threads wait for each other's turn in the interpreter.
PRODUCTS_WORTH_SPLITTING = {"numba": 5e4, "numpy": 4e5}


@dataclass
class Part:
    """Some of a batch's sentences, time first, C-contiguous on the device.

    rows: their slice of the batch. symbols (T, n), lengths (n,): the encoder's input. inputs, targets (T', n): the
    decoder's, one step apart. weights (T', n): of the targets in the loss; 0 for padding, the whole batch's sum is 1.
    """

    rows: slice
    symbols: object
    lengths: object
    inputs: object
    targets: object
    weights: object


@dataclass
class Batch:
    """A batch in as many parts as threads work on it; characters: how many targets count."""

    parts: list
    characters: int

    def __len__(self):
        return self.parts[-1].rows.stop


class SentenceBatches:
    """Batches of sentences of all lengths, each padded to the longest of its batch. The sentences live on the device, and
    batches are gathered there; with the model's splicing they are other ones each epoch, and sent anew.

    Batches of like length would save a quarter of the steps, but batch norm would meet in each of them the statistics of
    one length, and no such ones when a code is stored: trained that way the same model made twice as many errors.

    One sentence is no batch for batch norm: a last batch of one is avoided by leaving a sentence out, another one each
    epoch.
    """

    def __init__(self, model, sentences, batch_size):
        self.model, self.batch_size, self.sentences = model, batch_size, list(sentences)
        self._take_up(sentences)

    def _take_up(self, sentences):
        """Make these the sentences that batches are gathered from."""
        symbols, self.lengths, targets = self.model.prepare(sentences)
        inputs = np.roll(targets, 1, axis=1)
        inputs[:, 0] = START
        self.symbols, self.inputs, self.targets = map(backend.to_device, (symbols, inputs, targets))
        self.lengths_on_device = backend.to_device(self.lengths)
        self.places = backend.xp.arange(targets.shape[1])[:, None]

    def __len__(self):
        n = len(self.sentences)
        return max(1, -(-n // self.batch_size) - (n % self.batch_size == 1))

    def checksum(self):
        """A number that other sentences would hardly have."""
        return zlib.crc32("\n".join(self.sentences).encode())

    def epoch(self, random):
        """One epoch's batches, drawn from `random`."""
        if self.model.splice:
            self._take_up(splice_sentences(self.sentences, self.model.splice, random))
        order = random.permutation(len(self.sentences))
        if len(order) % self.batch_size == 1 < len(order):
            order = order[1:]
        return self._in_batches(order)

    def in_order(self):
        """All sentences in batches, as they stand."""
        return self._in_batches(np.arange(len(self.sentences)))

    def _in_batches(self, order):
        on_device = backend.to_device(order)
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self._gather(order[rows], on_device[rows])

    def _gather(self, index, on_device):
        """The Batch of the sentences `index`, which is given on the host, to know the shapes, and on the device."""
        model, xp = self.model, backend.xp
        threads = 1
        if backend.name == "numpy" and len(index) * model.hidden ** 2 > PRODUCTS_WORTH_SPLITTING[fused.kernels()]:
            threads = backend.threads
        size = -(-len(index) // min(threads, len(index)))
        padded = model.pad_to is not None
        characters = self.targets.shape[1] * len(index) if padded else int(self.lengths[index].sum()) + len(index)
        weight = model.dtype.type(1 / characters)
        parts = []
        for start in range(0, len(index), size):
            rows = on_device[start:start + size]
            longest = int(self.lengths[index[start:start + size]].max())
            steps = self.targets.shape[1] if padded else longest + 1
            symbols, inputs, targets = (xp.ascontiguousarray(xp.take(array, rows, axis=0)[:, :most].T) for array, most in (
                (self.symbols, max(longest, 1)), (self.inputs, steps), (self.targets, steps)))
            if padded:
                lengths, weights = None, xp.full(targets.shape, weight, model.dtype)
            else:
                lengths = xp.take(self.lengths_on_device, rows)
                weights = (self.places[:steps] <= lengths) * weight
            parts.append(Part(slice(start, start + len(rows)), symbols, lengths, inputs, targets, weights))
        return Batch(parts, characters)
