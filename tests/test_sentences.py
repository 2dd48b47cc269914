"""Which sentences are trained on and which are held out; training sentences spliced from others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyqae.data import TextData, synthetic_sentences
from tinyqae.errors import DataError
from tinyqae.sentences import splice_sentences, split_sentences

# Sorted by length, some repeated, as the Anki lines are.
LINES = tuple(f"{'a' * (i // 3 + 1)} {i // 2}" for i in range(60))


def text(sentences):
    return TextData(tuple(sentences), "test data", "0" * 64, "a test")


@pytest.mark.parametrize("how", ["random", "length", "report"])
@given(lines=st.lists(st.integers(0, 40).map(str), min_size=10))
def test_no_held_out_sentence_is_trained_on_and_none_is_lost(how, lines):
    try:
        split = split_sentences(text(lines), how)
    except DataError:
        # Nothing is left to hold out where the last lines repeat the first.
        assert (
            how != "random"
            and set(lines[int(len(lines) * 0.8) :]) <= set(lines[: int(len(lines) * 0.8)])
            or len(set(lines)) < 2
        )
        return
    assert not set(split.train) & set(split.test)
    assert set(split.train) | set(split.test) == set(lines)
    assert len(set(split.test)) == len(split.test)


def test_random_holds_out_a_tenth_of_the_different_sentences():
    split = split_sentences(text(LINES), "random")
    assert len(split.test) == 4 and len(split.train) == 36 == len(set(split.train))
    assert split == split_sentences(text(LINES), "random", seed=0) != split_sentences(text(LINES), "random", seed=1)


def test_report_trains_on_the_first_four_fifths_line_by_line():
    split = split_sentences(text(LINES), "report")
    assert split.train == LINES[:48]
    assert list(split.test) == list(dict.fromkeys(LINES[48:]))


def test_length_has_the_same_border_and_each_training_sentence_once():
    split = split_sentences(text(LINES), "length")
    assert sorted(split.train) == sorted(set(LINES[:48]))
    assert list(split.train) != list(dict.fromkeys(LINES[:48]))
    assert split.test == split_sentences(text(LINES), "report").test


def test_the_report_s_sentences_are_cut_out_of_all_lines_where_there_are_enough():
    lines = [str(i) for i in range(50_000)]
    split = split_sentences(text(lines), "report")
    assert split.report["vanilla"] == tuple(map(str, range(40_001, 40_101)))
    assert split.report["quantized"] == tuple(map(str, range(45_100, 45_200)))
    assert split_sentences(text(lines[:45_199]), "report").report == {}
    assert split_sentences(text(lines), "random").report == {}


def test_data_and_split_are_named():
    split = split_sentences(text(LINES), "length")
    assert (split.name, split.sha256, split.source, split.how) == ("test data", "0" * 64, "a test", "length")


def test_too_few_sentences_and_unknown_splits_are_refused():
    with pytest.raises(DataError, match="test data has 1 different sentences"):
        split_sentences(text(["a", "a", "a"]))
    with pytest.raises(DataError, match="how='length' leaves 2 for training and 0 held out"):
        split_sentences(text(["a", "b", "a", "b", "a"]), "length")
    with pytest.raises(ValueError, match="how='alphabetical' is unknown; choose one of random, length, report"):
        split_sentences(text(LINES), "alphabetical")


# Splices


SENTENCES = list(synthetic_sentences(500).sentences)
texts = st.lists(st.text("ab ", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=30)


@given(texts, st.floats(0, 1), st.integers(0, 100))
def test_new_sentences_are_no_longer_than_the_old_and_in_the_same_alphabet(sentences, share, seed):
    spliced = splice_sentences(sentences, share, np.random.default_rng(seed))
    assert len(spliced) == len(sentences)
    for old, new in zip(sentences, spliced, strict=True):
        assert new == old or np.median([len(s) for s in sentences]) <= len(new) <= max(map(len, sentences))
        assert set(new) <= set("ab ")


def test_a_splice_is_a_head_of_one_sentence_and_a_tail_of_another():
    old = set(SENTENCES)
    heads, tails = (
        {s[:k] for s in SENTENCES for k in range(1, len(s) + 1)},
        {s[k:] for s in SENTENCES for k in range(len(s))},
    )
    new = [s for s in splice_sentences(SENTENCES, 1.0, np.random.default_rng(0)) if s not in old]
    assert len(new) > 200
    for sentence in new:
        # Cut between words, the space between the two pieces is in neither of them; cut anywhere, both may have lost one.
        assert any(
            sentence[:k].rstrip() in heads and (sentence[k:].lstrip() in tails) for k in range(1, len(sentence) + 1)
        ), sentence
    assert any(not {word for word in s.split()} <= {word for t in old for word in t.split()} for s in new)


def test_the_share_is_what_was_asked_for_and_the_old_list_stays():
    before = list(SENTENCES)
    assert splice_sentences(SENTENCES, 0.0, np.random.default_rng(0)) == SENTENCES
    spliced = splice_sentences(SENTENCES, 0.5, np.random.default_rng(0))
    changed = np.mean([a != b for a, b in zip(SENTENCES, spliced, strict=True)])
    assert 0.3 < changed < 0.6
    assert before == SENTENCES


def test_the_generator_decides():
    def splice(seed):
        return splice_sentences(SENTENCES, 0.5, np.random.default_rng(seed))

    assert splice(1) == splice(1) != splice(2)
