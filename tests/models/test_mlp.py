"""The dense autoencoder as a whole, and what it shares with the others: gradients, PyTorch agreement, training, encode and
decode, files, bad input. With both engines; memory is the fast engine's own.
"""

import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from engines import flat, train_once

from tinyqae import Adam, Commit, Fence, MLPAutoencoder, Naive, Vanilla, load
from tinyqae.checkpoint import write_arrays
from tinyqae.errors import CheckpointError
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.layers import BatchNorm, Dense, ReLU

SHAPE = (6, 6, 1)
KINDS = {
    "vanilla": Vanilla,
    "naive": Naive,
    "fence": lambda **k: Fence(weight=0.3, **k),
    "commit": lambda **k: Commit(weight=0.3, **k),
}


def images(n, shape=SHAPE, dtype=np.float32, seed=0):
    """Floats in [0, 1] with many exact zeros, as images have."""
    return np.random.default_rng((seed, n)).uniform(-0.5, 1, (n, *shape)).clip(0).astype(dtype)


def bytes_images(n, shape=SHAPE, seed=0):
    return np.rint(images(n, shape, seed=seed) * 255).astype(np.uint8)


def small_model(kind="commit", mean=True, dtype=np.float32, signed=True, **arguments):
    arguments = {"hidden": (7, 5), "normalize_latent": True, **arguments}
    mean_image = images(100, seed=9).mean(axis=0) if mean else None
    return MLPAutoencoder(KINDS[kind](signed=signed), input_shape=SHAPE, mean_image=mean_image, dtype=dtype, **arguments)


VARIANTS = [(normalize, loss, mean) for normalize in (False, True) for loss in ("bce", "mse") for mean in (False, True)]


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normalize", "loss", "mean"), VARIANTS)
@pytest.mark.parametrize("kind", ["vanilla", "fence"])
@pytest.mark.parametrize("hidden", [False, True])
def test_gradient_of_the_whole_model(hidden, kind, normalize, loss, mean, plain_engine):
    model = small_model(kind, mean, np.float64, normalize_hidden=hidden, normalize_latent=normalize, reconstruction=loss)
    parameters, x = flat(model.parameters()), images(32, dtype=np.float64)
    parameters += np.random.default_rng(1).normal(0, 0.3, parameters.shape)

    def objective():
        start = 0
        for array in model.parameters():
            array[...] = parameters[start : start + array.size].reshape(array.shape)
            start += array.size
        return model.loss(x)

    assert objective() == model.terms["reconstruction"] + model.bottleneck.weight * model.terms.get(kind, 0)
    model.backward()
    gradient = flat(model.gradients())
    # Rounding of a loss near 1 over a shorter step would be felt in gradients as small as these.
    check_coordinates(objective, parameters, gradient, step=3e-5)
    check_directions(objective, parameters, gradient, directions=5, step=3e-5)


def test_naive_trains_exactly_as_vanilla(engine):
    naive, vanilla = small_model("naive"), small_model("vanilla")
    assert train_once(naive, images(8)) == train_once(vanilla, images(8))
    np.testing.assert_array_equal(flat(naive.gradients()), flat(vanilla.gradients()))


def in_torch(torch, model):
    """(leaf parameters in the order of model.parameters(), a function from images to the loss terms and their weighted
    sum), written with PyTorch's own functions; commit by the detach trick.
    """
    F = torch.nn.functional
    leaves = {
        (id(layer), name): torch.nn.Parameter(torch.tensor(array))
        for layer in model.layers
        for name, array in layer.params.items()
    }
    mean = 0 if model.mean_image is None else torch.tensor(model.mean_image)

    def through(layers, h):
        for layer in layers:
            parameter = {name: leaves[id(layer), name] for name in layer.params}
            if isinstance(layer, Dense):
                h = h @ parameter["w"] + parameter["b"]
            elif isinstance(layer, BatchNorm):
                h = F.batch_norm(h, None, None, parameter["gamma"], parameter["beta"], training=True, eps=1e-5)
            else:
                h = torch.relu(h)
        return h

    def run(x):
        h = through(model.encoder.layers, (x - mean).reshape(len(x), -1))
        a = torch.sigmoid(h)
        terms, code, kind = {}, a, model.bottleneck.kind
        if kind == "fence":
            terms["fence"] = torch.minimum(a, 1 - a).mean()
        if kind == "commit":
            b = (a > 0.5).to(a.dtype)
            terms["commit"] = ((b - a) ** 2).mean()
            code = a + (b - a).detach()
        logits = through(model.decoder.layers, 2 * code - 1 if model.bottleneck.signed else code)
        target = x.reshape(len(x), -1)
        terms["reconstruction"] = (
            F.binary_cross_entropy_with_logits(logits, target)
            if model.reconstruction == "bce"
            else F.mse_loss(torch.sigmoid(logits), target)
        )
        return terms, terms["reconstruction"] + model.bottleneck.weight * sum(
            value for name, value in terms.items() if name != "reconstruction"
        )

    return list(leaves.values()), run


