"""Transform coding: successive approximation, the allocation of bits, the initial weights, the model that starts there."""

import numpy as np
import pytest
from agreement import assert_same_examples
from engines import build, flat, train_once
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae import Adam, Commit, Naive, TransformAutoencoder, Vanilla, codec, fit, load, recipes, synthetic_shapes
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.layers import ConvBlock, Dense, Sequential
from tinyqae.metrics.image import psnr
from tinyqae.transform_coding import (
    EPS,
    SCALE,
    AddBranch,
    Branch,
    Logit,
    Picture,
    SuccessiveApproximation,
    allocate_bits,
    logit_backward,
    logit_forward,
    principal_components,
    remainder,
    slices,
    successive_backward,
    successive_forward,
    transform_code,
)

SHAPE, STAGES = (8, 8, 3), (5, 3, 1)


def photos(n=400, shape=SHAPE, seed=0):
    """Smooth random images, bytes: as in photos, most of their variance is in a few components."""
    random = np.random.default_rng(seed)
    height, width, channels = shape
    waves = [np.cos(np.pi * np.outer(np.arange(size) + 0.5, range(6)) / size) for size in (height, width)]
    decay = 0.3 / (1 + np.add.outer(range(6), range(6))) ** 1.5
    values = random.laplace(size=(n, channels, 6, 6)) * decay
    images = 0.5 + np.einsum("ncij,hi,wj->nhwc", values, *waves) + random.normal(0, 0.01, (n, *shape))
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)


def floats(images, dtype=np.float32):
    return images.astype(dtype) / 255


def small_model(bottleneck=None, dtype=np.float64, seed=0, **arguments):
    """A model with random weights everywhere, none of them 0."""
    bottleneck = bottleneck or Commit(signed=True, weight=0.3)
    model = TransformAutoencoder(bottleneck, STAGES, SHAPE, correction=(5, 4), dtype=dtype, seed=seed, **arguments)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for array in layer.params.values():
            array += 0.1 * random.standard_normal(array.shape).astype(dtype)
    model.decoder.layers[1].params["b"] += SCALE / 2  # Most pixels between 0 and 1, where the logit is not clipped.
    return model


def coded(centred, code):
    """The bits, -1 and +1, that a transform code gives to centred images."""
    return successive_forward(centred @ code.analysis @ code.split, code.join @ code.split, code.stages)[1]


# ---- successive approximation ----------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1.99, 1.99), min_size=1, max_size=5), st.integers(1, 8))
def test_each_bit_of_a_number_halves_the_error(numbers, count):
    z, n = np.array(numbers)[None], len(numbers)
    values = 1 / 2.0 ** np.repeat(np.arange(count), n)
    # Each column is a number over the bit's value, and what an earlier bit of the same number says about it.
    same = np.equal.outer(np.tile(np.arange(n), count), np.tile(np.arange(n), count))
    f = same * values[:, None] / values
    y, b = successive_forward(np.tile(z, count) / values, f, (n,) * count)
    decoded = (b * values).reshape(count, n).sum(axis=0)
    assert np.abs(z[0] - decoded).max() <= values[-1] * (1 + 1e-12)
    np.testing.assert_allclose(z - decoded, remainder(z, np.ones(n), count), atol=1e-12)
    np.testing.assert_array_equal(b, np.where(y > 0, 1, -1))


def test_without_earlier_stages_nothing_is_subtracted():
    x = normal(4, 6)
    y, b = successive_forward(x, normal(6, 6, seed=1), (6,))
    np.testing.assert_array_equal(y, x)
    assert y is not x and set(np.unique(b)) == {-1, 1}


def test_only_earlier_stages_are_subtracted():
    assert slices((2, 3, 1)) == [(slice(0, 0), slice(0, 2)), (slice(0, 2), slice(2, 5)), (slice(0, 5), slice(5, 6))]
    x, f = normal(7, 9), normal(9, 9, seed=1)
    y, b = successive_forward(x, f, STAGES)
    for k in range(9):
        first = next(now.start for _, now in slices(STAGES) if now.start <= k < now.stop)
        np.testing.assert_allclose(y[:, k], x[:, k] - sum(b[:, j] * f[j, k] for j in range(first)), atol=1e-12)


