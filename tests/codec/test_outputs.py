"""Decompressed images and texts as files: every form, nothing half-written, and no name that leaves the directory."""

import io
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tinyqae.codec import outputs
from tinyqae.codec.inputs import read_images, read_text
from tinyqae.codec.outputs import LONGEST_NAME, plain_name, plain_names, write_images, write_text
from tinyqae.errors import CodecError, DataError

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREYS = GENERATOR.integers(0, 256, (4, 5, 7, 1), dtype=np.uint8)
COLOURS = GENERATOR.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "..\\up",
    "C:",
    "C:\\x",
    "a:b",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\x7f",
    ".rc",
    "a.",
    "a ",
    " ",
    "CON",
    "con",
    "nul.x",
    "Aux ",
    "com1",
    "LPT9.tar",
    "COM¹",
    "CONIN$",
    "a*",
    "a?",
    'a"',
    "a<b",
    "a|b",
    "x" * (LONGEST_NAME + 1),
    "é" * (LONGEST_NAME // 2 + 1),
    "\ud800",
    "\u202egnp",
    "a\u2028b",
    "a\u00a0b",
    b"a",
    3,
    None,
]
HARMLESS_NAMES = [
    "a",
    "A b",
    "00001",
    "photo-2",
    "a.tar",
    "é",
    "写真",
    "😀",
    "con-1",
    "console",
    "com",
    "com10",
    "~",
    "-",
    "a..b",
    "$HOME",
    "a;b",
    "'",
    "x" * LONGEST_NAME,
]

GREY_PICTURES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9))
COLOUR_PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
STACKS = arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3, st.sampled_from([1, 3])))


def contents(directory):
    """The bytes of all files below a directory by relative path."""
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refusal(path, images, names=None, error=DataError):
    """The one line that says why; it names the path, and the directory is as it was."""
    before = contents(Path(path).parent)
    with pytest.raises(error) as caught:
        write_images(path, images, names)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert error is CodecError or str(path).rstrip("/") in message
    assert contents(Path(path).parent) == before
    return message


# Round trips


@given(STACKS, st.sampled_from(["a.npy", "a-ubyte", "a.idx"]))
@example(GREYS[:, :, :3], "a.npy")
@settings(deadline=None)
def test_a_stack_comes_back(stack, name):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        if stack.shape[3] == 3 and not name.endswith("npy"):
            assert "in colour" in refusal(path, stack)
            return
        write_images(path, stack, None)
        read = read_images([path]).images
        assert read.tolist() == (stack[..., 0] if stack.shape[3] == 1 else stack).tolist()
        assert os.listdir(directory) == [name]


