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


def test_all_sizes_at_once_are_the_same_as_one_by_one():
    train, test = NOISE[:2000], NOISE[2000:]
    assert bounds.limits(train, test, [1, 3]) == {
        size: {"gaussian": bounds.gaussian_bound(test, size), "pca": bounds.pca_psnr(train, test, size)} for size in (1, 3)}


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="bits=0 must be above 0"):
        bounds.gaussian_bound(NOISE, 0)
    with pytest.raises(ValueError, match="floats=5 must be from 1 to the number of pixels, 4"):
        bounds.pca_psnr(NOISE, NOISE, 5)
