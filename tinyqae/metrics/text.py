"""Distances between sentences and their reconstructions, and what a text weighs as it is, coded and compressed.

The functions on pairs take two lists of str of equal length, the originals and their reconstructions, and return one
float64 value per pair; `text_metrics` averages them. The definitions are those of the report's text, section 6.2.2.
Its tables follow other, flawed definitions: see benchmarks/report/text_metrics.py.

A word is what `str.split` separates. Nothing is lower-cased here: upper and lower case differ.

**Sentences without words** (empty or blank) have no angle, set or precision, so their distances are set: 0 if neither
sentence of the pair has words, 1 if just one has. The Levenshtein distance needs no such rule.

The packages behind the distances are the optional extra `text`: python-Levenshtein, NLTK (its BLEU needs none of NLTK's
data) and simplemma (its dictionaries come with the package, so nothing is downloaded). They are imported when first
needed; a function that misses its package raises ImportError and says how to install it. `text_compression` needs none.
"""

import bz2
import gzip
import importlib
import lzma
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyqae.errors import MissingPackage
from tinyqae.metrics.rate import compression_ratio

LANGUAGE = "en"
"""Language of the dictionary that simplemma takes lemmas from."""

_ZSTD_LEVEL = 19  # the highest that needs no more memory to decompress than the others


