"""Sentences as tokens: there and back, padding, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.tokens import ALPHABET, DECODER_TOKENS, ENCODER_TOKENS, END, SPACE, START, to_sentences, to_tokens

SENTENCE = st.text(ALPHABET, max_size=12)


@settings(deadline=None)
@given(st.lists(SENTENCE, max_size=8))
def test_tokens_decode_to_the_sentences(sentences):
    tokens, lengths = to_tokens(sentences)
    assert tokens.dtype == lengths.dtype == np.intp
    assert tokens.shape == (len(sentences), max(1, *(len(s) for s in sentences), 0))
    assert lengths.tolist() == [len(s) for s in sentences]
    padded = to_sentences(tokens)
    assert [row[:n] for row, n in zip(padded, lengths, strict=True)] == sentences
    assert all(set(row[n:]) <= {" "} for row, n in zip(padded, lengths, strict=True))
    ended = np.pad(tokens, ((0, 0), (0, 1)))
    ended[np.arange(len(sentences)), lengths] = END
    assert to_sentences(ended) == sentences


def test_every_character_has_the_documented_number():
    tokens, _ = to_tokens((" ", "a", "z", "0", "9"))
    assert tokens[:, 0].tolist() == [0, 1, 26, 27, 36]
    assert (SPACE, START, END, ENCODER_TOKENS, DECODER_TOKENS) == (0, 37, 38, 37, 39)


@pytest.mark.parametrize("character", ["A", "?", ".", "\n", "\0", "é", "ÿ", "€", "ł", "字", "😀", "\ud800"])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_an_unknown_character_is_refused_with_its_sentence(character, place):
    sentence = "hello"[:place] + character + "hello"[place:]
    with pytest.raises(ValueError, match="sentence 1, ") as caught:
        to_tokens(["good", sentence, "also bad ?"])
    assert repr(sentence) in str(caught.value) and f"holds {character!r}" in str(caught.value)


@pytest.mark.parametrize(
    "sentences",
    [
        "one sentence",
        b"bytes",
        [b"bytes"],
        ["good", None],
        ["good", 3],
        [["nested"]],
        7,
        None,
        (sentence for sentence in ["drawn", "once"]),
    ],
    ids=lambda sentences: type(sentences).__name__,
)
def test_anything_but_a_list_of_sentences_is_refused(sentences):
    with pytest.raises(TypeError, match="sentences must be a list of str"):
        to_tokens(sentences)


def test_a_sentence_ends_at_its_first_end_token():
    rows = np.array([[1, 2, END, 3, END], [END, 1, 2, 3, 4], [1, 2, 3, 4, END], [1, 2, 3, 4, 5]])
    assert to_sentences(rows) == ["ab", "", "abcd", "abcde"]
    assert to_sentences(np.empty((0, 5), np.intp)) == []
