"""Files to compress: every form that is read, and one clear line with the file's name for everything else."""

import gzip
import io
import os
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tinyqae.codec import inputs
from tinyqae.codec.inputs import read_images, read_text
from tinyqae.data import pictures
from tinyqae.data.mnist import write_idx
from tinyqae.data.pictures import MAX_PIXELS
from tinyqae.errors import DataError

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (5, 7, 3), dtype=np.uint8)
STACK = GENERATOR.integers(0, 256, (4, 5, 7), dtype=np.uint8)
DEEP = GENERATOR.integers(0, 1 << 16, (5, 7), dtype=np.uint16)
RED_THEN_CLEAR = np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
RED_THEN_WHITE = [[[255, 0, 0], [255, 255, 255]]]


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_promising(shape, descr="|u1", order="False", values=b""):
    """The bytes of an .npy file whose header says whatever one likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def picture(image, form="PNG", **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def png_of_size(width, height):
    """The beginning of an RGB PNG: a header without pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def file(tmp_path):
    """A function that writes bytes to a file of a name and returns its path."""

    def write(name, data):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def only(path):
    """(picture, notes) of one file."""
    read = read_images([path])
    assert isinstance(read.images, list) and len(read.images) == len(read.names) == 1
    assert read.images[0].dtype == np.uint8 and read.bytes == os.path.getsize(path)
    return read.images[0], read.notes


def refusal(*paths, read=read_images, **options):
    """The one line that says why; it names the last of the paths."""
    with pytest.raises(DataError) as caught:
        read(list(paths), **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    if paths:
        assert "standard input" in message if paths[-1] == "-" else str(paths[-1]) in message
    return message


def peak_memory(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Pictures


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA", "QOI", "JPEG2000"])
def test_pictures_come_as_they_were_saved(file, form):
    colour, notes = only(file("picture", picture(COLOUR, form)))
    assert colour.tolist() == COLOUR.tolist() and notes == []
    if form != "QOI":
        grey, notes = only(file("picture", picture(GREY, form)))
        assert grey.tolist() == GREY.tolist() and notes == []


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_lossy_pictures_come_nearly_as_they_were_saved(file, form):
    smooth = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    image, notes = only(file("picture", picture(smooth, form)))
    assert image.shape == smooth.shape and notes == []
    assert np.abs(image.astype(int) - smooth).max() <= 4


def test_several_pictures_keep_order_size_and_name(file):
    paths = [file("b.png", picture(COLOUR)), file("a.bmp", picture(GREY, "BMP")), file("sub/b.tif", picture(GREY, "TIFF"))]
    read = read_images(paths)
    assert [image.shape for image in read.images] == [(5, 7, 3), (5, 7), (5, 7)]
    assert read.names == ["b", "a", "b-2"]
    assert read.bytes == sum(map(os.path.getsize, paths))
    assert read.notes == []


def test_a_picture_of_one_pixel(file):
    assert only(file("a.png", picture(GREY[:1, :1])))[0].tolist() == GREY[:1, :1].tolist()


def test_the_first_bytes_count_not_the_name(file):
    assert only(file("a.jpg", picture(COLOUR)))[0].tolist() == COLOUR.tolist()
    assert read_images([file("b.png", npy(STACK))]).images.tolist() == STACK.tolist()


def test_palettes_become_colours(file):
    paletted = Image.fromarray(COLOUR).quantize(8)
    for form in ("PNG", "GIF", "BMP"):
        image, notes = only(file("a", picture(paletted, form)))
        assert image.tolist() == np.array(paletted.convert("RGB")).tolist() and notes == []


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparent_parts_are_put_on_white(file, form):
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    image, notes = only(file("a.png", picture(RED_THEN_CLEAR, form, **options)))
    assert image.tolist() == RED_THEN_WHITE
    assert len(notes) == 1 and "a.png: transparent parts filled with white" in notes[0]


def test_transparency_is_mixed_in_proportion(file):
    grey_with_alpha = Image.merge(
        "LA", [Image.fromarray(np.array([[0, 100]], np.uint8)), Image.fromarray(np.array([[128, 255]], np.uint8))]
    )
    image, notes = only(file("a.png", picture(grey_with_alpha)))
    assert image.tolist() == [[127, 100]] and len(notes) == 1


def test_a_transparent_colour_or_palette_entry_is_put_on_white(file):
    red_then_green = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    assert only(file("a", picture(red_then_green, transparency=(0, 255, 0))))[0].tolist() == RED_THEN_WHITE
    paletted = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    paletted.putpalette([255, 0, 0, 0, 255, 0])
    for form in ("PNG", "GIF"):
        image, notes = only(file("a", picture(paletted, form, transparency=1)))
        assert image.tolist() == RED_THEN_WHITE and len(notes) == 1


def test_opaque_alpha_is_dropped_without_a_note(file):
    image, notes = only(file("a.png", picture(Image.fromarray(COLOUR).convert("RGBA"))))
    assert image.tolist() == COLOUR.tolist() and notes == []


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bits_of_grey_are_reduced_to_8(file, form):
    image, notes = only(file("a", picture(DEEP, form)))
    assert image.tolist() == (DEEP >> 8).tolist()
    assert len(notes) == 1 and "16 bits reduced to 8" in notes[0]


def test_16_bits_of_colours_are_reduced_to_8(file):
    body = np.stack([DEEP] * 3, -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in body)
    data = png_of_size(7, 5)
    header = struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)
    data = data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    pixels = zlib.compress(rows)
    data += struct.pack(">I", len(pixels)) + b"IDAT" + pixels + struct.pack(">I", zlib.crc32(b"IDAT" + pixels))
    image, notes = only(file("a.png", data + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))))
    assert image.tolist() == (body >> 8).tolist()
    assert len(notes) == 1 and "16 bits reduced to 8" in notes[0]