def levenshtein(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Levenshtein distance of each pair: the least number of characters to insert, delete or substitute.

    It is a metric: 0 for equal sentences only, symmetric, and it obeys the triangle inequality. An empty sentence and
    one of n characters are n apart. It counts characters and is not divided by the length.

    original, reconstruction: lists (or tuples) of N str, N at least 1 -> float64 (N,). TypeError, ValueError for others;
    ImportError where python-Levenshtein is not installed.
    """
    edits = _text_package("Levenshtein").distance
    return _per_pair(edits, original, reconstruction)


def cosine_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Cosine distance of each pair's lemma counts: 1 - a.b / (|a| |b|), a and b how often each lemma occurs.

    A lemma is a word's dictionary form, so that "houses" and "house" are the same; words that simplemma does not know
    stay as they are. The order of the words is not seen: the distance is 0 for sentences whose lemma counts are equal
    or proportional, and 1 for pairs without a common lemma. Symmetric. Arguments and errors as for `levenshtein`; the
    package is simplemma.
    """
    return _on_lemmas(cosine_of_tokens, original, reconstruction)


def jaccard_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Jaccard distance of each pair's sets of lemmas: 1 - |A and B| / |A or B|.

    Lemmas as for `cosine_distance`. Neither the order of the words nor their number is seen. Symmetric, and 1 for pairs
    without a common lemma. Arguments and errors as for `levenshtein`; the package is simplemma.
    """
    return _on_lemmas(jaccard_of_tokens, original, reconstruction)


def bleu_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """1 - BLEU of each pair, on words, with n-grams up to n = 4 and NLTK's smoothing method 4.

    BLEU = exp(min(0, 1 - r/L)) (p1 p2 p3 p4)^(1/4), for a reconstruction of L words of an original of r; pn is the
    share of the reconstruction's n-grams that the original has too (Papineni et al. 2002). Where no n-gram matches,
    method 4 (Chen and Cherry 2014, as NLTK 3.9 has it) puts pn = ln L / (5 * 2^k * m), for the k-th such n of a
    sentence that has m n-grams (m = 1 if it has none). BLEU is 0 where no word matches. It is not symmetric.

    **Sentences of under four words are scored wrongly.** They have no 4-grams, which counts as having matched none, so
    that not even a perfect reconstruction is at distance 0:

        words               1       2       3       4 and more
        distance to itself  0       0.7786  0.4243  0

    They are 1 - (ln 2 / 10 * ln 2 / 20)^(1/4) and 1 - (ln 3 / 10)^(1/4). With one word, ln L = 0 smooths nothing and
    NLTK leaves out the orders without a match. So losing a word can help: "stop" as the reconstruction of "stop it"
    is at 0.6321, nearer than "stop it" itself. Of the first 50,000 English sentences of the Anki pairs (in the edition
    of 76,036) 30% have under four words, and perfect reconstructions of all 50,000 have a mean distance of 0.148. Look
    at this figure for long sentences only, or beside what `bleu_distance(original, original)` gives. Arguments and errors
    as for `levenshtein`; the package is nltk.
    """
    smoothing = _text_package("nltk.translate.bleu_score").SmoothingFunction().method4
    return on_words(one_minus_bleu(smoothing), original, reconstruction)


def require_text_packages() -> None:
    """MissingPackage unless every package of the text metrics is installed: ask before a long run, not after it."""
    for module in ("Levenshtein", "nltk.translate.bleu_score", "simplemma"):
        _text_package(module)


def text_metrics(original: Sequence[str], reconstruction: Sequence[str]) -> dict[str, float]:
    """Means of the four distances over all pairs, and "exact_match_rate", the share of the pairs that are equal, character
    by character: a dict of floats. Arguments and errors as for `levenshtein`, for any of the three packages.
    """
    return {
        "levenshtein": float(levenshtein(original, reconstruction).mean()),
        "cosine_distance": float(cosine_distance(original, reconstruction).mean()),
        "jaccard_distance": float(jaccard_distance(original, reconstruction).mean()),
        "bleu_distance": float(bleu_distance(original, reconstruction).mean()),
        "exact_match_rate": float(_per_pair(lambda a, b: a == b, original, reconstruction).mean()),
    }


def text_compression(sentences: Sequence[str], bits_per_sentence: int) -> dict[str, Any]:
    """What a code of fixed size saves on a text, beside what general-purpose compressors save on it without loss.

    **A code of 2H bits per sentence is often no compression at all.** 22 characters are 176 bits as they are. H = 32
    makes 64 of them (2.9 bits per character), H = 64 makes 128 (5.8); H = 128 makes 256 (11.6) and H = 256 makes 512
    (23.3): codes larger than the text. The 31,570 distinct ones of the first 50,000 Anki sentences (in the edition of 76,036
    pairs; 18.4 characters on average, 3.5 bits each at H = 32) take, in random order, gzip 3.1, bz2 2.1 and xz 2.5 bits
    per character, without loss. What the code has instead is that each sentence can be decoded alone.

    The compressors get all sentences at once, in the order given, each followed by a line feed that is charged to them
    and not counted as a character. Repeated and sorted sentences help them much: give distinct sentences in random
    order for a stricter comparison. A short text hinders them, by tens of bytes of headers.

    sentences: list (or tuple) of str with at least one character in all. bits_per_sentence: of a code; 2H for the LSTM's.
    Returns a dict: "compression_ratio", 8 times the sentences' bytes in UTF-8 over the bits of all their codes; and
    "bits_per_character", a dict: "code"; "text", the sentences as they are, in UTF-8; "gzip", "bz2" and "xz" at their
    highest levels; "zstd" at level 19, where Python has it (3.14) or zstandard is installed.
    """
    _check_sentences("sentences", sentences)
    characters = sum(map(len, sentences))
    if characters == 0:
        raise ValueError("sentences holds no character; text_compression takes a text of at least one")
    code_bits = bits_per_sentence * len(sentences)
    text_bits = 8 * len("".join(sentences).encode())
    whole_text = "".join(f"{sentence}\n" for sentence in sentences).encode()
    sizes = {"code": code_bits, "text": text_bits}
    for name, compress in _compressors().items():
        sizes[name] = 8 * len(compress(whole_text))
    return {
        "compression_ratio": compression_ratio(text_bits, code_bits),
        "bits_per_character": {name: bits / characters for name, bits in sizes.items()},
    }


def _compressors() -> dict[str, Callable[[bytes], bytes]]:
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: gzip.compress(data, 9),
        "bz2": lambda data: bz2.compress(data, 9),
        "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    }
    try:
        zstd = importlib.import_module("compression.zstd")
        compressors["zstd"] = lambda data: zstd.compress(data, _ZSTD_LEVEL)
    except ImportError:
        try:
            compressors["zstd"] = importlib.import_module("zstandard").ZstdCompressor(_ZSTD_LEVEL).compress
        except ImportError:
            pass
    return compressors


def cosine_of_tokens(a: list[str], b: list[str]) -> float:
    """Cosine distance of two lists of tokens, neither empty, by their counts."""
    of_a, of_b = Counter(a), Counter(b)
    dot = sum(count * of_b[token] for token, count in of_a.items())
    # One root of an integer: the quotient of equal or proportional counts is then exactly 1.
    squares = sum(count * count for count in of_a.values()) * sum(count * count for count in of_b.values())
    return 1 - dot / math.sqrt(squares)


def jaccard_of_tokens(a: list[str], b: list[str]) -> float:
    """Jaccard distance of two lists of tokens, neither empty, by their sets."""
    of_a, of_b = set(a), set(b)
    return 1 - len(of_a & of_b) / len(of_a | of_b)


def one_minus_bleu(smoothing: Callable) -> Callable[[list[str], list[str]], float]:
    """The function of two lists of words that is 1 - BLEU with NLTK's or another smoothing function."""
    sentence_bleu = _text_package("nltk.translate.bleu_score").sentence_bleu
    return lambda a, b: 1 - sentence_bleu([a], b, smoothing_function=smoothing)


def _on_lemmas(distance: Callable[[list[str], list[str]], float], original: Sequence[str],
               reconstruction: Sequence[str]) -> np.ndarray:
    lemmatize = _text_package("simplemma").lemmatize

    def lemmas(sentence: str) -> list[str]:
        return [lemmatize(word, LANGUAGE) for word in sentence.split()]

    return on_tokens(distance, lemmas, original, reconstruction)


def on_words(distance: Callable[[list[str], list[str]], float], original: Sequence[str],
             reconstruction: Sequence[str]) -> np.ndarray:
    """A distance of two lists of words for each pair of sentences, as `on_tokens`."""
    return on_tokens(distance, str.split, original, reconstruction)


def on_tokens(distance: Callable[[list[str], list[str]], float], tokenize: Callable[[str], list[str]],
              original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """A distance of two lists of tokens for each pair of sentences, with the module's rule for empty lists."""

    def distance_of_pair(a: str, b: str) -> float:
        of_a, of_b = tokenize(a), tokenize(b)
        return distance(of_a, of_b) if of_a and of_b else float(len(of_a) != len(of_b))

    return _per_pair(distance_of_pair, original, reconstruction)


def _per_pair(distance: Callable[[str, str], float], original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    _check_sentences("original", original)
    _check_sentences("reconstruction", reconstruction)
    if len(original) != len(reconstruction):
        raise ValueError(f"original has {len(original)} sentences and reconstruction {len(reconstruction)}")
    return np.array([distance(a, b) for a, b in zip(original, reconstruction, strict=True)], np.float64)


def _check_sentences(name: str, sentences: object) -> None:
    if not isinstance(sentences, (list, tuple)):
        raise TypeError(f"{name} is a {type(sentences).__name__}, expected a list of str")
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"{name}[{index}] is a {type(sentence).__name__}, expected str")
    if not sentences:
        raise ValueError(f"{name} is empty, expected at least one sentence")


def _text_package(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        message = f"this text metric needs the package {package}: pip install 'tinyqae[text]'"
        raise MissingPackage(message, name=package) from error
