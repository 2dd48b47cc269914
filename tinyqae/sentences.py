"""Splitting sentences into training and held-out ones, and splicing new ones to make a model copy, not memorize."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data.anki import TextData
from .errors import DataError

TRAINING_SHARE = {"random": 0.9, "length": 0.8, "report": 0.8}
# The report measured its vanilla models on different sentences from the quantized ones.
REPORT_SENTENCES = {"vanilla": slice(40_001, 40_101), "quantized": slice(45_100, 45_200)}
# How often a pair is drawn until its splice has a suitable length, before the original sentence is kept.
ATTEMPTS = 10


@dataclass(frozen=True, repr=False)
class SentenceSplit:
    """Training sentences and held-out ones, without overlap.

    Attributes:
        train, test: tuples of str, the test sentences distinct.
        report: the two sets of 100 sentences the report measured on, {"vanilla", "quantized"}, empty for data that is too
            short for them.
        how: as in `split_sentences`.
        name, sha256, source: of the data, as in TextData.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    report: dict[str, tuple[str, ...]]
    how: str
    name: str
    sha256: str
    source: str

    def __repr__(self) -> str:
        return f"<{self.name}, split {self.how}: {len(self.train):,} training and {len(self.test):,} test sentences>"


def split_sentences(data: TextData, how: str = "random", seed: int = 0) -> SentenceSplit:
    """Split sentences into training and held-out ones.

    Args:
        how: one of
            "random"  nine tenths of the different sentences are trained on, one tenth is held out. A split by line would
                      leak: an Anki sentence occurs once for each of its translations.
            "length"  the report's boundary: the first 80% of the lines are trained on, each sentence once, and the rest
                      is held out. Anki's lines are sorted by length, so these are the longest.
            "report"  the same boundary, training on every line, repetitions included, as the report did. The sentences of
                      REPORT_SENTENCES are slices of all lines.
        seed: of the random order, also that of the training sentences in the first two.

    Raises:
        ValueError: `how` is none of these.
        DataError: there are fewer than two different sentences, or nothing would be held out.
    """
    if how not in TRAINING_SHARE:
        raise ValueError(f"how={how!r} is unknown; choose one of {', '.join(TRAINING_SHARE)}")
    lines, random = data.sentences, np.random.default_rng(seed)
    if how == "random":
        distinct = sorted(set(lines))
        lines = tuple(distinct[i] for i in random.permutation(len(distinct)))
    border = int(len(lines) * TRAINING_SHARE[how])
    train, known = lines[:border], set(lines[:border])
    test = tuple(sentence for sentence in dict.fromkeys(lines[border:]) if sentence not in known)
    if how == "length":
        distinct = list(dict.fromkeys(train))
        train = tuple(distinct[i] for i in random.permutation(len(distinct)))
    if not train or not test:
        raise DataError(
            f"{data.name} has {len(set(lines))} different sentences; a split by how={how!r} leaves "
            f"{len(train)} for training and {len(test)} held out: more are needed"
        )
    enough = how != "random" and len(lines) >= max(part.stop for part in REPORT_SENTENCES.values())
    report = {name: lines[part] for name, part in REPORT_SENTENCES.items()} if enough else {}
    return SentenceSplit(train, test, report, how, data.name, data.sha256, data.source)


def splice_sentences(sentences: Sequence[str], share: float, random: np.random.Generator) -> list[str]:
    """Return the sentences, each replaced with probability `share` by the head of one of them and the tail of another.

    Half of the new sentences are cut between words, the others anywhere. None is longer than the longest of
    `sentences` or shorter than the median one: long sentences are the hard ones to copy.
    """
    spliced, count = list(sentences), len(sentences)
    lengths = [len(sentence) for sentence in sentences]
    shortest, longest = np.median(lengths), max(lengths)
    waiting: np.ndarray | list[int] = (random.random(count) < share).nonzero()[0]
    for _ in range(ATTEMPTS):
        pairs = random.integers(count, size=(len(waiting), 2))
        places, between_words = random.random((len(waiting), 2)), random.random(len(waiting)) < 0.5
        unsuitable = []
        for i, (first, second), (head, tail), by_word in zip(waiting, pairs, places, between_words, strict=True):
            a, b = sentences[first], sentences[second]
            if by_word:
                a, b = a.split(), b.split()
            # At least one piece of each, unless it has none.
            parts = [*a[: 1 + int(head * len(a))], *b[int(tail * len(b)) :]]
            new = (" " if by_word else "").join(parts).strip()
            if shortest <= len(new) <= longest:
                spliced[i] = new
            else:
                unsuitable.append(i)
        waiting = unsuitable
    return spliced
