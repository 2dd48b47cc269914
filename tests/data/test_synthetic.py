"""Drawn digits: MNIST's format, the same for the same seed, readable."""

import time

import numpy as np
import pytest

from tinyqae.data import synthetic_digits
from tinyqae.data.mnist import content_sha256


@pytest.fixture(scope="module")
def digits():
    return synthetic_digits(3000, 600, 7)


def test_format_is_that_of_mnist(digits):
    assert digits.train_images.shape == (3000, 28, 28, 1)
    assert digits.test_images.shape == (600, 28, 28, 1)
    assert digits.train_labels.shape == (3000,)
    assert digits.test_labels.shape == (600,)
    for array in (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels):
        assert array.dtype == np.uint8
        assert not array.flags.writeable
    assert digits.name == "SYNTHETIC, NOT MNIST"
    assert "seed 7" in digits.source


def test_same_seed_same_digits(digits):
    again = synthetic_digits(3000, 600, 7)
    np.testing.assert_array_equal(again.train_images, digits.train_images)
    np.testing.assert_array_equal(again.test_labels, digits.test_labels)
    assert again.sha256 == digits.sha256


def test_hash_is_that_of_the_content(digits):
    arrays = (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    assert digits.sha256 == content_sha256(*arrays)
    changed = digits.test_labels.copy()
    changed[0] ^= 1
    assert content_sha256(*arrays[:3], changed) != digits.sha256


def test_other_seed_other_digits(digits):
    other = synthetic_digits(3000, 600, 8)
    assert other.sha256 != digits.sha256
    assert not np.array_equal(other.train_images, digits.train_images)


def test_test_part_depends_on_its_own_size_only(digits):
    np.testing.assert_array_equal(synthetic_digits(10, 600, 7).test_images, digits.test_images)


def test_train_and_test_share_no_picture():
    # Equal sizes, where one stream of random numbers for both would give the same pictures.
    digits = synthetic_digits(600, 600, 7)
    train = {image.tobytes() for image in digits.train_images}
    assert len(train) == 600
    assert not any(image.tobytes() in train for image in digits.test_images)


def test_ink_and_centring_are_about_those_of_mnist(digits):
    images = digits.train_images[..., 0].astype(np.float64)
    assert 0.11 < images.mean() / 255 < 0.15
    assert images.max(axis=(1, 2)).min() > 150
    ink = images.sum(axis=(1, 2))
    rows, columns = np.mgrid[:28, :28]
    for axis in (rows, columns):
        centre = (images * axis).sum(axis=(1, 2)) / ink
        assert abs(centre.mean() - 13.5) < 0.2
        assert np.abs(centre - 13.5).max() < 3
    border = np.ones((28, 28), bool)
    border[1:-1, 1:-1] = False
    assert images[:, border].sum() / ink.sum() < 0.002


def test_edges_are_smooth(digits):
    between = (digits.train_images > 20) & (digits.train_images < 220)
    inked = digits.train_images > 20
    assert 0.2 < between.sum() / inked.sum() < 0.8


def test_every_digit_is_frequent_and_tells_itself_apart(digits):
    """The nearest training picture has the same label nearly always, so that the strokes are ten shapes, not noise."""
    counts = np.bincount(digits.train_labels, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 220
    train = digits.train_images.reshape(3000, -1).astype(np.float32)
    test = digits.test_images.reshape(600, -1).astype(np.float32)
    distances = (train**2).sum(axis=1) - 2 * test @ train.T
    found = digits.train_labels[distances.argmin(axis=1)]
    assert (found == digits.test_labels).mean() > 0.95


def test_thousands_per_second():
    start = time.perf_counter()
    synthetic_digits(4000, 1)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_bad_values(arguments):
    with pytest.raises(ValueError, match="must be"):
        synthetic_digits(*arguments)


@pytest.mark.parametrize("arguments", [(1.5, 1, 0), (1, "2", 0), (1, 1, None)])
def test_bad_types(arguments):
    with pytest.raises(TypeError):
        synthetic_digits(*arguments)
