"""Distances between sentences and their reconstructions, and what a text weighs as it is, coded and compressed.

The functions on pairs take two lists of str of equal length, the originals and their reconstructions, and return one
float64 value per pair; `text_metrics` averages them. The definitions are those of the report's text, section 6.2.2.
Its tables follow other, flawed definitions, which `report_text_metrics` has, and nothing else uses.

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
import re
from collections import Counter

import numpy as np

from tinyqae.errors import MissingPackage
from tinyqae.metrics.rate import compression_ratio

LANGUAGE = "en"
"""Language of the dictionary that simplemma takes lemmas from."""

_ZSTD_LEVEL = 19  # the highest that needs no more memory to decompress than the others


def levenshtein(original, reconstruction):
    """Levenshtein distance of each pair: the least number of characters to insert, delete or substitute.

    It is a metric: 0 for equal sentences only, symmetric, and it obeys the triangle inequality. An empty sentence and
    one of n characters are n apart. It counts characters and is not divided by the length.

    Args:
        original, reconstruction: lists (or tuples) of str, of equal length, at least 1.

    Returns:
        float64 array (N,), from 0 to the length of the longer sentence.

    Raises:
        TypeError: not lists of str.
        ValueError: lengths differ, or the lists are empty.
        ImportError: python-Levenshtein is not installed.
    """
    edits = _text_package("Levenshtein").distance
    return _per_pair(edits, original, reconstruction)


def cosine_distance(original, reconstruction):
    """Cosine distance of each pair's lemma counts: 1 - a.b / (|a| |b|), a and b how often each lemma occurs.

    A lemma is a word's dictionary form, so that "houses" and "house" are the same; words that simplemma does not know
    stay as they are. The order of the words is not seen: the distance is 0 for sentences whose lemma counts are equal
    or proportional.

    Arguments and errors as for `levenshtein`; the package is simplemma.

    Returns:
        float64 array (N,), in [0, 1]; 1 for pairs without a common lemma. Symmetric.
    """
    return _on_lemmas(_cosine, original, reconstruction)


def jaccard_distance(original, reconstruction):
    """Jaccard distance of each pair's sets of lemmas: 1 - |A and B| / |A or B|.

    Lemmas as for `cosine_distance`. Neither the order of the words nor their number is seen.

    Arguments and errors as for `levenshtein`; the package is simplemma.

    Returns:
        float64 array (N,), in [0, 1]; 1 for pairs without a common lemma. Symmetric.
    """
    return _on_lemmas(_jaccard, original, reconstruction)


def bleu_distance(original, reconstruction):
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
    at this figure for long sentences only, or beside what `bleu_distance(original, original)` gives.

    Arguments and errors as for `levenshtein`; the package is nltk.

    Returns:
        float64 array (N,), in [0, 1].
    """
    smoothing = _text_package("nltk.translate.bleu_score").SmoothingFunction().method4
    return _on_words(_bleu(smoothing), original, reconstruction)


def require_text_packages():
    """MissingPackage unless every package of the text metrics is installed: ask before a long run, not after it."""
    for module in ("Levenshtein", "nltk.translate.bleu_score", "simplemma"):
        _text_package(module)


def text_metrics(original, reconstruction):
    """Means of the four distances over all pairs, and how many reconstructions are perfect.

    Args:
        original, reconstruction: lists (or tuples) of str, of equal length, at least 1.

    Returns:
        dict of floats:
        "levenshtein": mean number of edits, characters.
        "cosine_distance", "jaccard_distance": means, on lemmas.
        "bleu_distance": mean of 1 - BLEU. See `bleu_distance` for sentences of under four words.
        "exact_match_rate": share of the pairs that are equal, character by character.

    Raises:
        TypeError, ValueError, ImportError: as for `levenshtein`, for any of the three packages.
    """
    return {
        "levenshtein": float(levenshtein(original, reconstruction).mean()),
        "cosine_distance": float(cosine_distance(original, reconstruction).mean()),
        "jaccard_distance": float(jaccard_distance(original, reconstruction).mean()),
        "bleu_distance": float(bleu_distance(original, reconstruction).mean()),
        "exact_match_rate": float(_per_pair(lambda a, b: a == b, original, reconstruction).mean()),
    }


def report_text_metrics(original, decoder_output):
    """The four distances as the report's notebooks computed them for Table 3. FLAWED ON PURPOSE, to check that table.

    What is wrong with them:

    - **The end symbol counts.** The decoder's output was compared as it came, with the line feed that ends it, and the
      originals have none: every perfect reconstruction is at Levenshtein distance 1.
    - **Cosine and Jaccard are on characters**, counts and sets, not on lemmatized words as the report says. All English
      sentences share most of their letters, so the distances are small. Runs of white space count as one space (the
      shingles of the package strsimpy), and so does the line feed: a perfect reconstruction of several words is at
      Jaccard distance 0, but at a cosine distance above 0.
    - **BLEU was smoothed by NLTK as it was up to 3.4.5**: pn = 1 / (n - 1 + 5 / ln L) where no n-gram matches, however
      many n-grams there are. `bleu_distance` says what the symbols mean. The scores of poor reconstructions come out
      several times higher than by today's NLTK. Perfect reconstructions of two and three words are at 0.679 and 0.397.
      One-word outputs made that code divide by zero; here they are at distance 1, the limit for ln L -> 0.

    The notebook of the fence model with H = 32 stores its 100 sentences, their reconstructions and their means: 15.14
    (Levenshtein), 0.2112 (cosine), 0.4389 (Jaccard) and 0.981 (1 - BLEU). On 99 of these sentences this function gives
    15.12, 0.2113, 0.4386 and 0.9808; today's smoothing would give 0.9958.

    Args:
        original: list (or tuple) of N str, N at least 1.
        decoder_output: list (or tuple) of N str, raw: what the decoder emitted, with a final "\\n" if it ended by the
            end symbol, without if it was cut off at its greatest length. Do not strip it.

    Returns:
        dict of floats, means over the pairs, keys "levenshtein", "cosine_distance", "jaccard_distance" and
        "bleu_distance". The last three are set as the module says where there is nothing to count (characters, words).

    Raises:
        TypeError, ValueError, ImportError: as for `levenshtein`; the packages are Levenshtein and nltk.
    """

    def on_characters(distance):
        return _on_tokens(distance, lambda sentence: list(re.sub(r"\s+", " ", sentence)), original, decoder_output)

    return {
        "levenshtein": float(levenshtein(original, decoder_output).mean()),
        "cosine_distance": float(on_characters(_cosine).mean()),
        "jaccard_distance": float(on_characters(_jaccard).mean()),
        "bleu_distance": float(_on_words(_bleu(_method4_up_to_nltk_3_4_5), original, decoder_output).mean()),
    }


