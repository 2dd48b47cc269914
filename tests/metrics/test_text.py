"""Distances between sentences, and the sizes of a text coded and compressed."""

import bz2
import gzip
import importlib.util
import lzma
import math
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.data import load_anki
from tinyqae.metrics.text import (
    bleu_distance,
    cosine_distance,
    jaccard_distance,
    levenshtein,
    text_compression,
    text_metrics,
)

DISTANCES = [levenshtein, cosine_distance, jaccard_distance, bleu_distance]
ON_WORDS = DISTANCES[1:]
PACKAGES = {
    levenshtein: ("rapidfuzz.distance.Levenshtein", "rapidfuzz"),
    cosine_distance: ("simplemma", "simplemma"),
    jaccard_distance: ("simplemma", "simplemma"),
    bleu_distance: ("nltk.translate.bleu_score", "nltk"),
}
KEYS = ["levenshtein", "cosine_distance", "jaccard_distance", "bleu_distance"]

no_deadline = settings(deadline=None)  # the first call imports a package
WORDS = st.sampled_from("the a house houses is was girl looks lost where tom 7".split())
SENTENCES = st.lists(WORDS, max_size=8).map(" ".join)
TEXTS = st.one_of(SENTENCES, st.text(max_size=12))
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4).map(lambda pairs: list(zip(*pairs, strict=True)))


@pytest.fixture(scope="module")
def text_packages():
    for package in ("rapidfuzz", "nltk", "simplemma"):
        pytest.importorskip(package, reason="the text metrics need the extra `text`")


needs_packages = pytest.mark.usefixtures("text_packages")


@pytest.fixture(scope="module")
def anki_sentences():
    folder = os.environ.get("TINYQAE_DATA")
    path = Path(folder or "") / "fra-eng" / "fra.txt"
    if not folder or not path.is_file():
        pytest.skip("TINYQAE_DATA does not name a directory with fra-eng/fra.txt")
    sentences = load_anki(folder, download=False).sentences
    if len(set(sentences)) != 31_570:
        pytest.skip("the figures are of the edition of 76,036 pairs")
    return list(sentences)