def test_gradient_of_successive_approximation():
    x, f, dy = normal(5, 9), 0.3 * normal(9, 9, seed=1), normal(5, 9, seed=2)
    _, b = successive_forward(x, f, STAGES)
    dx, df = successive_backward(dy, b, STAGES)

    def value():
        return np.vdot(dy, successive_forward(x, f, STAGES)[0])

    assert check_coordinates(value, x, dx) <= 1e-7
    assert check_coordinates(value, f, df) <= 1e-7
    assert not df[5:, :5].any() and df[:5, 5:].all()


def test_successive_approximation_agrees_with_pytorch(torch):
    x, f, dy = normal(5, 9), 0.3 * normal(9, 9, seed=1), normal(5, 9, seed=2)
    their_x, their_f = (torch.tensor(array, requires_grad=True) for array in (x, f))
    ys, bits = [], []
    for earlier, now in slices(STAGES):
        y = their_x[:, now] - (torch.cat(bits, 1) @ their_f[earlier, now] if bits else 0)
        ys.append(y)
        bits.append(torch.where(y > 0, 1.0, -1.0).double())
    theirs = torch.cat(ys, 1)
    (theirs * torch.tensor(dy)).sum().backward()
    y, b = successive_forward(x, f, STAGES)
    dx, df = successive_backward(dy, b, STAGES)
    for ours, expected in ((y, theirs.detach()), (b, torch.cat(bits, 1)), (dx, their_x.grad), (df, their_f.grad)):
        assert_close(ours, expected.numpy(), 1e-12)


# ---- the logit -------------------------------------------------------------------------------------------------------


def test_the_logit_is_the_inverse_of_the_sigmoid_and_finite():
    p = np.array([-3, 0, EPS / 2, 0.1, 0.5, 0.9, 1, 7])
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_forward(p))), p.clip(EPS, 1 - EPS), rtol=1e-12)


def test_gradient_of_the_logit_agrees_with_differences_and_with_pytorch(torch):
    x, dy = 0.5 + 0.4 * normal(6, 5), normal(6, 5, seed=1)
    assert (x < EPS).any() and (x > 1 - EPS).any()
    dx = logit_backward(dy, x)
    assert check_coordinates(lambda: np.vdot(dy, logit_forward(x)), x, dx) <= 1e-6
    leaf = torch.tensor(x, requires_grad=True)
    theirs = torch.logit(leaf, eps=EPS)
    (theirs * torch.tensor(dy)).sum().backward()
    assert_close(logit_forward(x), theirs.detach().numpy(), 1e-12)
    assert_close(dx, leaf.grad.numpy(), 1e-12)


# ---- the layers ------------------------------------------------------------------------------------------------------


def stack(dtype):
    """All of this module's layers in one stack: (N, 6) -> (N, 4, 4, 1)."""
    branch = Branch()
    layers = [Dense(9), SuccessiveApproximation(STAGES), Dense(16), Picture((4, 4, 1)), branch, ConvBlock(3, pool=True)]
    layers += [ConvBlock(1, upsample=True, norm=False, relu=False), AddBranch(branch), Logit()]
    made = Sequential(*layers)
    made.setup((6,), np.random.default_rng(0), np.dtype(dtype))
    for layer in made.layers:
        for array in layer.params.values():
            array += 0.3 * normal(*array.shape, seed=array.size, dtype=dtype)
    made.layers[2].params["b"] += SCALE / 4  # So that pixels are between 0 and 1, and with a small correction stay there.
    made.layers[6].params["w"] *= 0.1
    return build(made)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_the_layers(seed, engine):
    layers, x = stack(np.float64), normal(4, 6, seed=seed)
    dy = normal(4, 4, 4, 1, seed=seed + 10)
    layers.forward(x)
    layers.backward(dy)
    arrays = [array for layer in layers.layers for array in layer.params.values()]
    gradients = [layer.grads[name].copy() for layer in layers.layers for name in layer.params]
    assert check_directions(lambda: np.vdot(dy, layers.forward(x)), arrays, gradients) <= 1e-6


def test_the_layers_stay_float32_and_give_the_same_in_inference(engine):
    layers, x = stack(np.float32), normal(4, 6, dtype=np.float32)
    y = layers.forward(x)
    assert y.dtype == np.float32 and y.shape == (4, 4, 4, 1)
    layers.backward(y)
    assert all(gradient.dtype == np.float32 for layer in layers.layers for gradient in layer.grads.values())
    np.testing.assert_array_equal(layers.forward(x[:2], training=False).shape, (2, 4, 4, 1))


