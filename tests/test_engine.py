"""The choice between the engines: the default, what stands for what, a user's own parts, and what keeps the two apart."""

import ast
import concurrent.futures
import copy
import inspect
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from cublas_stand_in import CuBLASStandIn
from device_stand_in import StandIn
from engines import flat, train_once

import tinyqae
from tinyqae import (
    SGD,
    Adam,
    CNNAutoencoder,
    Commit,
    MLPAutoencoder,
    Naive,
    Seq2SeqAutoencoder,
    Vanilla,
    backend,
    fit,
    load,
    split_sentences,
    synthetic_digits,
    synthetic_sentences,
)
from tinyqae import bottlenecks as reference_bottlenecks
from tinyqae import layers as reference_layers
from tinyqae import losses as reference_losses
from tinyqae import recurrent as reference_recurrent
from tinyqae.batches import ImageBatches
from tinyqae.bottlenecks import KINDS, Annealed, Bottleneck, make_bottleneck
from tinyqae.checkpoint import write_arrays
from tinyqae.engine import DEFAULT, ENGINES, Reference, choose
from tinyqae.errors import BackendError, CheckpointError
from tinyqae.fast import optim as fast_optim
from tinyqae.fast.cuda import gemm
from tinyqae.fast.layers import WrappedLayer
from tinyqae.fast.losses import FAST_LOSSES, BufferedLoss
from tinyqae.fast.parts import FAST_VERSIONS
from tinyqae.gradcheck import check_directions
from tinyqae.layers import (
    BatchNorm,
    Centre,
    Conv2d,
    ConvBlock,
    Dense,
    Layer,
    MaxPool2d,
    ReLU,
    Sequential,
    Upsample2d,
)
from tinyqae.losses import Loss
from tinyqae.models.images import ImageAutoencoder
from tinyqae.optim import OPTIMIZERS, Optimizer
from tinyqae.recurrent import LSTM, SentenceDecoder, SentenceEncoder, SideBySide
from tinyqae.train import TrainingStep

PACKAGE = Path(tinyqae.__file__).parent
# The reference engine's files.
REFERENCE = [
    path
    for pattern in (
        "ops/*.py",
        "losses.py",
        "layers.py",
        "recurrent.py",
        "transform_coding.py",
        "bottlenecks/*.py",
        "models/*.py",
        "optim.py",
        "train.py",
        "gradcheck.py",
    )
    for path in sorted(PACKAGE.glob(pattern))
]
SHAPE = (4, 4, 1)


def images(n=60, dtype=np.float32):
    return np.random.default_rng(n).random((n, *SHAPE), dtype)


def weights(model):
    """The parameters as one vector, a copy."""
    return model.state_arrays()["parameters"]


# ---- which engine ---------------------------------------------------------------------------------------------------

MODELS = {
    "mlp": lambda **arguments: MLPAutoencoder(Commit(), (6, 5), SHAPE, **arguments),
    "cnn": lambda **arguments: CNNAutoencoder(
        Commit(), widths=(2, 3, 2), latent_channels=2, input_shape=(8, 8, 1), **arguments
    ),
    "seq2seq": lambda **arguments: Seq2SeqAutoencoder(Commit(), 4, max_length=6, **arguments),
}


def test_the_default_is_fast(monkeypatch):
    monkeypatch.delenv("TINYQAE_ENGINE", raising=False)
    assert choose().name == DEFAULT == "fast"
    monkeypatch.setenv("TINYQAE_ENGINE", "")
    assert choose().name == "fast"


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", ENGINES)
def test_environment_and_argument_choose(name, make, monkeypatch):
    other = ENGINES[1 - ENGINES.index(name)]
    monkeypatch.setenv("TINYQAE_ENGINE", name)
    assert make().engine.name == name
    monkeypatch.setenv("TINYQAE_ENGINE", other)
    assert make(engine=name).engine.name == name