@needs_packages
def test_values_worked_out_by_hand():
    assert levenshtein(["kitten", "flaw", "", "ab"], ["sitting", "lawn", "abc", "ba"]).tolist() == [3, 2, 3, 2]
    # Counts (2, 1) and (1, 2): cosine 4/5. Sets of 2 and 3 with 2 in common: 1/3.
    assert cosine_distance(["dog dog cat"], ["dog cat cat"]) == pytest.approx([0.2], rel=1e-12)
    assert jaccard_distance(["dog cat"], ["dog cat tree"]) == pytest.approx([1 / 3], rel=1e-12)
    # All 6 words, 4 of 5 bigrams, 2 of 4 trigrams, 1 of 3 four-grams, and the penalty of 6 words for 7.
    bleu = math.exp(1 - 7 / 6) * (4 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu_distance(["a b c d x e f"], ["a b c d e f"]) == pytest.approx([1 - bleu], rel=1e-12)
    # One of 4 words and no longer n-gram: three orders are smoothed, each more than the one before.
    smoothed = [math.log(4) / (5 * 2**k * m) for k, m in ((1, 3), (2, 2), (3, 1))]
    bleu = (1 / 4 * math.prod(smoothed)) ** 0.25
    assert bleu_distance(["a b c d"], ["x b y z"]) == pytest.approx([1 - bleu], rel=1e-12)


@needs_packages
def test_words_are_compared_by_their_lemmas():
    a, b = ["the girls were running"], ["the girl is running"]
    assert cosine_distance(a, b) == jaccard_distance(a, b) == 0
    assert levenshtein(a, b) > 0 and bleu_distance(a, b) > 0
    assert jaccard_distance(["qwx zzq"], ["qwx zzy"]) == pytest.approx([2 / 3])  # unknown words stay as they are


@needs_packages
def test_order_and_number_of_words():
    a = ["dog cat tree"]
    assert cosine_distance(a, ["tree dog cat"]) == jaccard_distance(a, ["tree dog cat"]) == 0
    assert cosine_distance(a, ["dog cat tree dog cat tree"]) == jaccard_distance(a, ["dog dog cat tree"]) == 0
    assert cosine_distance(a, ["dog dog cat tree"]) > 0


@needs_packages
@no_deadline
@given(PAIRS)
def test_bounds_and_no_warnings(pairs):
    original, reconstruction = pairs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = {distance: distance(original, reconstruction) for distance in DISTANCES}
    for distance, value in values.items():
        assert value.shape == (len(original),) and value.dtype == np.float64
        longest = [max(len(a), len(b)) for a, b in zip(*pairs, strict=True)] if distance is levenshtein else 1
        assert ((0 <= value) & (value <= longest)).all()


@needs_packages
@no_deadline
@given(TEXTS)
def test_identity(sentence):
    for distance in (levenshtein, cosine_distance, jaccard_distance):
        assert distance([sentence], [sentence]) == 0
    if len(sentence.split()) not in (2, 3):
        assert bleu_distance([sentence], [sentence]) == pytest.approx([0], abs=1e-15)


@needs_packages
@no_deadline
@given(TEXTS, TEXTS)
def test_symmetry_except_of_bleu(a, b):
    for distance in (levenshtein, cosine_distance, jaccard_distance):
        assert distance([a], [b]) == distance([b], [a])


@needs_packages
def test_bleu_is_not_symmetric():
    a, b = ["a b c d e f"], ["a b c d"]
    assert bleu_distance(a, b) > 0.3 and bleu_distance(b, a) != pytest.approx(bleu_distance(a, b))


@needs_packages
@no_deadline
@given(TEXTS, TEXTS, TEXTS)
def test_levenshtein_is_a_metric(a, b, c):
    ab, bc, ac = levenshtein([a, b, a], [b, c, c])
    assert ac <= ab + bc
    assert (ab == 0) == (a == b)
    assert ab >= abs(len(a) - len(b))


@needs_packages
@no_deadline
@given(SENTENCES, SENTENCES)
def test_distance_1_means_nothing_in_common(a, b):
    disjoint = jaccard_distance([a], [b]) == 1
    assert disjoint == (cosine_distance([a], [b]) == 1)
    if disjoint:
        assert bleu_distance([a], [b]) == 1


@needs_packages
@pytest.mark.parametrize("blank", ["", "  "])
def test_sentences_without_words(blank):
    for distance in ON_WORDS:
        assert distance([blank, blank, "tom"], [blank, "tom", blank]).tolist() == [0, 1, 1]
    assert levenshtein([blank, "tom"], [blank, blank]).tolist() == [0, 3]
    assert text_metrics([""], [""]) == dict.fromkeys(KEYS, 0) | {"exact_match_rate": 1}


@needs_packages
def test_bleu_of_perfect_reconstructions_of_short_sentences():
    sentences = ["stop", "stop it", "stop it now", "stop it right now", "please stop it right now"]
    two = 1 - (math.log(2) / 10 * math.log(2) / 20) ** 0.25
    three = 1 - (math.log(3) / 10) ** 0.25
    assert (round(two, 4), round(three, 4)) == (0.7786, 0.4243)
    assert bleu_distance(sentences, sentences) == pytest.approx([0, two, three, 0, 0], rel=1e-12, abs=1e-15)


@needs_packages
def test_bleu_can_prefer_a_lost_word():
    lost, perfect = bleu_distance(["stop it"] * 2, ["stop", "stop it"])
    assert lost == pytest.approx(1 - math.exp(-1), rel=1e-12) and lost < perfect


@needs_packages
def test_bleu_floor_of_the_anki_sentences(anki_sentences):
    words = np.array([len(sentence.split()) for sentence in anki_sentences])
    assert np.mean(words < 4) == pytest.approx(0.2955, abs=5e-4)
    assert bleu_distance(anki_sentences, anki_sentences).mean() == pytest.approx(0.1476, abs=5e-4)


@needs_packages
def test_text_metrics_are_the_means():
    original = ["where is your daughter", "that girl looks boyish", "what is your full name"]
    reconstruction = ["where is your daughter", "that girl looked lost", "what is your fool"]
    result = text_metrics(original, reconstruction)
    assert list(result) == [*KEYS, "exact_match_rate"]
    for distance in DISTANCES:
        assert result[distance.__name__] == distance(original, reconstruction).mean()
    assert result["exact_match_rate"] == pytest.approx(1 / 3)
    assert all(type(value) is float for value in result.values())
    assert text_metrics(tuple(original), tuple(reconstruction)) == result


def test_compression_against_the_text_s_own_bytes():
    result = text_compression(["where is your daughter"] * 3, 64)  # 22 characters each
    assert result["compression_ratio"] == pytest.approx(22 * 8 / 64)
    assert result["bits_per_character"]["code"] == pytest.approx(64 / 22)
    assert result["bits_per_character"]["text"] == 8
    assert text_compression(["where is your daughter"], 256)["compression_ratio"] < 1
    accented = text_compression(["né"], 16)  # 2 characters, 3 bytes
    assert accented["compression_ratio"] == 1.5 and accented["bits_per_character"]["text"] == 12


def test_compressors_get_the_whole_text_with_line_feeds_that_do_not_count():
    sentences = ["that girl looks boyish", "", "where did you hide it"] * 20
    text = "".join(s + "\n" for s in sentences).encode()
    characters = len(text) - len(sentences)
    measured = text_compression(sentences, 64)["bits_per_character"]
    assert list(measured)[:5] == ["code", "text", "gzip", "bz2", "xz"]
    modules = {"gzip": gzip.compress(text, 9), "bz2": bz2.compress(text, 9), "xz": lzma.compress(text, preset=9)}
    for name, compressed in modules.items():
        assert measured[name] <= 8 * len(compressed) / characters


def test_zstd_is_there_only_where_installed(monkeypatch):
    sentences = ["that girl looks boyish"] * 20
    installed = any(importlib.util.find_spec(name) for name in ("zstandard", "compression"))
    assert ("zstd" in text_compression(sentences, 64)["bits_per_character"]) == installed
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(text_compression(sentences, 64)["bits_per_character"]) == ["code", "text", "gzip", "bz2", "xz"]


def test_general_purpose_compressors_beat_the_smallest_code_on_anki(anki_sentences):
    distinct = list(dict.fromkeys(anki_sentences))
    random.Random(0).shuffle(distinct)
    result = text_compression(distinct, 2 * 32)
    measured = result["bits_per_character"]
    assert result["compression_ratio"] == pytest.approx(2.296, abs=1e-3)
    expected = {"code": 3.484, "text": 8, "gzip": 3.08, "bz2": 2.13, "xz": 2.51}
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=0.03)


