"""The convolutional autoencoder as a whole: gradients, PyTorch agreement, inference, files, bad input. With both engines;
threads and memory are the fast engine's own.
"""

import tracemalloc

import numpy as np
import pytest
from engines import flat, train_once

from tinyqae import Adam, CNNAutoencoder, Commit, Fence, Naive, Vanilla, backend, load
from tinyqae.fast import layers as fast_layers
from tinyqae.gradcheck import check_directions
from tinyqae.recipes import report_widths

SHAPE = (8, 8, 3)
KINDS = {"vanilla": Vanilla, "naive": Naive, "fence": lambda: Fence(weight=0.3), "commit": lambda: Commit(weight=0.3)}


def images(n, shape=SHAPE, dtype=np.float32, seed=0):
    return np.random.default_rng((seed, n)).random((n, *shape)).astype(dtype)


def small_model(kind="commit", dtype=np.float32, **arguments):
    arguments = {"widths": (5, 4), "latent_channels": 3, "normalize_latent": True, **arguments}
    return CNNAutoencoder(KINDS[kind](), input_shape=SHAPE, dtype=dtype, **arguments)


def shaken(model, seed=1):
    """The model with its parameters moved at random, some gammas negative: no term of a gradient may hide at 0 or 1."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for array in layer.params.values():
            array += 0.1 * random.standard_normal(array.shape).astype(model.dtype)
    model.layers[0].params["gamma"][:2] = -0.7
    return model


@pytest.mark.parametrize("kind", ["vanilla", "naive", "fence"])
@pytest.mark.parametrize("normalize_output", [True, False])
@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
def test_gradient_of_the_whole_model(kind, normalize_output, reconstruction, plain_engine):
    model = shaken(
        small_model(
            kind,
            np.float64,
            normalize_output=normalize_output,
            reconstruction=reconstruction,
            decoder_widths=(6, 7),
            mean_image=images(50, dtype=np.float64).mean(axis=0),
        )
    )
    x = images(4, dtype=np.float64)
    train_once(model, x)
    gradients = [array.copy() for array in model.gradients()]
    assert check_directions(lambda: model.loss(x), model.parameters(), gradients) <= 1e-6


def in_torch(torch, model):
    """The same function of the parameters in PyTorch, with autograd: loss(x) -> (total, parameters as leaves)."""
    functional = torch.nn.functional
    leaves = [
        {name: torch.tensor(array, requires_grad=True) for name, array in layer.params.items()} for layer in model.layers
    ]

    def block(layer, leaf, x):
        if not hasattr(layer, "filters"):  # the batch norm of the latent
            return functional.batch_norm(x, None, None, leaf["gamma"], leaf["beta"], training=True, eps=layer.eps)
        if layer.upsample:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.conv2d(x, leaf["w"].permute(3, 2, 0, 1), leaf.get("b"), padding=layer.kernel // 2)
        if layer.norm:
            x = functional.batch_norm(x, None, None, leaf["gamma"], leaf["beta"], training=True, eps=layer.eps)
        if layer.relu:
            x = torch.relu(x)
        return functional.max_pool2d(x, 2) if layer.pool else x

    def total_loss(images_):
        target = torch.tensor(images_).permute(0, 3, 1, 2)
        x = target
        n_encoder = len(model.encoder.layers)
        for layer, leaf in zip(model.layers[:n_encoder], leaves[:n_encoder], strict=True):
            x = block(layer, leaf, x)
        a = torch.sigmoid(x)
        bits = (a > 0.5).to(a.dtype)
        x = a + (bits - a).detach()
        for layer, leaf in zip(model.layers[n_encoder:], leaves[n_encoder:], strict=True):
            x = block(layer, leaf, x)
        commit = ((a - bits.detach()) ** 2).mean()
        return functional.binary_cross_entropy_with_logits(x, target) + model.bottleneck.weight * commit

    return total_loss, [leaf[name] for layer, leaf in zip(model.layers, leaves, strict=True) for name in layer.params]


def test_commit_agrees_with_pytorch_and_the_detach_trick(torch, plain_engine):
    model = shaken(small_model("commit", np.float64, normalize_output=True))
    x = images(4, dtype=np.float64)
    total_loss, leaves = in_torch(torch, model)
    objective = float(model.loss(x))
    model.backward()
    loss = total_loss(x)
    loss.backward()
    assert objective == pytest.approx(loss.item(), rel=1e-12)
    assert float(model.terms["reconstruction"]) + 0.3 * float(model.terms["commit"]) == pytest.approx(loss.item(), rel=1e-12)
    theirs = np.concatenate([leaf.grad.numpy().ravel() for leaf in leaves])
    np.testing.assert_allclose(flat(model.gradients()), theirs, rtol=1e-8, atol=1e-10)


def test_five_adam_steps_agree_with_pytorch(torch, plain_engine):
    model = shaken(small_model("commit", np.float64))
    total_loss, leaves = in_torch(torch, model)
    ours, theirs = Adam(lr=1e-3, eps=1e-4), torch.optim.Adam(leaves, lr=1e-3, eps=1e-4)
    for i in range(5):
        x = images(4, dtype=np.float64, seed=i)
        train_once(model, x)
        ours.step(model)
        theirs.zero_grad()
        total_loss(x).backward()
        theirs.step()
    after = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves])
    np.testing.assert_allclose(flat(model.parameters()), after, rtol=1e-6, atol=1e-8)


def test_a_step_in_float32_is_that_of_float64(engine):
    x = images(16)
    single, double = shaken(small_model("vanilla")), shaken(small_model("vanilla", np.float64))
    double.restore({name: array.astype(np.float64) for name, array in single.state_arrays().items()})
    a, b = train_once(single, x), train_once(double, x.astype(np.float64))
    assert float(a["reconstruction"]) == pytest.approx(float(b["reconstruction"]), rel=1e-5)
    ours, exact = flat(single.gradients()), flat(double.gradients())
    assert ours.dtype == np.float32
    assert np.abs(ours - exact).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("normalize_output", [True, False])
def test_inference_equals_running_statistics_applied_one_by_one(torch, normalize_output, plain_engine):
    functional = torch.nn.functional
    model = shaken(small_model("vanilla", np.float64, normalize_output=normalize_output))
    for seed in range(3):
        train_once(model, images(8, dtype=np.float64, seed=seed))
    x = images(5, dtype=np.float64, seed=7)
    value = torch.tensor(x).permute(0, 3, 1, 2)
    for i, layer in enumerate(model.layers):
        if i == len(model.encoder.layers):
            value = torch.sigmoid(value)
        p, s = ({k: torch.tensor(v) for k, v in d.items()} for d in (layer.params, layer.state))
        if hasattr(layer, "filters"):
            if layer.upsample:
                value = functional.interpolate(value, scale_factor=2, mode="nearest")
            value = functional.conv2d(value, p["w"].permute(3, 2, 0, 1), p.get("b"), padding=layer.kernel // 2)
        if "gamma" in p:
            value = functional.batch_norm(value, s["mean"], s["variance"], p["gamma"], p["beta"], eps=layer.eps)
        if hasattr(layer, "filters"):
            value = torch.relu(value) if layer.relu else value
            value = functional.max_pool2d(value, 2) if layer.pool else value
    logits = model.forward(x, training=False).reshape(x.shape)
    np.testing.assert_allclose(logits, value.permute(0, 2, 3, 1).numpy(), rtol=1e-9, atol=1e-10)


def test_a_fast_training_step_allocates_no_array_after_the_first(kernels, monkeypatch):
    monkeypatch.setattr(backend, "threads", 2)
    model = CNNAutoencoder(Commit(), widths=(16, 8), latent_channels=8, normalize_latent=True, engine="fast")
    optimizer, x = Adam(), images(128, (32, 32, 3))
    for _ in range(3):
        train_once(model, x)
        optimizer.step(model)
    tracemalloc.start()
    try:
        train_once(model, x)
        optimizer.step(model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy's own buffers while it broadcasts and casts, in each thread; the smallest map of this batch, (128, 8, 8, 8), has
    # 262,144 bytes.
    assert peak < 200_000


def test_a_batch_split_among_threads_gives_the_same_step(monkeypatch):
    monkeypatch.setattr(fast_layers, "THREADING_THRESHOLD", 0)
    x, results = images(7, dtype=np.float64), []
    for threads in (1, 2, 3):
        monkeypatch.setattr(backend, "threads", threads)
        model = shaken(small_model("vanilla", np.float64, engine="fast"))
        train_once(model, x)
        assert {len(layer.plans) for layer in model.layers if hasattr(layer, "plans")} == {threads}
        results.append((flat(model.gradients()), model.reconstruct(x)))
    for gradients, reconstruction in results[1:]:
        np.testing.assert_allclose(gradients, results[0][0], rtol=1e-10, atol=1e-13)
        np.testing.assert_array_equal(reconstruction, results[0][1])


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("normalize_output", [True, False])
def test_gradient_with_the_batch_split_among_threads(threads, normalize_output, monkeypatch):
    monkeypatch.setattr(fast_layers, "THREADING_THRESHOLD", 0)
    monkeypatch.setattr(backend, "threads", threads)
    model = shaken(small_model("vanilla", np.float64, normalize_output=normalize_output, engine="fast"))
    x = images(5, dtype=np.float64)  # Parts of unequal size: 3 and 2, or 2, 2 and 1.
    train_once(model, x)
    gradients = [array.copy() for array in model.gradients()]
    assert check_directions(lambda: model.reconstruction_loss(x), model.parameters(), gradients) <= 1e-6


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_training_twice_gives_the_same_weights_at_the_same_number_of_threads(threads, kernels, monkeypatch):
    monkeypatch.setattr(fast_layers, "THREADING_THRESHOLD", 0)
    monkeypatch.setattr(backend, "threads", threads)
    ids = set()
    for _ in range(3):
        model, optimizer = small_model(engine="fast"), Adam()
        for n in (5, 4, 1):  # The last has fewer images than threads.
            train_once(model, images(n))
            optimizer.step(model)
        ids.add(model.model_id())
    assert len(ids) == 1


def test_an_error_in_another_thread_is_raised():
    def fail_elsewhere(i):
        if i:
            raise RuntimeError("part 1")

    with pytest.raises(RuntimeError, match="part 1"):
        backend.parallel_for(fail_elsewhere, 2)


@pytest.mark.parametrize("size, bits", [("small", 256), ("medium", 512), ("large", 768)])
def test_the_three_sizes_of_the_report(size, bits, plain_engine):
    widths, latent_channels = report_widths(size)
    model = CNNAutoencoder(Commit(), widths, latent_channels)
    assert model.latent_size == bits
    x = images(2, (32, 32, 3))
    assert model.encode(x).shape == (2, bits)
    assert model.reconstruct(x).shape == (2, 32, 32, 3)


def test_deeper_and_wider_models_on_other_shapes(engine):
    model = CNNAutoencoder(Vanilla(), widths=(3, 4, 5, 6), latent_channels=2, input_shape=(16, 32, 1))
    assert model.latent_size == 1 * 2 * 2
    assert np.isfinite(float(train_once(model, images(2, (16, 32, 1)))["reconstruction"]))


def test_saved_and_loaded_it_decodes_the_same(tmp_path, engine):
    model = small_model(mean_image=images(50).mean(axis=0))
    for seed in range(3):
        train_once(model, images(9, seed=seed))
    model.save(tmp_path / "model.npz")
    loaded, x = load(tmp_path / "model.npz"), images(7)
    np.testing.assert_array_equal(loaded.encode(x, packed=True), model.encode(x, packed=True))
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    assert loaded.model_id() == model.model_id()


def test_the_reconstruction_of_an_image_does_not_depend_on_its_batch(engine):
    model = small_model("vanilla")
    train_once(model, images(16))
    x = images(11)
    alone = np.concatenate([model.reconstruct(x[i : i + 1]) for i in range(len(x))]).astype(int)
    assert np.abs(model.reconstruct(x).astype(int) - alone).max() <= 1


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"widths": ()}, "widths"),
        ({"widths": (4, 0)}, "widths"),
        ({"decoder_widths": (4,)}, "decoder_widths"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"input_shape": (30, 32, 3)}, "input_shape"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"reconstruction": "l1"}, "reconstruction"),
    ],
)
def test_bad_arguments_are_named(arguments, named, plain_engine):
    with pytest.raises(ValueError, match=named):
        CNNAutoencoder(Commit(), **{"widths": (4, 4, 4), **arguments})


@pytest.mark.parametrize("normalize_output", [True, False])
def test_the_output_starts_at_the_mean_of_each_channel(normalize_output, engine):
    mean_image = images(50).mean(axis=0)
    model = small_model("vanilla", normalize_output=normalize_output, mean_image=mean_image)
    bias = model.decoder.layers[-1].params["beta" if normalize_output else "b"]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), mean_image.mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize("normalize_output", [True, False])
def test_a_new_model_whose_last_convolution_is_0_reconstructs_the_mean_colour(normalize_output, engine):
    """Pixels of 0 and 1 count as 1/1000 from there, so that the logits are finite: half of the last channel is black."""
    mean_image = images(50).mean(axis=0)
    mean_image[:4, :, 2], mean_image[4:, :, 2] = 0, 0.6
    mean_image[:, :, 1] = 1
    model = small_model("vanilla", normalize_output=normalize_output, mean_image=mean_image)
    model.decoder.layers[-1].params["w"][...] = 0
    colour = [mean_image[:, :, 0].mean(), 0.999, (0.001 + 0.6) / 2]
    probability = 1 / (1 + np.exp(-model.forward(images(3))))
    np.testing.assert_allclose(probability, np.tile(colour, (3, 64)), rtol=1e-4)


def test_the_encoder_reads_the_difference_to_the_mean_image(engine):
    mean_image = images(50).mean(axis=0)
    centred, plain = small_model("vanilla", mean_image=mean_image), small_model("vanilla")
    x = images(3)
    np.testing.assert_allclose(centred.encoder_output(x), plain.encoder_output(x - mean_image.astype(np.float32)), atol=1e-6)