def test_one_bit_becomes_black_and_white(file):
    for form in ("PNG", "BMP", "TIFF", "PPM"):
        assert only(file("a", picture(GREY > 127, form)))[0].tolist() == (255 * (GREY > 127)).tolist()


def test_floating_point_pictures_in_0_to_1_are_rounded(file):
    image, notes = only(file("a.tif", picture((GREY / 255).astype(np.float32), "TIFF")))
    assert image.tolist() == GREY.tolist()
    assert len(notes) == 1 and "rounded" in notes[0]
    assert "[0, 1]" in refusal(file("a.tif", picture(GREY.astype(np.float32), "TIFF")))
    assert "[0, 1]" in refusal(file("a.tif", picture(np.full((2, 2), np.nan, np.float32), "TIFF")))


def test_cmyk_becomes_rgb_with_a_note(file):
    image, notes = only(file("a.tif", picture(Image.fromarray(COLOUR).convert("CMYK"), "TIFF")))
    assert image.tolist() == COLOUR.tolist()
    assert len(notes) == 1 and "CMYK" in notes[0]


@pytest.mark.parametrize("image", [DEEP.astype(np.int32), Image.new("LAB", (3, 2))])
def test_pixels_of_unknown_meaning_are_refused(file, image):
    assert "expected 8- or 16-bit" in refusal(file("a.tif", picture(image, "TIFF")))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, GREY),
        (2, GREY[:, ::-1]),
        (3, GREY[::-1, ::-1]),
        (4, GREY[::-1]),
        (5, GREY.T),
        (6, np.rot90(GREY, -1)),
        (7, GREY[::-1, ::-1].T),
        (8, np.rot90(GREY)),
    ],
)
def test_the_exif_orientation_is_applied(file, form, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, notes = only(file("a", picture(GREY, form, exif=exif, **({"quality": 100} if form == "JPEG" else {}))))
    assert image.shape == turned.shape
    assert np.abs(image.astype(int) - turned).max() <= (2 if form == "JPEG" else 0)
    assert ["orientation" in note for note in notes] == [True] * (orientation != 1)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken_with_a_note(file, form):
    frames = [Image.fromarray(np.roll(COLOUR, shift)) for shift in range(12)]
    options = {"lossless": True} if form == "WEBP" else {}
    image, notes = only(file("a", picture(frames[0], form, save_all=True, append_images=frames[1:], **options)))
    expected = frames[0].quantize().convert("RGB") if form == "GIF" else frames[0]
    assert np.abs(image.astype(int) - np.array(expected)).max() <= 8
    assert len(notes) == 1 and notes[0].endswith("a: only the first frame read")


def test_the_first_picture_of_a_telephones_jpeg_is_taken(file):
    frames = [np.full((16, 24, 3), value, np.uint8) for value in (50, 200)]
    data = picture(frames[0], "MPO", save_all=True, append_images=[Image.fromarray(frames[1])])
    image, notes = only(file("a.jpg", data))
    assert np.abs(image.astype(int) - frames[0]).max() <= 2
    assert len(notes) == 1 and "only the first frame" in notes[0]


def test_too_many_pixels_are_refused_before_any_is_decoded(file, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    message = refusal(file("a.png", png_of_size(12_000, 12_000)))
    assert "12000 x 12000" in message and str(MAX_PIXELS) in message
    assert f"the limit is {MAX_PIXELS} pixels" in refusal(file("a.png", png_of_size(2_000_000, 2_000_000)))


def test_pillows_own_limit_stays_as_it_is_also_in_other_threads(file, monkeypatch):
    """Pillow warns above it and refuses above twice as much; another thread may rely on that."""
    seen, limit = [], Image.MAX_IMAGE_PIXELS
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: [seen.append(Image.MAX_IMAGE_PIXELS), load(self)][1])
    only(file("a.png", picture(COLOUR)))
    assert set(seen) == {limit} and limit < MAX_PIXELS < 2 * limit


def test_the_most_pixels_are_read_and_no_more(file, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 34)
    assert "7 x 5 is 35 pixels, the limit is 34" in refusal(file("a.png", picture(COLOUR)))
    monkeypatch.setattr(pictures, "MAX_PIXELS", 35)
    assert only(file("a.png", picture(COLOUR)))[0].tolist() == COLOUR.tolist()


def test_all_pictures_together_are_bounded(file, monkeypatch):
    path = file("a.png", picture(np.zeros((50, 50, 3), np.uint8)))
    monkeypatch.setattr(inputs, "MAX_STACK_BYTES", 15_000)
    assert len(read_images([path, path]).images) == 2
    assert "fewer" in refusal(path, path, path)


@pytest.mark.parametrize(
    "data",
    [
        picture(COLOUR)[:-30],
        picture(COLOUR)[:40],
        picture(COLOUR, "BMP")[:-5],
        picture(COLOUR, "JPEG")[:-200],
        png_of_size(7, 5),
        png_of_size(0, 5),
        b"GIF89a",
        b"hello, world",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_damaged_pictures_and_other_files_are_refused(file, data):
    refusal(file("a.png", data))


# Stacks


@pytest.mark.parametrize("stack", [STACK, STACK[:1], np.stack([COLOUR, COLOUR]), STACK[:, :1, :1]])
def test_npy_stacks(file, stack):
    for order in (stack, np.asfortranarray(stack)):
        read = read_images([file("a.npy", npy(order))])
        assert isinstance(read.images, np.ndarray) and read.images.flags.c_contiguous
        assert read.images.dtype == np.uint8 and read.images.tolist() == stack.tolist()
        assert (read.names, read.notes, read.bytes) == (None, [], len(npy(order)))


def test_an_axis_of_length_1_is_dropped(file):
    assert read_images([file("a.npy", npy(STACK[..., np.newaxis]))]).images.tolist() == STACK.tolist()


def test_npy_pictures_stand_beside_others(file):
    grey, colour, png = file("g", npy(GREY)), file("c", npy(COLOUR)), file("p", picture(COLOUR))
    read = read_images([grey, colour, png])
    assert [image.tolist() for image in read.images] == [GREY.tolist(), COLOUR.tolist(), COLOUR.tolist()]
    assert read.names == ["g", "c", "p"]
    assert len(read.notes) == 1 and "one colour picture" in read.notes[0] and "(5, 7, 3)" in read.notes[0]


@pytest.mark.parametrize(
    ("columns", "advice"), [(784, "reshape(-1, 28, 28)"), (3072, "reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_tables_of_flat_images_are_refused_with_what_to_do(file, columns, advice, dtype):
    message = refusal(file("a.npy", npy(np.zeros((70, columns), dtype))))
    assert advice in message and "(70, " in message


def test_planes_of_one_colour_picture_get_a_note(file):
    read = read_images([file("a.npy", npy(COLOUR.transpose(2, 0, 1)))])
    assert read.images.shape == (3, 5, 7)
    assert len(read.notes) == 1 and "3 grey pictures" in read.notes[0] and "transpose(1, 2, 0)" in read.notes[0]
    assert "transpose(0, 2, 3, 1)" in refusal(file("a.npy", npy(np.zeros((9, 3, 5, 7), np.uint8))))


def test_bools_become_black_and_white(file):
    assert read_images([file("a.npy", npy(STACK > 127))]).images.tolist() == (255 * (STACK > 127)).tolist()
    odd = npy_promising((1, 2, 2), "|b1", values=bytes([0, 1, 2, 255]))
    assert read_images([file("a.npy", odd)]).images.tolist() == [[[0, 255], [255, 255]]]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_floating_point_stacks_in_0_to_1_are_rounded(file, dtype):
    read = read_images([file("a.npy", npy((STACK / 255).astype(dtype)))])
    assert read.images.tolist() == STACK.tolist()
    assert len(read.notes) == 1 and "rounded" in read.notes[0]
    for value in (np.nan, np.inf, -0.01, 1.01):
        stack = np.zeros((4, 5, 7), dtype)
        stack[-1, -1, -1] = value
        assert "must lie in [0, 1]" in refusal(file("a.npy", npy(stack)))


@pytest.mark.parametrize(
    "array",
    [STACK.astype(np.int64), STACK.astype(np.int8), STACK.astype(complex), STACK.astype("U3"), STACK.astype("u1,u1")],
)
def test_other_values_are_refused(file, array):
    assert "expected uint8, bool, or floating-point" in refusal(file("a.npy", npy(array)))


def test_objects_are_refused_without_unpickling(file):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    assert "object" in refusal(file("a.npy", npy(np.array([[[Trap()]]], object))))


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2, 2), (2, 2, 2, 4), (1, 1, 1, 1, 1)])
def test_arrays_with_other_axes_are_refused(file, shape):
    assert "(N, H, W)" in refusal(file("a.npy", npy(np.zeros(shape, np.uint8))))


@pytest.mark.parametrize("shape", [(0, 28, 28), (0, 2, 2, 3), (3, 0, 5), (0, 0), (-1, -1, 4)])
def test_empty_stacks_are_refused(file, shape):
    assert "holds no images" in refusal(file("a.npy", npy_promising(shape)))


@pytest.mark.parametrize(
    "shape",
    [
        f"({1 << 60}, 28, 28)",
        f"({1 << 31}, 1, 1)",
        f"({1 << 32}, {1 << 32}, 0)",
        "(0x" + "f" * 5000 + ", 1, 1)",
        "(-0x" + "f" * 5000 + ", 1, 1)",
        "(0x" + "f" * 5000 + ", 784)",
        "(1000, 1000, 1000)",
    ],
)
def test_a_header_that_promises_more_than_there_is_takes_no_memory(file, shape):
    path = file("a.npy", npy_promising(shape))
    assert peak_memory(lambda: refusal(path)) < 2 << 20


def test_a_header_may_say_true_for_1(file):
    assert read_images([file("a.npy", npy_promising("(True, 2, 2)", values=bytes(4)))]).images.tolist() == [[[0, 0], [0, 0]]]


def test_an_npy_file_is_as_long_as_its_header_says(file):
    for data in (npy(STACK)[:-1], npy(STACK) + b"\0"):
        assert f"takes {STACK.size} bytes" in refusal(file("a.npy", data))


@pytest.mark.parametrize(
    "data",
    [
        npy(STACK)[:6],
        npy(STACK)[:9],
        npy(STACK)[:30],
        b"\x93NUMPY\x03\x00" + npy(STACK)[8:],
        b"\x93NUMPY\x09\x09",
        npy_promising("('a', 2)"),
        npy_promising("(" * 3000),
        npy_promising("-" * 5000 + "1"),
        npy_promising((1, 1, 1), "|O8"),
        npy_promising((1, 1, 1), "nonsense"),
    ],
)
def test_damaged_npy_headers_are_refused(file, data):
    refusal(file("a.npy", data))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_stacks(file, packed):
    data = write_idx(STACK)
    data = gzip.compress(data) if packed else data
    read = read_images([file("train-images-idx3-ubyte", data)])
    assert read.images.tolist() == STACK.tolist()
    assert (read.names, read.notes, read.bytes) == (None, [], len(data))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        write_idx(STACK)[:-1],
        write_idx(STACK) + b"\0",
        write_idx(STACK)[:10],
        write_idx(STACK[0, 0]),
        write_idx(STACK[0]),
        b"\0\0\x0d\x03" + write_idx(STACK)[4:],
        b"\0\0\x08\x03" + struct.pack(">III", 0, 28, 28),
    ],
)
def test_other_idx_files_are_refused(file, data, packed):
    refusal(file("a-ubyte", gzip.compress(data) if packed else data))


def test_a_bomb_of_a_gzip_file_takes_no_memory(file):
    zeros = gzip.compress(bytes(1 << 24))
    bombs = [
        gzip.compress(write_idx(STACK)) + zeros,  # a second part, as gzip allows
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 1, 28, 28)) + zeros,
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 1 << 20, 28, 28)),
        gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12),
        zeros,
    ]
    for bomb in bombs:
        path = file("a.gz", bomb)
        assert peak_memory(lambda path=path: refusal(path)) < 4 << 20


