"""The distances between sentences as the 2020 report computed them. FLAWED ON PURPOSE: use tinyqae/metrics/text.py for
everything else.
"""

import math
import re

from tinyqae.metrics.text import cosine_of_tokens, jaccard_of_tokens, levenshtein, on_tokens, one_minus_bleu


def report_text_metrics(original, decoder_output):
    r"""The four distances as the report's notebooks computed them for Table 3. FLAWED ON PURPOSE, to check that table.

    What is wrong with them:

    - **The end token counts.** The decoder's output was compared as it came, with the line feed that ends it, and the
      originals have none: every perfect reconstruction is at Levenshtein distance 1.
    - **Cosine and Jaccard are on characters**, counts and sets, not on lemmatized words as the report says. All English
      sentences share most of their letters, so the distances are small. Runs of white space count as one space (the
      shingles of the package strsimpy), and so does the line feed: a perfect reconstruction of several words is at
      Jaccard distance 0, but at a cosine distance above 0.
    - **BLEU was smoothed by NLTK as it was up to 3.4.5**: pn = 1 / (n - 1 + 5 / ln L) where no n-gram matches, however
      many n-grams there are. `bleu_distance` says what the tokens mean. The scores of poor reconstructions come out
      several times higher than by today's NLTK. Perfect reconstructions of two and three words are at 0.679 and 0.397.
      One-word outputs made that code divide by zero; here they are at distance 1, the limit for ln L -> 0.

    The notebook of the fence model with H = 32 stores its 100 sentences, their reconstructions and their means: 15.14
    (Levenshtein), 0.2112 (cosine), 0.4389 (Jaccard) and 0.981 (1 - BLEU). On 99 of these sentences this function gives
    15.12, 0.2113, 0.4386 and 0.9808; today's smoothing would give 0.9958.

    original: list (or tuple) of N str, N at least 1. decoder_output: N str, raw: what the decoder emitted, with a final
    "\n" if it ended with the end token, without if it was truncated at its maximum length. Do not strip it. Returns a dict
    of floats, means over the pairs. Errors as for `levenshtein`; the packages are RapidFuzz and NLTK.
    """

    def on_characters(distance):
        return on_tokens(distance, lambda sentence: list(re.sub(r"\s+", " ", sentence)), original, decoder_output)

    smoothed_as_then = one_minus_bleu(_method4_up_to_nltk_3_4_5)
    return {
        "levenshtein": float(levenshtein(original, decoder_output).mean()),
        "cosine_distance": float(on_characters(cosine_of_tokens).mean()),
        "jaccard_distance": float(on_characters(jaccard_of_tokens).mean()),
        "bleu_distance": float(on_tokens(smoothed_as_then, str.split, original, decoder_output).mean()),
    }


def _method4_up_to_nltk_3_4_5(precisions, references, hypothesis, hyp_len):
    """Smoothing function in the form that NLTK calls: the four pn, those without a match replaced."""
    if hyp_len == 1:
        return [math.ulp(0.0)] * 4  # stands for 0, which NLTK would leave out of the product
    inverse = 5 / math.log(hyp_len)
    return [p if p.numerator else 1 / (order + inverse) for order, p in enumerate(precisions)]
