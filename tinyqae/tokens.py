"""Sentences as tokens: one integer per character.

    0 the space    1 to 26 the letters a to z    27 to 36 the digits 0 to 9    37 start    38 end

The last two mark the start and end of a decoder's output.
"""

from collections.abc import Sequence

import numpy as np

ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789"
SPACE, START, END = 0, len(ALPHABET), len(ALPHABET) + 1
ENCODER_TOKENS, DECODER_TOKENS = len(ALPHABET), len(ALPHABET) + 2

_UNKNOWN = -1
_TOKEN_OF_BYTE = np.full(256, _UNKNOWN, np.intp)
_TOKEN_OF_BYTE[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(len(ALPHABET))


def to_tokens(sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (N, T), lengths (N,)), both intp: one sentence per row, T the longest one's length (at least 1), padded
    with spaces.

    Args:
        sentences: a list or tuple of str.

    Raises:
        TypeError, ValueError: sentences is anything else; a character is outside the alphabet.
    """
    if not isinstance(sentences, list | tuple) or not all(isinstance(sentence, str) for sentence in sentences):
        raise TypeError("sentences must be a list of str")
    # One byte per character: characters outside Latin-1 become question marks, which are not tokens either.
    encoded = [sentence.encode("latin-1", "replace") for sentence in sentences]
    lengths = np.array([len(row) for row in encoded], np.intp)
    steps = max(1, int(lengths.max(initial=0)))
    rows = b"".join(row.ljust(steps) for row in encoded)
    tokens = _TOKEN_OF_BYTE[np.frombuffer(rows, np.uint8)].reshape(len(encoded), steps)
    if (tokens == _UNKNOWN).any():
        n, t = np.argwhere(tokens == _UNKNOWN)[0]
        raise ValueError(
            f"sentence {n}, {sentences[n]!r}, holds {sentences[n][t]!r}; the alphabet is a to z, 0 to 9 and "
            "the space (tinyqae.data.clean_sentence converts any sentence to it)"
        )
    return tokens, lengths


def to_sentences(tokens: np.ndarray) -> list[str]:
    """The sentences that rows of tokens (N, T) spell, each up to its first end token."""
    ended = tokens == END
    lengths = np.where(ended.any(axis=1), ended.argmax(axis=1), tokens.shape[1])
    return ["".join(ALPHABET[s] for s in row[:length]) for row, length in zip(tokens, lengths, strict=True)]