def test_damaged_gzip_files_are_refused(file):
    data = gzip.compress(write_idx(STACK))
    wrong_checksum = bytearray(data)
    wrong_checksum[-6] ^= 1
    for damaged in (data[:-1], data[:20], data[:3], data + b"rubbish", bytes(wrong_checksum)):
        refusal(file("a.gz", damaged))


def test_other_packed_files_are_refused(file):
    stream = io.BytesIO()
    np.savez(stream, STACK)
    assert "zip archive" in refusal(file("a.npz", stream.getvalue()))
    assert "unpack it" in refusal(file("a.npy.gz", gzip.compress(npy(STACK))))


def test_a_stack_stays_alone(file):
    stack, other, png = file("a.npy", npy(STACK)), file("b", write_idx(STACK)), file("c.png", picture(COLOUR))
    for paths in ([png, stack], [png, png, other]):
        assert "give it alone" in refusal(*paths)
    with pytest.raises(DataError, match="a.npy is a stack of images; give it alone"):
        read_images([stack, png])


def test_pixels_of_arrays_are_bounded_as_well(file, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 34)
    for data in (npy(STACK), npy(GREY), npy(COLOUR), write_idx(STACK)):
        assert "7 x 5 is 35 pixels" in refusal(file("a", data))


# Paths and streams