@pytest.mark.parametrize(
    "make",
    [
        choose,
        lambda engine: MODELS["mlp"](engine=engine),
        lambda engine: MODELS["cnn"](engine=engine),
        lambda engine: MODELS["seq2seq"](engine=engine),
        lambda engine: load("none.npz", engine),
    ],
    ids=["choose", *MODELS, "load"],
)
def test_an_unknown_engine_is_named_with_its_value(make, monkeypatch):
    with pytest.raises(ValueError, match="^engine='turbo' is unknown; choose one of reference, fast$"):
        make("turbo")
    monkeypatch.setenv("TINYQAE_ENGINE", "Fast")
    with pytest.raises(BackendError, match="^TINYQAE_ENGINE='Fast' is unknown; choose one of reference, fast$"):
        make(None)


def test_both_engines_answer_to_the_same_methods():
    reference, fast = ({name for name in dir(choose(name)) if not name.startswith("_")} for name in ENGINES)
    assert reference == fast


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_seed_gives_the_same_weights_in_both_engines(make):
    reference, fast, other = make(seed=3, engine="reference"), make(seed=3, engine="fast"), make(seed=4, engine="fast")
    assert reference.model_id() == fast.model_id() != other.model_id()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_file_of_one_engine_is_loaded_by_the_other(make, tmp_path):
    for writer, reader in (ENGINES, ENGINES[::-1]):
        model = make(engine=writer)
        model.save(tmp_path / "model.npz")
        same = load(tmp_path / "model.npz", engine=reader)
        assert same.engine.name == reader and same.model_id() == model.model_id()


@pytest.mark.parametrize("name", ENGINES)
def test_a_copy_has_the_engine_of_the_original(name):
    model = MODELS["mlp"](engine=name)
    other = copy.deepcopy(model)
    assert other.engine.name == name and other.model_id() == model.model_id()
    train_once(other, images())
    Adam().step(other)
    assert other.model_id() != model.model_id()


# ---- what stands for what -------------------------------------------------------------------------------------------

LAYERS = {
    "Dense": (lambda: Dense(4), (3,)),
    "ReLU": (ReLU, (5,)),
    "BatchNorm": (BatchNorm, (4,)),
    "Centre": (lambda: Centre(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)), (3, 4)),
    "Conv2d": (lambda: Conv2d(3), (4, 6, 2)),
    "MaxPool2d": (MaxPool2d, (4, 6, 2)),
    "Upsample2d": (Upsample2d, (3, 2, 2)),
    "ConvBlock": (lambda: ConvBlock(3, pool=True), (4, 6, 2)),
    "ConvBlock up": (lambda: ConvBlock(3, upsample=True), (4, 2, 2)),
    "ConvBlock that only the reference has": (lambda: ConvBlock(3, norm=False, pool=True), (4, 6, 2)),
    "ConvBlock up with 5x5": (lambda: ConvBlock(3, 5, upsample=True), (4, 2, 2)),
    "Sequential": (lambda: Sequential(Dense(4), ReLU(), BatchNorm(), Dense(2)), (3,)),
}
RECURRENT = {
    "LSTM": (lambda: LSTM(3), (4,)),
    "SentenceEncoder": (lambda: SentenceEncoder(LSTM(3, tokens=True)), (5,)),
    "SentenceDecoder": (lambda: SentenceDecoder(LSTM(3, tokens=True), Dense(5)), (5,)),
    "SideBySide": (SideBySide, (6,)),
}


def kinds_in(module, parent):
    """The names of the classes that a module defines and that inherit from `parent`."""
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, parent)
        and value is not parent
        and value.__module__.startswith(module.__name__)
    }


def is_fast(part):
    """Whether a built layer computes with the fast engine: itself, or each layer that it is composed of."""
    return type(part).__module__.startswith("tinyqae.fast") or (
        type(part) is Sequential and all(is_fast(layer) for layer in part.layers)
    )


def test_every_layer_is_among_those_tested_here():
    assert kinds_in(reference_layers, Layer) == {name.split()[0] for name in LAYERS}
    assert kinds_in(reference_recurrent, Layer) == set(RECURRENT)


