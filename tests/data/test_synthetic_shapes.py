"""Drawn shapes: CIFAR-10's format, the same for the same seed, ten shapes that tell themselves apart."""

import time

import numpy as np
import pytest

from tinyqae.data import synthetic_shapes
from tinyqae.data.images import records_sha256, write_records
from tinyqae.data.synthetic_shapes import SHAPES


@pytest.fixture(scope="module")
def shapes():
    return synthetic_shapes(2000, 500, 7)


def test_format_is_that_of_cifar10(shapes):
    assert shapes.train_images.shape == (2000, 32, 32, 3)
    assert shapes.test_images.shape == (500, 32, 32, 3)
    assert shapes.train_labels.shape == (2000,)
    assert shapes.test_labels.shape == (500,)
    for array in (shapes.train_images, shapes.train_labels, shapes.test_images, shapes.test_labels):
        assert array.dtype == np.uint8
        assert not array.flags.writeable
    assert shapes.name == "SYNTHETIC, NOT CIFAR-10"
    assert "seed 7" in shapes.source


def test_same_seed_same_shapes(shapes):
    again = synthetic_shapes(2000, 500, 7)
    np.testing.assert_array_equal(again.train_images, shapes.train_images)
    np.testing.assert_array_equal(again.test_labels, shapes.test_labels)
    assert again.sha256 == shapes.sha256


def test_other_seed_other_shapes(shapes):
    other = synthetic_shapes(2000, 500, 8)
    assert other.sha256 != shapes.sha256
    assert not np.array_equal(other.train_images, shapes.train_images)


def test_hash_is_that_of_the_content(shapes):
    arrays = (shapes.train_images, shapes.train_labels, shapes.test_images, shapes.test_labels)
    assert shapes.sha256 == records_sha256(*arrays)
    changed = shapes.test_images.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert records_sha256(*arrays[:2], changed, arrays[3]) != shapes.sha256


def test_test_part_depends_on_its_own_size_only(shapes):
    np.testing.assert_array_equal(synthetic_shapes(10, 500, 7).test_images, shapes.test_images)


def test_train_and_test_share_no_picture():
    # Equal sizes, where one stream of random numbers for both would give the same pictures.
    shapes = synthetic_shapes(300, 300, 7)
    train = {image.tobytes() for image in shapes.train_images}
    assert len(train) == 300
    assert not any(image.tobytes() in train for image in shapes.test_images)


def test_every_shape_is_frequent(shapes):
    counts = np.bincount(shapes.train_labels, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 150


def test_brightness_and_contrast_are_about_those_of_photographs(shapes):
    """CIFAR-10's mean is 121 and its standard deviation 64; a drawing is a little flatter."""
    for channel in range(3):
        values = shapes.train_images[..., channel].astype(np.float64)
        assert 105 < values.mean() < 150
        assert 35 < values.std() < 70


def test_colours_are_not_grey(shapes):
    spread = np.ptp(shapes.train_images.astype(int), axis=-1).mean()
    assert spread > 25


def test_shapes_cover_different_areas():
    """Each shape is of its own size and has its centre inside or out as its name says."""
    y, x = np.mgrid[-1.5:1.5:301j, -1.5:1.5:301j]
    areas = {name: (shape(x, y) < 0).mean() * 9 for name, shape in SHAPES.items()}
    known = {
        "disc": np.pi,
        "square": 1.7**2,
        "ring": np.pi * (1 - 0.25),
        "bar": 2.2 * 0.56,
        "two dots": 2 * np.pi * 0.45**2,
    }
    for name, area in known.items():
        assert areas[name] == pytest.approx(area, rel=0.03)
    # A regular triangle with the inner radius 0.55, and a star: ten triangles from the middle to half a point.
    assert areas["triangle"] == pytest.approx(3 * np.sqrt(3) * 0.55**2, rel=0.03)
    assert areas["star"] == pytest.approx(10 * 0.5 * 0.45 * 1.1 * np.sin(np.pi / 5), rel=0.03)
    inside = {name for name, shape in SHAPES.items() if shape(np.zeros(1), np.zeros(1))[0] < 0}
    assert inside == set(areas) - {"ring", "crescent", "two dots"}


def test_star_has_five_points():
    angle = np.linspace(0, 2 * np.pi, 3600, endpoint=False)
    inside = SHAPES["star"](0.8 * np.cos(angle), 0.8 * np.sin(angle)) < 0
    assert np.count_nonzero(inside & ~np.roll(inside, 1)) == 5


def test_records_are_label_then_planes():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    records = write_records(images, np.array([7, 9], np.uint8))
    assert records == bytes([7, *range(0, 12, 3), *range(1, 12, 3), *range(2, 12, 3)]) + bytes(
        [9, *range(12, 24, 3), *range(13, 24, 3), *range(14, 24, 3)]
    )


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.uint8)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.uint8)),
    ],
)
def test_records_of_other_arrays_are_refused(images, labels):
    with pytest.raises(ValueError, match="records take images uint8"):
        write_records(images, labels)


def test_thousands_per_second():
    start = time.perf_counter()
    synthetic_shapes(2000, 1)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_bad_values(arguments):
    with pytest.raises(ValueError, match="must be"):
        synthetic_shapes(*arguments)


@pytest.mark.parametrize("arguments", [(1.5, 1, 0), (1, "2", 0), (1, 1, None)])
def test_bad_types(arguments):
    with pytest.raises(TypeError):
        synthetic_shapes(*arguments)
