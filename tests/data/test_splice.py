"""Training sentences spliced from others."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinyqae.data import splice_sentences, synthetic_sentences

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
    heads, tails = ({s[:k] for s in SENTENCES for k in range(1, len(s) + 1)},
                    {s[k:] for s in SENTENCES for k in range(len(s))})
    new = [s for s in splice_sentences(SENTENCES, 1.0, np.random.default_rng(0)) if s not in old]
    assert len(new) > 200
    for sentence in new:
        # Cut between words, the space between the two pieces is in neither of them; cut anywhere, both may have lost one.
        assert any(sentence[:k].rstrip() in heads and (sentence[k:].lstrip() in tails)
                   for k in range(1, len(sentence) + 1)), sentence
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
