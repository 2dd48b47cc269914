"""The reference engine on a GPU: as it stands it runs on CuPy, nothing crosses between host and device unasked, and the
results are NumPy's. It may allocate what it likes.

Every test runs twice with one body: on the stand-in for CuPy, anywhere; and on CuPy itself, where there is a GPU.
"""

import contextlib

import numpy as np
import pytest
from cupy_device import numpy
from device_models import BOTTLENECKS, MODELS, VARIANTS, make, step, ten_steps

from tinyqae import SGD, Adam, RMSprop, backend, load, train
from tinyqae.tokens import END

pytestmark = pytest.mark.usefixtures("device")
CASES = [*((model, bottleneck) for model in MODELS for bottleneck in BOTTLENECKS), *((v, "commit") for v in VARIANTS)]
# A bias before batch norm has the gradient zero but for rounding, and of that Adam would make whole steps.
ABOVE_ROUNDING = 1e-5


def reference(model, bottleneck, **arguments):
    """(model of the reference engine, its examples)."""
    return make(model, bottleneck, engine="reference", **arguments)


def assert_close(ours, theirs):
    """Arrays by name, NumPy's, that agree to 1e-4 of their norm."""
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        assert np.linalg.norm(ours[name] - array) <= 1e-4 * np.linalg.norm(array), name


@pytest.mark.parametrize(("model", "bottleneck"), CASES)
def test_ten_steps_equal_those_of_numpy(model, bottleneck):
    losses, m = ten_steps(model, bottleneck, np.float64, engine="reference")
    with numpy():
        expected_losses, expected = ten_steps(model, bottleneck, np.float64, engine="reference")
    assert isinstance(m.parameters()[0], backend.xp.ndarray)
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert_close(m.state_arrays(), expected.state_arrays())


@pytest.mark.parametrize("bottleneck", ["vanilla", "naive", "fence", "entropy"])
@pytest.mark.parametrize("model", MODELS)
def test_ten_steps_in_float32_agree_with_numpy(model, bottleneck):
    losses, m = ten_steps(model, bottleneck, np.float32, ABOVE_ROUNDING, engine="reference")
    with numpy():
        expected_losses, expected = ten_steps(model, bottleneck, np.float32, ABOVE_ROUNDING, engine="reference")
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert_close(m.state_arrays(), expected.state_arrays())


# What a training step sends: the random numbers of its bottleneck, which are drawn on the host. Nothing is read.
@pytest.mark.parametrize(
    ("bottleneck", "sent"),
    [
        ("commit", 0),
        ("annealed", 0),
        ("entropy", 0),
        ("commit with noise", 1),
        ("stochastic", 1),
        ("stochastic with noise", 2),
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_a_step_sends_its_random_numbers_and_reads_nothing(model, bottleneck, sent, device):
    m, examples = reference(model, bottleneck)
    optimizer = Adam()
    for batch in m.batches(examples, 16).epoch(np.random.default_rng(0)):
        with device.counting() as counts:
            terms = step(m, optimizer, batch)
        assert (counts.to_device, counts.to_host) == (sent, 0)
        assert all(isinstance(backend.to_host(value), np.ndarray) for value in terms.values())


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1, momentum=0.5), lambda: RMSprop(1e-2), lambda: Adam(1e-2)])
def test_every_optimizer_trains_on_the_device_as_with_numpy(optimizer):
    states = []
    for side in (contextlib.nullcontext, numpy):
        with side():
            m, examples = reference("mlp", "naive", dtype=np.float64)
            train.fit(m, examples, optimizer(), epochs=2, batch_size=16, clip_norm=1.0, progress=False)
            states.append(m.state_arrays())
    assert_close(*states)


@pytest.mark.parametrize(
    ("model", "bottleneck"), [*((m, b) for m in MODELS for b in ("commit", "vanilla")), *((v, "commit") for v in VARIANTS)]
)
def test_a_trained_model_encodes_decodes_and_loads_on_both_sides(model, bottleneck, tmp_path):
    m, examples = reference(model, bottleneck)
    history = train.fit(m, examples, Adam(1e-2), epochs=2, batch_size=16, validation=examples, progress=False)
    m.save(tmp_path / "model.npz")
    latent, code = m.latent(examples), m.encode(examples)
    again, decoded = load(tmp_path / "model.npz", engine="reference"), m.decode(code)
    assert again.model_id() == m.model_id()
    np.testing.assert_array_equal(again.encode(examples), code)
    validated = {name: value for name, value in history.rows[-1].items() if name.startswith("val_")}
    with numpy():
        theirs = load(tmp_path / "model.npz", engine="reference")
        assert theirs.model_id() == m.model_id()
        np.testing.assert_allclose(latent, theirs.latent(examples), rtol=1e-4, atol=1e-5)
        expected, expected_figures = theirs.decode(code), theirs.validate(examples)
    if "seq2seq" in model:
        # Sums in another order may turn a narrow decision.
        assert sum(a != b for a, b in zip(decoded, expected, strict=True)) <= 1
        assert validated["val_loss"] == pytest.approx(expected_figures["val_loss"], rel=1e-3)
    else:
        assert np.abs(decoded.astype(int) - expected).max() <= 1
        assert validated == pytest.approx(expected_figures, rel=1e-3)


@pytest.mark.parametrize("beam", [1, 3])
def test_sentences_are_written_as_numpy_writes_them(beam):
    code = np.random.default_rng(0).random((60, 24)) > 0.5
    with numpy():
        theirs, _ = reference("seq2seq", "commit", hidden=12, max_length=12)
        # Weights with which sentences differ and end.
        random = np.random.default_rng(1)
        for parameter in theirs.parameters():
            parameter[...] = random.normal(0, 1, parameter.shape)
        theirs.decoder.output.params["b"][END] += 2.5
        written = theirs.decode(code, beam=beam)
    ours, _ = reference("seq2seq", "commit", hidden=12, max_length=12)
    ours.restore(theirs.state_arrays())
    # Sums in another order may turn a narrow decision.
    assert sum(a != b for a, b in zip(ours.decode(code, beam=beam), written, strict=True)) <= 1
    assert len({len(sentence) for sentence in written}) > 2 and len(set(written)) > 4


@pytest.mark.parametrize("model", MODELS)
def test_a_run_that_was_stopped_continues_exactly(model, tmp_path):
    def stop(done, total, means):
        if done > total // 2:
            raise KeyboardInterrupt

    whole, cut, resumed = (reference(model, "stochastic with noise", seed=seed)[0] for seed in (0, 0, 9))
    examples = reference(model, "commit")[1]
    arguments = {"epochs": 4, "batch_size": 16, "seed": 2, "schedule": "cosine", "clip_norm": 1.0}
    train.fit(whole, examples, Adam(), **arguments, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train.fit(cut, examples, Adam(), **arguments, progress=stop, checkpoint=tmp_path / "c.npz")
    train.fit(resumed, examples, Adam(), **arguments, progress=False, checkpoint=tmp_path / "c.npz", resume=True)
    assert resumed.model_id() == whole.model_id()
