"""Data augmentation: new sentences spliced from old ones, so that a model learns to copy rather than to memorize."""
from collections.abc import Sequence

import numpy as np

# How often a pair is drawn anew whose splice has no suitable length, before the old sentence stays.
ATTEMPTS = 10


def splice_sentences(sentences: Sequence[str], share: float, random: np.random.Generator) -> list[str]:
    """The sentences, but each with probability `share` replaced by the head of one of them and the tail of another.

    One half of the new sentences is cut between words, the other anywhere. None is longer than the longest of
    `sentences` or shorter than the median one: long sentences are what is hard to copy.
    sentences: a list of str; share: in [0, 1]; random: a NumPy generator. Returns a new list of the same length.
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
            parts = [*a[:1 + int(head * len(a))], *b[int(tail * len(b)):]]
            new = (" " if by_word else "").join(parts).strip()
            if shortest <= len(new) <= longest:
                spliced[i] = new
            else:
                unsuitable.append(i)
        waiting = unsuitable
    return spliced