@pytest.mark.parametrize("stages", [(), (3, 0), (2.5,)])
def test_bad_stages_are_named(stages):
    with pytest.raises((ValueError, TypeError), match="stages"):
        SuccessiveApproximation(stages)


def test_stages_of_another_sum_are_an_error():
    with pytest.raises(ValueError, match=r"stages=\(5, 3, 1\) must have the sum 8"):
        SuccessiveApproximation(STAGES).setup((8,), np.random.default_rng(0), np.float32)


# ---- the initial weights ---------------------------------------------------------------------------------------------


def test_principal_components_are_those_of_the_covariance():
    images = photos()
    mean, u = principal_components(images, 10)
    x = floats(images, np.float64).reshape(len(images), -1)
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(u.T @ u, np.eye(10), atol=1e-5)
    variances = ((x - mean) @ u).var(axis=0)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1][:10], rtol=1e-3)


def test_a_component_of_four_times_the_variance_gets_one_bit_more():
    z = np.random.default_rng(0).standard_normal((5000, 1)) * [8, 4, 2, 1, 1e-9]
    counts, amplitudes = allocate_bits(z, 10)
    np.testing.assert_array_equal(counts, [4, 3, 2, 1, 0])
    assert amplitudes[3] == pytest.approx(np.sqrt(2 / np.pi), rel=0.07)  # The mean of |z|, the best for a single bit.


def test_more_bits_never_make_the_allocation_worse():
    z = np.random.default_rng(0).laplace(size=(2000, 12)) * np.linspace(3, 0.2, 12)
    errors = []
    for bits in (1, 2, 5, 12, 24, 48):
        counts, amplitudes = allocate_bits(z, bits)
        assert counts.sum() == bits
        errors.append(sum((remainder(z[:, [i]], amplitudes[[i]], counts[i]) ** 2).mean() for i in range(12)))
    assert errors == sorted(errors, reverse=True)


def test_the_transform_code_decodes_to_the_components_approximations():
    images = photos()
    code = transform_code(images, 24)
    assert sum(code.stages) == 24 and len(code.stages) > 2 and code.stages == tuple(sorted(code.stages, reverse=True))
    mean, u = principal_components(images, 24)
    z = floats(images, np.float64).reshape(len(images), -1) - mean
    b = coded(z, code)
    counts, amplitudes = allocate_bits(z @ u, 24)
    expected = np.column_stack([(z @ u)[:, i] - remainder((z @ u)[:, i], amplitudes[i], counts[i]) for i in range(24)])
    np.testing.assert_allclose(b @ code.join @ code.synthesis, expected @ u.T, atol=1e-4)
    # A component is in units of its last bit, so all values are powers of two.
    np.testing.assert_array_equal(np.log2(code.join[code.join > 0]) % 1, 0)
    np.testing.assert_array_equal(
        (code.join.min(axis=0), code.join.max(axis=0)), (np.zeros(len(counts[counts > 0])), 2.0 ** (counts[counts > 0] - 1))
    )


@pytest.mark.parametrize("bits", [8, 24, 60])
def test_untrained_the_model_is_that_transform_code(bits, engine):
    images = photos()
    model = TransformAutoencoder.from_images(images, Commit(signed=True), bits, correction=(4, 4))
    assert model.latent_size == bits == sum(model.stages)
    code = transform_code(images, bits)
    mean, _ = principal_components(images, bits)
    x = floats(images).reshape(len(images), -1) - mean
    expected = (
        np.rint((coded(x, code) @ code.join @ code.synthesis + mean).clip(EPS, 1 - EPS) * 255)
        .reshape(images.shape)
        .astype(np.uint8)
    )
    difference = np.abs(model.reconstruct(images).astype(int) - expected)
    assert difference.max() <= 1 or (difference > 1).any(axis=(1, 2, 3)).mean() < 0.02  # A bit that rounding decides.


def test_more_bits_give_a_better_picture_before_any_training(plain_engine):
    images = photos()
    found = [
        psnr(images, TransformAutoencoder.from_images(images, Commit(signed=True), bits).reconstruct(images)).mean()
        for bits in (4, 16, 64)
    ]
    assert found[0] + 2 < found[1] < found[2] - 2


