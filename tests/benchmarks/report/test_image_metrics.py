"""The report's flawed measures: that they are flawed in just the way the report's were."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity

from benchmarks.report.image_metrics import errata_demonstration, report_image_metrics
from tinyqae.metrics.image import image_metrics, images_per_chunk, mse, psnr_of_mse, ssim, to_uint8

BEST_PSNR_OF_TABLE_1 = 34.2288


def noisy_pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, shape, dtype=np.uint8)
    original[:, : shape[1] // 2] = 0
    noise = rng.integers(-60, 61, shape)
    return original, np.clip(original + noise, 0, 255).astype(np.uint8)


def constant_stack(value):
    return np.full((7, 7, 7, 1), value, np.uint8)


@pytest.fixture(scope="module")
def mnist_training_images():
    folder = os.environ.get("TINYQAE_DATA")
    if folder is None:
        pytest.skip("TINYQAE_DATA, the directory of the data sets, is not set")
    path = Path(folder) / "mnist" / "train-images-idx3-ubyte.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(60_000, 28, 28, 1)


def test_the_errata_s_example_of_wrapping():
    forth = report_image_metrics(constant_stack(10), constant_stack(250))
    assert (forth["mse"], forth["mae"], forth["psnr"]) == (0, 16, math.inf)
    back = report_image_metrics(constant_stack(250), constant_stack(10))
    assert (back["mse"], back["mae"]) == (0, 240)


@given(arrays(np.uint8, (2, 7, 7, 7, 1)), st.sampled_from(["stack", "image"]))
def test_mse_and_mae_wrap_as_plain_python_says(pair, pooling):
    original, reconstruction = pair
    wrapped = [(a - b) % 256 for a, b in zip(original.ravel().tolist(), reconstruction.ravel().tolist(), strict=True)]
    result = report_image_metrics(original, reconstruction, pooling)
    assert result["mse"] == pytest.approx(sum(d * d % 256 for d in wrapped) / len(wrapped), rel=1e-12)
    assert result["mae"] == pytest.approx(sum(wrapped) / len(wrapped), rel=1e-12)


@pytest.mark.parametrize("shape", [(300, 28, 28, 1), (230, 32, 32, 3), (134, 28, 28, 1), (7, 7, 9, 2)])
def test_stack_pooling_equals_one_call_on_the_whole_stack(shape):
    a, b = noisy_pair(shape)
    result = report_image_metrics(a, b, "stack")
    whole = structural_similarity(a, b, channel_axis=-1, data_range=255)
    assert result["ssim"] == pytest.approx(whole, rel=0, abs=1e-12)
    if shape[3] == 1:  # the notebooks dropped the channel of grayscale images
        assert result["ssim"] == pytest.approx(structural_similarity(a[..., 0], b[..., 0]), rel=0, abs=1e-12)
    assert result["psnr"] == pytest.approx(10 * math.log10(255**2 / result["mse"]))


def test_stacks_above_span_several_chunks():
    # 134 images of 28x28 leave one window centre for the second chunk: 128 centres after 127.
    assert images_per_chunk(28, 28) == 127 and images_per_chunk(32, 32) < 230 - 6


def test_stack_pooling_runs_across_neighbouring_images():
    a, b = noisy_pair((20, 16, 16, 1))
    order = np.random.default_rng(1).permutation(20)
    straight, shuffled = report_image_metrics(a, b), report_image_metrics(a[order], b[order])
    assert abs(straight["ssim"] - shuffled["ssim"]) > 1e-6
    assert straight["mse"] == pytest.approx(shuffled["mse"], rel=1e-12)


def test_image_pooling_averages_what_each_image_scores():
    a, b = noisy_pair((9, 12, 12, 3))
    a[4] //= 3  # an image with a peak of its own
    result = report_image_metrics(a, b, "image")
    wrapped = np.square(a - b).mean(axis=(1, 2, 3))
    peaks = a.max(axis=(1, 2, 3)).astype(float)
    assert peaks[4] == 85
    assert result["psnr"] == pytest.approx((10 * np.log10(peaks**2 / wrapped)).mean())
    assert result["ssim"] == ssim(a, b).mean()
    assert result["mse"] == pytest.approx(report_image_metrics(a, b, "stack")["mse"], rel=1e-12)


def test_small_errors_do_not_wrap():
    original, _ = noisy_pair((8, 12, 12, 1))
    original = np.minimum(original // 2 + 20, 240)
    reconstruction = original - np.random.default_rng(2).integers(0, 16, original.shape, dtype=np.uint8)
    flawed, correct = report_image_metrics(original, reconstruction), image_metrics(original, reconstruction)
    assert flawed["mse"] == pytest.approx(correct["mse"], rel=1e-12)
    assert flawed["mae"] == pytest.approx(correct["mae"], rel=1e-12)


def test_unrelated_colour_images_score_the_floor():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 500, 32, 32, 3), dtype=np.uint8)
    for pooling in ("stack", "image"):
        result = report_image_metrics(a, b, pooling)
        assert result["mse"] == pytest.approx(105.5, abs=0.4)
        assert result["psnr"] == pytest.approx(27.90, abs=0.02)
        assert result["mae"] > math.sqrt(result["mse"])  # impossible of a true MAE
    assert image_metrics(a, b)["psnr"] < 8


def test_demonstration_compares_both_definitions():
    images, _ = noisy_pair((8, 10, 10, 1))
    figures = errata_demonstration(images)
    assert list(figures) == ["all_black", "inverted"]
    for name, reconstruction in (("all_black", images * 0), ("inverted", 255 - images)):
        assert figures[name] == {
            "report": report_image_metrics(images, reconstruction),
            "correct": image_metrics(images, reconstruction),
        }


def test_all_black_mnist_scores_above_every_row_of_table_1(mnist_training_images):
    black = np.zeros_like(mnist_training_images)
    flawed = report_image_metrics(mnist_training_images, black)
    assert flawed["psnr"] == pytest.approx(36.9, abs=0.05) and flawed["psnr"] > BEST_PSNR_OF_TABLE_1
    assert psnr_of_mse(mse(mnist_training_images, black).mean()) == pytest.approx(9.5, abs=0.05)


def test_inverted_mnist_scores_above_every_row_of_table_1(mnist_training_images):
    inverted = 255 - mnist_training_images
    flawed = report_image_metrics(mnist_training_images, inverted)
    assert flawed["psnr"] == pytest.approx(35.68, abs=0.01) and flawed["psnr"] > BEST_PSNR_OF_TABLE_1
    assert psnr_of_mse(mse(mnist_training_images, inverted).mean()) == pytest.approx(0.3, abs=0.05)


def test_inverted_mnist_gains_a_decibel_from_truncation(mnist_training_images):
    # Inverting in float32 and truncating to bytes, not rounding, puts some pixels one level off. No true measure cares,
    # but the wrapped PSNR rises from the 35.7 dB of exact inversion to 36.7 dB, the errata's figure.
    inverse = 1 - mnist_training_images / np.float32(255)
    truncated = (inverse * np.float32(255)).astype(np.uint8)
    assert report_image_metrics(mnist_training_images, truncated)["psnr"] == pytest.approx(36.68, abs=0.01)
    assert psnr_of_mse(mse(mnist_training_images, truncated).mean()) == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(to_uint8(inverse), 255 - mnist_training_images)


def test_infinite_psnrs():
    a, b = noisy_pair((8, 8, 8, 1))
    b[2] = a[2]
    assert report_image_metrics(a, b, "image")["psnr"] == math.inf
    assert report_image_metrics(constant_stack(0), constant_stack(3))["psnr"] == -math.inf
    assert report_image_metrics(a, a) == {"psnr": math.inf, "ssim": 1, "mse": 0, "mae": 0}


def test_bad_arguments_are_refused():
    good = np.zeros((8, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match="pooling is 'batch', expected 'stack' or 'image'"):
        report_image_metrics(good, good, "batch")
    with pytest.raises(ValueError, match="the stack has 6 images; pooling 'stack' needs at least 7"):
        report_image_metrics(good[:6], good[:6])
    assert report_image_metrics(good[:6], good[:6], "image")["ssim"] == 1
    with pytest.raises(TypeError, match="to_uint8"):
        report_image_metrics(good, good / 255)
    with pytest.raises(ValueError, match="differ in shape"):
        report_image_metrics(good, good[:7])
    for pooling in ("stack", "image"):
        with pytest.raises(ValueError, match="8x6 pixels; SSIM needs at least 7x7"):
            report_image_metrics(good[:, :, :6], good[:, :, :6], pooling)
