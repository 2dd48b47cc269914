"""The correct image measures, held against scikit-image one image at a time and against the formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tinyqae.metrics.image import image_metrics, images_per_chunk, mae, mse, psnr, psnr_of_mse, ssim, to_uint8

MEASURES = (mse, mae, psnr, ssim, image_metrics)


def noisy_pair(shape, seed=0):
    """Images with flat and busy parts, as digits have, and a disturbed copy."""
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, shape, dtype=np.uint8)
    original[:, : shape[1] // 2] = 0
    noise = rng.integers(-60, 61, shape)
    return original, np.clip(original + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 28, 28, 1), (210, 32, 32, 3), (5, 7, 7, 1), (4, 9, 20, 2), (2, 330, 310, 1)])
def test_equals_scikit_image_called_per_image(shape):
    a, b = noisy_pair(shape)
    expected_ssim = [structural_similarity(x, y, channel_axis=-1, data_range=255) for x, y in zip(a, b, strict=True)]
    expected_psnr = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), expected_ssim, rtol=0, atol=1e-10)
    np.testing.assert_allclose(psnr(a, b), expected_psnr, rtol=0, atol=1e-10)


def test_shapes_above_span_several_chunks():
    assert images_per_chunk(28, 28) < 300 and images_per_chunk(32, 32) < 210 and images_per_chunk(330, 310) == 1


def test_one_image_does_not_touch_its_neighbours():
    a, b = noisy_pair((5, 28, 28, 1))
    alone = ssim(a[2:3], b[2:3])
    b[[1, 3]] = 255 - b[[1, 3]]
    assert ssim(a, b)[2] == alone[0]


def test_errors_do_not_wrap():
    a, b = np.full((1, 2, 2, 1), 10, np.uint8), np.full((1, 2, 2, 1), 250, np.uint8)
    for first, second in ((a, b), (b, a)):
        assert mse(first, second) == 240**2
        assert mae(first, second) == 240
        assert psnr(first, second) == pytest.approx(20 * math.log10(255 / 240))


def test_results_are_float64_vectors():
    a, b = noisy_pair((6, 8, 9, 3))
    for measure in (mse, mae, psnr, ssim):
        result = measure(a, b)
        assert result.shape == (6,) and result.dtype == np.float64


@given(arrays(np.uint8, (2, 3, 4, 5, 2)))
def test_mse_and_mae_follow_the_formula(pair):
    a, b = pair
    difference = a.astype(int) - b.astype(int)
    np.testing.assert_allclose(mse(a, b), (difference**2).mean(axis=(1, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(mae(a, b), np.abs(difference).mean(axis=(1, 2, 3)), rtol=1e-14)
    assert (mae(a, b) <= np.sqrt(mse(a, b)) * (1 + 1e-14)).all()


@given(arrays(np.uint8, (2, 2, 8, 7, 1)))
def test_measures_are_symmetric_and_bounded(pair):
    a, b = pair
    for measure in (mse, mae, psnr):
        np.testing.assert_array_equal(measure(a, b), measure(b, a))
    np.testing.assert_allclose(ssim(a, b), ssim(b, a), rtol=0, atol=1e-12)
    assert (np.abs(ssim(a, b)) <= 1 + 1e-12).all()
    assert (psnr(a, b) >= 0).all()


@given(*2 * [st.floats(1e-6, 65025)])
def test_psnr_falls_as_the_error_grows(one, other):
    low, high = sorted((one, other))
    assert psnr_of_mse(low) >= psnr_of_mse(high)
    if high > low * (1 + 1e-9):
        assert psnr_of_mse(low) > psnr_of_mse(high)


def test_psnr_of_mse_at_its_edges():
    assert psnr_of_mse(255**2) == 0
    assert psnr_of_mse(0) == np.inf
    assert psnr_of_mse(0, peak=0) == np.inf
    assert psnr_of_mse(1, peak=0) == -np.inf
    np.testing.assert_allclose(psnr_of_mse(np.array([1.0, 100.0]), np.array([10, 100])), [20, 20])
    with pytest.raises(ValueError, match="at least 0"):
        psnr_of_mse(-1)


def test_means_of_the_measures():
    a, b = noisy_pair((9, 28, 28, 1))
    b[0] = 255 - a[0]
    means = image_metrics(a, b)
    assert list(means) == ["psnr", "ssim", "mse", "mae", "psnr_of_mean_mse"]
    assert all(type(value) is float for value in means.values())
    for name, measure in (("psnr", psnr), ("ssim", ssim), ("mse", mse), ("mae", mae)):
        assert means[name] == measure(a, b).mean()
    assert means["psnr_of_mean_mse"] == pytest.approx(10 * math.log10(255**2 / mse(a, b).mean()))
    assert means["psnr_of_mean_mse"] < means["psnr"]


def test_identical_images():
    a, b = noisy_pair((3, 10, 10, 1))
    same = image_metrics(a, a)
    assert same == {"psnr": np.inf, "ssim": 1, "mse": 0, "mae": 0, "psnr_of_mean_mse": np.inf}
    b[1] = a[1]
    one_same = image_metrics(a, b)
    assert one_same["psnr"] == np.inf
    assert np.isfinite(one_same["psnr_of_mean_mse"])


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_images_are_refused(measure):
    good = np.zeros((2, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match=r"differ in shape: \(2, 8, 8, 1\) and \(1, 8, 8, 1\)"):
        measure(good, good[:1])
    with pytest.raises(ValueError, match=r"shape \(2, 8, 8\), expected \(N, H, W, C\)"):
        measure(good[..., 0], good[..., 0])
    with pytest.raises(ValueError, match="empty"):
        measure(good[:0], good[:0])
    with pytest.raises(TypeError, match=r"second stack of images has dtype float32, expected uint8.*to_uint8"):
        measure(good, good.astype(np.float32))
    with pytest.raises(TypeError, match=r"first stack of images has dtype int64, expected uint8$"):
        measure(good.astype(np.int64), good)
    with pytest.raises(TypeError, match="is a list, expected a NumPy array"):
        measure(good.tolist(), good)


@pytest.mark.parametrize("shape", [(2, 6, 28, 1), (2, 28, 6, 1)])
def test_images_smaller_than_the_window_are_refused(shape):
    small = np.zeros(shape, np.uint8)
    for measure in (ssim, image_metrics):
        with pytest.raises(ValueError, match=f"{shape[1]}x{shape[2]} pixels; SSIM needs at least 7x7"):
            measure(small, small)
    assert mse(small, small).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_to_uint8_rounds_and_clips(dtype):
    levels = np.arange(256)
    converted = to_uint8((levels / 255).astype(dtype).reshape(16, 16))
    assert converted.dtype == np.uint8
    np.testing.assert_array_equal(converted, levels.reshape(16, 16))
    values = np.array([-3, -0.001, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.001, 7], dtype)
    assert to_uint8(values).tolist()[:4] == [0, 0, 0, 1]
    assert to_uint8(values).tolist()[6:] == [255, 255]
    if dtype is not np.float16:
        assert to_uint8(values).tolist()[4:6] == [254, 255]


@given(arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
def test_to_uint8_is_off_by_half_a_level_at_most(values):
    exact = values.astype(np.float64) * 255
    assert np.abs(to_uint8(values) - exact).max() <= 0.5 + 1e-4


def test_to_uint8_refuses_what_is_no_image():
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_uint8(np.array([0.5, bad]))
    with pytest.raises(TypeError, match="dtype uint8"):
        to_uint8(np.zeros(3, np.uint8))
    with pytest.raises(TypeError, match="float, expected a NumPy array"):
        to_uint8(0.5)