@given(st.lists(st.tuples(st.text(max_size=10), GREY_PICTURES | COLOUR_PICTURES), min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_pictures_come_back_by_name(named_pictures):
    names, pictures = plain_names(name for name, _ in named_pictures), [picture for _, picture in named_pictures]
    with tempfile.TemporaryDirectory() as directory:
        write_images(Path(directory) / "out", pictures, names)
        read = read_images([Path(directory) / "out"])
        assert sorted(read.names) == sorted(names)
        by_name = dict(zip(read.names, read.images, strict=True))
        assert [by_name[name].tolist() for name in names] == [picture.tolist() for picture in pictures]


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("image", [GREY, GREY[..., np.newaxis], COLOUR, GREY[:1, :1]])
def test_one_picture_comes_back(tmp_path, ending, image):
    write_images(tmp_path / f"a{ending}", [image], ["ignored"])
    read = read_images([tmp_path / f"a{ending}"]).images[0]
    assert read.tolist() == (image[..., 0] if image.shape[2:] == (1,) else image).tolist()
    assert os.listdir(tmp_path) == [f"a{ending}"]


@given(st.text())
@example("\ufeffone\r\ntwo\rthree\n\n\0")
@settings(deadline=None)
def test_a_text_comes_back_to_the_character(text):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.txt"
        write_text(path, text)
        assert path.read_bytes() == text.encode()
        if text:
            assert read_text([path]).text == text


# Forms


def test_the_png_is_of_the_kind_of_the_image(tmp_path):
    write_images(tmp_path / "out", [GREY, GREY[..., np.newaxis], COLOUR], ["a", "b", "c"])
    assert [Image.open(tmp_path / "out" / f"{name}.png").mode for name in "abc"] == ["L", "L", "RGB"]


def test_a_directory_without_names_is_numbered(tmp_path):
    write_images(tmp_path / "out", GREYS, None)
    assert sorted(os.listdir(tmp_path / "out")) == ["00000.png", "00001.png", "00002.png", "00003.png"]


@pytest.mark.parametrize("name", ["out", "out/", "deep/er/out", "out.png/", "a.npy/"])
def test_these_paths_are_directories(tmp_path, name):
    write_images(f"{tmp_path}/{name}", [COLOUR], ["a"])
    assert list(contents(tmp_path)) == [f"{name.rstrip('/')}/a.png"]
    assert os.listdir(tmp_path) == [name.split("/")[0]]


def test_a_new_directory_is_as_accessible_as_any(tmp_path):
    write_images(tmp_path / "out", [COLOUR], None)
    (tmp_path / "other").mkdir()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_an_empty_directory_is_filled_and_stays_the_same_one(tmp_path):
    out = tmp_path / "out.png"
    out.mkdir()
    number = out.stat().st_ino
    write_images(out, GREYS, None)
    assert out.stat().st_ino == number
    assert sorted(os.listdir(out)) == ["00000.png", "00001.png", "00002.png", "00003.png"]
    assert "not empty" in refusal(out, GREYS)
    (tmp_path / "link").symlink_to(out, target_is_directory=True)
    assert "not empty" in refusal(tmp_path / "link", GREYS)


def test_standard_output_takes_a_stack_or_one_picture(capsysbinary):
    write_images("-", GREYS, None)
    assert np.load(io.BytesIO(capsysbinary.readouterr().out)).tolist() == GREYS[..., 0].tolist()
    write_images("-", [COLOUR], ["a"])
    data = capsysbinary.readouterr().out
    assert data.startswith(b"\x89PNG") and np.array(Image.open(io.BytesIO(data))).tolist() == COLOUR.tolist()
    with pytest.raises(DataError, match="standard output can hold only one picture, not 2"):
        write_images("-", [COLOUR, GREY], ["a", "b"])
    write_text("-", "é\r\n")
    assert capsysbinary.readouterr().out == "é\r\n".encode()


def test_pictures_of_one_size_make_a_stack(tmp_path):
    write_images(tmp_path / "a.npy", [COLOUR, COLOUR], ["a", "b"])
    assert np.load(tmp_path / "a.npy").shape == (2, 5, 7, 3)
    write_images(tmp_path / "a.npy", [GREY], ["a"])
    assert np.load(tmp_path / "a.npy").shape == (1, 5, 7)


@pytest.mark.parametrize("name", ["a.npy", "a-ubyte"])
def test_pictures_of_several_sizes_make_no_stack(tmp_path, name):
    assert "one size" in refusal(tmp_path / name, [GREY, GREY[1:]])
    assert "one size" in refusal(tmp_path / name, [GREY, COLOUR])


def test_several_images_make_no_single_picture(tmp_path):
    assert "can hold only one picture, not 4" in refusal(tmp_path / "a.png", GREYS)
    write_images(tmp_path / "a.png", GREYS[:1], None)
    assert read_images([tmp_path / "a.png"]).images[0].tolist() == GREYS[0, ..., 0].tolist()


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".webp", ".gif"])
def test_lossy_forms_are_refused(tmp_path, ending):
    message = refusal(tmp_path / f"a{ending}", [COLOUR])
    assert "lossy" in message and ".png" in message


@pytest.mark.parametrize("name", ["a.gz", "a.npz", "a.v2", "a.\n"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="not a supported format") as caught:
        write_images(tmp_path / name, [COLOUR], None)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


def test_no_images_make_no_file(tmp_path):
    assert "no images" in refusal(tmp_path / "a.npy", GREYS[:0])
    assert "no images" in refusal(tmp_path / "out", [], [])


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (GREYS[..., 0], ValueError),
        ([GREY.astype(float)], TypeError),
        ([GREY.tolist()], TypeError),
        (GREYS / 255, TypeError),
        ([GREYS[0, :0]], ValueError),
        (np.zeros((1, 2, 2, 2), np.uint8), ValueError),
        ([GREY[0]], ValueError),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, images, error):
    with pytest.raises(error, match="expected"):
        write_images(tmp_path / "out", images, None)
    assert os.listdir(tmp_path) == []


