"""Pictures and texts through a model into .tqae bytes and back."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import CNNAutoencoder, Commit, Fence, MLPAutoencoder, Seq2SeqAutoencoder, Vanilla, backend, codec
from tinyqae.codec import blocks, container, lines, pictures
from tinyqae.codec.files import code_shape
from tinyqae.data import clean_sentence
from tinyqae.errors import CheckpointError, CodecError


@pytest.fixture(scope="module")
def mlp():
    return MLPAutoencoder(Commit(), hidden=(50,), input_shape=(28, 28, 1))


@pytest.fixture(scope="module")
def cnn():
    return CNNAutoencoder(Fence(), widths=(4, 4, 4), latent_channels=4, input_shape=(16, 24, 3))


@pytest.fixture(scope="module")
def lstm():
    return Seq2SeqAutoencoder(Commit(signed=True), 8, normalize_latent=True, max_length=30)


def random_bytes(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# ---- images -----------------------------------------------------------------------------------------------------------


def test_a_stack_of_the_model_s_size_comes_back_as_reconstruct_gives_it(mlp, cnn):
    for model in (mlp, cnn):
        images = random_bytes(300, *model.input_shape)
        data = codec.compress(images, model)
        np.testing.assert_array_equal(codec.decompress(data, model), model.reconstruct(images))
        assert container.from_bytes(data).extra == b""
    np.testing.assert_array_equal(codec.decompress(codec.compress(images[:0], cnn), cnn), images[:0])


def test_a_stack_of_grey_images_may_lack_the_last_axis(mlp):
    images = random_bytes(7, 28, 28)
    assert codec.compress(images, mlp) == codec.compress(images[..., None], mlp) == codec.compress(list(images), mlp)


def test_one_image_costs_its_packed_bits_and_a_header_of_less_than_40_bytes(mlp, cnn, lstm):
    for content, model in ((random_bytes(1, 28, 28, 1), mlp), (random_bytes(1, 16, 24, 3), cnn), ("where are you", lstm)):
        packed = -(-model.latent_size // 8)
        assert packed < len(codec.compress(content, model)) < 40 + packed


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (29, 28), (28, 29), (100, 57), (3, 90)])
def test_a_picture_of_any_size_is_cut_into_tiles_and_put_together_again(mlp, size):
    picture = random_bytes(*size)
    data = codec.compress([picture, picture[::-1]], mlp)
    first, second = codec.decompress(data, mlp)
    assert first.shape == second.shape == (*size, 1) and first.dtype == np.uint8
    rows, columns = -(-size[0] // 28), -(-size[1] // 28)
    padded = np.pad(picture, ((0, rows * 28 - size[0]), (0, columns * 28 - size[1])), mode="edge")
    for y, x in np.ndindex(rows, columns):
        tile = (slice(28 * y, 28 * y + 28), slice(28 * x, 28 * x + 28))
        expected = mlp.reconstruct(padded[tile][None, :, :, None])[0]
        found = first[tile]
        np.testing.assert_array_equal(found, expected[: found.shape[0], : found.shape[1]])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=5),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1, 3]),
)
def test_tiles_hold_every_pixel(sizes, tile, channels):
    content = [random_bytes(*size, channels, seed=i) for i, size in enumerate(sizes)]
    tiles = pictures.cut(content, (*tile, channels))
    assert len(tiles) == pictures.count_tiles(tuple(sizes), tile)
    for picture, expected in zip(pictures.join(tiles, sizes), content, strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_a_grey_picture_goes_through_a_model_of_colours_as_three_equal_channels(cnn):
    grey = random_bytes(16, 24)
    assert codec.compress([grey], cnn) == codec.compress([np.stack([grey] * 3, axis=-1)], cnn)


def test_names_are_kept_with_the_pictures(mlp):
    names = ["zebra", "ä ö", "a" * 200]
    unpacked = codec.unpack(codec.compress(list(random_bytes(3, 28, 28)), mlp, names=names), mlp)
    assert list(unpacked.names) == names and len(unpacked.content) == 3
    assert codec.unpack(codec.compress(random_bytes(3, 28, 28), mlp), mlp).names is None


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (random_bytes(28, 28).astype(float)[None], TypeError, "picture 0 is float64, expected a uint8 array"),
        ([random_bytes(28, 28, 3)], ValueError, "picture 0 is in colour"),
        ([random_bytes(28, 28), random_bytes(0, 5)], ValueError, r"picture 1 has shape \(0, 5\)"),
        ([random_bytes(28, 28, 4)], ValueError, r"picture 0 has shape \(28, 28, 4\)"),
        (random_bytes(28), TypeError, "content is ndarray"),
        ("a text", TypeError, "content is str; an image model"),
    ],
    ids=str,
)
def test_what_is_no_image_for_the_model_is_named(mlp, content, error, message):
    with pytest.raises(error, match=message):
        codec.compress(content, mlp)


def test_names_that_do_not_fit_are_refused(mlp):
    images = list(random_bytes(2, 28, 28))
    with pytest.raises(ValueError, match="names has 1 names for 2 pictures"):
        codec.compress(images, mlp, names=["a"])
    with pytest.raises(ValueError, match="name '' has 0 bytes"):
        codec.compress(images, mlp, names=["a", ""])


def test_floats_are_no_bits():
    vanilla = MLPAutoencoder(Vanilla(), hidden=(8,), input_shape=(4, 4, 1))
    with pytest.raises(ValueError, match="the model is vanilla"):
        codec.compress(random_bytes(1, 4, 4), vanilla)


def test_more_than_a_file_may_hold_is_refused_before_memory_is_taken(mlp, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_VALUES", 3 * 784)
    data = codec.compress(random_bytes(3, 28, 28), mlp)
    assert len(codec.decompress(data, mlp)) == 3
    with pytest.raises(ValueError, match="compress them in several parts"):
        codec.compress(list(random_bytes(4, 28, 28)), mlp)
    monkeypatch.setattr(pictures, "MAX_VALUES", 2 * 784)
    with pytest.raises(CodecError, match="declares 3 images with 2352 values"):
        codec.decompress(data, mlp)


# ---- texts ------------------------------------------------------------------------------------------------------------


TEXTS = [
    "",
    "\n",
    "\n\n",
    "hello you",
    "hello you\n",
    "Hello You\n",
    "hello\nyou\n\nMe\r\nlast",
    "a\r\nB\r\n",
    "\r\n",
    "\ufeffhi\n",
    "x" * 31 + "\n" + "x" * 30,
    "naïve\n" * 3,
    " \n  \n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_coded_lines_come_back_from_the_model_and_all_others_as_they_were(lstm, text):
    unpacked = codec.unpack(codec.compress(text, lstm), lstm)
    newline = "\r\n" if text.count("\r\n") == text.count("\n") > 0 else "\n"
    expected, kept = [], 0
    for line in text.split(newline):
        coded = 0 < len(line) <= 30 and clean_sentence(line) == line
        expected.append(lstm.reconstruct([line])[0] if coded else line)
        kept += not coded
    assert unpacked.content == newline.join(expected)
    # What follows the last line feed is no line.
    assert unpacked.verbatim == kept - (not text or text.endswith("\n"))
    assert unpacked.matches


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab \n\r\u00e4\U0001f600", max_size=60))
def test_a_text_is_taken_apart_without_loss(text):
    parts = lines.take_apart(text, longest=6)
    assert lines.put_together(parts, parts.coded) == text
    extra = lines.to_extra(parts, text)
    again, checksum = lines.from_extra(extra, len(parts.coded))
    assert lines.put_together(again, parts.coded) == text
    assert checksum == blocks.checksum(text.encode())


def test_a_text_that_another_machine_decodes_otherwise_is_noticed(lstm, monkeypatch):
    data = codec.compress("hello you\nKept\n", lstm)
    monkeypatch.setattr(lstm, "decode", lambda code: ["something else"] * len(code))
    unpacked = codec.unpack(data, lstm)
    assert not unpacked.matches and unpacked.content == "something else\nKept\n"


def test_what_is_no_text_for_the_model_is_named(lstm, mlp):
    with pytest.raises(TypeError, match="content is list; a sentence model"):
        codec.compress(["hello"], lstm)
    with pytest.raises(ValueError, match="names are for pictures"):
        codec.compress("hello", lstm, names=["a"])
    with pytest.raises(ValueError, match="character 2 is '\\\\ud800'"):
        codec.compress("ab\ud800", lstm)


# ---- files ------------------------------------------------------------------------------------------------------------


def test_the_wrong_model_is_refused_by_name(mlp):
    other = MLPAutoencoder(Commit(), hidden=(50,), input_shape=(28, 28, 1), seed=1)
    data = codec.compress(random_bytes(2, 28, 28), mlp)
    with pytest.raises(CodecError, match=f"made with the model {mlp.model_id()[:16]}.*read with {other.model_id()[:16]}"):
        codec.decompress(data, other)


def test_contents_without_a_model(mlp, lstm):
    found = codec.contents(codec.compress([random_bytes(28, 28), random_bytes(30, 5)], mlp, names=["a", "b"]))
    assert found == {
        "kind": "images",
        "count": 3,
        "bits": 50,
        "method": found["method"],
        "model_id": mlp.model_id()[:16],
        "model": None,
        "pictures": 2,
        "sizes": [[28, 28], [30, 5]],
        "pixels": 784 + 150,
    }
    found = codec.contents(codec.compress(random_bytes(500, 28, 28) // 255 * 255, mlp))
    assert (found["pictures"], found["pixels"], found["sizes"]) == (500, None, [])
    found = codec.contents(codec.compress("one\nTwo\nthree\n", lstm))
    assert found == {
        "kind": "text",
        "count": 2,
        "bits": 16,
        "method": "packed",
        "model_id": lstm.model_id()[:16],
        "model": None,
        "lines": 3,
        "verbatim_lines": 1,
    }


@pytest.fixture(scope="module")
def files(mlp, cnn, lstm):
    return [
        (codec.compress([random_bytes(28, 28), random_bytes(30, 5)], mlp, names=["a", "b"]), mlp),
        (codec.compress([random_bytes(40, 30, 3)], cnn), cnn),
        (codec.compress("one\nTwo\nthree\n" + "Kept as it is\n" * 9, lstm), lstm),
    ]


def test_a_file_cut_anywhere_is_refused_in_one_line(files):
    for data, model in files:
        for end in range(len(data)):
            with pytest.raises(CodecError) as caught:
                codec.unpack(data[:end], model)
            assert "\n" not in str(caught.value)


def test_a_file_with_any_bit_flipped_is_refused(files):
    for data, model in files:
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CodecError):
                codec.unpack(bytes(damaged), model)


def resealed(data, **changes):
    """The file with changed fields and checksums that fit: made on purpose, not by accident."""
    from dataclasses import replace

    return container.to_bytes(replace(container.from_bytes(data), **changes))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2), st.booleans())
def test_hostile_extra_bytes_are_refused_or_read_whole(files, extra, which, tagged):
    data, model = files[which]
    try:
        codec.unpack(resealed(data, extra=b"\0" * tagged + extra), model)
    except CodecError as error:
        assert "\n" not in str(error)


def test_a_deflated_bomb_is_cut_off(files):
    data, model = files[0]
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = blocks.DEFLATED + compressor.compress(bytes(1 << 24)) + compressor.flush()
    with pytest.raises(CodecError, match="too long"):
        codec.unpack(resealed(data, extra=bomb), model)
    with pytest.raises(CodecError, match="too long"):
        codec.contents(resealed(data, extra=bomb))


@pytest.mark.parametrize("sizes", [((28, 28),), ((28, 28), (30, 6), (1, 1)), ((1 << 40, 1 << 40),), ((28, 28), (57, 5))])
def test_sizes_that_do_not_make_so_many_tiles_are_refused(files, sizes):
    data, model = files[0]
    with pytest.raises(CodecError, match="does not match its codes|declares"):
        codec.unpack(resealed(data, extra=pictures.to_extra(sizes, None)), model)


def test_a_file_of_another_kind_for_the_same_model_is_refused(files):
    data, model = files[0]
    with pytest.raises(CodecError, match="damaged"):
        codec.unpack(resealed(data, kind=codec.TEXTS, extra=b""), model)


def test_progress_is_shown_on_request_only(mlp, capsys):
    data = codec.compress(random_bytes(3, 28, 28), mlp)
    codec.decompress(data, mlp)
    assert capsys.readouterr() == ("", "")
    codec.decompress(codec.compress(random_bytes(3, 28, 28), mlp, progress=True), mlp, progress=True)
    assert "encode" in (error := capsys.readouterr().err) and "decode" in error


# ---- the same on every machine ------------------------------------------------------------------------------------------


def test_kernels_and_threads_give_the_same_bits_and_nearly_the_same_pixels(mlp, cnn, lstm, monkeypatch):
    contents = random_bytes(600, 28, 28), random_bytes(600, 16, 24, 3), "hello you\n" * 600
    for model, content in zip((mlp, cnn, lstm), contents, strict=True):
        data = codec.compress(content, model)
        results = []
        for kernels in ("numpy", "numba"):
            for threads in (1, 2):
                monkeypatch.setenv("TINYQAE_KERNELS", kernels)
                before = backend.threads
                backend.use_threads(threads)
                try:
                    results.append(codec.unpack(data, model))
                finally:
                    backend.use_threads(before)
        for result in results[1:]:
            if isinstance(content, str):
                assert result == results[0] and result.matches
            else:
                assert np.abs(result.content.astype(int) - results[0].content).max() <= 1


def test_code_shapes(mlp, cnn, lstm):
    assert code_shape(mlp) == (50,) and code_shape(cnn) == (2, 3, 4) and code_shape(lstm) == (16,)


# ---- the models that come with the package ------------------------------------------------------------------------------


def test_shipped_models_are_what_models_json_says_and_small():
    entries = codec.shipped_models()
    assert set(entries) == {"mlp-50", "mlp-100", "cnn-small", "transform-small", "lstm-64"}
    assert sum(entry["bytes"] for entry in entries.values()) < 3e6
    for name, entry in entries.items():
        model = codec.shipped(name)
        assert model.model_id() == entry["model_id"]
        assert codec.name_of(bytes.fromhex(entry["model_id"])[:8]) == name
        parameters = model.state_arrays()["parameters"]
        assert np.isfinite(parameters).all() and parameters.dtype == np.float32
        assert "CIFAR" not in entry["data"]["name"] or "proxy" in entry["data"]["name"]


def test_a_shipped_model_and_one_from_a_file_are_found_by_what_they_are_called(mlp, tmp_path):
    assert codec.find("mlp-50").latent_size == 50
    mlp.save(tmp_path / "model.npz")
    assert codec.find(tmp_path / "model.npz").model_id() == mlp.model_id()
    with pytest.raises(CheckpointError, match="nothing: neither a file nor a model.*mlp-50"):
        codec.find("nothing")
    with pytest.raises(CheckpointError, match="no model called 'mlp-51'.*mlp-50"):
        codec.shipped("mlp-51")


def test_the_wrong_shipped_model_is_refused_by_name():
    data = codec.compress(random_bytes(2, 28, 28), codec.shipped("mlp-50"))
    with pytest.raises(CodecError, match=r"made with the model mlp-50 \(.*cannot be read with mlp-100"):
        codec.decompress(data, codec.shipped("mlp-100"))