@pytest.mark.parametrize("name", LAYERS | RECURRENT)
def test_every_layer_has_a_fast_version_or_is_wrapped(name):
    make, shape = (LAYERS | RECURRENT)[name]
    layer = make()
    layer.setup(shape, np.random.default_rng(0), np.dtype(np.float32))
    built = choose("fast").build(layer)
    assert is_fast(built) and not is_fast(layer)
    assert (built.input_shape, built.output_shape, built.dtype) == (layer.input_shape, layer.output_shape, layer.dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_built_layer_computes_what_the_reference_computes(name, dtype, tolerance, kernels):
    make, shape = LAYERS[name]
    random, results = np.random.default_rng(1), []
    reference, other = make(), make()
    for layer in (reference, other):
        layer.setup(shape, np.random.default_rng(0), np.dtype(dtype))
    if name == "Centre":
        reference.constant = other.constant = reference.constant.astype(dtype)
    x = random.standard_normal((6, *shape)).astype(dtype)
    dy = random.standard_normal((6, *reference.output_shape)).astype(dtype)
    for layer in (reference, choose("fast").build(other)):
        y, dx = layer.forward(x).copy(), layer.backward(dy).copy()
        parts = layer.layers if type(layer) is Sequential else [layer]
        gradients = [part.grads[key].copy() for part in parts for key in part.params]
        results.append([y, dx, layer.forward(x, training=False).copy(), *gradients])
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bottleneck_has_a_fast_version_with_the_same_settings(kind):
    bottleneck = make_bottleneck(kind, signed=True, noise=0.1)
    built = choose("fast").build(bottleneck)
    assert type(built) is FAST_VERSIONS[KINDS[kind]] and isinstance(built, KINDS[kind])
    assert repr(built) == repr(bottleneck) and built.config() == bottleneck.config()


def test_every_bottleneck_of_the_package_is_of_a_kind():
    assert kinds_in(reference_bottlenecks, Bottleneck) == {kind.__name__ for kind in KINDS.values()}


def test_every_reconstruction_loss_has_a_fast_version():
    functions = {value for name, value in vars(reference_losses).items() if name.endswith("_with_logits")}
    assert set(FAST_LOSSES) == functions
    for function, (fast_function, _) in FAST_LOSSES.items():
        loss = Loss(function, getattr(reference_losses, f"{function.__name__}_backward"))
        built = choose("fast").build(loss)
        assert type(built) is BufferedLoss and built.function is fast_function
        assert fast_function.__name__ == function.__name__


def test_every_optimizer_has_a_fast_version():
    assert set(fast_optim.FAST_OPTIMIZERS) == set(OPTIMIZERS.values())
    assert kinds_in(sys.modules["tinyqae.optim"], Optimizer) == {kind.__name__ for kind in OPTIMIZERS.values()}


def test_batches_and_the_training_step_have_fast_versions():
    for part in (ImageBatches(images(), 8, np.float32), TrainingStep(MODELS["mlp"](), Adam(), 8)):
        assert type(choose("fast").build(part)) is FAST_VERSIONS[type(part)]


def test_the_reference_engine_uses_a_shallow_copy_of_each_part():
    for part in (Dense(3), Commit(), Loss(min, max)):
        built = Reference().build(part)
        assert built is not part and type(built) is type(part) and vars(built) == vars(part)


def test_two_models_of_one_bottleneck_object_do_not_share_its_state(plain_engine):
    bottleneck = Commit()
    first, second = (MLPAutoencoder(bottleneck, (5,), SHAPE, seed=seed) for seed in (0, 1))
    first.loss(images())
    before = float(first.bottleneck.loss())
    second.loss(images())
    assert float(first.bottleneck.loss()) == before != float(second.bottleneck.loss())
    assert vars(bottleneck).keys() == vars(Commit()).keys()


# ---- a user's own parts ---------------------------------------------------------------------------------------------


class Tanh(Layer):
    """A user's layer without parameters."""

    def forward(self, x, training=True):
        self.y = backend.xp.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y * self.y)