# Nothing half-written, nothing overwritten that is no file


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a-ubyte", "a.txt"])
def test_an_existing_file_is_replaced(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    if name == "a.txt":
        write_text(tmp_path / name, "new")
    else:
        write_images(tmp_path / name, [GREY], None)
    assert (tmp_path / name).read_bytes() != b"old" and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out", "existing"])
def test_a_picture_that_cannot_be_written_leaves_no_directory(tmp_path, monkeypatch, name):
    (tmp_path / "existing").mkdir()
    written = []

    def write_bytes(self, data, original=Path.write_bytes):
        if written:
            raise OSError(28, "No space left on device")
        written.append(self)
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match=f"cannot write .*{name}: No space left on device"):
        write_images(tmp_path / name, GREYS, None)
    assert written and os.listdir(tmp_path) == ["existing"] and os.listdir(tmp_path / "existing") == []


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
def test_an_existing_directory_gets_all_pictures_or_none(tmp_path, monkeypatch, error):
    rename = os.rename

    def failing(source, target):
        if Path(target).name == "00002.png":
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises((DataError, KeyboardInterrupt)):
        write_images(tmp_path, GREYS, None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_images(tmp_path, GREYS, None)
    assert len(list(tmp_path.iterdir())) == len(GREYS)


def test_a_retry_works_after_a_process_that_was_killed_and_sweeps_what_is_old(tmp_path):
    old, new = tmp_path / ".tqae-old", tmp_path / ".tqae-new"
    for path in (old, new):
        (path / "whole").mkdir(parents=True)
    os.utime(old, (0, 0))
    write_images(tmp_path, GREYS, None)
    assert not old.exists() and new.exists()
    assert len(list(tmp_path.glob("*.png"))) == len(GREYS)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    for name in ("a.npy", "a.txt"):
        (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match="cannot write .*a.txt: No space left"):
        write_text(tmp_path / "a.txt", "new")
    assert "No space left" in refusal(tmp_path / "a.npy", GREYS)
    assert contents(tmp_path) == {"a.npy": b"old", "a.txt": b"old"}


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    assert "not a directory" in refusal(tmp_path / "file", GREYS)
    refusal(f"{tmp_path}/file/", GREYS)
    with pytest.raises(DataError, match="cannot write .*file/out"):
        write_images(tmp_path / "file" / "out", GREYS, None)
    with pytest.raises(DataError, match="cannot write .*file/a.npy"):
        write_images(tmp_path / "file" / "a.npy", GREYS, None)
    assert contents(tmp_path) == {"file": b"old"}


def test_a_text_needs_the_name_of_a_file(tmp_path):
    for path in (str(tmp_path), f"{tmp_path}/new/"):
        with pytest.raises(DataError, match="names a directory"):
            write_text(path, "text")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    for name in ("a.npy", "a.txt"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="a.npy: it exists and is not a regular file"):
        write_images(tmp_path / "a.npy", GREYS, None)
    with pytest.raises(DataError, match="a.txt: it exists and is not a regular file"):
        write_text(tmp_path / "a.txt", "text")
    assert all(stat.S_ISFIFO(path.stat().st_mode) for path in tmp_path.iterdir())


def test_a_reader_that_stops_is_told_from_a_full_disk(monkeypatch):
    class Output(io.RawIOBase):
        def __init__(self, error):
            self.buffer, self.error = self, error

        def write(self, data):
            raise self.error

    monkeypatch.setattr("sys.stdout", Output(BrokenPipeError(32, "Broken pipe")))
    with pytest.raises(BrokenPipeError):
        write_text("-", "text")
    monkeypatch.setattr("sys.stdout", Output(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match="cannot write standard output: No space left on device"):
        write_text("-", "text")


# Names


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_names_that_may_not_be_files_are_refused(tmp_path, name):
    (tmp_path / "inner").mkdir()
    assert not plain_name(name)
    for form in ("out", "a.npy"):
        assert "not a plain file name" in refusal(tmp_path / "inner" / form, [GREY, GREY], ["fine", name], CodecError)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_harmless_names_are_kept(tmp_path, name):
    assert plain_name(name) and plain_names([name]) == [name]
    write_images(tmp_path / "out", [GREY], [name])
    assert os.listdir(tmp_path / "out") == [f"{name}.png"]


@pytest.mark.parametrize("names", [["a", "a"], ["Photo", "photo"], ["é", "e\u0301"], ["straße", "STRASSE"], ["a", "b", "A"]])
def test_names_that_some_system_takes_for_the_same_are_refused(tmp_path, names):
    assert "two images are named" in refusal(tmp_path / "out", [GREY] * len(names), names, CodecError)
    made = plain_names(names)
    assert made[:-1] == names[:-1] and made[-1] == f"{names[-1]}-2"


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_there_is_a_name_for_each_image(tmp_path, names):
    assert f"{len(names)} names for 2 images" in refusal(tmp_path / "out", [GREY, GREY], names, CodecError)


@given(st.lists(st.text(max_size=5) | st.text(max_size=300) | st.sampled_from(HOSTILE_NAMES[:-3])))
@example(["a", "a-2", "a", "A", "a-2"])
@example(["x" * 300, "x" * 400, "x" * LONGEST_NAME])
@example(["é" * 100 + " ", "é" * 99 + ".." + "é"])
@settings(deadline=None)
def test_plain_names_are_plain_and_unique(names):
    made = plain_names(names)
    assert len(made) == len(names) and all(map(plain_name, made))
    assert len({outputs._key(name) for name in made}) == len(made)


def test_odd_characters_are_replaced():
    names = ["a/b", ".rc", "con", "a.", "", "tab\there", "\ud800", "a", "a", "a"]
    assert plain_names(names) == ["a_b", "_rc", "_con", "a_", "_", "tab_here", "_-2", "a", "a-2", "a-3"]


def test_ten_thousand_equal_names_take_no_time():
    assert plain_names(["a"] * 10_000)[-1] == "a-10000"
