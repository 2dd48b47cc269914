"""The fast engine on a GPU: transfers between host and device, allocations, and that the results equal NumPy's.

Every test runs twice with one body: on arrays that stand in for CuPy's (device_stand_in.py), anywhere; and on CuPy itself,
if there is a GPU. The stand-in refuses implicit transfers and counts exactly; on CuPy the transfers are counted that
Python sees, and memory is watched from outside.
"""

import contextlib
import inspect

import numpy as np
import pytest
from cupy_device import numpy, use_fused
from device_models import BOTTLENECKS, MODELS, VARIANTS, images, make, step, ten_steps
from device_stand_in import Counts, DeviceArray, Refused, StandIn, Ufunc

from tinyqae import Adam, backend, load, train
from tinyqae.ops.embedding import embedding_backward
from tinyqae.optim import SGD, RMSprop
from tinyqae.tokens import END

# What a training step sends: the random numbers of its bottleneck, which are drawn on the host. Nothing is read.
SENT_IN_A_STEP = {"stochastic": 1, "naive with noise": 1, "commit with noise": 1, "stochastic with noise": 2}
CASES = [*((model, bottleneck) for model in MODELS for bottleneck in BOTTLENECKS), *((v, "commit") for v in VARIANTS)]


# ---- transfers and memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "bottleneck"), CASES)
def test_a_step_sends_its_random_numbers_reads_nothing_and_allocates_nothing(model, bottleneck, device):
    m, examples = make(model, bottleneck)
    batches, optimizer = m.batches(examples, 16), Adam()
    for epoch in range(3):
        for batch in batches.epoch(np.random.default_rng(epoch % 2)):  # The third is the first again, shape by shape.
            with device.counting() as counts:
                terms = step(m, optimizer, batch)
            assert counts.to_host == 0
            if epoch > 0:
                assert counts.to_device == SENT_IN_A_STEP.get(bottleneck, 0)
            if epoch == 2 and model != "transform code":  # Its own layers have no fast version.
                assert counts.allocations == 0
    assert all(value.shape == () for value in terms.values())


@pytest.mark.parametrize("model", MODELS)
def test_a_step_of_fused_kernels_allocates_nothing_either(model, device, monkeypatch):
    use_fused(monkeypatch)
    m, examples = make(model, "commit")
    batches, optimizer = m.batches(examples, 16), Adam()
    for repetition in range(2):
        for batch in batches.epoch(np.random.default_rng(0)):
            with device.counting() as counts:
                step(m, optimizer, batch)
            assert repetition == 0 or (counts.to_device, counts.to_host, counts.allocations) == (0, 0, 0)


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1, momentum=0.5), lambda: RMSprop(1e-3), Adam])
def test_an_update_stays_on_the_device(optimizer, device):
    m, examples = make("mlp", "commit")
    (batch, *_), optimizer = m.batches(examples, 16).epoch(np.random.default_rng(0)), optimizer()
    step(m, optimizer, batch)
    with device.counting() as counts:
        step(m, optimizer, batch)
    assert (counts.to_device, counts.to_host, counts.allocations) == (0, 0, 0)


@pytest.mark.parametrize("model", [*MODELS, *VARIANTS])
def test_the_data_set_is_sent_once_and_batches_are_gathered_on_the_device(model, device):
    m, examples = make(model, "commit")
    of_text, spliced = "seq2seq" in model, "spliced" in model
    with device.counting() as counts:
        batches = m.batches(examples, 16)
    arrays = 4 if of_text else 1  # Tokens, the decoder's inputs and targets, lengths; images.
    assert (counts.to_device, counts.to_host) == (arrays, 0)
    for epoch in range(2):
        with device.counting() as counts:
            for _ in batches.epoch(np.random.default_rng(epoch)):
                pass
        # The order; and the new sentences, where there are any.
        assert (counts.to_device, counts.to_host) == (1 + arrays * spliced, 0)
        if not of_text:
            assert counts.allocations <= 1  # The order.


@pytest.mark.parametrize("examples", ["bytes", "floats"])
def test_images_that_do_not_fit_stay_on_the_host_and_train_the_same(examples, device, monkeypatch):
    data = images() if examples == "bytes" else (images() / 255).astype(np.float32)
    one, other = (make("mlp", "commit", seed=1)[0] for _ in range(2))
    train.fit(one, data, Adam(), epochs=2, batch_size=16, progress=False)
    monkeypatch.setattr(backend, "fits", lambda size: size < data.nbytes)
    train.fit(other, data, Adam(), epochs=2, batch_size=16, progress=False)
    np.testing.assert_array_equal(one.state_arrays()["parameters"], other.state_arrays()["parameters"])
    batches = one.batches(data, 16)
    with device.counting() as counts:
        for _ in batches.epoch(np.random.default_rng(0)):
            pass
    assert (counts.to_device, counts.to_host, counts.allocations) == (len(batches), 0, 0)


