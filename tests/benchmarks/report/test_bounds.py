"""What theory allows, on data for which it is known."""

import numpy as np
import pytest

from benchmarks.report import bounds
from tinyqae.metrics.image import psnr_of_mse

NOISE = np.random.default_rng(0).integers(0, 256, (4000, 2, 2, 1), np.uint8)


def test_white_noise_needs_as_many_bits_as_the_formula_says():
    """Equal variances v: D = v 2^(-2R/N)."""
    variance = NOISE.reshape(-1, 4).astype(float).var(axis=0).mean()
    for bits in (1, 4, 12):
        assert bounds.gaussian_bound(NOISE, bits) == pytest.approx(psnr_of_mse(variance * 2 ** (-2 * bits / 4)), abs=0.02)


def test_a_line_is_kept_by_one_component():
    """Pixels that are all one number need one float; noise of which half is dropped keeps half its variance."""
    line = np.broadcast_to(np.arange(200, dtype=np.uint8).reshape(-1, 1, 1, 1), (200, 3, 3, 1))
    assert bounds.pca_psnr(line, line, 1) > 100
    error = NOISE.reshape(-1, 4).astype(float).var(axis=0).mean() / 2
    assert bounds.pca_psnr(NOISE, NOISE, 2) == pytest.approx(psnr_of_mse(error), abs=0.2)


def of_known_spectrum():
    """(16 images (2, 2, 1), bytes; their components in columns) whose variances are 4, 64, 256 and 1024, exactly: pixels of
    unequal means, moved by all sums of +-1, +-4, +-8 and +-16 times four orthogonal patterns.
    """
    patterns = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).T
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    pixels = [100, 40, 200, 60] + signs * [16, 8, 4, 1] @ patterns.T
    return pixels.astype(np.uint8).reshape(-1, 2, 2, 1), patterns


@pytest.mark.parametrize(("bits", "mse"), [(1, 145), (2, 81), (3, 49), (9, 4), (13, 1), (17, 0.25)])
def test_unequal_variances_are_filled_up_to_the_water_level(bits, mse):
    """With the m largest variances v above the level w, R = sum log2(v / w) / 2 gives w = (product of v)^(1/m) 2^(-2R/m):
    for R = 1, 2, 3, 9, 13 and 17 that is w = 256, 128, 64, 4, 1 and 1/4, and D the sum of min(w, v).
    """
    assert bounds.gaussian_bound(of_known_spectrum()[0], bits) == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-6)


def test_the_best_linear_code_leaves_the_smallest_variances_of_the_training_images():
    train, patterns = of_known_spectrum()
    # Moved along the smallest component, by which all pixels differ from the training mean by 3.
    test = (train + 3 * patterns[:, 3].reshape(2, 2, 1)).astype(np.uint8)
    for floats, left in ((1, 64 + 256 + 4), (2, 64 + 4), (3, 4)):
        assert bounds.pca_psnr(train, train, floats) == pytest.approx(10 * np.log10(255**2 / (left / 4)), abs=1e-9)
        assert bounds.pca_psnr(train, test, floats) == pytest.approx(10 * np.log10(255**2 / (left / 4 + 9)), abs=1e-9)


def test_both_limits_are_those_of_the_test_images():
    train, patterns = of_known_spectrum()
    wider = 2 * (train.astype(int) - [[[100], [40]], [[200], [60]]]) + [[[120], [120]], [[120], [120]]]
    found = bounds.limits(train, wider.astype(np.uint8), [3])[3]
    assert found["gaussian"] == pytest.approx(10 * np.log10(255**2 / (4 * 49)), abs=1e-6)
    # The fourth component of the training images is left, and what of the other mean lies along it.
    away = np.array([20, 80, -80, 60]) @ patterns[:, 3] / 2
    assert found["pca"] == pytest.approx(10 * np.log10(255**2 / ((4 * 4 + away**2) / 4)), abs=1e-9)


def test_all_sizes_at_once_are_the_same_as_one_by_one():
    train, test = NOISE[:2000], NOISE[2000:]
    assert bounds.limits(train, test, [1, 3]) == {
        size: {"gaussian": bounds.gaussian_bound(test, size), "pca": bounds.pca_psnr(train, test, size)} for size in (1, 3)
    }


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="bits=0 must be above 0"):
        bounds.gaussian_bound(NOISE, 0)
    with pytest.raises(ValueError, match="floats=5 must be from 1 to the number of pixels, 4"):
        bounds.pca_psnr(NOISE, NOISE, 5)
