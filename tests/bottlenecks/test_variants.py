"""The bottlenecks that the report did not try: codes, gradients, added loss, annealing through fit, files."""

import numpy as np
import pytest
from allocations import peak_of_second_call
from engines import build, flat

from tinyqae import Adam, Commit, MLPAutoencoder, Naive, fit, load, losses, make_bottleneck
from tinyqae.bottlenecks import VARIANTS, Annealed, Clipped, Entropy, Stochastic
from tinyqae.engine import choose
from tinyqae.fast import losses as fast_losses
from tinyqae.gradcheck import check_coordinates, check_directions

SHAPE = (6, 6, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def entropy_term(a):
    return entropy(a).mean() - entropy(a.mean(axis=0)).mean()


def draw(n=9, f=6, dtype=np.float64):
    """(h at some distance from the threshold at 0, dcode)."""
    random = np.random.default_rng((n, f))
    h, dcode = random.standard_normal((2, n, f))
    return (2 * h + np.copysign(0.01, h)).astype(dtype), dcode.astype(dtype)


def as_seen(code, signed):
    return 2.0 * code - 1 if signed else code * 1.0


# ---- what all have in common ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", VARIANTS)
def test_stored_bits_are_the_same_threshold_for_all(kind, signed, dtype, engine):
    h, _ = draw(70, 20, dtype)
    bottleneck, naive = build(make_bottleneck(kind, signed=signed)), build(Naive(signed=signed))
    code = bottleneck.forward(h, False)
    assert code.dtype == dtype and code.shape == h.shape
    np.testing.assert_array_equal(code, as_seen(h > 0, signed))
    np.testing.assert_array_equal(code, naive.forward(h, False))
    np.testing.assert_array_equal(bottleneck.latent(h) > 0.5, h > 0)
    np.testing.assert_array_equal(bottleneck.for_decoder((h > 0).astype(dtype)), code)
    assert bottleneck.is_binary and bottleneck.code_range == (0, 1)
    np.testing.assert_array_equal(build(make_bottleneck(kind)).forward(np.zeros((1, 3), dtype), False), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", VARIANTS)
def test_training_keeps_shape_and_dtype_and_ends_in_finite_numbers(kind, signed, dtype, engine):
    h, dcode = draw(70, 20, dtype)
    h[:, :5] *= 1000  # Saturated both ways,
    h[:, 4] = np.abs(h[:, 4])  # and one bit on for every example.
    bottleneck = build(make_bottleneck(kind, signed=signed, weight=0.5))
    for array in (bottleneck.forward(h, True), bottleneck.backward(dcode)):
        assert array.dtype == dtype and array.shape == h.shape and np.isfinite(array).all()
    assert np.isfinite(bottleneck.loss())
    assert (bottleneck.loss() != 0) == (bottleneck.loss_name is not None) == (kind == "entropy")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", ["clipped", "stochastic", "entropy"])
def test_the_decoder_sees_bits_in_training(kind, signed, plain_engine):
    h, _ = draw(70, 20)
    code = build(make_bottleneck(kind, signed=signed)).forward(h, True)
    assert set(np.unique(code)) == ({-1, 1} if signed else {0, 1})
    if kind != "stochastic":
        np.testing.assert_array_equal(code, as_seen(h > 0, signed))


@pytest.mark.parametrize("kind", VARIANTS)
def test_smaller_batch_after_a_larger_one_uses_its_own_rows(kind, engine):
    h, dcode = draw(70, 20, np.float32)
    used, fresh = (build(make_bottleneck(kind, weight=0.3)) for _ in range(2))
    used.forward(h, True)
    used.backward(dcode)
    used.random, fresh.random = np.random.default_rng(7), np.random.default_rng(7)
    np.testing.assert_array_equal(used.forward(h[5:9], True), fresh.forward(h[5:9], True))
    np.testing.assert_array_equal(used.backward(dcode[5:9]), fresh.backward(dcode[5:9]))
    assert used.loss() == fresh.loss()


@pytest.mark.parametrize("kind", VARIANTS)
def test_backward_twice_gives_the_same_gradient(kind, plain_engine):
    h, dcode = draw()
    bottleneck = build(make_bottleneck(kind, weight=0.5))
    bottleneck.forward(h, True)
    np.testing.assert_array_equal(bottleneck.backward(dcode).copy(), bottleneck.backward(dcode))


@pytest.mark.parametrize("kind", VARIANTS)
def test_noise_comes_from_the_generator_and_in_training_only(kind, plain_engine):
    h, _ = draw(50, 40)
    bottleneck, codes = build(make_bottleneck(kind, noise=0.5)), {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        bottleneck.random = np.random.default_rng(seed)
        codes[name] = bottleneck.forward(h, True).copy()
    np.testing.assert_array_equal(codes["first"], codes["again"])
    assert not np.array_equal(codes["first"], codes["other"])
    np.testing.assert_array_equal(bottleneck.forward(h, False), h > 0)


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_fast_step_allocates_no_array_after_the_first(kind, kernels):
    h, dcode = draw(2000, 64, np.float32)
    bottleneck = choose("fast").build(make_bottleneck(kind, weight=0.1))

    def step():
        bottleneck.forward(h, True)
        bottleneck.backward(dcode)

    assert peak_of_second_call(step) < 100_000 < h.nbytes


# ---- clipped: against its declared surrogate ------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0.1, 0.4, 0.5])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
def test_clipped_backward_is_the_derivative_of_the_clipped_activation(activation, signed, window, plain_engine):
    clipped = build(Clipped(activation=activation, signed=signed, window=window))
    activate = sigmoid if activation == "sigmoid" else np.copy
    for check, shape in ((check_coordinates, (5, 4)), (check_directions, (40, 20))):
        h, dcode = draw(*shape)

        def surrogate(h=h, dcode=dcode):
            return np.vdot(dcode, as_seen(activate(h).clip(0.5 - window, 0.5 + window), signed))

        clipped.forward(h, True)
        check(surrogate, h, clipped.backward(dcode).copy())


def test_clipped_lets_through_what_is_within_the_window_and_all_of_it(plain_engine):
    h = np.array([[-0.01, 0.0, 0.3, 0.5, 0.99, 1.01, -5, 7]])
    clipped = build(Clipped(activation="linear", window=0.5))
    np.testing.assert_array_equal(clipped.forward(h, True), [[0, 0, 0, 0, 1, 1, 0, 1]])
    np.testing.assert_array_equal(clipped.backward(np.full(h.shape, 3.0)), [[0, 3, 3, 3, 3, 0, 0, 0]])


def test_clipped_is_the_binarized_networks_estimator_and_commit_without_its_loss(torch, plain_engine):
    h, dcode = draw(40, 20)
    clipped = build(Clipped(activation="linear", signed=True, window=0.5))
    commit = build(Commit(0, "linear", True, window=0.5))
    x = torch.tensor(2 * h - 1, requires_grad=True)
    surrogate = torch.nn.functional.hardtanh(x)
    code = surrogate + (torch.sign(x) - surrogate).detach()
    (code * torch.tensor(dcode)).sum().backward()
    np.testing.assert_allclose(clipped.forward(h, True), code.detach().numpy())
    np.testing.assert_allclose(clipped.backward(dcode), 2 * x.grad.numpy())
    np.testing.assert_array_equal(clipped.forward(h, True), commit.forward(h, True))
    np.testing.assert_array_equal(clipped.backward(dcode), commit.backward(dcode))


# ---- stochastic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [False, True])
def test_mean_of_the_drawn_bits_is_their_probability(signed, dtype, engine):
    h, draws = np.linspace(-4, 4, 17, dtype=dtype), 20_000
    a = sigmoid(h)
    code = build(Stochastic(signed=signed)).forward(np.tile(h, (draws, 1)), True)
    # Of normal numbers, one in 1.7 million is five standard deviations off.
    spread = np.sqrt(a * (1 - a) / draws) * (2 if signed else 1)
    assert (np.abs(code.mean(axis=0, dtype=np.float64) - as_seen(a, signed)) < 5 * spread).all()


@pytest.mark.parametrize("signed", [False, True])
def test_stochastic_backward_is_the_derivative_of_the_mean_code(signed, plain_engine):
    h, dcode = draw()
    stochastic = build(Stochastic(signed=signed))
    stochastic.forward(h, True)
    check_coordinates(lambda: np.vdot(dcode, as_seen(sigmoid(h), signed)), h, stochastic.backward(dcode).copy())


def test_bits_come_from_the_generator_bit_by_bit(plain_engine):
    h, _ = draw(50, 40)
    stochastic, codes = build(Stochastic()), []
    for seed in (1, 1, 2):
        stochastic.random = np.random.default_rng(seed)
        codes.append(stochastic.forward(h, True).copy())
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], np.random.default_rng(1).random(h.shape) < sigmoid(h))
    assert not np.array_equal(codes[0], codes[2])
    assert not np.array_equal(stochastic.forward(h, True), codes[2])


def test_certain_values_are_not_left_to_chance(engine):
    h = np.array([[-500, 500]], np.float32).repeat(1000, axis=0)
    np.testing.assert_array_equal(build(Stochastic()).forward(h, True), h > 0)


# ---- annealed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 0.3])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("progress", [0, 0.5, 1])
def test_annealed_backward_is_the_true_derivative(progress, signed, noise, plain_engine):
    annealed = build(Annealed(signed=signed, noise=noise, slope=4))
    annealed.set_progress(progress)
    for check, shape in ((check_coordinates, (4, 3)), (check_directions, (64, 50))):
        h, dcode = draw(*shape)

        def loss(h=h, dcode=dcode):
            annealed.random = np.random.default_rng(5)
            return np.vdot(dcode, annealed.forward(h, True))

        loss()
        check(loss, h, annealed.backward(dcode).copy())


@pytest.mark.parametrize("signed", [False, True])
def test_at_the_start_it_is_naive_and_at_a_great_slope_the_threshold(signed, engine):
    h, dcode = draw(70, 20, np.float32)
    annealed, naive = build(Annealed(signed=signed, slope=1e5)), build(Naive(signed=signed))
    annealed.set_progress(0)
    np.testing.assert_array_equal(annealed.forward(h, True), naive.forward(h, True))
    np.testing.assert_array_equal(annealed.backward(dcode), naive.backward(dcode))
    annealed.set_progress(1)
    training = annealed.forward(h, True).copy()  # The next pass may use the same buffer.
    # Numba's exponential ends at e^-87, not at 0.
    np.testing.assert_allclose(training, annealed.forward(h, False), rtol=0, atol=1e-30)
    np.testing.assert_allclose(annealed.backward(dcode), 0, atol=1e-30)


def test_the_slope_grows_linearly_and_one_that_was_never_told_is_at_the_end(plain_engine):
    h, _ = draw()
    annealed = build(Annealed(slope=9))
    np.testing.assert_allclose(annealed.latent(h), sigmoid(9 * h), atol=1e-15)
    for progress, s in ((0, 1), (0.25, 3), (0.5, 5), (1, 9)):
        annealed.set_progress(progress)
        np.testing.assert_allclose(annealed.forward(h, True), sigmoid(s * h), atol=1e-15)


# ---- entropy --------------------------------------------------------------------------------------------------------


def entropy_by_reference(a):
    return losses.entropy_loss(a), losses.entropy_loss_backward(a)


def entropy_by_fast(a):
    da = np.empty_like(a)
    return fast_losses.entropy_loss(a, np.empty_like(a), np.empty((2, a.shape[1]), a.dtype), da), da


ENTROPY = pytest.mark.parametrize("entropy_and_gradient", [entropy_by_reference, entropy_by_fast])


@ENTROPY
@pytest.mark.parametrize("shape", [(4, 3), (1, 5), (64, 50)])
def test_entropy_loss_value_and_derivative(shape, entropy_and_gradient):
    a = sigmoid(draw(*shape)[0])
    value, da = entropy_and_gradient(a)
    np.testing.assert_allclose(value, entropy_term(a), rtol=1e-12, atol=1e-12)
    if len(a) == 1:
        np.testing.assert_allclose(da, 0, atol=1e-12)
    else:
        check = check_coordinates if a.size < 20 else check_directions
        check(lambda: entropy_and_gradient(a)[0], a, da)


@ENTROPY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entropy_loss_of_bits_that_are_in_use_and_of_bits_that_are_not(dtype, entropy_and_gradient):
    def value(a):
        return entropy_and_gradient(np.array(a, dtype))[0]

    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(value([[0, 1], [1, 0], [1, 1], [0, 0]]), -np.log(2), atol=tolerance)
    np.testing.assert_allclose(value([[0, 1], [0, 1]]), 0, atol=tolerance)
    np.testing.assert_allclose(value([[0.3, 0.5], [0.3, 0.5]]), 0, atol=tolerance)
    np.testing.assert_allclose(value([[0, 1], [1, 1]]), -np.log(2) / 2, atol=tolerance)


@pytest.mark.parametrize("signed", [False, True])
def test_entropy_backward_is_the_identity_through_the_threshold_plus_the_weighted_term(signed, plain_engine):
    bottleneck = build(Entropy(weight=20.0, signed=signed))
    for check, shape in ((check_coordinates, (5, 4)), (check_directions, (40, 20))):
        h, dcode = draw(*shape)

        def surrogate(h=h, dcode=dcode):
            return np.vdot(dcode, as_seen(sigmoid(h), signed)) + 20 * entropy_term(sigmoid(h))

        bottleneck.forward(h, True)
        np.testing.assert_allclose(bottleneck.loss(), entropy_term(sigmoid(h)), rtol=1e-10)
        check(surrogate, h, bottleneck.backward(dcode).copy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [False, True])
def test_entropy_agrees_with_torch(signed, dtype, torch, engine):
    h, dcode = draw(40, 20, dtype)
    bottleneck = build(Entropy(weight=30.0, signed=signed))
    code = bottleneck.forward(h, True)

    leaf = torch.tensor(h, requires_grad=True)
    a = torch.sigmoid(leaf)
    through = a + ((a > 0.5).to(a.dtype) - a).detach()
    through = 2 * through - 1 if signed else through
    on = torch.distributions.Bernoulli
    extra = on(probs=a).entropy().mean() - on(probs=a.mean(dim=0)).entropy().mean()
    ((through * torch.tensor(dcode)).sum() + 30 * extra).backward()

    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(code, through.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(bottleneck.loss(), extra.item(), rtol=tolerance)
    np.testing.assert_allclose(bottleneck.backward(dcode), leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_descending_the_entropy_term_brings_dying_bits_back_into_use_and_the_commit_loss_does_not(plain_engine):
    start = np.random.default_rng(0).standard_normal((100, 8)) + 3
    on, nothing = {}, np.zeros(start.shape)
    for bottleneck in (build(Entropy(weight=1.0)), build(Commit(weight=1.0))):
        h = start.copy()
        for _ in range(200):
            bottleneck.forward(h, True)
            h -= 200 * bottleneck.backward(nothing)
        on[bottleneck.kind] = (h > 0).mean(axis=0)
    assert ((start > 0).mean(axis=0) >= 0.98).all()
    np.testing.assert_array_equal(on["commit"], (start > 0).mean(axis=0))
    assert (on["entropy"] < 0.9).all()


# ---- in a model: training, annealing, files -------------------------------------------------------------------------


def images(n=200, seed=0):
    """Bytes with structure: each image is one of five patterns with noise."""
    random = np.random.default_rng((seed, n))
    patterns = np.random.default_rng(0).integers(0, 200, (5, *SHAPE))
    return (patterns[random.integers(0, 5, n)] + random.integers(0, 56, (n, *SHAPE))).astype(np.uint8)


def model(bottleneck):
    return MLPAutoencoder(bottleneck, hidden=(7, 5), input_shape=SHAPE, normalize_latent=True)


def train(m, **arguments):
    return fit(m, images(), Adam(1e-2), progress=False, **{"epochs": 6, "batch_size": 32, **arguments})


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_model_learns_and_is_the_same_after_saving_and_loading(kind, tmp_path, engine):
    m, held_out = model(make_bottleneck(kind, signed=True)), images(50, seed=1)
    history = train(m, validation=held_out)
    assert history.rows[-1]["reconstruction"] < history.rows[0]["reconstruction"]
    assert history.rows[-1]["val_psnr"] > history.rows[0]["val_psnr"]
    assert ("entropy" in history.rows[0]) == (kind == "entropy")

    m.save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert repr(again.bottleneck) == repr(m.bottleneck)
    np.testing.assert_array_equal(again.latent(held_out), m.latent(held_out))
    np.testing.assert_array_equal(again.reconstruct(held_out), m.reconstruct(held_out))


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", VARIANTS)
def test_resumed_run_ends_at_the_very_same_weights(kind, tmp_path, plain_engine):
    whole, begun, resumed = (model(make_bottleneck(kind, signed=True)) for _ in range(3))
    expected = train(whole)
    original, steps = begun.loss, []

    def counted(batch):
        steps.append(1)
        if len(steps) > 7 * 2 + 3:  # Within the third epoch.
            raise Stop
        return original(batch)

    begun.loss = counted
    with pytest.raises(Stop):
        train(begun, checkpoint=tmp_path / "c.npz")
    history = train(resumed, checkpoint=tmp_path / "c.npz", resume=True)
    np.testing.assert_array_equal(flat(resumed.parameters()), flat(whole.parameters()))
    assert history.latents == expected.latents


def test_fit_tells_the_progress_of_each_step_from_0_and_ends_at_1(plain_engine):
    m, told, seen = model(Annealed()), [], []
    set_progress, loss = m.bottleneck.set_progress, m.loss
    m.bottleneck.set_progress = lambda progress: told.append(progress) or set_progress(progress)
    m.loss = lambda batch: seen.append(told[-1]) or loss(batch)
    train(m, epochs=2)
    assert seen == [step / 14 for step in range(14)]
    assert told[-1] == 1


# ---- bad input, configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("clipped", {"window": 0}, "window=0"),
        ("clipped", {"window": float("nan")}, "window=nan"),
        ("clipped", {"activation": "relu"}, "activation='relu'.*clipped.*sigmoid, linear"),
        ("stochastic", {"activation": "linear"}, "activation='linear'.*stochastic.*sigmoid"),
        ("annealed", {"slope": 0.5}, "slope=0.5"),
        ("annealed", {"slope": float("inf")}, "slope=inf"),
        ("annealed", {"slope": float("nan")}, "slope=nan"),
        ("entropy", {"weight": -1}, "weight=-1"),
        ("anealed", {}, "quantizer 'anealed' is unknown.*commit, clipped, stochastic, annealed, entropy"),
    ],
)
def test_bad_argument_and_its_value_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_bottleneck(kind, **arguments)


@pytest.mark.parametrize(
    "bottleneck",
    [Clipped(0.0, "linear", True, 0.1, 0.5), Stochastic(signed=True), Annealed(noise=0.1, slope=5), Entropy(0.3)],
)
def test_config_rebuilds_the_bottleneck_and_repr_names_it(bottleneck, plain_engine):
    built = build(bottleneck)
    again = make_bottleneck(built.kind, **built.config())
    assert type(again) is type(bottleneck) and repr(again) == repr(built) == repr(bottleneck)
    assert eval(repr(built)).config() == built.config() == bottleneck.config()