def test_a_data_set_fits_into_a_part_of_the_free_memory(device):
    assert backend.fits(1)
    free, _ = backend.xp.cuda.runtime.memGetInfo()
    assert not backend.fits(free + backend.xp.get_default_memory_pool().free_bytes())
    with numpy():
        assert backend.fits(10**15)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("look", ["never", "always"])
def test_fit_reads_the_loss_at_the_end_of_an_epoch_and_when_it_looks(model, look, device, monkeypatch):
    m, examples = make(model, "commit")
    with device.counting() as sent:
        batches = m.batches(examples, 16)
    train.fit(m, examples, Adam(), epochs=1, batch_size=16, progress=False)  # Makes all buffers.
    with device.counting() as latents:
        m.latent(examples)
    monkeypatch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", -1.0 if look == "always" else float("inf"))
    with device.counting() as counts:
        train.fit(m, examples, Adam(), epochs=3, batch_size=16, progress=False)
    looks = len(batches) if look == "always" else 1
    # At a look two loss terms; at an epoch's end the sum of the squared weights. An epoch's order is sent. The values before
    # the threshold are measured before the first epoch and after each.
    assert counts.to_host == 3 * (2 * looks + 1) + 4 * latents.to_host
    assert counts.to_device == sent.to_device + 3 + 4 * latents.to_device


@pytest.mark.parametrize("model", MODELS)
def test_looking_at_the_loss_changes_neither_history_nor_weights(model, device, monkeypatch):
    results = []
    for seconds in (float("inf"), -1.0):
        m, examples = make(model, "commit")
        monkeypatch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", seconds)
        history = train.fit(m, examples, Adam(), epochs=2, batch_size=16, progress=False)
        results.append([{k: v for k, v in row.items() if k != "seconds"} for row in history.rows])
        results.append(m.model_id())
    assert results[:2] == results[2:]


def steps_to_write(sentences, max_length):
    """How many steps a decoder takes for all of these: one for each character and one for the end token."""
    return min(max_length, 1 + max(map(len, sentences)))


@pytest.mark.parametrize("model", ["mlp", "cnn", "seq2seq"])
def test_encode_and_decode_cross_at_their_ends_only(model, device, monkeypatch):
    m, examples = make(model, "commit")
    monkeypatch.setattr(m, "inference_batch", 20)
    m.validate(examples)  # Makes the buffers, some with constants in them that are sent.
    parts = 4  # of 70
    with device.counting() as counts:
        code = m.encode(examples)
    # Sentences are sent as tokens and lengths.
    assert (counts.to_device, counts.to_host) == (parts * (2 if model == "seq2seq" else 1), parts)
    assert isinstance(code, np.ndarray)
    with device.counting() as counts:
        decoded = m.decode(code)
    # Writing sentences also reads one flag after each character, by backend.to_host: whether all of a part have ended.
    flags = sum(steps_to_write(decoded[i : i + 20], m.max_length) for i in range(0, 70, 20)) if model == "seq2seq" else 0
    assert (counts.to_device, counts.to_host) == (parts, parts + flags)
    assert isinstance(decoded, list if model == "seq2seq" else np.ndarray)
    with device.counting() as counts:
        m.validate(examples)
    # What decode and encode send and read; and for sentences the batches, their order, and a loss of each.
    beside = (4 + 1, parts) if model == "seq2seq" else (0, 0)
    assert counts.to_host == 2 * parts + flags + beside[1]
    assert counts.to_device == parts * (3 if model == "seq2seq" else 2) + beside[0]


# ---- the same results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, *VARIANTS])
def test_one_seed_gives_the_same_initial_weights(model, device):
    ours = make(model, "commit", seed=3)[0].state_arrays()
    with numpy():
        theirs = make(model, "commit", seed=3)[0].state_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype == np.float32
        np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize(("model", "bottleneck"), CASES)
def test_ten_steps_equal_those_of_numpy(model, bottleneck, device):
    losses, m = ten_steps(model, bottleneck, np.float64)
    state = m.state_arrays()
    with numpy():
        expected_losses, theirs = ten_steps(model, bottleneck, np.float64)
        expected = theirs.state_arrays()
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, atol=1e-8, err_msg=name)