def values_of(tensors):
    return flat(tensor.detach().numpy() for tensor in tensors)


@pytest.mark.parametrize(("normalize", "loss", "mean"), VARIANTS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_commit_gradient_is_that_of_the_detach_trick(hidden, signed, normalize, loss, mean, torch, plain_engine):
    model = small_model(
        "commit", mean, np.float64, signed, normalize_hidden=hidden, normalize_latent=normalize, reconstruction=loss
    )
    x = images(20, dtype=np.float64)
    leaves, run = in_torch(torch, model)
    terms, total = run(torch.tensor(x))
    total.backward()
    np.testing.assert_allclose(model.loss(x), total.item(), rtol=1e-10)
    model.backward()
    assert model.terms.keys() == terms.keys()
    for name, value in model.terms.items():
        np.testing.assert_allclose(value, terms[name].item(), rtol=1e-10)
    np.testing.assert_allclose(flat(model.gradients()), values_of(leaf.grad for leaf in leaves), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_agrees_with_torch_over_five_adam_steps(kind, loss, signed, torch, engine):
    model = small_model(kind, signed=signed, reconstruction=loss)
    leaves, run = in_torch(torch, model)
    # The loss is a mean over all pixels, so its gradients are small; this eps keeps Adam from dividing by their noise.
    ours, theirs = Adam(1e-2, eps=1e-4), torch.optim.Adam(leaves, 1e-2, eps=1e-4)
    for step in range(5):
        x = images(30, seed=step)
        terms = train_once(model, x)
        expected, total = run(torch.tensor(x))
        theirs.zero_grad()
        total.backward()
        if step == 0:
            assert terms.keys() == expected.keys()
            for name, value in terms.items():
                np.testing.assert_allclose(value, expected[name].item(), rtol=1e-5)
            np.testing.assert_allclose(
                flat(model.gradients()), values_of(leaf.grad for leaf in leaves), rtol=1e-5, atol=1e-6
            )
        ours.step(model)
        theirs.step()
    np.testing.assert_allclose(flat(model.parameters()), values_of(leaves), rtol=1e-5, atol=1e-5)


def test_gradients_are_overwritten_not_added(engine):
    model, x = small_model(), images(8)
    train_once(model, x)
    first = flat(model.gradients())
    train_once(model, x)
    np.testing.assert_array_equal(flat(model.gradients()), first)


def test_training_lowers_the_loss(engine):
    model, optimizer, x = small_model(), Adam(0.02), images(64)
    losses = []
    for _ in range(60):
        losses.append(float(train_once(model, x)["reconstruction"]))
        optimizer.step(model)
    assert losses[-1] < losses[20] < losses[0]


# ---- the fast engine's memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fast_training_step_allocates_no_array_after_the_first(kind, loss, kernels):
    model = MLPAutoencoder(
        KINDS[kind](signed=True),
        hidden=(60, 50),
        normalize_hidden=True,
        normalize_latent=True,
        reconstruction=loss,
        mean_image=images(100, (28, 28, 1)).mean(axis=0),
        engine="fast",
    )
    optimizer, x = Adam(), images(1024, (28, 28, 1))
    for _ in range(3):
        train_once(model, x)
        optimizer.step(model)
    tracemalloc.start()
    try:
        for _ in range(3):
            train_once(model, x)
            optimizer.step(model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy itself takes a buffer of getbufsize() elements, whatever the shapes, while it broadcasts. The smallest array
    # of this batch, a mask (1024, 50) of bools, has 51,200 bytes.
    assert peak < 4 * np.getbufsize() + 12_000


def test_parameters_and_gradients_of_a_fast_model_stay_views_of_one_vector():
    model, optimizer = small_model(engine="fast"), Adam()
    train_once(model, images(8))
    optimizer.step(model)
    (parameters,), (gradients,) = model.parameters(), model.gradients()
    for layer in model.layers:
        for name in layer.params:
            assert np.shares_memory(layer.params[name], parameters)
            assert np.shares_memory(layer.grads[name], gradients)
    assert sum(layer.params[name].size for layer in model.layers for name in layer.params) == parameters.size


# ---- seeds ----------------------------------------------------------------------------------------------------------


def test_same_seed_same_weights_other_seed_other_weights(plain_engine):
    a, b, c = (MLPAutoencoder(Commit(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(flat(a.parameters()), flat(b.parameters()))
    assert a.model_id() == b.model_id() != c.model_id()
    assert not np.array_equal(flat(a.parameters()), flat(c.parameters()))


def test_sizes_of_the_reports_model(plain_engine):
    model = MLPAutoencoder(Commit(), hidden=(50,))
    assert flat(model.parameters()).shape == (784 * 50 + 50 + 50 * 784 + 784,)
    assert {array.dtype for array in model.parameters() + model.gradients()} == {np.dtype(np.float32)}
    assert MLPAutoencoder(Commit(), hidden=(256, 50)).latent_size == 50
    model = MLPAutoencoder(Commit(), hidden=(30, 20, 10), normalize_hidden=True, normalize_latent=True, engine="reference")
    encoder, decoder = ([type(layer) for layer in part.layers] for part in (model.encoder, model.decoder))
    assert encoder == [Dense, BatchNorm, ReLU] * 2 + [Dense, BatchNorm]
    assert decoder == [Dense, BatchNorm, ReLU] * 2 + [Dense]


def test_output_of_a_new_model_starts_at_the_mean_image(engine):
    mean = images(100).mean(axis=0)
    mean[0, 0] = 0
    model = MLPAutoencoder(Vanilla(signed=True), (5,), SHAPE, mean_image=mean)
    model.decoder.layers[-1].params["w"][...] = 0
    probability = 1 / (1 + np.exp(-model.forward(images(3))))
    np.testing.assert_allclose(probability, np.tile(mean.clip(1e-3, 1).ravel(), (3, 1)), atol=1e-5)


# ---- encode and decode ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["naive", "fence", "commit"])
def test_encode_gives_bits_and_packed_bits_hold_the_same(kind, engine):
    model, x = small_model(kind, hidden=(7, 11)), bytes_images(20)
    bits, packed = model.encode(x), model.encode(x, packed=True)
    assert bits.dtype == np.bool_ and bits.shape == (20, 11)
    assert packed.dtype == np.uint8 and packed.shape == (20, 2)
    np.testing.assert_array_equal(bits, model.latent(x) > 0.5)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1, count=11), bits)
    assert 0 < bits.mean() < 1
    decoded = model.decode(bits)
    np.testing.assert_array_equal(model.decode(packed), decoded)
    np.testing.assert_array_equal(model.decode(bits.astype(np.float32)), decoded)
    np.testing.assert_array_equal(model.decode(bits.astype(np.int64)), decoded)


def test_vanilla_code_is_float32_and_cannot_be_packed(engine):
    model, x = small_model("vanilla"), bytes_images(20)
    code = model.encode(x)
    assert code.dtype == np.float32 and code.shape == (20, 5)
    np.testing.assert_array_equal(code, model.latent(x))
    with pytest.raises(ValueError, match="packed"):
        model.encode(x, packed=True)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruct_is_decode_of_encode_and_deterministic(kind, engine):
    model, x = small_model(kind), bytes_images(20)
    for step in range(3):
        train_once(model, images(16, seed=step))
    first = model.decode(model.encode(x))
    train_once(model, images(40))
    assert first.dtype == np.uint8 and first.shape == x.shape
    restored = small_model(kind)
    restored.restore(model.state_arrays())
    np.testing.assert_array_equal(restored.decode(restored.encode(x)), restored.reconstruct(x))
    np.testing.assert_array_equal(model.reconstruct(x), restored.reconstruct(x))


def test_decode_is_the_rounded_sigmoid_of_the_decoder(engine):
    model = small_model(hidden=(5,))
    bits = np.random.default_rng(0).random((9, 5)) > 0.5
    dense = model.decoder.layers[-1].params
    logits = (2.0 * bits - 1) @ dense["w"] + dense["b"]
    expected = 255 / (1 + np.exp(-logits)).reshape(-1, *SHAPE)
    assert np.abs(model.decode(bits) - expected).max() <= 0.501


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_and_floats_encode_alike(dtype, engine):
    model, x = small_model(), bytes_images(30)
    np.testing.assert_array_equal(model.encode(x), model.encode((x / 255).astype(dtype)))
    np.testing.assert_allclose(model.latent(x), model.latent((x / 255).astype(dtype)), atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 499, 500, 501, 1001])
def test_any_number_of_images_gives_what_each_gives_alone(n, engine):
    model, x = small_model(), bytes_images(n)
    bits = model.encode(x)
    assert bits.shape == (n, 5) and model.decode(bits).shape == (n, *SHAPE)
    for i in {0, n // 2, n - 1} if n else ():
        np.testing.assert_allclose(model.latent(x)[i], model.latent(x[i : i + 1])[0], atol=1e-6)


def test_smaller_batches_after_larger_ones_leave_no_trace(engine):
    used, fresh = small_model(), small_model()
    train_once(used, images(50))
    fresh.restore(used.state_arrays())
    for n in (7, 50, 3):
        for model in (used, fresh):
            train_once(model, images(n, seed=1))
        np.testing.assert_array_equal(flat(used.gradients()), flat(fresh.gradients()))


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_loaded_model_is_the_saved_one(kind, mean, tmp_path, engine):
    model, optimizer, x = small_model(kind, mean, reconstruction="mse"), Adam(), bytes_images(30)
    for step in range(3):
        train_once(model, images(16, seed=step))
        optimizer.step(model)
    model.save(tmp_path / "model.npz")
    loaded = load(tmp_path / "model.npz")
    assert loaded.model_id() == model.model_id() and loaded.engine.name == engine
    assert loaded.config() == model.config() and repr(loaded.bottleneck) == repr(model.bottleneck)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_model_id_changes_with_one_weight_and_with_the_running_statistics(plain_engine):
    model = small_model()
    ids = {model.model_id()}
    weight = model.parameters()[0].reshape(-1)
    weight[3] = np.nextafter(weight[3], 9)
    ids.add(model.model_id())
    next(layer for layer in model.layers if layer.state).state["mean"][0] += 1
    assert len(ids | {model.model_id()}) == 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    model = small_model()
    model.save(path)
    return model, path.read_bytes()


def test_truncated_file_is_refused(saved, tmp_path):
    path, content = tmp_path / "cut.npz", saved[1]
    for size in [*range(0, len(content), 101), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="cut.npz"):
            load(path)


def test_flipped_bytes_are_refused_or_harmless(saved, tmp_path):
    model, content = saved
    path, refused = tmp_path / "flipped.npz", 0
    # The zip directory at the end, which no checksum covers, byte by byte, and a sample of the rest.
    positions = [(i, flip) for i in range(len(content) - 400, len(content)) for flip in (1, 64)]
    positions += [(i, 0xFF) for i in range(0, len(content), 29)]
    for i, flip in positions:
        damaged = bytearray(content)
        damaged[i] ^= flip
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except CheckpointError as error:
            refused += 1
            assert "flipped.npz" in str(error)
        else:
            # Bytes that mean nothing here, such as a date in the zip directory.
            assert loaded.model_id() == model.model_id()
            np.testing.assert_array_equal(loaded.mean_image, model.mean_image)
    assert refused > 0.5 * len(positions)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


class Bomb:
    """Its unpickling runs code."""

    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


META_OF_ANOTHER = np.frombuffer(json.dumps({"format": "something else"}).encode(), np.uint8)
FOREIGN = {
    "empty": b"",
    "text": b"This is a letter.\n",
    "arrays": npz(weights=np.ones(3)),
    "npy": npy(np.ones(3)),
    "pickle": pickle.dumps(Bomb()),
    "objects": npz(**{"meta.json": np.array([Bomb()], dtype=object)}),
    "npy_objects": npy(np.array([Bomb()], dtype=object)),
    "zip": zipped(**{"a.txt": "hello"}),
    "meta_is_no_array": zipped(**{"meta.json": "{}"}),
    "meta_is_no_json": npz(**{"meta.json": np.ones(3)}),
    "meta_is_a_list": npz(**{"meta.json": np.frombuffer(b"[1]", np.uint8)}),
    "other_format": npz(**{"meta.json": META_OF_ANOTHER}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file_is_refused_and_never_unpickled(content, tmp_path):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="foreign.npz"):
        load(path)


def test_missing_file_and_directory_are_refused(tmp_path):
    for path in (tmp_path / "nothing.npz", tmp_path):
        with pytest.raises(CheckpointError, match=path.name):
            load(path)


def described(**changes):
    model = small_model()
    return model.state_arrays(), {
        "format": "tinyqae model",
        "version": 1,
        "model": "MLPAutoencoder",
        "config": model.config(),
        "bottleneck": {"kind": "commit"},
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "Transformer"},
        {"format": "tinyqae checkpoint"},
        {"bottleneck": {"kind": "vq"}},
        {"bottleneck": {"kind": "commit", "colour": 3}},
        {"bottleneck": None},
        {"config": {"hidden": [0]}},
        {"config": {"depth": 3}},
        {"config": {"hidden": [9, 5], "input_shape": [6, 6, 1], "normalize_latent": True, "reconstruction": "bce"}},
    ],
    ids=str,
)
def test_description_that_fits_no_model_is_refused(changes, tmp_path, plain_engine):
    write_arrays(tmp_path / "model.npz", *described())
    load(tmp_path / "model.npz")
    write_arrays(tmp_path / "model.npz", *described(**changes))
    with pytest.raises(CheckpointError):
        load(tmp_path / "model.npz")


def test_missing_array_is_named(tmp_path, plain_engine):
    arrays, meta = described()
    del arrays["state.3.variance"]
    write_arrays(tmp_path / "model.npz", arrays, meta)
    with pytest.raises(CheckpointError, match="state.3.variance"):
        load(tmp_path / "model.npz")


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": ()}, r"hidden=\(\)"),
        ({"hidden": (0,)}, r"hidden=\(0,\)"),
        ({"hidden": (5, -1)}, r"hidden=\(5, -1\)"),
        ({"hidden": (2.5,)}, r"hidden=\(2.5,\)"),
        ({"reconstruction": "l1"}, "reconstruction='l1'.*'bce' or 'mse'"),
        ({"mean_image": np.zeros((6, 6))}, r"mean_image.*\(6, 6\).*\(6, 6, 1\)"),
        ({"mean_image": np.full(SHAPE, 128.0)}, r"mean_image.*128.*\[0, 1\]"),
        ({"mean_image": np.full(SHAPE, np.nan)}, r"mean_image.*nan.*\[0, 1\]"),
    ],
)
def test_bad_model_argument_is_named(arguments, message, plain_engine):
    with pytest.raises(ValueError, match=message):
        MLPAutoencoder(Commit(), **{"hidden": (5,), "input_shape": SHAPE, **arguments})


@pytest.mark.parametrize("method", ["encode", "latent", "reconstruct"])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (bytes_images(3)[0, :5], ValueError, r"\(5, 6, 1\).*\(N, 6, 6, 1\)"),
        (bytes_images(3)[:, :5, :, 0], ValueError, r"\(3, 5, 6\)"),
        (bytes_images(3).astype(np.int64), TypeError, "int64"),
        (images(3) * 255, ValueError, r"to 2\d\d\..*\[0, 1\]"),
        (images(3) - 1, ValueError, r"-1.*\[0, 1\]"),
        (images(3) * np.nan, ValueError, "nan"),
    ],
    ids=["one image", "no channel", "integers", "floats to 255", "negative", "nan"],
)
def test_bad_images_are_refused(method, x, error, message, engine):
    with pytest.raises(error, match=message):
        getattr(small_model(), method)(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (images(3)[0], ValueError, r"\(N, 6, 6, 1\)"),
        (images(3, (5, 5, 1)), ValueError, r"\(3, 5, 5, 1\)"),
        (bytes_images(3), TypeError, "uint8.*float32"),
        (images(3, dtype=np.float64), TypeError, "float64.*float32"),
    ],
    ids=["one image", "other size", "bytes", "float64"],
)
def test_bad_training_batch_is_refused(x, error, message, engine):
    with pytest.raises(error, match=message):
        small_model().loss(x)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (np.zeros((3, 4)), r"\(3, 4\).*\(N, 5\)"),
        (np.zeros(5), r"\(5,\)"),
        (np.zeros((3, 2), np.uint8), r"\(3, 2\)"),
        (np.full((3, 5), 2.0), r"\[0, 1\].*2\.0"),
        (np.full((3, 5), -1), r"\[0, 1\].*-1"),
        (np.full((3, 5), np.nan), "nan"),
        (np.full((3, 5), "a"), "<U1"),
        (np.full((3, 5), 1j), "complex128"),
    ],
    ids=["width", "one code", "packed width", "2", "-1", "nan", "text", "complex"],
)
def test_bad_code_is_refused(code, message, engine):
    with pytest.raises(ValueError, match=message):
        small_model().decode(code)
