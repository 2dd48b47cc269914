"""Distances between sentences and their reconstructions, and the size of a text as it is, coded and compressed.

The functions on pairs take two lists of str of equal length, the originals and their reconstructions, and return one
float64 value per pair; `text_metrics` averages them. The definitions are those of the report's text, section 6.2.2.
Its tables follow other, flawed definitions: see benchmarks/report/text_metrics.py.

A word is what `str.split` separates; upper and lower case differ. **Sentences without words** (empty or blank) have no
angle, set or precision, so their distances are defined as 0 if neither sentence of the pair has words, 1 if only one has.

The packages behind the distances (RapidFuzz, NLTK, simplemma) are the optional extra `text`; none of them downloads data.
They are imported when first needed, and MissingPackage says how to install one that is missing.
"""

import bz2
import functools
import gzip
import importlib
import lzma
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import MissingPackage
from .rate import compression_ratio

__all__ = [
    "bleu_distance",
    "cosine_distance",
    "jaccard_distance",
    "levenshtein",
    "require_text_packages",
    "text_compression",
    "text_metrics",
]

RAPIDFUZZ, NLTK, SIMPLEMMA = "rapidfuzz.distance.Levenshtein", "nltk.translate.bleu_score", "simplemma"

_ZSTD_LEVEL = 19  # the highest that needs no more memory to decompress than the others

Distance = Callable[[list[str], list[str]], float]
"""Of two lists of tokens, neither of them empty."""


def levenshtein(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Levenshtein distance of each pair: the minimum number of characters to insert, delete or substitute.

    Args:
        original, reconstruction: lists (or tuples) of N str, N at least 1.

    Returns:
        float64 (N,).

    Raises:
        TypeError, ValueError: they are anything else, or differ in length.
        MissingPackage: RapidFuzz is not installed.
    """
    return _per_pair(_text_package(RAPIDFUZZ).distance, original, reconstruction)


def cosine_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Cosine distance of each pair's lemma counts: 1 - a.b / (|a| |b|), a and b how often each lemma occurs.

    A lemma is a word's dictionary form, so that "houses" and "house" are the same; words that simplemma does not know
    stay as they are. The order of the words is ignored. Arguments and errors as for `levenshtein`, with simplemma.
    """
    return on_tokens(cosine_of_tokens, _english_lemmas(), original, reconstruction)


def jaccard_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """Jaccard distance of each pair's sets of lemmas: 1 - |A and B| / |A or B|. Lemmas, arguments and errors as for
    `cosine_distance`.
    """
    return on_tokens(jaccard_of_tokens, _english_lemmas(), original, reconstruction)


def bleu_distance(original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    """1 - BLEU of each pair, on words, with n-grams up to n = 4 and NLTK's smoothing method 4.

    BLEU = exp(min(0, 1 - r/L)) (p1 p2 p3 p4)^(1/4), for a reconstruction of L words of an original of r; pn is the
    share of the reconstruction's n-grams that are also in the original (Papineni et al. 2002). Where no n-gram matches,
    method 4 (Chen and Cherry 2014, as NLTK 3.9 has it) puts pn = ln L / (5 * 2^k * m), for the k-th such n of a
    sentence with m n-grams (m = 1 if it has none). BLEU is 0 where no word matches. It is not symmetric.

    **Sentences of under four words are scored wrongly.** They have no 4-grams, which counts as having matched none, so
    that even perfect reconstructions of two and three words get 0.7786 and 0.4243, and losing a word can help: "stop" as
    the reconstruction of "stop it" gets 0.6321. Compare this figure with that of `bleu_distance(original, original)`.
    Arguments and errors as for `levenshtein`, with NLTK.
    """
    smoothing = _text_package(NLTK).SmoothingFunction().method4
    return on_tokens(one_minus_bleu(smoothing), str.split, original, reconstruction)


def require_text_packages() -> None:
    """MissingPackage unless every package of the text metrics is installed: call it before a long run, not after it."""
    for module in (RAPIDFUZZ, NLTK, SIMPLEMMA):
        _text_package(module)


def text_metrics(original: Sequence[str], reconstruction: Sequence[str]) -> dict[str, float]:
    """Means of the four distances over all pairs, and "exact_match_rate", the share of the pairs that are equal, character
    by character: a dict of floats. Arguments and errors as for `levenshtein`, with any of the three packages.
    """
    distances = (levenshtein, cosine_distance, jaccard_distance, bleu_distance)
    means = {distance.__name__: float(distance(original, reconstruction).mean()) for distance in distances}
    return means | {"exact_match_rate": float(_per_pair(str.__eq__, original, reconstruction).mean())}


def text_compression(sentences: Sequence[str], bits_per_sentence: int) -> dict[str, Any]:
    """What a code of fixed size saves on a text, compared with lossless general-purpose compressors.

    A code of 2H bits per sentence is often no compression at all: 22 characters are 176 bits as they are, and 256 bits with
    H = 128. Its advantage is that each sentence can be decoded alone. The compressors get all sentences at once, each
    followed by a line feed, which counts towards their size but not as a character. Repeated and sorted sentences help
    them a lot, and their headers cost them on a short text.

    Args:
        sentences: list (or tuple) of str with at least one character in all.

    Returns:
        A dict: "compression_ratio", 8 times the sentences' bytes in UTF-8 over the bits of all their codes; and
        "bits_per_character", a dict: "code"; "text", the sentences as they are, in UTF-8; "gzip", "bz2" and "xz" at their
        highest levels; "zstd" at level 19, if Python has it (3.14) or zstandard is installed.
    """
    _check_sentences("sentences", sentences)
    characters = sum(map(len, sentences))
    if characters == 0:
        raise ValueError("sentences holds no characters; text_compression needs at least one")
    sizes = {"code": bits_per_sentence * len(sentences), "text": 8 * len("".join(sentences).encode())}
    whole_text = "".join(f"{sentence}\n" for sentence in sentences).encode()
    sizes |= {name: 8 * len(compress(whole_text)) for name, compress in _compressors().items()}
    return {
        "compression_ratio": compression_ratio(sizes["text"], sizes["code"]),
        "bits_per_character": {name: bits / characters for name, bits in sizes.items()},
    }


def _compressors() -> dict[str, Callable[[bytes], bytes]]:
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "bz2": bz2.compress,
        "xz": functools.partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME),
    }
    for name in ("compression.zstd", "zstandard"):
        try:
            compressors["zstd"] = functools.partial(importlib.import_module(name).compress, level=_ZSTD_LEVEL)
            break
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


