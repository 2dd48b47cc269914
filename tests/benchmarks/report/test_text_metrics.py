"""The report's flawed distances between sentences: that they are flawed in just the way the report's were."""

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.report.text_metrics import report_text_metrics
from tinyqae.metrics.text import bleu_distance, text_metrics

for package in ("rapidfuzz", "nltk", "simplemma"):
    pytest.importorskip(package, reason="the text metrics need the extra `text`")

KEYS = ["levenshtein", "cosine_distance", "jaccard_distance", "bleu_distance"]


def test_report_counts_the_line_feed_that_ends_the_output():
    sentence = "that girl looks boyish"
    ended, cut_off = report_text_metrics([sentence], [sentence + "\n"]), report_text_metrics([sentence], [sentence])
    assert (ended["levenshtein"], cut_off["levenshtein"]) == (1, 0)
    # The line feed is a fourth space. The letters' squared counts: 3 t, 2 each of h, i, l, o, s, and nine single ones.
    squares = sum(sentence.count(c) ** 2 for c in set(sentence))
    with_space = squares - 3**2 + 4**2
    expected = 1 - (squares + 3) / math.sqrt(squares * with_space)
    assert ended["cosine_distance"] == pytest.approx(expected, rel=1e-9) and expected > 0.005
    assert ended["jaccard_distance"] == ended["bleu_distance"] == cut_off["cosine_distance"] == 0


def test_report_compares_characters_and_runs_of_white_space_as_one():
    result = report_text_metrics(["ab  a"], ["ba a\n"])
    # "ab a" and "ba a ": counts (2, 1, 1) and (2, 1, 2) of a, b and the space.
    assert result["cosine_distance"] == pytest.approx(1 - 7 / math.sqrt(6 * 9), rel=1e-12)
    assert result["jaccard_distance"] == 0
    assert report_text_metrics(["abc"], ["bcd"])["jaccard_distance"] == 0.5


def test_report_smooths_as_old_nltk_did():
    def distance(a, b):
        return report_text_metrics([a], [b])["bleu_distance"]

    inverse = {n: 5 / math.log(n) for n in (2, 3, 4)}
    assert distance("a b", "a b\n") == pytest.approx(1 - (1 / (2 + inverse[2]) / (3 + inverse[2])) ** 0.25, rel=1e-12)
    assert distance("a b c", "a b c\n") == pytest.approx(1 - (1 / (3 + inverse[3])) ** 0.25, rel=1e-12)
    assert (round(distance("a b", "a b"), 3), round(distance("a b c", "a b c"), 3)) == (0.679, 0.397)
    poor = 1 - (1 / 4 / math.prod(order + inverse[4] for order in (1, 2, 3))) ** 0.25
    assert distance("a b c d", "x b y z\n") == pytest.approx(poor, rel=1e-12)
    assert 1 - poor > 2 * (1 - bleu_distance(["a b c d"], ["x b y z"])[0])
    assert distance("a", "a\n") == distance("a b", "b\n") == distance("a b", "x y\n") == 1


def test_report_and_correct_definitions_differ_on_unrelated_sentences():
    a, b = ["where did you hide it"], ["that girl looks boyish"]
    assert text_metrics(a, b)["jaccard_distance"] == 1
    assert report_text_metrics(a, b)["cosine_distance"] < 0.5


@settings(deadline=None)  # the first call imports a package
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_bounds_and_no_warnings(pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = report_text_metrics(*map(list, zip(*pairs, strict=True)))
    assert list(means) == KEYS
    assert all(0 <= means[key] <= 1 for key in KEYS[1:])


def test_sentences_without_words():
    assert report_text_metrics([""], [""]) == dict.fromkeys(KEYS, 0)
    assert report_text_metrics([""], ["tom"]) == {
        "levenshtein": 3,
        "cosine_distance": 1,
        "jaccard_distance": 1,
        "bleu_distance": 1,
    }


def test_bad_pairs_are_refused():
    with pytest.raises(ValueError, match="original has 2 sentences and reconstruction 1"):
        report_text_metrics(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="original is a str, expected a list of str"):
        report_text_metrics("abc", ["a", "b", "c"])
    with pytest.raises(TypeError, match=r"reconstruction\[1\] is a bytes, expected str"):
        report_text_metrics(["a", "b"], ["a", b"b"])
    with pytest.raises(ValueError, match="original is empty"):
        report_text_metrics([], [])
