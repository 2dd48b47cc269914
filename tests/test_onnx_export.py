"""Exported models compute the same in onnxruntime as here."""

import errno
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from agreement import MARGIN, assert_same_examples

from tinyqae import (
    Adam,
    CNNAutoencoder,
    Commit,
    MLPAutoencoder,
    Naive,
    Seq2SeqAutoencoder,
    TransformAutoencoder,
    Vanilla,
    __version__,
    backend,
    fit,
    load_cifar10,
    load_mnist,
    split_sentences,
    synthetic_digits,
    synthetic_sentences,
    synthetic_shapes,
)
from tinyqae.batches import tokenize
from tinyqae.bottlenecks import KINDS, Annealed
from tinyqae.cli import main
from tinyqae.codec import shipped
from tinyqae.errors import CheckpointError, DataError, MissingPackage
from tinyqae.onnx_export import export_onnx

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra `onnx`")
onnxruntime = pytest.importorskip("onnxruntime", reason="the comparison needs onnxruntime")

EXAMPLES_README = Path(__file__).parents[1] / "examples" / "README.md"
BOTTLENECKS = [(kind, activation) for kind, made in KINDS.items() for activation in made.activations]


class Session:
    """A file in onnxruntime, checked before."""

    def __init__(self, path):
        onnx.checker.check_model(str(path), full_check=True)
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, *inputs):
        """The outputs, a list, from the inputs in their order."""
        names = [value.name for value in self.session.get_inputs()]
        return self.session.run(None, dict(zip(names, inputs, strict=True)))

    @property
    def metadata(self):
        return self.session.get_modelmeta().custom_metadata_map


def exported(model, folder):
    """{name: session} of what export_onnx writes."""
    return {path.stem: Session(path) for path in export_onnx(model, folder)}


def assert_same_code(model, examples, code):
    """The code is the model's own of these examples, but for bits that rounding decides."""
    latent = model.latent(examples)
    if model.bottleneck.is_binary:
        assert code.dtype == np.uint8 and code.shape == latent.shape
        clear = np.abs(latent - 0.5) > MARGIN
        assert clear.mean() > 0.9 or "relu" in model.bottleneck.activation
        np.testing.assert_array_equal(code[clear], latent[clear] > 0.5)
    else:
        assert code.dtype == np.float32
        np.testing.assert_allclose(code, latent, rtol=1e-4, atol=MARGIN / 10 * max(1, np.abs(latent).max()))


def assert_exported(model, images, folder):
    """Images through the encoder, their codes and random ones through the decoder, in batches of several sizes."""
    part = exported(model, folder)
    assert part.keys() == {"encoder", "decoder"}
    (code,) = part["encoder"](images)
    assert_same_code(model, images, code)
    random_code = np.random.default_rng(0).integers(0, 2, code.shape).astype(code.dtype)
    for some in (code, random_code, random_code[:1]):
        assert_same_examples(part["decoder"](some)[0], model.decode(some))
    for n in (1, 0):
        assert part["encoder"](images[:n])[0].shape == (n, model.latent_size)
        assert part["decoder"](code[:n])[0].shape == (n, *model.input_shape)


# ---- images ------------------------------------------------------------------------------------------------------------


