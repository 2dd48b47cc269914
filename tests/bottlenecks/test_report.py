"""The report's four bottlenecks, each by its contract: training code, stored code, latent, added loss, gradient."""

import numpy as np
import pytest
from engines import build

from tinyqae.bottlenecks import REPORT_KINDS, Commit, Fence, Naive, Vanilla, make_bottleneck
from tinyqae.engine import choose
from tinyqae.gradcheck import check_coordinates, check_directions

SMOOTH = {Vanilla: ("sigmoid", "relu-sigmoid"), Naive: ("sigmoid", "relu-sigmoid"), Fence: ("sigmoid", "relu-sigmoid")}
SMOOTH_CASES = [(kind, activation) for kind, activations in SMOOTH.items() for activation in activations]
COMMIT_ACTIVATIONS = ("sigmoid", "relu", "linear", "relu-sigmoid")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATE = {
    "sigmoid": sigmoid,
    "relu": lambda h: np.maximum(h, 0),
    "linear": lambda h: h,
    "relu-sigmoid": lambda h: sigmoid(np.maximum(h, 0)),
}
SLOPE = {
    "sigmoid": lambda h: sigmoid(h) * sigmoid(-h),
    "relu": lambda h: (h > 0) * 1.0,
    "linear": np.ones_like,
    "relu-sigmoid": lambda h: (h > 0) * sigmoid(h) * sigmoid(-h),
}


def draw(n=9, f=6, dtype=np.float64):
    """(h at some distance from the kink at 0, dcode)."""
    random = np.random.default_rng((n, f))
    h, dcode = random.standard_normal((2, n, f))
    return (2 * h + np.copysign(0.01, h)).astype(dtype), dcode.astype(dtype)