def test_a_directory_stands_for_its_visible_files_in_order(file, tmp_path):
    for name in ("b.png", "a.png", ".hidden.png"):
        file(f"album/{name}", picture(COLOUR))
    file("album/more/c.png", picture(GREY))
    file("album/notes.txt", b"text")
    file("album/Thumbs.db", b"text")
    read = read_images([tmp_path / "album"])
    assert read.names == ["a", "b", "c"]
    assert read.bytes == 2 * len(picture(COLOUR)) + len(picture(GREY))
    assert read.notes == [
        ".hidden.png, Thumbs.db: skipped, hidden or system file",
        "notes.txt: skipped, not readable as a picture",
    ]
    file("texts/c.txt", b"text")
    assert "has no pictures (other visible files: 1)" in refusal(tmp_path / "texts")
    (tmp_path / "empty").mkdir()
    assert "has no pictures (other visible files: 0)" in refusal(tmp_path / "empty")
    assert "no input; give files" in refusal()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipes_are_never_opened(tmp_path):
    """Opening one would wait for a writer, for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_images, read_text):
        assert "pipe or device" in refusal(tmp_path / "pipe.png", read=read)
    assert "has no pictures" in refusal(tmp_path)


def test_missing_forbidden_and_empty_files_are_refused(file, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    for read in (read_images, read_text):
        assert "No such file" in refusal(tmp_path / "nothing.png", read=read)
        assert "empty" in refusal(file("a.png", b""), read=read)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    for path in (tmp_path / "a.png", tmp_path):
        assert "Permission denied" in refusal(path)


def test_a_name_that_would_break_the_line_is_escaped(tmp_path):
    with pytest.raises(DataError) as caught:
        read_images([tmp_path / "two\nlines\x1b[31m.png", "zero\0"])
    assert r"two\nlines\x1b[31m.png" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"zero\\x00"):
        read_images(["zero\0"])


def test_standard_input(monkeypatch):
    read = read_images(["-"], stdin=io.BytesIO(picture(COLOUR)))
    assert (read.names, read.bytes) == (["stdin"], len(picture(COLOUR)))
    assert read_images(["-"], stdin=io.BytesIO(npy(STACK))).images.tolist() == STACK.tolist()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("né\r\n".encode())))
    assert read_text(["-"]).text == "né\r\n"
    assert "empty" in refusal("-", stdin=io.BytesIO())


def test_no_more_than_the_limit_is_read(file, monkeypatch):
    class Endless(io.RawIOBase):
        def read(self, size):
            return b"a" * size

    monkeypatch.setattr(inputs, "MAX_STACK_BYTES", 3 << 20)
    monkeypatch.setattr(inputs, "MAX_TEXT_BYTES", 3 << 20)
    for read in (read_images, read_text):
        path = file("large", bytes((3 << 20) + 1))
        assert peak_memory(lambda read=read, path=path: refusal(path, read=read)) < 1 << 20
        assert "more than 3 MiB" in refusal("-", read=read, stdin=Endless())


# Texts


@given(st.text(min_size=1))
@example("\ufeffone\r\ntwo\rthree\n\n\0")
@settings(deadline=None)
def test_a_text_is_read_to_the_character(text):
    read = read_text(["-"], stdin=io.BytesIO(text.encode()))
    assert (read.text, read.bytes) == (text, len(text.encode()))


def test_other_encodings_are_refused_by_the_place(file):
    assert "byte 3 is 0xe9" in refusal(file("a.txt", b"caf\xe9 au lait"), read=read_text)
    assert "byte 0 is 0xff" in refusal(file("a.txt", "text".encode("utf-16")), read=read_text)
    assert "byte 1 is 0xc3" in refusal(file("a.txt", b"a\xc3"), read=read_text)


def test_one_text_at_a_time(file, tmp_path):
    path = file("a.txt", b"text")
    for paths in ([], [path, path]):
        with pytest.raises(DataError, match=f"expected one text file, got {len(paths)}"):
            read_text(paths)
    assert "directory" in refusal(tmp_path, read=read_text)


# Whatever the bytes, there is a result or a DataError of one line, and little memory is taken.

VALID = [
    picture(COLOUR),
    picture(Image.fromarray(COLOUR).quantize(8), transparency=1),
    picture(DEEP),
    picture(GREY, "BMP"),
    picture(COLOUR, "TIFF", compression="tiff_lzw"),
    picture(COLOUR, "GIF"),
    picture(COLOUR, "JPEG"),
    picture(COLOUR, "WEBP"),
    npy(STACK),
    npy(COLOUR / 255),
    write_idx(STACK),
    gzip.compress(write_idx(STACK)),
]
BEGINNINGS = [
    b"",
    b"\x93NUMPY\x01\x00",
    b"\0\0\x08\x03",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\xff\xd8\xff",
    b"P6 ",
    b"qoif",
    b"8BPS",
    b"RIFF\x20\0\0\0WEBP",
    b"\0\0\x01\0\x01\0",
]


def survives(data):
    def read():
        try:
            image = read_images(["-"], stdin=io.BytesIO(data)).images
            assert isinstance(image, np.ndarray) or len(image) == 1
        except DataError as error:
            assert re.fullmatch(".*standard input.*", str(error))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "MAX_PIXELS", 1 << 16)
        assert peak_memory(read) < 4 << 20


@pytest.fixture(scope="module", autouse=True)
def _readers_are_imported():
    Image.init()
    read_images(["-"], stdin=io.BytesIO(npy(GREY / 255)))


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_random_bytes(beginning, rest):
    survives(beginning + rest)


@given(st.sampled_from(VALID), st.data())
@settings(deadline=None, max_examples=150)
def test_truncated_files(data, drawn):
    survives(data[: drawn.draw(st.integers(1, len(data)))])


@given(st.sampled_from(VALID), st.data())
@settings(deadline=None, max_examples=200)
def test_flipped_bits(data, drawn):
    damaged = bytearray(data)
    # Most of what can go wrong is in a header.
    for place in drawn.draw(st.lists(st.integers(0, len(data) - 1) | st.integers(0, 60), min_size=1, max_size=4)):
        damaged[place % len(data)] ^= 1 << drawn.draw(st.integers(0, 7))
    survives(bytes(damaged))