def random_images(shape, n=48, seed=0):
    """Noise around a few pictures, of which a model learns something in little time."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 200, (4, *shape))
    return (pictures[np.arange(n) % 4] + random.integers(0, 56, (n, *shape))).astype(np.uint8)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("number", range(len(BOTTLENECKS)), ids=[" ".join(pair) for pair in BOTTLENECKS])
def test_images_of_every_bottleneck_with_all_options(number, kind, plain_engine, tmp_path):
    name, activation = BOTTLENECKS[number]
    shape = (8, 12, 3) if number % 2 else (12, 8, 1)
    images = random_images(shape)
    # Of each option both values, and its own mix for each bottleneck.
    signed, normalize_latent, normalize_output, centred, mse, wide = (number * 11 + 5 >> bit & 1 for bit in range(6))
    bottleneck = KINDS[name](activation=activation, signed=bool(signed))
    options = {
        "normalize_latent": bool(normalize_latent),
        "reconstruction": "mse" if mse else "bce",
        "seed": number,
        "mean_image": images.mean(axis=0) / 255 if centred else None,
    }
    if kind == "mlp":
        model = MLPAutoencoder(
            bottleneck, (24, 10) if wide else (10,), shape, normalize_hidden=bool(normalize_output), **options
        )
    else:
        model = CNNAutoencoder(
            bottleneck,
            (4, 6),
            3,
            shape,
            decoder_widths=(5, 7) if wide else None,
            normalize_output=bool(normalize_output),
            **options,
        )
    fit(model, images, Adam(1e-2), epochs=4, batch_size=16)
    assert_exported(model, images, tmp_path)


@pytest.mark.parametrize("bottleneck", [Commit(signed=True), Vanilla(activation="linear")], ids=repr)
def test_a_transform_code(bottleneck, engine, tmp_path):
    images = random_images((8, 12, 3))
    model = TransformAutoencoder.from_images(images, bottleneck, 14, correction=(4, 5))
    assert len(model.stages) > 1 or not model.bottleneck.is_binary
    fit(model, images, Adam(1e-3), epochs=4, batch_size=16)
    assert_exported(model, images, tmp_path)


def test_the_options_above_take_both_values():
    drawn = np.array([[number * 11 + 5 >> bit & 1 for bit in range(6)] for number in range(len(BOTTLENECKS))])
    assert (drawn.min(axis=0) == 0).all() and (drawn.max(axis=0) == 1).all()


def test_an_activation_of_exactly_one_half_is_the_bit_0(tmp_path):
    """relu-sigmoid gives it for every h up to 0."""
    images = random_images((8, 8, 1))
    model = MLPAutoencoder(Naive(activation="relu-sigmoid"), (16,), (8, 8, 1))
    exact = model.latent(images) == 0.5
    (code,) = exported(model, tmp_path)["encoder"](images)
    assert exact.mean() > 0.2 and not code[exact].any()


def test_the_slope_is_the_one_in_use(tmp_path):
    images = random_images((8, 8, 1))
    model = MLPAutoencoder(Annealed(slope=4.0), (16,), (8, 8, 1), normalize_latent=True)
    model.bottleneck.set_progress(0.5)
    assert_exported(model, images, tmp_path)
    graph = onnx.load(tmp_path / "encoder.onnx").graph
    (factor,) = [node.input[1] for node in graph.node if node.op_type == "Mul"][1:]  # The first one is 1/255.
    (slope,) = [onnx.numpy_helper.to_array(value) for value in graph.initializer if value.name == factor]
    assert slope == 2.5


def test_float64_becomes_float32(tmp_path):
    images = random_images((8, 8, 1))
    model = CNNAutoencoder(
        Commit(), (4,), 3, (8, 8, 1), dtype=np.float64, normalize_latent=True, mean_image=images.mean(axis=0) / 255
    )
    assert_exported(model, images, tmp_path)
    types = {value.data_type for value in onnx.load(tmp_path / "encoder.onnx").graph.initializer}
    assert types == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


@pytest.mark.parametrize(
    ("name", "load", "made_up"),
    [
        ("mlp-50", load_mnist, synthetic_digits),
        ("cnn-small", load_cifar10, synthetic_shapes),
        ("transform-small", load_cifar10, synthetic_shapes),
    ],
)
def test_shipped_models_of_images(name, load, made_up, tmp_path):
    model = shipped(name, "reference")
    assert_exported(model, made_up(train=200, test=50).test_images, tmp_path)
    try:
        options = {"allow_modified_data": True} if load is load_cifar10 else {}
        images = load(download=False, **options).test_images[:100]
    except DataError:
        pytest.skip("the data set is not on this machine; made-up images agree")
    assert_exported(model, images, tmp_path)


# ---- sentences ---------------------------------------------------------------------------------------------------------


def written(part, code):
    """The sentences that the exported decoder writes, each time the most likely character, with NumPy alone."""
    told = part["encoder"].metadata
    alphabet, start, end = told["alphabet"], int(told["start"]), int(told["end"])
    state, *context = part["decoder_start"](code)
    token, sentences = np.full(len(code), start), [""] * len(code)
    ended = np.zeros(len(code), bool)
    for _ in range(int(told["max_length"])):
        logits, state = part["decoder_step"](token, state, *context)
        logits[:, start] = -np.inf
        token = logits.argmax(axis=1)
        ended |= token == end
        sentences = [text if done else text + alphabet[i] for text, i, done in zip(sentences, token, ended, strict=True)]
    return sentences


def assert_sentences_exported(model, sentences, folder):
    part = exported(model, folder)
    assert part.keys() == {"encoder", "decoder_start", "decoder_step"}
    tokens, lengths, _ = tokenize(sentences, model.pad_to)
    (code,) = part["encoder"](tokens.astype(np.int64), lengths.astype(np.int32))
    assert_same_code(model, sentences, code)
    # Longer padding, whatever is in it, changes nothing.
    longer = np.pad(tokens, ((0, 0), (0, 3)), constant_values=7).astype(np.int64)
    np.testing.assert_array_equal(part["encoder"](longer, lengths.astype(np.int32))[0], code)
    assert written(part, code) == model.decode(code, beam=1)
    assert part["encoder"].metadata["pad_to"] == str(model.pad_to)


@pytest.mark.parametrize(
    "made", [Commit(signed=True), Naive(), Vanilla(activation="linear"), Annealed()], ids=lambda made: made.kind
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reverse": True, "normalize_latent": True},
        {"dense_states": False, "code_every_step": True},
        {"units": 12, "code_every_step": True, "reverse": True, "normalize_latent": True},
        {"pad_to": 24, "reverse": True},
    ],
    ids=lambda options: " ".join(options) or "none",
)
def test_sentences_with_all_options(made, options, plain_engine, tmp_path):
    sentences = split_sentences(synthetic_sentences(seed=0), "random").train[:64]
    model = Seq2SeqAutoencoder(made, 8, max_length=26, **options)
    fit(model, list(sentences), Adam(1e-2), epochs=3, batch_size=16)
    assert_sentences_exported(model, [*sentences[:20], "a"], tmp_path)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_empty_sentence_is_the_initial_state(reverse, tmp_path):
    model = Seq2SeqAutoencoder(Vanilla(activation="linear"), 8, reverse=reverse, engine="reference")
    assert_sentences_exported(model, ["go on", "", "no"], tmp_path)


def test_the_shipped_model_of_sentences(tmp_path):
    sentences = list(split_sentences(synthetic_sentences(seed=0), "random").test[:40])
    assert_sentences_exported(shipped("lstm-64", "reference"), sentences, tmp_path)


# ---- the files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    return MLPAutoencoder(Commit(), (6,), (4, 4, 1))


def test_the_metadata_name_the_model(model, tmp_path):
    for session in exported(model, tmp_path).values():
        assert session.metadata == {"tinyqae": __version__, "model_id": model.model_id(), "bottleneck": "commit"}
    assert {onnx.load(path).opset_import[0].version for path in tmp_path.iterdir()} == {17}


def test_both_engines_write_the_same_bytes(tmp_path):
    for engine in ("reference", "fast"):
        export_onnx(CNNAutoencoder(Commit(), (4,), 3, (8, 8, 1), engine=engine), tmp_path / engine)
        export_onnx(Seq2SeqAutoencoder(Commit(), 8, engine=engine), tmp_path / engine)
    for path in (tmp_path / "fast").iterdir():
        assert path.read_bytes() == (tmp_path / "reference" / path.name).read_bytes()


def test_a_model_on_the_device_is_written_like_one_on_the_host(device, tmp_path):
    def make():
        yield CNNAutoencoder(Commit(), (4,), 3, (8, 8, 1), mean_image=np.full((8, 8, 1), 0.5))
        yield Seq2SeqAutoencoder(Commit(), 8, normalize_latent=True, code_every_step=True)

    for model in make():
        export_onnx(model, tmp_path / "device")
    backend.use("numpy")
    for model in make():
        export_onnx(model, tmp_path / "host")
    for path in (tmp_path / "host").iterdir():
        assert path.read_bytes() == (tmp_path / "device" / path.name).read_bytes()


def test_a_full_disk_leaves_no_part_of_a_file(model, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="encoder.onnx"):
        export_onnx(model, tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []
    (tmp_path / "encoder.onnx").write_bytes(b"earlier")
    with pytest.raises(OSError, match="encoder.onnx"):
        export_onnx(model, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["encoder.onnx", "new"]
    assert (tmp_path / "encoder.onnx").read_bytes() == b"earlier"


def test_what_cannot_be_exported_is_refused_and_nothing_written(model, tmp_path, monkeypatch):
    class Own(Commit):
        def latent(self, h):
            return super().latent(h) ** 2

    with pytest.raises(TypeError, match="MLPAutoencoder.Own.*own classes"):
        export_onnx(MLPAutoencoder(Own(), (6,), (4, 4, 1)), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackage, match="tinyqae.onnx"):
        export_onnx(model, tmp_path)
    model.parameters()[0][:] = np.nan
    with pytest.raises(CheckpointError, match="NaN"):
        export_onnx(model, tmp_path)
    assert os.listdir(tmp_path) == []


# ---- the command -------------------------------------------------------------------------------------------------------


def refused(capsys, code, *arguments):
    """The one line that main(arguments) says before it exits with this code."""
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    said, status = capsys.readouterr().err.strip(), stopped.value.code
    if isinstance(status, str):  # what Python itself prints, and exits with 1
        said, status = status, 1
    assert status == code and said.startswith("error: ") and "\n" not in said
    return said


def test_the_command(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save("model.npz")
    assert main(["export", "model.npz", "--onnx", "out"]) == 0
    assert capsys.readouterr() == (f"{Path('out/encoder.onnx')}\n{Path('out/decoder.onnx')}\n", "")
    assert Session("out/decoder.onnx").metadata["model_id"] == model.model_id()
    before = Path("out/encoder.onnx").read_bytes()
    assert "encoder.onnx exists; --force overwrites it" in refused(capsys, 2, "export", "mlp-50", "--onnx", "out")
    assert Path("out/encoder.onnx").read_bytes() == before
    assert main(["export", "mlp-50", "--onnx", "out", "--force"]) == 0
    assert Path("out/encoder.onnx").read_bytes() != before
    assert "neither a file nor a model" in refused(capsys, 1, "export", "mlp-51", "--onnx", "new")
    assert "model.npz" in refused(capsys, 1, "export", "mlp-50", "--onnx", "model.npz")
    assert "--onnx" in refused(capsys, 2, "export", "mlp-50")
    assert sorted(os.listdir()) == ["model.npz", "out"]


def test_the_snippet_of_the_learning_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = EXAMPLES_README.read_text(encoding="utf-8")
    (command,) = re.findall(r"^    tinyqae (export [^#\n]*?) *(?:#.*)?$", text, re.MULTILINE)
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    main(command.split())
    digits = synthetic_digits(train=20, test=16).test_images
    names = {"digits": digits}
    exec(snippet, names)
    model = shipped("mlp-50", "reference")
    assert_same_code(model, digits, names["bits"])
    assert_same_examples(names["images"], model.decode(names["bits"]))