def text_compression(sentences, bits_per_sentence):
    """What a code of fixed size saves on a text, beside what general-purpose compressors save on it without loss.

    **A code of 2H bits a sentence is often no compression at all.** 22 characters are 176 bits as they are. H = 32
    makes 64 of them (2.9 bits per character), H = 64 makes 128 (5.8); H = 128 makes 256 (11.6) and H = 256 makes 512
    (23.3): codes larger than the text. The 31,570 distinct ones of the first 50,000 Anki sentences (in the edition of 76,036
    pairs; 18.4 characters on average, 3.5 bits each at H = 32) take, in random order, gzip 3.1, bz2 2.1 and xz 2.5 bits
    per character, and come back exactly. What the code has instead is that each sentence can be decoded alone.

    The compressors get all sentences at once, in the order given, each followed by a line feed that is charged to them
    and not counted as a character. Repeated and sorted sentences help them much: give distinct sentences in random
    order for a stricter comparison. A short text hinders them, by tens of bytes of headers.

    Args:
        sentences: list (or tuple) of str with at least one character in all.
        bits_per_sentence: size of one sentence's code in bits, above 0; 2H for the LSTM's binary code.

    Returns:
        dict:
        "compression_ratio": float, 8 times the sentences' bytes in UTF-8 over the bits of all their codes; below 1 if
            the codes are larger.
        "bits_per_character": dict of floats: "code"; "text", the sentences as they are, in UTF-8; "gzip", "bz2" and
            "xz" at their highest levels; "zstd" at level 19, where Python has it (3.14) or zstandard is installed.

    Raises:
        TypeError: sentences is not a list of str.
        ValueError: there is no character at all, or bits_per_sentence is not above 0 or not finite.
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


def _compressors():
    compressors = {
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


def _cosine(a, b):
    """Cosine distance of two lists of tokens, neither empty, by their counts."""
    a, b = Counter(a), Counter(b)
    product = sum(count * b[token] for token, count in a.items())
    # One root of the integer product: the quotient of equal or proportional counts is then exactly 1.
    squares = sum(count * count for count in a.values()) * sum(count * count for count in b.values())
    return 1 - product / math.sqrt(squares)


def _jaccard(a, b):
    """Jaccard distance of two lists of tokens, neither empty, by their sets."""
    a, b = set(a), set(b)
    return 1 - len(a & b) / len(a | b)


def _bleu(smoothing):
    """The function of two lists of words that is 1 - BLEU with NLTK's or another smoothing function."""
    sentence_bleu = _text_package("nltk.translate.bleu_score").sentence_bleu
    return lambda a, b: 1 - sentence_bleu([a], b, smoothing_function=smoothing)


def _method4_up_to_nltk_3_4_5(precisions, references, hypothesis, hyp_len):
    """Smoothing function in the form that NLTK calls: the four pn, those without a match replaced."""
    if hyp_len == 1:
        return [math.ulp(0.0)] * 4  # stands for 0, which NLTK would leave out of the product
    inverse = 5 / math.log(hyp_len)
    return [p if p.numerator else 1 / (order + inverse) for order, p in enumerate(precisions)]


def _on_lemmas(distance, original, reconstruction):
    lemmatize = _text_package("simplemma").lemmatize

    def lemmas(sentence):
        return [lemmatize(word, LANGUAGE) for word in sentence.split()]

    return _on_tokens(distance, lemmas, original, reconstruction)


def _on_words(distance, original, reconstruction):
    return _on_tokens(distance, str.split, original, reconstruction)


def _on_tokens(distance, tokenize, original, reconstruction):
    """A distance of two lists of tokens for each pair of sentences, with the module's rule for empty lists."""

    def distance_of_pair(a, b):
        a, b = tokenize(a), tokenize(b)
        return distance(a, b) if a and b else float(len(a) != len(b))

    return _per_pair(distance_of_pair, original, reconstruction)


def _per_pair(distance, original, reconstruction):
    _check_sentences("original", original)
    _check_sentences("reconstruction", reconstruction)
    if len(original) != len(reconstruction):
        raise ValueError(f"original has {len(original)} sentences and reconstruction {len(reconstruction)}")
    return np.array([distance(a, b) for a, b in zip(original, reconstruction, strict=True)], np.float64)


def _check_sentences(name, sentences):
    if not isinstance(sentences, (list, tuple)):
        raise TypeError(f"{name} is a {type(sentences).__name__}, expected a list of str")
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"{name}[{index}] is a {type(sentence).__name__}, expected str")
    if not sentences:
        raise ValueError(f"{name} is empty, expected at least one sentence")


def _text_package(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        message = f"this text metric needs the package {package}: pip install 'tinyqae[text]'"
        raise MissingPackage(message, name=package) from error