class Scale(Layer):
    """A user's layer with a parameter, and a state: the running mean of what it saw, which it subtracts at inference."""

    def draw(self, random):
        self._parameter("scale", 1 + 0.1 * random.standard_normal(self.input_shape))
        self.state = {"mean": backend.xp.zeros(self.input_shape, self.dtype)}
        return self.input_shape

    def forward(self, x, training=True):
        if not training:
            return (x - self.state["mean"]) * self.params["scale"]
        self.x = x
        self.state["mean"][...] = 0.9 * self.state["mean"] + 0.1 * x.mean(axis=0)
        return x * self.params["scale"]

    def backward(self, dy):
        self.grads["scale"] = (dy * self.x).sum(axis=0)
        return dy * self.params["scale"]


class WithOwnLayers(ImageAutoencoder):
    """Layers that have a fast version, such that only the reference has, and a user's own."""

    def __init__(self, bottleneck, input_shape=SHAPE, *, seed=0, dtype=np.float32, engine=None):
        self.build(
            Sequential(Conv2d(2), MaxPool2d(), Scale(), ConvBlock(2)),
            bottleneck,
            Sequential(Upsample2d(), Tanh(), Scale(), Conv2d(1)),
            input_shape=input_shape,
            seed=seed,
            dtype=dtype,
            engine=engine,
        )

    def config(self):
        return {"input_shape": list(self.input_shape), "dtype": self.dtype.name}


class Centred(Bottleneck):
    """A user's bottleneck: trained without the threshold, with a loss that pulls a to 1/2, and half the code's gradient."""

    kind = "centred"
    loss_name = "distance to 1/2"
    default_weight = 0.3

    def loss(self):
        return backend.xp.vdot(self.a - 0.5, self.a - 0.5) / self.a.size

    def gradient(self, dcode):
        return dcode + self.weight * 2 * (self.a - 0.5) / self.a.size


class FrozenCommit(Commit):
    """A user's change of a kind that the fast engine has: no gradient of the reconstruction."""

    def gradient(self, db):
        return super().gradient(0 * db)


class SignDescent(Optimizer):
    """A user's optimizer: the sign of a running mean. Bernstein et al. 2018, arXiv:1802.04434."""

    state_names = ("mean",)

    def update(self, p, g, lr, mean):
        mean[...] = 0.9 * mean + 0.1 * g
        p -= lr * backend.xp.sign(mean)


class DecayingSGD(SGD):
    """A user's change of an optimizer that the fast engine has: weight decay."""

    def update(self, p, g, lr, v):
        p -= lr * 0.1 * p
        super().update(p, g, lr, v)


def check_gradients(model, batch):
    """The gradients of the whole model against finite differences of its objective."""
    train_once(model, batch)
    gradients = [gradient.copy() for gradient in model.gradients()]
    assert np.linalg.norm(flat(gradients)) > 0
    check_directions(lambda: model.loss(batch), model.parameters(), gradients)


def assert_both_engines_train_alike(make, make_optimizer=lambda: Adam(1e-2)):
    """Five epochs in float64 end at the same weights and state, and have learned something."""
    ends = []
    for name in ENGINES:
        model = make(engine=name, dtype=np.float64)
        history = fit(model, images(), make_optimizer(), epochs=5, batch_size=16, clip_norm=1.0, progress=False)
        assert history.rows[-1]["reconstruction"] < history.rows[0]["reconstruction"]
        ends.append(model.state_arrays())
    reference, fast = ends
    assert reference.keys() == fast.keys()
    for name, array in reference.items():
        np.testing.assert_allclose(fast[name], array, rtol=1e-7, atol=1e-9)


def test_own_layers_are_wrapped_in_a_fast_model_and_built_ones_are_not():
    model = WithOwnLayers(Commit(), engine="fast")
    wrapped = [type(layer.layer).__name__ if type(layer) is WrappedLayer else None for layer in model.layers]
    assert wrapped == ["Conv2d", "MaxPool2d", "Scale", None, "Upsample2d", "Tanh", "Scale", "Conv2d"]


def test_gradients_of_a_model_with_own_layers(plain_engine):
    check_gradients(WithOwnLayers(Naive(), dtype=np.float64), images(8, np.float64))


