"""One reader for a person's own pictures, whatever they are, and one rule for folders of them."""

import io
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tinyqae.codec.inputs import read_images
from tinyqae.data import image_folder_patches
from tinyqae.data.images import records_sha256
from tinyqae.data.pictures import SYSTEM, UNREADABLE, in_lines, read_folder, read_picture
from tinyqae.errors import DataError

NOISE = np.random.default_rng(0).integers(256, size=(40, 70, 3), dtype=np.uint8)


def picture(value: int, height: int = 40, width: int = 70) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def save(folder: Path, **images: np.ndarray) -> None:
    """Write each array as NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")


def file(image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture
def ten(tmp_path):
    """Ten images of one brightness each, so that a patch tells which image it is from."""
    save(tmp_path / "holiday", **{f"image{number}": picture(20 * number) for number in range(10)})
    return tmp_path / "holiday"


def brightnesses(images: np.ndarray) -> set[int]:
    return set(np.unique(images).tolist())


def quiet_patches(folder, **options):
    """image_folder_patches, whatever it has to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image_folder_patches(folder, **options)


# Patches


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
    assert splits[0] == splits[1] == {40, 120, 80}
    assert len({frozenset(split) for split in splits}) > 1


def test_no_message_for_a_good_folder(ten):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = image_folder_patches(ten)
    assert len(data.train_images) + len(data.test_images) == 20  # two patches of each of the ten images


@pytest.mark.parametrize(("holdout", "held_out"), [(0.001, 1), (0.1, 1), (0.5, 5), (0.999, 9)])
def test_both_parts_get_an_image(ten, holdout, held_out):
    assert len(brightnesses(image_folder_patches(ten, holdout=holdout).test_images)) == held_out


