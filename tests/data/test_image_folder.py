"""A folder of images: patches, the split by image, and files that are no image."""

import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.io import imsave

from tinyqae.data import image_folder_patches
from tinyqae.data.image_folder import UNREADABLE, _as_rgb, _cut, _read_all
from tinyqae.data.images import records_sha256
from tinyqae.errors import DataError

# A busy machine is no mistake of the code.
no_deadline = settings(deadline=None)


def picture(value: int, height: int = 40, width: int = 70) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def save(folder: Path, **images: np.ndarray) -> None:
    """Write each array as NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        imsave(folder / f"{name}.png", image, check_contrast=False)


@pytest.fixture
def ten(tmp_path):
    """Ten images of one brightness each, so that a patch tells which image it is from."""
    save(tmp_path / "holiday", **{f"image{number}": picture(20 * number) for number in range(10)})
    return tmp_path / "holiday"


def brightnesses(images: np.ndarray) -> set[int]:
    return set(np.unique(images).tolist())


def test_patches_and_split_by_image(ten):
    data = image_folder_patches(ten, holdout=0.3)
    assert data.train_images.shape == (14, 32, 32, 3)
    assert data.test_images.shape == (6, 32, 32, 3)
    assert data.train_labels.tolist() == [0] * 14
    assert data.test_labels.tolist() == [0] * 6
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert array.dtype == np.uint8
        assert not array.flags.writeable
    train, test = brightnesses(data.train_images), brightnesses(data.test_images)
    assert not train & test
    assert train | test == set(range(0, 200, 20))
    assert data.name == "images of the folder holiday"
    assert data.source.startswith("10 images in patches of 32 x 32 pixels, 3 of them held out")
    assert data.sha256 == records_sha256(data.train_images, data.train_labels, data.test_images, data.test_labels)


def test_same_seed_same_split_other_seed_another(ten):
    splits = [brightnesses(image_folder_patches(ten, holdout=0.3, seed=seed).test_images) for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({frozenset(split) for split in splits}) > 1


def test_no_message_for_a_good_folder(ten):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_folder_patches(ten)


@pytest.mark.parametrize(("holdout", "held_out"), [(0.001, 1), (0.1, 1), (0.5, 5), (0.999, 9)])
def test_both_parts_get_an_image(ten, holdout, held_out):
    assert len(brightnesses(image_folder_patches(ten, holdout=holdout).test_images)) == held_out


@no_deadline
@given(st.integers(1, 40), st.integers(1, 40), st.integers(4, 33))
def test_patches_tile_the_image_without_its_partial_edges(height, width, patch):
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows ^ columns], axis=-1).astype(np.uint8)
    patches = _cut(image, patch)
    assert patches.shape == ((height // patch) * (width // patch), patch, patch, 3)
    for number, piece in enumerate(patches):
        top, left = (number // (width // patch)) * patch, (number % (width // patch)) * patch
        np.testing.assert_array_equal(piece, image[top : top + patch, left : left + patch])


def test_other_patch_size(ten):
    data = image_folder_patches(ten, patch=20)
    assert data.train_images.shape == (9 * 2 * 3, 20, 20, 3)


def test_subfolders_count_and_hidden_files_do_not(tmp_path):
    save(tmp_path, a=picture(1))
    save(tmp_path / "more", b=picture(2))
    save(tmp_path / ".thumbnails", c=picture(3))
    (tmp_path / ".DS_Store").write_bytes(b"x")
    data = image_folder_patches(tmp_path)
    assert brightnesses(data.train_images) | brightnesses(data.test_images) == {1, 2}


def test_small_images_are_counted(ten):
    save(ten, low=picture(0, 31, 100), narrow=picture(0, 100, 31))
    assert "skipped: 2 too small, 0 not readable" in image_folder_patches(ten).source


def test_unreadable_files_are_named_in_one_warning(ten, capfd):
    (ten / "notes.txt").write_text("no image")
    (ten / "empty.jpg").write_bytes(b"")
    whole = (ten / "image3.png").read_bytes()
    (ten / "image3.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (40, 40)).save(ten / "scan.tif")
    (ten / "scan.tif").write_bytes((ten / "scan.tif").read_bytes()[:-4])
    with pytest.warns(UserWarning) as caught:
        data = image_folder_patches(ten)
    messages = [str(warning.message) for warning in caught]
    assert messages == ["4 files skipped, not readable: empty.jpg, image3.png, notes.txt, scan.tif"]
    assert capfd.readouterr() == ("", "")
    assert "9 images" in data.source
    assert 60 not in brightnesses(data.train_images) | brightnesses(data.test_images)


def test_damaged_files_of_every_kind_are_skipped(tmp_path):
    """Whatever is changed in a file, reading it gives an image or one of the expected errors."""
    draw = random.Random(0)
    noise = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        whole = tmp_path / f"whole.{ending}"
        Image.fromarray(noise).save(whole)
        for number in range(12):
            content = bytearray(whole.read_bytes())
            if number % 3 == 0:
                content = content[: draw.randrange(len(content))]
            else:
                for _ in range(5):
                    content[draw.randrange(min(len(content), 80))] = draw.randrange(256)
            (tmp_path / f"damaged{number}.{ending}").write_bytes(content)
    patches_of_images, unreadable, too_small = _read_all(tmp_path, 32)
    assert len(patches_of_images) + len(unreadable) + too_small == 7 * 13
    assert len(patches_of_images) >= 7
    assert unreadable


# Formats


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.ones((2, 3), bool), (255, 255, 255)),
        (np.full((2, 3), 257 * 9, np.uint16), (9, 9, 9)),
        (np.full((2, 3, 3), 0.2, np.float32), (51, 51, 51)),
        (np.full((2, 3, 3), (1, 2, 3), np.uint8), (1, 2, 3)),
        (np.full((2, 3, 4), (1, 2, 3, 255), np.uint8), (1, 2, 3)),
        (np.full((2, 3, 4), (1, 2, 3, 0), np.uint8), (255, 255, 255)),
        (np.full((2, 3, 4), (0, 100, 255, 51), np.uint8), (204, 224, 255)),
        (np.full((2, 3, 2), (100, 51), np.uint8), (224, 224, 224)),
        (np.stack([np.full((2, 3, 3), 5, np.uint8), np.full((2, 3, 3), 6, np.uint8)]), (5, 5, 5)),
    ],
)
def test_everything_becomes_rgb(image, expected):
    rgb = _as_rgb(image, "image.png")
    assert rgb.shape == (2, 3, 3)
    assert rgb.dtype == np.uint8
    assert np.unique(rgb.reshape(-1, 3), axis=0).tolist() == [list(expected)]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(5, np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.full((4, 4), np.nan),
        np.full((4, 4), 300.0),
        np.zeros((2, 2, 2, 2, 2), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(UNREADABLE):
        _as_rgb(image, "image.tif")


def test_formats_of_files(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        noise.save(tmp_path / f"image.{ending}")
    noise.convert("L").save(tmp_path / "grey.png")
    noise.convert("P").save(tmp_path / "palette.png")
    noise.convert("1").save(tmp_path / "bits.png")
    noise.convert("LA").save(tmp_path / "greyalpha.png")
    noise.convert("CMYK").save(tmp_path / "print.jpg")
    patches_of_images, unreadable, too_small = _read_all(tmp_path, 32)
    assert unreadable == ["print.jpg"]
    assert too_small == 0
    assert [patches.shape for patches in patches_of_images] == [(1, 32, 32, 3)] * 11


# What cannot be used


def test_absent_folder(tmp_path):
    with pytest.raises(DataError, match="absent is not a folder"):
        image_folder_patches(tmp_path / "absent")


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file is not a folder"):
        image_folder_patches(tmp_path / "file")


def test_folder_without_an_image(tmp_path):
    with pytest.raises(DataError, match="has 0 usable images, and at least 2 are needed"):
        image_folder_patches(tmp_path)


def test_one_image_is_not_enough(tmp_path):
    save(tmp_path, big=picture(1), small=picture(2, 8, 8))
    (tmp_path / "notes.txt").write_text("no image")
    with (
        pytest.warns(UserWarning, match=r"notes\.txt"),
        pytest.raises(
            DataError, match="has 1 usable images.* 1 are smaller than 32 x 32 pixels, 1 files cannot be read"
        ),
    ):
        image_folder_patches(tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"patch": 0}, {"holdout": 0}, {"holdout": 1}, {"holdout": float("nan")}, {"seed": -1}]
)
def test_bad_values(ten, arguments):
    with pytest.raises(ValueError, match="must"):
        image_folder_patches(ten, **arguments)


@pytest.mark.parametrize("arguments", [{"patch": 8.5}, {"seed": None}])
def test_bad_types(ten, arguments):
    with pytest.raises(TypeError):
        image_folder_patches(ten, **arguments)


def test_home_directory_sign(ten, monkeypatch):
    monkeypatch.setenv("HOME", str(ten.parent))
    monkeypatch.setenv("USERPROFILE", str(ten.parent))
    assert image_folder_patches("~" + os.sep + "holiday").name == "images of the folder holiday"
