"""Bits, compression ratios (with erratum 3 of the report's Table 1) and the use of a code's bits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyqae.metrics.rate import bit_activity, bit_entropy, bits_per_item, code_usage, compression_ratio, image_bits

BIT_MATRICES = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def test_sizes():
    assert image_bits((28, 28, 1)) == 6272
    assert image_bits((32, 32, 3)) == 24576
    assert bits_per_item(50, "binary") == 50
    assert bits_per_item(np.int64(50), "float32") == 1600


@pytest.mark.parametrize(("latent_size", "floats", "bits"), [(10, 19.6, 627.2), (50, 3.92, 125.44), (100, 1.96, 62.72)])
def test_compression_ratios_of_the_mlp(latent_size, floats, bits):
    # Table 1 prints 1.96 and 0.196 for 50 and 100 floats, 62.72 and 6.272 for bits.
    original = image_bits((28, 28, 1))
    assert compression_ratio(original, bits_per_item(latent_size, "float32")) == pytest.approx(floats, rel=1e-15)
    assert compression_ratio(original, bits_per_item(latent_size, "binary")) == pytest.approx(bits, rel=1e-15)


@pytest.mark.parametrize(("multiplier", "floats", "bits"), [(1, 3, 96), (2, 1.5, 48), (3, 1, 32)])
def test_compression_ratios_of_the_cnn(multiplier, floats, bits):
    # Table 2 prints 2 for the medium vanilla model.
    original, latent_size = image_bits((32, 32, 3)), 4 * 4 * 16 * multiplier
    assert compression_ratio(original, bits_per_item(latent_size, "float32")) == floats
    assert compression_ratio(original, bits_per_item(latent_size, "binary")) == bits


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="code is 'float16', expected one of 'binary', 'float32'"):
        bits_per_item(10, "float16")
    with pytest.raises(ValueError, match="latent_size is 0"):
        bits_per_item(0, "binary")
    for wrong in (10.0, True, "10"):
        with pytest.raises(TypeError, match="expected an integer"):
            bits_per_item(wrong, "binary")
    with pytest.raises(ValueError, match="a side of shape is -1"):
        image_bits((28, -1, 1))
    for original, compressed in ((0, 8), (8, 0), (8, -1), (math.nan, 8), (8, math.inf)):
        with pytest.raises(ValueError, match="expected a finite size above 0"):
            compression_ratio(original, compressed)


def test_activity_and_entropy_of_known_bits():
    bits = np.array([[0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], bool)
    assert bit_activity(bits).tolist() == [0, 1, 0.5, 0.75]
    quarter = 0.25 * 2 + 0.75 * math.log2(4 / 3)
    np.testing.assert_allclose(bit_entropy(bits), [0, 0, 1, quarter], rtol=1e-15)
    assert not np.signbit(bit_entropy(bits)).any()


@given(BIT_MATRICES)
def test_entropy_lies_in_0_1_and_is_blind_to_inversion(bits):
    entropy = bit_entropy(bits)
    assert entropy.shape == (bits.shape[1],)
    assert ((entropy >= 0) & (entropy <= 1)).all()
    np.testing.assert_allclose(bit_entropy(~bits), entropy, atol=1e-12)


@given(BIT_MATRICES)
def test_dead_bits_are_those_without_entropy(bits):
    usage = code_usage(bits.astype(np.float32), bits)
    entropy = bit_entropy(bits)
    assert usage["dead_bits"] == sum(len(set(column)) == 1 for column in bits.T.tolist())
    assert usage["dead_bits"] == np.count_nonzero(entropy == 0)
    assert usage["mean_bit_entropy"] == entropy.mean()
    assert usage["distance_to_bit"] == 0


def test_usage_of_a_known_code():
    latent = np.array([[0.25, -3, 0.5, 0.9], [0.75, 0.1, 0.5, 2]], np.float32)
    usage = code_usage(latent, np.array([[0, 0, 0, 1], [1, 0, 1, 1]], bool))
    assert list(usage) == ["distance_to_bit", "dead_bits", "mean_bit_entropy"]
    assert usage["distance_to_bit"] == pytest.approx((0.25 + 0 + 0.5 + 0.1 + 0.25 + 0.1 + 0.5 + 0) / 8, rel=1e-6)
    assert usage["dead_bits"] == 2 and type(usage["dead_bits"]) is int
    assert usage["mean_bit_entropy"] == 0.5


@given(arrays(np.float64, (6, 4), elements=st.floats(-1, 2)))
def test_bits_of_a_float_code_are_the_latents_above_one_half(latent):
    usage = code_usage(latent)
    assert usage == code_usage(latent, latent > 0.5)
    assert 0 <= usage["distance_to_bit"] <= 0.5


def test_bad_codes_are_refused():
    latent = np.full((3, 2), 0.4, np.float32)
    with pytest.raises(TypeError, match="bits has dtype uint8, expected bool"):
        bit_activity(np.zeros((3, 2), np.uint8))
    with pytest.raises(TypeError, match="latent has dtype bool, expected a floating-point type"):
        code_usage(latent > 0.5)
    with pytest.raises(TypeError, match="bits is a list, expected a NumPy array"):
        bit_entropy([[True]])
    with pytest.raises(ValueError, match=r"shape \(0, 2\), expected \(M, N\)"):
        bit_entropy(np.zeros((0, 2), bool))
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(M, N\)"):
        code_usage(latent[0])
    with pytest.raises(ValueError, match=r"differ in shape: \(3, 2\) and \(3, 1\)"):
        code_usage(latent, latent[:, :1] > 0.5)
    latent[1, 1] = np.nan
    with pytest.raises(ValueError, match="latent holds NaN"):
        code_usage(latent)