def test_vanilla_starts_as_the_components_themselves(engine):
    images = photos()
    model = TransformAutoencoder.from_images(images, Vanilla(activation="linear"), 20)
    assert model.stages == (20,)
    mean, u = principal_components(images, 20)
    x = floats(images).reshape(len(images), -1) - mean
    expected = np.rint((x @ u @ u.T + mean).clip(EPS, 1 - EPS) * 255).reshape(images.shape)
    assert np.abs(model.reconstruct(images) - expected).max() <= 1
    np.testing.assert_allclose(model.encode(images).std(axis=0), 1, rtol=0.01)


@pytest.mark.parametrize("bottleneck", [Commit(), Vanilla(signed=True), Naive()], ids=repr)
def test_a_bottleneck_of_other_codes_is_named(bottleneck):
    with pytest.raises(ValueError, match="bottleneck=.* must be binary with signed=True"):
        TransformAutoencoder.from_images(photos(20), bottleneck, 8)


@pytest.mark.parametrize("bottleneck", [Commit(signed=True), Vanilla(activation="linear")], ids=repr)
def test_few_images_give_finite_weights(bottleneck, plain_engine):
    images = photos(5)
    model = TransformAutoencoder.from_images(images, bottleneck, 100, correction=(4,))
    assert all(np.isfinite(array).all() for array in model.parameters())
    assert psnr(images, model.reconstruct(images)).mean() > 25


@pytest.mark.parametrize(
    "bits, bottleneck",
    [(0, Commit(signed=True)), (8 * 192 + 1, Commit(signed=True))] + [(193, Vanilla(activation="linear"))],
)
def test_a_number_of_bits_that_cannot_be_is_named(bits, bottleneck):
    with pytest.raises(ValueError, match=f"bits={bits} must be"):
        TransformAutoencoder.from_images(photos(20), bottleneck, bits)


def test_every_component_can_have_all_its_bits(plain_engine):
    images = photos(40)
    model = TransformAutoencoder.from_images(images, Commit(signed=True), 8 * 192, correction=(4,))
    assert model.stages == (192,) * 8
    assert psnr(images, model.reconstruct(images)).mean() > 40


# ---- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
def test_gradient_of_the_whole_model(reconstruction, plain_engine):
    model, x = small_model(Vanilla(activation="linear"), reconstruction=reconstruction), floats(photos(4), np.float64)
    train_once(model, x)
    gradients = [array.copy() for array in model.gradients()]
    assert check_directions(lambda: model.loss(x), model.parameters(), gradients) <= 1e-6


def test_commit_agrees_with_pytorch_and_the_detach_trick(torch, plain_engine):
    functional = torch.nn.functional
    model, x = small_model(), floats(photos(4), np.float64)
    leaves = [
        {name: torch.tensor(array, requires_grad=True) for name, array in layer.params.items()} for layer in model.layers
    ]
    analysis, split, successive, join, synthesis, _, _, halve, middle, double, _, _ = leaves
    h = (torch.tensor(x.reshape(4, -1)) @ analysis["w"] + analysis["b"]) @ split["w"] + split["b"]
    ys, bits = [], []
    for earlier, now in slices(STAGES):
        ys.append(h[:, now] - (torch.cat(bits, 1) @ successive["f"][earlier, now] if bits else 0))
        bits.append(torch.where(ys[-1] > 0, 1.0, -1.0).double())
    a = torch.sigmoid(torch.cat(ys, 1))
    b = (a > 0.5).double()
    z = (2 * (a + (b - a).detach()) - 1) @ join["w"] + join["b"]
    picture = (z @ synthesis["w"] + synthesis["b"]) / SCALE
    picture = picture.reshape(4, *SHAPE).permute(0, 3, 1, 2)

    def convolve(leaf, x):
        x = functional.conv2d(x, leaf["w"].permute(3, 2, 0, 1), leaf.get("b"), padding=1)
        if "gamma" in leaf:
            x = functional.relu(functional.batch_norm(x, None, None, leaf["gamma"], leaf["beta"], training=True))
        return x

    correction = convolve(middle, functional.max_pool2d(convolve(halve, picture), 2))
    correction = convolve(double, functional.interpolate(correction, scale_factor=2, mode="nearest"))
    p = torch.sigmoid(torch.logit(picture + correction, eps=EPS))
    loss = ((p - torch.tensor(x).permute(0, 3, 1, 2)) ** 2).mean() + 0.3 * ((a - b) ** 2).mean()
    loss.backward()
    assert float(model.loss(x)) == pytest.approx(loss.item(), rel=1e-12)
    model.backward()
    theirs = [leaf[name].grad.numpy().ravel() for leaf, layer in zip(leaves, model.layers, strict=True) for name in leaf]
    np.testing.assert_allclose(flat(model.gradients()), np.concatenate(theirs), rtol=1e-8, atol=1e-10)