def one_minus_bleu(smoothing: Callable) -> Distance:
    """Return a function of two lists of words: 1 - BLEU with NLTK's or another smoothing function."""
    sentence_bleu = _text_package(NLTK).sentence_bleu
    return lambda a, b: 1 - sentence_bleu([a], b, smoothing_function=smoothing)


def on_tokens(
    distance: Distance, tokenize: Callable[[str], list[str]], original: Sequence[str], reconstruction: Sequence[str]
) -> np.ndarray:
    """A distance of two lists of tokens for each pair of sentences, with the module's rule for empty lists."""

    def distance_of_pair(a: str, b: str) -> float:
        of_a, of_b = tokenize(a), tokenize(b)
        return distance(of_a, of_b) if of_a and of_b else float(len(of_a) != len(of_b))

    return _per_pair(distance_of_pair, original, reconstruction)


def _english_lemmas() -> Callable[[str], list[str]]:
    """The function that maps a sentence to its lemmas."""
    lemmatize = _text_package(SIMPLEMMA).lemmatize
    return lambda sentence: [lemmatize(word, "en") for word in sentence.split()]


def _per_pair(distance: Callable[[str, str], float], original: Sequence[str], reconstruction: Sequence[str]) -> np.ndarray:
    _check_sentences("original", original)
    _check_sentences("reconstruction", reconstruction)
    if len(original) != len(reconstruction):
        raise ValueError(f"original has {len(original)} sentences and reconstruction {len(reconstruction)}")
    return np.array([distance(a, b) for a, b in zip(original, reconstruction, strict=True)], np.float64)


def _check_sentences(name: str, sentences: object) -> None:
    if not isinstance(sentences, list | tuple):
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