@needs_packages
@pytest.mark.parametrize("function", [*DISTANCES, text_metrics])
def test_bad_pairs_are_refused(function):
    with pytest.raises(ValueError, match="original has 2 sentences and reconstruction 1"):
        function(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="original is a str, expected a list of str"):
        function("abc", ["a", "b", "c"])
    with pytest.raises(TypeError, match=r"reconstruction\[1\] is a bytes, expected str"):
        function(["a", "b"], ["a", b"b"])
    with pytest.raises(ValueError, match="original is empty"):
        function([], [])


def test_bad_texts_are_refused():
    with pytest.raises(ValueError, match="sentences holds no character"):
        text_compression([""], 64)
    with pytest.raises(ValueError, match="sentences is empty"):
        text_compression([], 64)
    with pytest.raises(TypeError, match="sentences is a str"):
        text_compression("abc", 64)
    for bits in (0, -1, math.inf):
        with pytest.raises(ValueError, match="compressed_bits is"):
            text_compression(["abc"], bits)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_missing_package_is_named_with_the_way_to_install_it(distance, monkeypatch):
    module, package = PACKAGES[distance]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs the package {package}: pip install 'tinyqae\[text\]'"):
        distance(["a"], ["a"])
    assert text_compression(["a"], 1)["compression_ratio"] == 8


def test_importing_the_module_imports_none_of_the_packages():
    packages = "{'rapidfuzz', 'nltk', 'simplemma', 'zstandard'}"
    code = f"import sys, tinyqae.metrics.text; print({packages} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