@pytest.mark.parametrize("patch", [4, 7, 32, 40])
def test_patches_tile_the_image_without_its_partial_edges(tmp_path, patch):
    save(tmp_path, a=NOISE, b=NOISE)
    patches = image_folder_patches(tmp_path, patch=patch).train_images
    assert patches.shape == ((40 // patch) * (70 // patch), patch, patch, 3)
    for number, piece in enumerate(patches):
        top, left = (number // (70 // patch)) * patch, (number % (70 // patch)) * patch
        np.testing.assert_array_equal(piece, NOISE[top : top + patch, left : left + patch])


def test_small_images_are_counted(ten):
    save(ten, low=picture(0, 31, 100), narrow=picture(0, 100, 31))
    assert "skipped: 2 too small, 0 not readable" in image_folder_patches(ten).source


def test_one_image_is_not_enough(tmp_path):
    save(tmp_path, big=picture(1), small=picture(2, 8, 8))
    (tmp_path / "notes.txt").write_text("no image")
    with (
        pytest.warns(UserWarning, match=r"notes\.txt"),
        pytest.raises(DataError, match="has 1 usable images.* 1 are smaller than 32 x 32 pixels, 1 files cannot be read"),
    ):
        image_folder_patches(tmp_path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"")])
def test_absent_folder_or_a_file_in_its_place(tmp_path, make):
    make(tmp_path / "absent")
    with pytest.raises(DataError, match="absent is not a readable folder"):
        image_folder_patches(tmp_path / "absent")


def test_folder_without_an_image(tmp_path):
    with pytest.raises(DataError, match="has 0 usable images, but at least 2 are needed"):
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


# One rule for folders, of training and of compressing


def test_both_find_the_same_pictures_and_say_the_same(tmp_path):
    save(tmp_path, a=picture(1))
    save(tmp_path / "more" / "deep", b=picture(2))
    save(tmp_path / ".thumbnails", c=picture(3))
    save(tmp_path / "__MACOSX", d=picture(4))
    for name in ("Thumbs.db", "more/.DS_Store", "more/Desktop.ini", "._a.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("notes.txt", "more/list.csv", "empty.jpg", "z.dat", "y.npy"):
        (tmp_path / name).write_bytes(b"")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # Opening it would wait for ever.
        (tmp_path / "pipe.png").rename(tmp_path / "x.png")
    else:
        (tmp_path / "x.png").write_bytes(b"")
    with pytest.warns(UserWarning) as caught:
        data = image_folder_patches(tmp_path)
    assert brightnesses(data.train_images) | brightnesses(data.test_images) == {1, 2}
    read = read_images([tmp_path])
    assert read.names == ["a", "b"]
    assert [str(warning.message) for warning in caught] == ["; ".join(read.notes)]
    assert read.notes == [
        f"._a.png, .thumbnails, Thumbs.db and 3 more: {SYSTEM}",
        f"empty.jpg, more/list.csv, notes.txt and 3 more: {UNREADABLE}",
    ]


def test_links_to_folders_are_not_followed(ten):
    os.symlink(ten, ten / "again")
    assert len(list(read_folder(ten, {}))) == 10


def test_damaged_pictures_are_named_once_and_nothing_else_is_printed(ten, capfd):
    (ten / "image3.png").write_bytes((ten / "image3.png").read_bytes()[:60])
    Image.new("RGB", (40, 40)).save(ten / "scan.tif")
    (ten / "scan.tif").write_bytes((ten / "scan.tif").read_bytes()[:-4])
    with pytest.warns(UserWarning, match=rf"^image3\.png, scan\.tif: {UNREADABLE}$"):
        data = image_folder_patches(ten)
    assert capfd.readouterr() == ("", "")
    assert "9 images" in data.source
    assert 60 not in brightnesses(data.train_images) | brightnesses(data.test_images)


def test_what_was_done_to_many_pictures_is_one_note(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(9):
        Image.fromarray(NOISE).save(tmp_path / f"{number}.jpg", exif=exif)
    notes = {}
    assert {array.shape for _, array in read_folder(tmp_path, notes)} == {(70, 40, 3)}
    assert in_lines(notes) == ["0.jpg, 1.jpg, 2.jpg and 6 more: rotated according to its EXIF orientation"]


def test_training_sees_what_compressing_sees(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    red = Image.new("P", (40, 40), 0)
    red.putpalette([255, 0, 0, 0, 255, 0])
    noise, other = Image.fromarray(NOISE), Image.fromarray(255 - NOISE)
    made = {
        "turned": file(noise, exif=exif),
        "clear": file(red, transparency=0),
        "grey": file(noise.convert("L")),
        "deep": file(np.full((40, 40), 257 * 9, np.uint16)),
        "print": file(noise.convert("CMYK"), "TIFF"),
        "moving": file(noise, save_all=True, append_images=[other]),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    compressed = dict(zip(sorted(made), read_images([tmp_path]).images, strict=True))
    data = quiet_patches(tmp_path, holdout=0.01)
    together = np.concatenate([data.train_images, data.test_images])
    for image in compressed.values():
        colours = np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3))[:32, :32]
        assert (together == colours).all(axis=(1, 2, 3)).any()
    np.testing.assert_array_equal(compressed["turned"], NOISE[::-1, ::-1])
    assert brightnesses(compressed["clear"]) == {255}
    assert brightnesses(compressed["deep"]) == {9}
    np.testing.assert_array_equal(compressed["moving"], NOISE)


def test_damaged_files_of_every_kind_are_skipped(tmp_path):
    """Whatever is changed in a file, reading it gives a picture or skips it."""
    draw = random.Random(0)
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        whole = tmp_path / f"whole.{ending}"
        Image.fromarray(NOISE).save(whole)
        for number in range(12):
            content = bytearray(whole.read_bytes())
            if number % 3 == 0:
                content = content[: draw.randrange(len(content))]
            else:
                for _ in range(5):
                    content[draw.randrange(min(len(content), 80))] = draw.randrange(256)
            (tmp_path / f"damaged{number}.{ending}").write_bytes(content)
    notes = {}
    readable = dict(read_folder(tmp_path, notes))
    assert len(readable) + len(notes[UNREADABLE]) == 7 * 13
    assert {f"whole.{ending}" for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")} <= set(readable)


# Transparent colours and profiles, beyond what tests/codec/test_inputs.py reads


@pytest.mark.parametrize(
    ("image", "clear", "expected"),
    [
        (np.array([[0, 100]], np.uint8), 100, [[0, 255]]),
        (np.array([[0, 100 << 8]], np.uint16), 100 << 8, [[0, 255]]),
        (np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), (4, 5, 6), [[[1, 2, 3], [255, 255, 255]]]),
    ],
)
def test_a_transparent_colour_lies_on_white(image, clear, expected):
    read, notes = read_picture(file(image, transparency=clear), "a")
    assert read.tolist() == expected
    assert "transparent parts filled with white" in notes


def profile_with(colorants) -> bytes:
    """sRGB's profile with other primaries: the XYZ numbers of its red, green and blue, and another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True):
        place = data.index(tag)
        offset = int.from_bytes(data[place + 4 : place + 8], "big")
        data[offset + 8 : offset + 20] = b"".join(round(value * 65536).to_bytes(4, "big") for value in xyz)
    return bytes(data).replace("sRGB".encode("utf-16-be"), "P-3 ".encode("utf-16-be"))


# Display P3 in D50, as its published profile has them.
P3 = profile_with([(0.5151, 0.2412, -0.0011 % 65536), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)])


# The colour (200, 100, 50) of Display P3 by the published matrix of linear light,
# [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]], and sRGB's curve.
IN_SRGB = (215, 93, 31)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_colours_of_a_wider_profile_are_converted_with_a_note(form):
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    colour = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    read, notes = read_picture(file(colour, form, icc_profile=P3, **options), "a")
    assert np.abs(read.astype(int) - IN_SRGB).max() <= 2
    assert len(notes) == 1 and notes[0].startswith("converted to sRGB from the colour profile P-3 ")


def test_profiles_of_transparent_and_paletted_pictures(tmp_path):
    colour = np.full((8, 8, 4), (200, 100, 50, 255), np.uint8)
    colour[0, 0, 3] = 0
    for image in (Image.fromarray(colour), Image.fromarray(colour[..., :3]).quantize(4)):
        read, _ = read_picture(file(image, icc_profile=P3), "a")
        assert np.abs(read[4, 4].astype(int) - IN_SRGB).max() <= 2
    assert read_picture(file(colour, icc_profile=P3), "a")[0][0, 0].tolist() == [255, 255, 255]


def test_srgb_changes_nothing_and_says_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (NOISE, Image.fromarray(NOISE).convert("L")):
        read, notes = read_picture(file(image, icc_profile=srgb), "a")
        assert read.tolist() == np.array(image).tolist() and notes == []


@pytest.mark.parametrize("image", [NOISE, Image.fromarray(NOISE).convert("CMYK")])
def test_a_damaged_profile_is_left_out_with_a_note(image):
    read, notes = read_picture(file(image, "TIFF", icc_profile=b"nonsense"), "a")
    assert read.tolist() == NOISE.tolist()
    assert "the colour profile (damaged) not applied" in notes


def test_a_profile_of_colours_in_a_grey_picture_is_left_out_with_a_note():
    grey = Image.fromarray(NOISE).convert("L")
    read, notes = read_picture(file(grey, icc_profile=P3), "a")
    assert read.tolist() == np.array(grey).tolist()
    assert len(notes) == 1 and notes[0].endswith("not applied")


def test_what_pillow_logs_is_not_printed():
    code = "import logging, tinyqae.data.pictures; logging.getLogger('PIL.TiffImagePlugin').error('too many samples')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""
