"""The choice of parents: never more than the file's count field can say."""

import numpy as np
import pytest

from tinyqae.codec import CODED, decode_bits, encode_bits
from tinyqae.codec.parents import MAX_PARENTS, PARENT_COUNT_BITS, choose_parents, index_bits, neighbours


def votes(voters, count=8192):
    """bool (count, voters + 1): independent bits and, behind them, their majority, of which each of them tells a little."""
    bits = np.random.default_rng(0).random((count, voters)) < 0.5
    return np.concatenate([bits, bits.sum(axis=1, keepdims=True) > voters / 2], axis=1)


def test_of_nine_useful_bits_seven_become_parents_and_the_file_decodes():
    """With 7 of 9 votes known the majority has an entropy of 35/64 H(1/4) = 0.44 bits, with 8 of 9 of 70/256 = 0.27: an
    eighth parent would save 1,400 bits here and cost 128 contexts of 3 bits each, but 8 takes four bits.
    """
    bits = votes(9)
    assert MAX_PARENTS == 2**PARENT_COUNT_BITS - 1 == 7
    *others, of_majority = choose_parents(bits.reshape(-1, 1, 1, 10))
    assert len(of_majority) == len(set(of_majority)) == 7
    assert set(of_majority) <= {(0, 0, channel) for channel in range(9)}
    assert all(len(chosen) <= 7 for chosen in others)
    pytest.importorskip("constriction", reason="entropy coding needs constriction (extra `codec`)")
    method, payload = encode_bits(bits, (10,))
    assert method == CODED
    np.testing.assert_array_equal(decode_bits(payload, method, len(bits), (10,)), bits)


def test_three_votes_make_three_parents():
    assert sorted(choose_parents(votes(3).reshape(-1, 1, 1, 4))[3]) == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]


@pytest.mark.parametrize(
    ("channels", "places", "bits"),
    [(1, 1, 0), (2, 1, 1), (8, 1, 3), (9, 1, 4), (1, 2, 2), (2, 4, 3), (5, 4, 4), (6, 4, 5), (1024, 1, 10), (256, 16, 10)],
)
def test_an_index_is_as_wide_as_the_largest(channels, places, bits):
    assert neighbours(places) == (3 if places > 1 else 1)
    assert index_bits(channels, places) == bits
    assert neighbours(places) * channels <= 2**bits
