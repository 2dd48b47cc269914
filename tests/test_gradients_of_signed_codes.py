"""tinyqae.gradients with codes of -1 and +1: the gradient of each way by hand, factors of 2 included."""

import numpy as np
import pytest

from tinyqae import Commit, MLPAutoencoder
from tinyqae.data import synthetic_digits
from tinyqae.gradients import WAYS, encoder_gradients, flip_differences

IMAGES = synthetic_digits(train=24, test=1).train_images


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(p, t):
    """Of each example, the mean over its pixels."""
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=1)


@pytest.mark.parametrize("signed", [False, True])
def test_the_gradient_of_each_way_by_hand(signed, plain_engine):
    """One dense layer on each side, t = 784 pixels and n examples. With c = 2 b - 1, dL/db = 2 dL/dc; the flip difference of
    b has no factor of its own, since L(on) - L(off) is the derivative of a L(on) + (1 - a) L(off) whatever the decoder sees.
    """
    model = MLPAutoencoder(Commit(signed=signed), (6,), seed=3, dtype=np.float64)
    x = IMAGES.reshape(24, -1) / 255
    encoder, decoder = model.encoder.layers[0].params, model.decoder.layers[0].params
    for part in (encoder, decoder):
        part["b"] += np.random.default_rng(0).normal(0, 0.1, part["b"].shape)
    a = sigmoid(x @ encoder["w"] + encoder["b"])
    b = (a > 0.5).astype(float)

    def decoded(code):
        return sigmoid((2 * code - 1 if signed else code) @ decoder["w"] + decoder["b"])

    def slope(code):
        return (1 + signed) * (decoded(code) - x) / x.size @ decoder["w"].T

    flips = np.empty_like(b)
    for k in range(6):
        on, off = b.copy(), b.copy()
        on[:, k], off[:, k] = 1, 0
        flips[:, k] = (cross_entropy(decoded(on), x) - cross_entropy(decoded(off), x)) / 24
    np.testing.assert_allclose(flip_differences(model, x.reshape(IMAGES.shape)), flips, rtol=1e-8, atol=1e-14)

    expected = {"threshold": 0 * b, "straight-through": slope(b), "flips": flips, "no threshold": slope(a)}
    gradients = {}
    for way, da in expected.items():
        dh = da * a * (1 - a)
        gradients[way] = np.concatenate([(x.T @ dh).ravel(), dh.sum(axis=0)])
    found = encoder_gradients(model, IMAGES)
    assert found.loss == pytest.approx(cross_entropy(decoded(b), x).mean(), rel=1e-10)
    for way in WAYS:
        assert found.norms[way] == pytest.approx([np.linalg.norm(gradients[way])], rel=1e-8)
    for way in WAYS[1:]:
        cosine = gradients[way] @ gradients["flips"] / np.linalg.norm(gradients[way]) / np.linalg.norm(gradients["flips"])
        assert found.cosines[way]["flips"] == pytest.approx(cosine, rel=1e-8)
    for way in ("straight-through", "no threshold"):
        assert found.wrong_signs[way] == pytest.approx(np.mean(expected[way] * flips < 0))


@pytest.mark.parametrize("signed", [False, True])
def test_where_the_loss_is_nearly_linear_straight_through_is_as_long_as_the_flips(signed, plain_engine):
    model = MLPAutoencoder(Commit(signed=signed), (6,), seed=3, dtype=np.float64)
    model.decoder.layers[-1].params["w"] *= 1e-4
    found = encoder_gradients(model, IMAGES)
    assert found.norms["straight-through"] == pytest.approx(found.norms["flips"], rel=1e-2)