# ---- what the decoder sees, and what is stored ---------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", REPORT_KINDS)
def test_training_and_stored_code(kind, signed, engine):
    h, _ = draw(70, 20, np.float32)
    bottleneck = build(make_bottleneck(kind, signed=signed))
    z = sigmoid(h)
    bits = z > 0.5
    training, stored = {"vanilla": (z, z), "naive": (z, bits), "fence": (z, bits), "commit": (bits, bits)}[kind]
    scale = (lambda code: 2.0 * code - 1) if signed else (lambda code: code)
    for expected, is_training in ((training, True), (stored, False)):
        code = bottleneck.forward(h, is_training)
        assert code.dtype == np.float32 and code.shape == h.shape
        np.testing.assert_allclose(code, scale(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bottleneck.latent(h), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", COMMIT_ACTIVATIONS)
def test_commit_latent_and_bits_of_each_activation(activation, engine):
    h, _ = draw(70, 20, np.float32)
    bottleneck, a = build(Commit(activation=activation)), ACTIVATE[activation](h)
    np.testing.assert_allclose(bottleneck.latent(h), a, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bottleneck.forward(h, True), a > 0.5)
    np.testing.assert_array_equal(bottleneck.forward(h, False), a > 0.5)


def test_value_exactly_on_the_fence_is_stored_as_zero(engine):
    h = np.zeros((1, 3), np.float32)
    for kind in ("naive", "fence", "commit"):
        np.testing.assert_array_equal(build(make_bottleneck(kind)).forward(h, False), 0)


def test_added_loss_terms_without_their_weight(engine):
    h, _ = draw(70, 20, np.float32)
    z = sigmoid(h.astype(np.float64))
    bits = z > 0.5
    for bottleneck, expected in (
        (Vanilla(), 0),
        (Naive(), 0),
        (Fence(weight=7.0), np.minimum(z, 1 - z).mean()),
        (Commit(weight=7.0), ((bits - z) ** 2).mean()),
    ):
        bottleneck = build(bottleneck)
        bottleneck.forward(h, True)
        np.testing.assert_allclose(bottleneck.loss(), expected, rtol=1e-5)


def test_loss_names_and_binary_kinds():
    assert {kind: (b.loss_name, b.is_binary) for kind, b in REPORT_KINDS.items()} == {
        "vanilla": (None, False),
        "naive": (None, True),
        "fence": ("fence", True),
        "commit": ("commit", True),
    }


@pytest.mark.parametrize("signed", [False, True])
def test_for_decoder_maps_stored_bits(signed, plain_engine):
    bits = np.array([[0.0, 1.0, 0.25]])
    bottleneck = build(make_bottleneck("commit", signed=signed))
    np.testing.assert_array_equal(bottleneck.for_decoder(bits), [[-1, 1, -0.5]] if signed else [[0, 1, 0.25]])


def test_smaller_batch_after_a_larger_one_uses_its_own_rows(engine):
    h, dcode = draw(70, 20, np.float32)
    for kind in REPORT_KINDS:
        used, fresh = (build(make_bottleneck(kind, weight=0.3)) for _ in range(2))
        used.forward(h, True)
        used.backward(dcode)
        np.testing.assert_array_equal(used.forward(h[5:9], True), fresh.forward(h[5:9], True))
        np.testing.assert_array_equal(used.backward(dcode[5:9]), fresh.backward(dcode[5:9]))
        assert used.loss() == fresh.loss()


# ---- gradients of the smooth kinds, numerically --------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0, 0.3])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("kind", "activation"), SMOOTH_CASES)
def test_backward_is_the_derivative_of_the_weighted_loss(kind, activation, signed, noise, plain_engine):
    weight = 1.7 if kind is Fence else 0.0
    bottleneck = build(kind(weight=weight, activation=activation, signed=signed, noise=noise))
    for check, shape in ((check_coordinates, (4, 3)), (check_directions, (64, 50))):
        h, dcode = draw(*shape)

        def loss(h=h, dcode=dcode):
            bottleneck.random = np.random.default_rng(5)
            return np.vdot(dcode, bottleneck.forward(h, True)) + weight * bottleneck.loss()

        loss()
        check(loss, h, bottleneck.backward(dcode).copy())


def test_fence_gradient_follows_its_weight(plain_engine):
    h, dcode = draw()
    gradients = {}
    for weight in (0, 1, 3):
        fence = build(Fence(weight=weight))
        fence.forward(h, True)
        gradients[weight] = fence.backward(dcode).copy()
    expected = SLOPE["sigmoid"](h) * np.sign(-h) / h.size
    np.testing.assert_allclose(gradients[1] - gradients[0], expected, rtol=1e-10)
    np.testing.assert_allclose(gradients[3] - gradients[0], 3 * expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [Vanilla, Naive])
def test_weight_means_nothing_where_no_loss_is_added(kind, plain_engine):
    h, dcode = draw()
    gradients = []
    for weight in (0.0, 0.5):
        bottleneck = build(kind(weight=weight))
        bottleneck.forward(h, True)
        gradients.append(bottleneck.backward(dcode))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("kind", [Vanilla, Naive])
def test_fast_buffer_for_the_gradient_of_a_loss_is_not_read_where_no_loss_is_added(kind):
    h, dcode = draw()
    gradients = []
    for weight in (0.0, 0.5):
        bottleneck = choose("fast").build(kind(weight=weight))
        bottleneck.allocate(h.shape, h.dtype)
        bottleneck._loss_gradient[...] = np.nan
        bottleneck.forward(h, True)
        gradients.append(bottleneck.backward(dcode))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("kind", REPORT_KINDS)
def test_backward_twice_gives_the_same_gradient(kind, plain_engine):
    h, dcode = draw()
    bottleneck = build(make_bottleneck(kind, weight=0.5))
    bottleneck.forward(h, True)
    np.testing.assert_array_equal(bottleneck.backward(dcode).copy(), bottleneck.backward(dcode))


# ---- commit: against its declared surrogate ------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 0.2, 0.5])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("activation", COMMIT_ACTIVATIONS)
def test_commit_backward_is_the_surrogate_gradient(activation, signed, window, plain_engine):
    h, dcode = draw(40, 20)
    weight = 0.7
    commit = build(Commit(weight=weight, activation=activation, signed=signed, window=window))
    commit.forward(h, True)
    dh = commit.backward(dcode)

    a = ACTIVATE[activation](h)
    b = np.where(a > 0.5, 1.0, 0.0)
    passes = np.ones_like(a) if window is None else (np.abs(a - 0.5) <= window) * 1.0
    da = dcode * (2 if signed else 1) * passes + weight * 2 * (a - b) / a.size
    np.testing.assert_allclose(dh, da * SLOPE[activation](h), rtol=1e-10, atol=1e-14)
    if window == 0.2:
        assert 0 < passes.mean() < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("activation", COMMIT_ACTIVATIONS)
def test_commit_agrees_with_torch_and_the_detach_trick(activation, signed, dtype, torch, engine):
    h, dcode = draw(40, 20, dtype)
    commit = build(Commit(weight=3.0, activation=activation, signed=signed))
    code = commit.forward(h, True)

    leaf = torch.tensor(h, requires_grad=True)
    a = {
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "linear": lambda x: x,
        "relu-sigmoid": lambda x: torch.sigmoid(torch.relu(x)),
    }[activation](leaf)
    b = (a > 0.5).to(a.dtype)
    through = a + (b - a).detach()
    through = 2 * through - 1 if signed else through
    extra = ((b.detach() - a) ** 2).mean()
    ((through * torch.tensor(dcode)).sum() + 3.0 * extra).backward()

    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(code, through.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(commit.loss(), extra.item(), rtol=tolerance)
    np.testing.assert_allclose(commit.backward(dcode), leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


# ---- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REPORT_KINDS)
def test_noise_comes_from_the_generator_and_in_training_only(kind, plain_engine):
    h, _ = draw(50, 40)
    bottleneck, quiet = build(make_bottleneck(kind, noise=0.5)), build(make_bottleneck(kind))
    codes = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        bottleneck.random = np.random.default_rng(seed)
        codes[name] = bottleneck.forward(h, True).copy()
    np.testing.assert_array_equal(codes["first"], codes["again"])
    assert not np.array_equal(codes["first"], codes["other"])
    np.testing.assert_array_equal(bottleneck.forward(h, False), quiet.forward(h, False))


def test_noise_has_its_standard_deviation(plain_engine):
    h, _ = draw(200, 100)
    noise = build(Naive(noise=0.25)).forward(h, True) - build(Naive()).forward(h, True)
    np.testing.assert_allclose(noise.std(), 0.25, rtol=0.02)
    np.testing.assert_allclose(noise.mean(), 0, atol=0.01)


def test_the_fence_is_measured_before_the_noise(engine):
    """The loss and its gradient are about a, in [0, 1]: a value that the noise alone has moved over 1/2 is not pushed on."""
    h, dcode = draw(50, 40, np.float32)
    fence = build(Fence(weight=7.0, noise=0.5))
    z = sigmoid(h.astype(np.float64))
    code = fence.forward(h, True)
    assert (code < 0).any() and ((code > 0.5) != (z > 0.5)).any()
    np.testing.assert_allclose(fence.loss(), np.minimum(z, 1 - z).mean(), rtol=1e-5)
    expected = (dcode + 7 * np.where(z < 0.5, 1, -1) / h.size) * z * (1 - z)
    np.testing.assert_allclose(fence.backward(dcode), expected, rtol=1e-4, atol=1e-7)


def test_commit_with_noise_thresholds_after_it_and_commits_to_the_bit_it_became(plain_engine):
    h, dcode = draw(50, 40)
    commit = build(Commit(weight=1.0, activation="linear", noise=0.5))
    commit.random = np.random.default_rng(3)
    b = (h + 0.5 * np.random.default_rng(3).standard_normal(h.shape) > 0.5).astype(float)
    np.testing.assert_array_equal(commit.forward(h, True), b)
    assert (b != (h > 0.5)).any()
    np.testing.assert_allclose(commit.loss(), ((b - h) ** 2).mean())
    np.testing.assert_allclose(commit.backward(dcode), dcode + 2 * (h - b) / h.size)


# ---- bad input, configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("vq", {}, "quantizer 'vq' is unknown.*vanilla, naive, fence, commit"),
        ("naive", {"activation": "tanh"}, "activation='tanh'.*naive.*sigmoid"),
        ("vanilla", {"activation": "relu"}, "activation='relu'.*vanilla"),
        ("fence", {"activation": "linear"}, "activation='linear'.*fence"),
        ("commit", {"activation": "gelu"}, "activation='gelu'.*commit.*linear"),
        ("fence", {"weight": -0.1}, "weight=-0.1"),
        ("commit", {"weight": float("nan")}, "weight=nan"),
        ("commit", {"weight": float("inf")}, "weight=inf"),
        ("naive", {"noise": -1}, "noise=-1"),
        ("commit", {"window": 0}, "window=0"),
        ("commit", {"window": -0.5}, "window=-0.5"),
        ("commit", {"window": float("nan")}, "window=nan"),
    ],
)
def test_bad_argument_and_its_value_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_bottleneck(kind, **arguments)


def test_none_is_another_word_for_vanilla():
    assert type(make_bottleneck("none")) is Vanilla


@pytest.mark.parametrize(
    "bottleneck",
    [
        Vanilla(activation="relu-sigmoid"),
        Naive(signed=True, noise=0.2),
        Fence(weight=0.3),
        Commit(0.4, "linear", True, 0.1, 0.5),
    ],
)
def test_config_rebuilds_the_bottleneck_and_repr_names_it(bottleneck, plain_engine):
    built = build(bottleneck)
    again = make_bottleneck(built.kind, **built.config())
    assert type(again) is type(bottleneck) and repr(again) == repr(built) == repr(bottleneck)
    assert eval(repr(built)).config() == built.config() == bottleneck.config()


def test_noise_of_a_new_bottleneck_is_drawn_from_generator_0(plain_engine):
    h, _ = draw()
    drawn = np.random.default_rng([0]).standard_normal(h.shape)
    code = build(Naive(noise=0.3)).forward(h, True)
    np.testing.assert_allclose(code, sigmoid(h) + 0.3 * drawn, rtol=1e-12)