def test_own_layers_train_alike_in_both_engines(monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    assert_both_engines_train_alike(lambda **arguments: WithOwnLayers(Commit(), **arguments))


def test_a_model_with_own_layers_is_saved_loaded_and_copied(engine, tmp_path):
    model = WithOwnLayers(Commit())
    fit(model, images(), Adam(1e-2), epochs=1, progress=False)
    model.save(tmp_path / "model.npz")
    for same in (load(tmp_path / "model.npz"), copy.deepcopy(model)):
        assert same.engine.name == engine and same.model_id() == model.model_id()
        np.testing.assert_array_equal(same.reconstruct(images()), model.reconstruct(images()))


def test_gradients_of_a_model_with_an_own_bottleneck(plain_engine):
    model = MLPAutoencoder(Centred(signed=True), (6, 5), SHAPE, normalize_latent=True, dtype=np.float64)
    check_gradients(model, images(8, np.float64))
    assert set(model.terms) == {"reconstruction", "distance to 1/2"}


@pytest.mark.parametrize(
    "make_bottleneck_",
    [Centred, lambda: Centred(noise=0.1, signed=True), FrozenCommit],
    ids=["plain", "noise", "of a known kind"],
)
def test_an_own_bottleneck_trains_alike_in_both_engines(make_bottleneck_, monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    assert_both_engines_train_alike(lambda **arguments: MLPAutoencoder(make_bottleneck_(), (6, 5), SHAPE, **arguments))


def test_what_a_subclass_of_a_known_bottleneck_changes_holds_in_both_engines(engine):
    model = MLPAutoencoder(FrozenCommit(weight=0.0), (6, 5), SHAPE)
    train_once(model, images())
    assert type(model.bottleneck) is FrozenCommit
    for layer in model.encoder.layers:
        for gradient in layer.grads.values():
            np.testing.assert_array_equal(gradient, 0)
    assert any(gradient.any() for layer in model.decoder.layers for gradient in layer.grads.values())


def test_codes_of_an_own_bottleneck_are_decoded_and_its_file_is_refused_by_name(engine, tmp_path):
    model = MLPAutoencoder(Centred(), (6, 5), SHAPE)
    code = model.encode(images())
    assert code.dtype == bool and code.shape == (60, 5)
    assert model.decode(code).shape == (60, *SHAPE)
    np.testing.assert_array_equal(copy.deepcopy(model).encode(images()), code)
    model.save(tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="'centred' is unknown"):
        load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    "make_optimizer", [lambda: SignDescent(1e-3), lambda: DecayingSGD(0.5)], ids=["new", "of a known kind"]
)
def test_an_own_optimizer_trains_alike_in_both_engines(make_optimizer, monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    assert_both_engines_train_alike(MODELS["mlp"], make_optimizer)


def test_what_a_subclass_of_a_known_optimizer_changes_holds_in_both_engines(engine):
    with_decay, without = MODELS["mlp"](), MODELS["mlp"]()
    before = weights(with_decay)
    for model, optimizer in ((with_decay, DecayingSGD(1e-2)), (without, SGD(1e-2))):
        train_once(model, images())
        optimizer.step(model)
    np.testing.assert_allclose(weights(without) - weights(with_decay), 1e-3 * before, rtol=1e-3, atol=1e-7)


def test_a_run_with_an_own_optimizer_resumes_to_the_same_weights(engine, tmp_path):
    arguments = {"epochs": 4, "batch_size": 16, "progress": False}
    whole, begun, resumed = (MODELS["mlp"]() for _ in range(3))
    fit(whole, images(), SignDescent(1e-3), **arguments)

    def stop(done, total, means):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", 0)
        fit(begun, images(), SignDescent(1e-3), checkpoint=tmp_path / "c.npz", **{**arguments, "progress": stop})
    fit(resumed, images(), SignDescent(1e-3), checkpoint=tmp_path / "c.npz", resume=True, **arguments)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


class OwnDense(Dense):
    """A user's change of a layer that the fast engine has."""

    def forward(self, x, training=True):
        return 2 * super().forward(x, training)

    def backward(self, dy):
        return super().backward(2 * dy)


class WithOwnDense(ImageAutoencoder):
    """A small model for the stand-in of a GPU, which computes little."""

    def __init__(self, bottleneck, *, engine=None):
        self.build(
            Sequential(Dense(3)), bottleneck, Sequential(OwnDense(16)), input_shape=SHAPE, flatten=True, engine=engine
        )


@pytest.mark.parametrize(
    ("make", "make_optimizer"),
    [
        (lambda: MODELS["mlp"](engine="fast"), lambda: SignDescent(1e-3)),
        (lambda: MODELS["mlp"](engine="fast"), DecayingSGD),
        (lambda: MLPAutoencoder(Centred(), (6, 5), SHAPE, engine="fast"), Adam),
        (lambda: WithOwnDense(Commit(), engine="fast"), Adam),
    ],
    ids=["optimizer", "changed optimizer", "bottleneck", "layer"],
)
def test_steps_with_own_parts_are_never_captured_on_a_gpu(make, make_optimizer, device, recwarn):
    if isinstance(device, StandIn):
        backend.gpu_gemm = gemm.CuBLAS(CuBLASStandIn(device), 1 << 20)
    for model, optimizer, captured in ((make(), make_optimizer(), False), (MODELS["mlp"](engine="fast"), Adam(), True)):
        before, batches = weights(model), model.batches(images(), 16)
        with model.engine.build(TrainingStep(model, optimizer, 16)) as step:
            for batch in batches.epoch(np.random.default_rng(0)):
                step(batch, 1e-3)
        assert bool(step.graphs) == captured
        assert not np.array_equal(weights(model), before)
    assert not recwarn.list


# ---- what keeps the engines apart -----------------------------------------------------------------------------------


def modules_imported_by(path):
    """The parts of the dotted names that a file imports anywhere: {"tinyqae", "fast", ...}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {part for name in node.names for part in name.name.split(".")}
        elif isinstance(node, ast.ImportFrom):
            found |= {*(node.module or "").split("."), *(name.name for name in node.names)}
    return found


def test_the_reference_engine_is_all_there():
    names = {str(path.relative_to(PACKAGE)) for path in REFERENCE}
    assert names >= {
        "ops/conv.py",
        "losses.py",
        "layers.py",
        "recurrent.py",
        "bottlenecks/report.py",
        "models/base.py",
        "optim.py",
        "train.py",
        "gradcheck.py",
    }


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_reference_engine_has_no_buffers_and_never_asks_what_computes(path):
    found = re.findall(r"\bout=|scratch|backend\.name|kernels\.choose", path.read_text(encoding="utf-8"))
    assert found == []
    assert "fast" not in modules_imported_by(path)


def test_only_the_switch_and_the_backend_import_the_fast_engine():
    outside = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "fast"]
    # The backend: what multiplies matrices on a GPU.
    assert {path.name for path in outside if "fast" in modules_imported_by(path)} == {"engine.py", "backend.py"}


def test_only_the_backend_imports_cupy():
    assert [path.name for path in PACKAGE.rglob("*.py") if "cupy" in modules_imported_by(path)] == ["backend.py"]


WITHOUT = textwrap.dedent("""
    import sys
    sys.modules["numba"] = sys.modules["cupy"] = None  # As if they were not installed.
    import numpy as np
    import tinyqae

    assert not any(name.startswith("tinyqae.fast") for name in sys.modules)
    engine = sys.argv[1]
    digits = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    for make, examples in (
            (lambda b: tinyqae.MLPAutoencoder(b, (6, 5), (8, 8, 1), engine=engine), digits),
            (lambda b: tinyqae.CNNAutoencoder(b, widths=(2, 3, 2), latent_channels=2, input_shape=(8, 8, 1), engine=engine),
             digits),
            (lambda b: tinyqae.Seq2SeqAutoencoder(b, 4, max_length=6, engine=engine), ["ab", "cd e", "f"] * 8)):
        model = make(tinyqae.Commit())
        history = tinyqae.fit(model, examples, tinyqae.Adam(1e-2), epochs=2, batch_size=8, validation=examples,
                              progress=False)
        assert len(history.rows) == 2 and len(model.reconstruct(examples)) == len(examples)
        model.save(sys.argv[2])
        assert tinyqae.load(sys.argv[2], engine=engine).model_id() == model.model_id()
    loaded = any(name.startswith("tinyqae.fast") for name in sys.modules)
    assert loaded == (engine == "fast")
    print(model.engine.name, model.engine.kernels())
""")


@pytest.mark.parametrize("name", ENGINES)
def test_models_train_where_numba_and_cupy_are_not_installed(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    monkeypatch.delenv("TINYQAE_KERNELS", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, name, str(tmp_path / "model.npz")], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, f"{name} numpy\n"), done.stderr


def test_a_copy_keeps_a_users_kind_of_bottleneck(plain_engine):
    model = MLPAutoencoder(FrozenCommit(weight=0.5), hidden=(4,), input_shape=(3, 3, 1))
    assert type(copy.deepcopy(model).bottleneck) is FrozenCommit


def test_a_copy_in_the_middle_of_annealing_has_the_slope_of_that_moment(plain_engine):
    model = MLPAutoencoder(Annealed(slope=11.0), hidden=(4,), input_shape=(3, 3, 1))
    model.bottleneck.set_progress(0.5)
    x = np.random.default_rng(0).random((5, 3, 3, 1)).astype(np.float32)
    duplicate = copy.deepcopy(model)
    assert duplicate.bottleneck.current_slope == 6
    np.testing.assert_array_equal(duplicate.latent(x), model.latent(x))


def test_blas_has_one_thread_where_layers_split_batches_and_for_small_products(monkeypatch):
    def threads(model, batch_size):
        with threadpoolctl.threadpool_limits(2, "blas"), model.engine.working(model, batch_size):
            return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}

    fast = {"engine": "fast"}
    assert threads(CNNAutoencoder(Commit(), widths=(4,), latent_channels=2, **fast), 1000) == {1}
    assert threads(Seq2SeqAutoencoder(Commit(), 32, **fast), 1000) == {1}
    assert threads(MLPAutoencoder(Commit(), (50,), **fast), 4) == {1}
    assert threads(MLPAutoencoder(Commit(), (50,), **fast), 1000) == {2}


def test_blas_threads_are_restored_after_threads_have_used_models():
    def threads():
        return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}

    models = [MLPAutoencoder(Commit(), (12,), engine="fast", seed=seed) for seed in range(4)]
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    with threadpoolctl.threadpool_limits(2, "blas"):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: models[i % 4].encode(images), range(60)))
        assert threads() == {2}


def test_blas_threads_are_restored_by_another_thread_than_the_one_that_limited_them():
    def threads():
        return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}

    limited, left = threading.Event(), threading.Event()

    def first():
        with backend.one_blas_thread():
            limited.set()
            left.wait(10)
        limited.set()
        time.sleep(0.5)  # It is alive while the other one restores.

    with threadpoolctl.threadpool_limits(2, "blas"):
        thread = threading.Thread(target=first)
        thread.start()
        limited.wait(10)
        with backend.one_blas_thread():
            limited.clear()
            left.set()
            limited.wait(10)
            assert threads() == {1}
        assert threads() == {2}
        thread.join()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLPAutoencoder(Commit(), (64, 12)),
        lambda: CNNAutoencoder(Commit(), widths=(8, 8), latent_channels=4),
        lambda: Seq2SeqAutoencoder(Commit(), 16),
    ],
    ids=["mlp", "cnn", "lstm"],
)
def test_a_model_can_be_used_from_several_threads(make, engine):
    """With valid checksums, wrong codes of a file would be noticed by nobody."""
    model, random = make(), np.random.default_rng(0)
    if isinstance(model, Seq2SeqAutoencoder):
        parts = [[f"sentence {i} {j}" for j in range(20)] for i in range(24)]
    else:
        parts = [random.integers(0, 256, (20, *model.input_shape), dtype=np.uint8) for _ in range(24)]
    expected = [(model.encode(part), model.reconstruct(part)) for part in parts]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda part: (model.encode(part), model.reconstruct(part)), parts))
    for (bits, decoded), (expected_bits, expected_decoded) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bits, expected_bits)
        np.testing.assert_array_equal(decoded, expected_decoded)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_neither_loaded_nor_saved(value, engine, tmp_path):
    model = MLPAutoencoder(Commit(), (12,))
    arrays, meta = model.as_file()
    arrays["parameters"][3] = value
    write_arrays(tmp_path / "nan.npz", arrays, meta)
    with pytest.raises(CheckpointError, match="parameters: 1 of 19,612 values are NaN or infinite"):
        load(tmp_path / "nan.npz")
    model.parameters()[0].reshape(-1)[0] = value
    with pytest.raises(CheckpointError, match="diverged"):
        model.save(tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


def test_a_code_of_one_bit_is_not_taken_for_packed_bytes(plain_engine):
    model = MLPAutoencoder(Commit(), (1,))
    bits = np.array([[1], [0], [1]])
    for code in (bits.astype(bool), bits.astype(np.uint8), bits.astype(float), np.packbits(bits.astype(bool), axis=1)):
        np.testing.assert_array_equal(model.unpack(code), bits)


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        (
            MLPAutoencoder,
            {
                "hidden": (50,),
                "input_shape": (28, 28, 1),
                "normalize_hidden": False,
                "normalize_latent": False,
                "reconstruction": "bce",
                "mean_image": None,
                "seed": 0,
                "dtype": np.float32,
                "engine": None,
            },
        ),
        (
            CNNAutoencoder,
            {
                "widths": (64, 32, 16),
                "latent_channels": 16,
                "input_shape": (32, 32, 3),
                "decoder_widths": None,
                "normalize_latent": False,
                "normalize_output": False,
                "norm_momentum": 0.9,
                "norm_eps": 1e-5,
                "reconstruction": "bce",
                "mean_image": None,
                "seed": 0,
                "dtype": np.float32,
                "engine": None,
            },
        ),
        (
            Seq2SeqAutoencoder,
            {
                "hidden": 64,
                "units": None,
                "dense_states": True,
                "normalize_latent": False,
                "code_every_step": False,
                "reverse": False,
                "splice": 0.0,
                "pad_to": None,
                "max_length": 40,
                "beam": 1,
                "seed": 0,
                "dtype": np.float32,
                "engine": None,
            },
        ),
    ],
)
def test_the_default_settings_of_the_models(model, defaults):
    parameters = inspect.signature(model).parameters.values()
    assert {p.name: p.default for p in parameters if p.name != "bottleneck"} == defaults


def test_a_printed_model_shows_its_layers_parameters_and_code(engine):
    model = MLPAutoencoder(Commit(signed=True), (256, 50), normalize_latent=True)
    lines = str(model).splitlines()
    assert lines[0] == f"MLPAutoencoder, {engine} engine, float32"
    assert [line.split() for line in lines[2:-1]] == [
        ["Dense", "256", "200,960"],
        ["ReLU", "256", "0"],
        ["Dense", "50", "12,850"],
        ["BatchNorm", "50", "100"],
        ["Dense", "256", "13,056"],
        ["ReLU", "256", "0"],
        ["Dense", "784", "201,488"],
        ["sum", "428,454"],
    ]
    assert lines[-1] == f"code: 50 bits, {model.bottleneck!r}" and model.summary() == str(model)
    assert str(MLPAutoencoder(Vanilla(), (7,))).splitlines()[-1].startswith("code: 7 numbers, Vanilla(")


def test_printed_data_is_short():
    assert repr(synthetic_digits(train=20, test=3)).endswith(": 20 training and 3 test images, 28 x 28 x 1>")
    sentences = synthetic_sentences()
    assert repr(sentences) == f"<{sentences.name}: {len(sentences.sentences):,} sentences>"
    assert len(repr(split_sentences(sentences, "random"))) < 120