def test_both_engines_take_the_same_steps(kernels):
    models = [small_model(engine=name) for name in ("reference", "fast")]
    for seed in range(3):
        x = floats(photos(16, seed=seed), np.float64)
        for model in models:
            train_once(model, x)
        np.testing.assert_allclose(*(flat(model.gradients()) for model in models), rtol=1e-8, atol=1e-12)
        for model in models:
            Adam(lr=1e-3, eps=1e-4).step(model)
    np.testing.assert_allclose(*(flat(model.parameters()) for model in models), rtol=1e-7, atol=1e-9)


def test_training_improves_on_the_transform_code():
    images = synthetic_shapes(1500, 1).train_images[:, ::2, ::2]
    model = TransformAutoencoder.from_images(images, Commit(signed=True, weight=0.0), 96, correction=(16, 16))
    before = model.validate(images)["val_psnr"]
    fit(model, images, Adam(2e-3), epochs=6, batch_size=32, schedule="cosine", progress=False)
    assert model.validate(images)["val_psnr"] > before + 0.08


def test_the_same_seed_gives_the_same_model(engine):
    ids = set()
    for _ in range(2):
        model = TransformAutoencoder.from_images(photos(64), Commit(signed=True), 16, correction=(4,), seed=3)
        fit(model, photos(64), Adam(1e-3), epochs=1, batch_size=16, progress=False)
        ids.add(model.model_id())
    assert len(ids) == 1


def test_saved_loaded_and_in_the_other_engine_it_decodes_the_same(tmp_path, engine):
    images = photos(64)
    model = TransformAutoencoder.from_images(images, Commit(signed=True), 24, correction=(4, 4))
    fit(model, images, Adam(1e-3), epochs=1, batch_size=16, progress=False)
    model.save(tmp_path / "model.npz")
    code = model.encode(images)
    loaded = load(tmp_path / "model.npz")
    assert isinstance(loaded, TransformAutoencoder) and loaded.model_id() == model.model_id()
    np.testing.assert_array_equal(loaded.encode(images), code)
    np.testing.assert_array_equal(loaded.decode(code), model.decode(code))
    for other in ("reference", "fast"):
        assert_same_examples(load(tmp_path / "model.npz", engine=other).decode(code), model.decode(code))


def test_images_through_a_compressed_file(plain_engine):
    images = photos(30)
    model = TransformAutoencoder.from_images(images, Commit(signed=True), 24, correction=(4, 4))
    np.testing.assert_array_equal(codec.decompress(codec.compress(images, model), model), model.reconstruct(images))


@pytest.mark.parametrize("size, bits", [("small", 256), ("medium", 512), ("large", 768)])
def test_the_recipe_has_the_bits_of_the_cnn(size, bits):
    recipe = recipes.cifar_cnn("default", "commit", size, transform=True)
    assert recipe.model["bits"] == bits and recipe.architecture == "transform"


def test_a_size_that_is_none_is_named():
    with pytest.raises(ValueError, match="size='huge' is unknown; choose one of small, medium, large"):
        recipes.cifar_cnn("default", "commit", "huge", transform=True)


@pytest.mark.parametrize("name, quant", [("report", "commit"), ("default", "naive"), ("default", "fence")])
def test_the_recipe_is_for_quantizers_that_train_on_stored_codes(name, quant):
    with pytest.raises(ValueError, match="transform=True needs"):
        recipes.cifar_cnn(name, quant, "small", transform=True)


def test_the_recipe_trains_a_model_on_small_images():
    recipe = recipes.cifar_cnn("default", "commit", "small", transform=True).override(epochs=1)
    images = photos(128, (16, 16, 3))
    model = recipe.make_model(images, seed=0)
    assert model.latent_size == 256
    fit(model, images, recipe.make_optimizer(), progress=False, **recipe.fit_arguments())
    assert np.isfinite(model.history.rows[-1]["reconstruction"])