# A bias before batch norm has the gradient zero but for rounding, and of that Adam would make whole steps.
ABOVE_ROUNDING = 1e-5


@pytest.mark.parametrize("fused_on_device", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("model", MODELS)
def test_ten_steps_in_float32_agree_with_numpy(model, fused_on_device, device, monkeypatch):
    with numpy():
        expected_losses, theirs = ten_steps(model, "naive", np.float32, ABOVE_ROUNDING)
        expected = theirs.state_arrays()
    if fused_on_device:
        use_fused(monkeypatch)
    losses, m = ten_steps(model, "naive", np.float32, ABOVE_ROUNDING)
    state = m.state_arrays()
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name, array in expected.items():
        assert state[name].dtype == np.float32
        error = np.linalg.norm(state[name] - array) / np.linalg.norm(array)
        assert error < 1e-4, name


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("trained_on", ["device", "numpy"])
def test_a_model_of_one_side_loads_and_decodes_on_the_other(model, trained_on, device, tmp_path):
    here, there = (contextlib.nullcontext, numpy) if trained_on == "device" else (numpy, contextlib.nullcontext)
    with here():
        m, examples = make(model, "commit")
        train.fit(m, examples, Adam(1e-2), epochs=2, batch_size=16, progress=False)
        m.save(tmp_path / "model.npz")
        code, name = m.encode(examples, packed=True), m.model_id()
        decoded = m.decode(code)
    with there():
        loaded = load(tmp_path / "model.npz", engine="fast")
        assert loaded.model_id() == name
        differing = np.unpackbits(loaded.encode(examples, packed=True) ^ code).sum()
        assert differing <= len(examples) * m.latent_size // 1000  # A value at the very threshold may fall either way.
        decoded_there = loaded.decode(code)
    if model == "seq2seq":
        assert sum(a != b for a, b in zip(decoded, decoded_there, strict=True)) <= 1
    else:
        assert np.abs(decoded.astype(int) - decoded_there).max() <= 1


@pytest.mark.parametrize("model", MODELS)
def test_a_run_cut_off_goes_on_exactly(model, device, tmp_path):
    def stop(done, total, means):
        if done > total // 2:
            raise KeyboardInterrupt

    whole, cut = (make(model, "stochastic with noise")[0] for _ in range(2))
    examples = make(model, "commit")[1]
    arguments = {"epochs": 4, "batch_size": 16, "seed": 2, "schedule": "cosine", "clip_norm": 1.0}
    history = train.fit(whole, examples, Adam(), **arguments, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train.fit(cut, examples, Adam(), **arguments, progress=stop, checkpoint=tmp_path / "c.npz")
    resumed = make(model, "stochastic with noise", seed=9)[0]
    again = train.fit(resumed, examples, Adam(), **arguments, progress=False, checkpoint=tmp_path / "c.npz", resume=True)
    assert resumed.model_id() == whole.model_id()
    without_time = [[{k: v for k, v in row.items() if k != "seconds"} for row in h.rows] for h in (history, again)]
    assert without_time[0] == without_time[1] and history.latents == again.latents


@pytest.mark.parametrize("beam", [1, 3])
def test_sentences_are_written_as_numpy_writes_them(beam, device):
    code = np.random.default_rng(0).random((60, 24)) > 0.5
    with numpy():
        theirs, _ = make("seq2seq", "commit", hidden=12, max_length=12)
        # Weights with which sentences differ and end.
        (parameters,) = theirs.parameters()
        parameters[...] = np.random.default_rng(1).normal(0, 1, parameters.shape)
        theirs.decoder.output.params["b"][END] += 2.5
        written = theirs.decode(code, beam=beam)
    ours, _ = make("seq2seq", "commit", hidden=12, max_length=12)
    ours.parameters()[0][...] = backend.to_device(parameters)
    # Sums in another order may turn a narrow decision.
    assert sum(a != b for a, b in zip(ours.decode(code, beam=beam), written, strict=True)) <= 1
    assert len({len(sentence) for sentence in written}) > 2 and len(set(written)) > 4


def test_the_textbook_embedding_works_on_the_device(device):
    random = np.random.default_rng(0)
    dy, tokens = random.random((9, 4)), random.integers(0, 5, 9)
    dw = embedding_backward(backend.to_device(dy), backend.to_device(tokens), 5)
    np.testing.assert_allclose(backend.to_host(dw), np.eye(5)[tokens].T @ dy)


def test_random_numbers_are_sent_into_one_array(device):
    array, out = np.arange(6.0).reshape(2, 3), backend.xp.empty((2, 3))
    with device.counting() as counts:
        assert backend.to_device(array, out) is out
    assert (counts.to_device, counts.allocations) == (1, 0)
    np.testing.assert_array_equal(backend.to_host(out), array)


# ---- the stand-in itself --------------------------------------------------------------------------------------------


HOST = np.arange(6, dtype=np.float32).reshape(2, 3)
REFUSED = {
    "np.asarray": lambda xp, x: np.asarray(x),
    "np.array": lambda xp, x: np.array(x),
    "written into an ndarray": lambda xp, x: HOST.copy().__setitem__(..., x),
    "a ufunc of NumPy": lambda xp, x: np.exp(x),
    "a ufunc of NumPy with out": lambda xp, x: np.add(HOST, 1, out=x),
    "a function of NumPy": lambda xp, x: np.sum(x),
    "ndarray + array": lambda xp, x: HOST + x,
    "array + ndarray": lambda xp, x: x + HOST,
    "array += ndarray": lambda xp, x: x.__iadd__(HOST),
    "ndarray in a ufunc": lambda xp, x: xp.add(x, HOST),
    "ndarray without axes": lambda xp, x: xp.add(x, np.array(1, np.float32)),
    "list in a ufunc": lambda xp, x: xp.add(x, [1, 2, 3]),
    "ndarray as out": lambda xp, x: xp.exp(x, out=HOST.copy()),
    "ndarray in a product": lambda xp, x: xp.matmul(x, HOST.T),
    "array assigned from an ndarray": lambda xp, x: x.__setitem__(..., HOST),
    "a double beside floats": lambda xp, x: x * np.float64(2),
    "doubles beside floats": lambda xp, x: x * xp.ones(3),
    "float()": lambda xp, x: float(x.sum()),
    "int()": lambda xp, x: int(x[0, 0]),
    "bool()": lambda xp, x: bool(x[0, 0] > 1),
    "if": lambda xp, x: 1 if x.max() > 1 else 0,
    "iteration to numbers": lambda xp, x: [float(v) for v in x[0]],
    "item": lambda xp, x: x.sum().item(),
    "tolist": lambda xp, x: x.tolist(),
    "as an index of a list": lambda xp, x: [1, 2][x[0, 0]],
    "flatnonzero": lambda xp, x: xp.flatnonzero(x),
    "mask as index": lambda xp, x: x[x > 1],
    "mask as place": lambda xp, x: x.__setitem__(x > 1, 0),
    "a number to chosen places": lambda xp, x: x.__setitem__(xp.arange(2), 0),
    "list as index": lambda xp, x: x[[0, 1]],
    "ndarray as index": lambda xp, x: x[np.arange(2)],
    "mode of take": lambda xp, x: xp.take(x, xp.arange(2), axis=0, mode="clip"),
    "take into another dtype": lambda xp, x: xp.take(x, xp.arange(2), axis=0, out=xp.empty((2, 3))),
    "put of a number": lambda xp, x: xp.put(x, xp.arange(2), 1),
    "where of a mask alone": lambda xp, x: xp.where(x > 1),
    "ndarray in where": lambda xp, x: xp.where(x > 1, x, HOST),
    "ndarray as the mask of where": lambda xp, x: xp.where(HOST > 1, x, x),
    "stack of ndarrays": lambda xp, x: xp.stack([x, HOST]),
    "repeats in an ndarray": lambda xp, x: x.repeat(np.array([1, 2]), axis=0),
    "array ** ndarray": lambda xp, x: x**HOST,
    "array @ ndarray": lambda xp, x: x @ HOST.T,
    "where of a ufunc": lambda xp, x: xp.add(x, 1, out=x, where=x > 1),
    "where of the condition alone": lambda xp, x: xp.where(x > 1),
    "stack of floats and doubles": lambda xp, x: xp.stack([x, xp.ones((2, 3))]),
    "concatenation of floats and doubles": lambda xp, x: xp.concatenate([x, xp.ones((2, 3))]),
    "where of a sum": lambda xp, x: xp.sum(x, where=x > 1),
    "initial of a maximum": lambda xp, x: xp.max(x, initial=0),
    "at of multiply": lambda xp, x: xp.multiply.at(x, xp.arange(2), x),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_stand_in_refuses(what):
    xp = StandIn()
    x = xp.asarray(HOST)
    with pytest.raises(TypeError):
        REFUSED[what](xp, x)
    np.testing.assert_array_equal(x.get(), HOST)


@pytest.mark.parametrize("name", ["reduceat", "errstate", "nextafter", "ascontiguousarray_", "einsum"])
def test_the_stand_in_has_no_function_that_was_not_looked_up(name):
    with pytest.raises(AttributeError):
        getattr(StandIn(), name)


def test_the_stand_in_has_the_names_and_arguments_of_cupy():
    cupy = pytest.importorskip("cupy", reason="needs CuPy, but no GPU")
    xp = StandIn()
    own = {
        "counts",
        "free_memory",
        "counting",
        "transfers_allowed",
        "crosses",
        "no_capture",
        "new",
        "compute",
        "change",
        "view",
        "operand",
        "apply",
        "stream",
        "default_stream",
        "graph",
        "owners",
        "pool",
    }
    for name in {name for name in dir(xp) if not name.startswith("_")} - own:
        ours, theirs = getattr(xp, name), getattr(cupy, name)
        if isinstance(ours, Ufunc):
            assert isinstance(theirs, cupy.ufunc)
        elif inspect.ismethod(ours) and name not in ("matmul", "RawModule"):  # One more ufunc to CuPy, and a class.
            arguments = list(inspect.signature(ours).parameters)
            assert arguments == list(inspect.signature(theirs).parameters)[: len(arguments)], name
    for name in {name for name in dir(DeviceArray) if not name.startswith("_")}:
        assert hasattr(cupy.ndarray, name), name
    for name in ("runtime", "Device", "MemoryPool", "using_allocator", "Stream", "get_current_stream"):
        assert hasattr(cupy.cuda, name), name
    for name in ("begin_capture", "end_capture", "synchronize"):
        assert hasattr(cupy.cuda.Stream, name), name


def test_the_stand_in_counts():
    xp = StandIn()
    with xp.counting() as counts:
        x = xp.asarray(HOST)
        y = xp.add(x, 1) * np.float32(2)
        xp.exp(x.T[1:].T, out=y[:, 1:])
        x.reshape(3, 2)[1:].ravel()
        x.T.ravel()
        x.get()
        x.set(HOST)
    assert counts == Counts(to_device=2, to_host=1, allocations=4)
    with xp.counting() as counts, xp.transfers_allowed():
        assert float(x.sum()) == HOST.sum()
        assert x[x > 1].shape == (4,)
    assert (counts.to_host, counts.scalars) == (2, 1)
    with pytest.raises(Refused, match="crosses"):
        float(x.sum())
    with xp.counting() as counts:
        xp.matmul(x[:, :2], x[:, :2].T)
        xp.matmul(x, xp.ones((4, 3, 2), np.float32))
    assert counts.copies == 2 + 3


def test_the_stand_in_computes_as_numpy_does():
    xp, random = StandIn(), np.random.default_rng(0)
    a, b = random.random((2, 3)), random.random((3, 4))
    x, y = xp.asarray(a), xp.asarray(b)
    for ours, theirs in (
        (x @ y, a @ b),
        (1 - x, 1 - a),
        (x / 2, a / 2),
        (-x, -a),
        (x > 0.5, a > 0.5),
        (x[:, None] * y.T[:, :3], a[:, None] * b.T[:, :3]),
        (x.max(axis=1), a.max(axis=1)),
        (xp.vdot(x, x), np.vdot(a, a)),
        (x[1], a[1]),
        (x[1, 2], a[1, 2]),
        (x[xp.asarray([1, 0, 1])], a[[1, 0, 1]]),
        (xp.clip(x, 0.2, 0.5), a.clip(0.2, 0.5)),
        (x**2, a**2),
        (xp.where(x > 0.5, x, 0), np.where(a > 0.5, a, 0)),
        (xp.stack([x, x], axis=1), np.stack([a, a], 1)),
        (x.repeat(2, axis=1), a.repeat(2, axis=1)),
        (xp.split(y, 2, axis=1)[1], b[:, 2:]),
        (xp.pad(x, ((1, 0), (2, 3))), np.pad(a, ((1, 0), (2, 3)))),
        (x[:, :, None].max(axis=(1, 2)), a.max(axis=1)),
        (x[:, None] @ y, a[:, None] @ b),
    ):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-15)  # A product of matrices may depend on their alignment.
    view = x[1, 2]
    view[...] = 7
    assert x.get()[1, 2] == 7
