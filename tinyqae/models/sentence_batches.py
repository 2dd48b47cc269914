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
    """Batches of sentences of all lengths, each padded to the longest of its batch.

    Batches of like length would save a quarter of the steps, but batch norm would meet in each of them the statistics of
    one length, and no such ones when a code is stored: trained that way the same model made twice as many errors.

    One sentence is no batch for batch norm: a last batch of one is avoided by leaving a sentence out, another one each
    epoch.
    """

    def __init__(self, model, sentences, batch_size):
        self.symbols, self.lengths, self.targets = model.prepare(sentences)
        self.model, self.batch_size, self.sentences = model, batch_size, list(sentences)

    def __len__(self):
        n = len(self.sentences)
        return max(1, -(-n // self.batch_size) - (n % self.batch_size == 1))

    def checksum(self):
        """A number that other sentences would hardly have."""
        return zlib.crc32("\n".join(self.sentences).encode())

    def epoch(self, random):
        """One epoch's batches, drawn from `random`."""
        if self.model.splice:
            spliced = splice_sentences(self.sentences, self.model.splice, random)
            self.symbols, self.lengths, self.targets = self.model.prepare(spliced)
        order = random.permutation(len(self.sentences))
        if len(order) % self.batch_size == 1 < len(order):
            order = order[1:]
        for i in range(len(self)):
            yield self._gather(order[i * self.batch_size:(i + 1) * self.batch_size])

    def in_order(self):
        """All sentences in batches, as they stand."""
        for start in range(0, len(self.sentences), self.batch_size):
            yield self._gather(np.arange(start, min(start + self.batch_size, len(self.sentences))))

    def _gather(self, index):
        model = self.model
        worth_it = len(index) * model.hidden ** 2 > PRODUCTS_WORTH_SPLITTING[fused.kernels()]
        threads = backend.threads if backend.name == "numpy" and worth_it else 1
        size = -(-len(index) // min(threads, len(index)))
        padded = model.pad_to is not None
        characters = self.targets.shape[1] * len(index) if padded else int(self.lengths[index].sum()) + len(index)
        parts = []
        for start in range(0, len(index), size):
            rows = index[start:start + size]
            lengths = self.lengths[rows]
            longest = int(lengths.max())
            targets = self.targets[rows] if padded else self.targets[rows, :longest + 1]
            inputs = np.roll(targets, 1, axis=1)
            inputs[:, 0] = START
            counts = padded | (np.arange(targets.shape[1]) <= lengths[:, None])
            weights = (counts / characters).astype(model.dtype)
            arrays = (self.symbols[rows, :max(longest, 1)], inputs, targets, weights)
            symbols, inputs, targets, weights = (backend.to_device(np.ascontiguousarray(a.T)) for a in arrays)
            parts.append(Part(slice(start, start + len(rows)), symbols, None if padded else backend.to_device(lengths),
                              inputs, targets, weights))
        return Batch(parts, characters)
