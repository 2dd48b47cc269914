"""tinyqae.gradients: four gradients of one batch, each against what it is said to be."""

import numpy as np
import pytest
from engines import train_once

from tinyqae import Commit, MLPAutoencoder, Naive, Vanilla, plots
from tinyqae.data import synthetic_digits
from tinyqae.gradients import WAYS, encoder_gradients, flip_differences, has_encoder_gradients

IMAGES = synthetic_digits(train=24, test=1).train_images


def model(bottleneck, **settings):
    """An MLP in float64, whose weights the seed alone decides."""
    settings = {"hidden": (16, 6), "normalize_latent": True, "seed": 3, "dtype": np.float64, **settings}
    return MLPAutoencoder(bottleneck, **settings)


def norms_by_layer(trained_as):
    """The encoder's layers' norms after one pass of the training step."""
    train_once(trained_as, IMAGES / 255)
    return [
        np.sqrt(sum(np.sum(grad**2) for grad in layer.grads.values())) for layer in trained_as.encoder.layers if layer.grads
    ]


@pytest.mark.parametrize("signed", [False, True])
def test_each_way_is_what_it_is_said_to_be(signed, plain_engine):
    found = encoder_gradients(model(Commit(weight=0.7, signed=signed)), IMAGES)
    assert found.layers == ["Dense 784 x 16", "Dense 16 x 6", "BatchNorm"]
    assert (found.images, found.bits) == (24, 6)
    assert found.norms["threshold"] == [0, 0, 0]
    np.testing.assert_allclose(found.norms["straight-through"], norms_by_layer(model(Commit(weight=0, signed=signed))))
    np.testing.assert_allclose(found.norms["no threshold"], norms_by_layer(model(Vanilla(signed=signed))))
    for way in WAYS[1:]:
        assert found.cosines[way][way] == pytest.approx(1)
        assert found.cosines[way]["threshold"] is None


@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
@pytest.mark.parametrize("signed", [False, True])
def test_flips_are_the_loss_with_the_bit_less_the_loss_without(signed, reconstruction, plain_engine):
    mlp, x = model(Commit(signed=signed), reconstruction=reconstruction), IMAGES / 255
    differences = flip_differences(mlp, x)
    bits = (mlp.bottleneck.latent(mlp.encoder.forward(x.reshape(len(x), -1))) > 0.5).astype(float)

    def loss(code):
        seen = 2 * code - 1 if signed else code
        return mlp.criterion.forward(mlp.decode_logits(seen), x.reshape(len(x), -1))

    for n, f in ((0, 0), (5, 3), (23, 5)):
        on, off = bits.copy(), bits.copy()
        on[n, f], off[n, f] = 1, 0
        assert differences[n, f] == pytest.approx(loss(on) - loss(off), rel=1e-9)


def test_wrong_signs_are_counted_bit_by_bit(plain_engine):
    mlp, x = model(Commit(signed=True)), IMAGES / 255
    found = encoder_gradients(mlp, IMAGES)
    mlp.reconstruction_loss(x)
    slopes, differences = mlp.decoder.backward(mlp.criterion.backward()), flip_differences(mlp, x)
    assert found.wrong_signs["straight-through"] == np.mean(np.sign(slopes) != np.sign(differences)) > 0
    assert found.wrong_signs.keys() == {"straight-through", "no threshold"}


def test_flips_and_straight_through_agree_where_the_loss_is_nearly_linear_in_the_code(plain_engine):
    """With a decoder that hardly listens, the slope at a bit is the height of its jump."""
    mlp = model(Commit(), hidden=(6,))
    mlp.decoder.layers[-1].params["w"] *= 1e-4
    found = encoder_gradients(mlp, IMAGES)
    assert found.cosines["straight-through"]["flips"] == pytest.approx(1, abs=1e-4)
    assert found.wrong_signs["straight-through"] < 0.02
    assert found.norms["straight-through"] == pytest.approx(found.norms["flips"], rel=1e-2)


def test_a_step_that_turns_no_bit_changes_nothing_and_a_larger_one_lowers_the_loss(plain_engine):
    found = encoder_gradients(model(Commit()), IMAGES)
    changes, turned = (np.array(part["straight-through"]) for part in (found.changes, found.turned))
    still = turned == 0
    assert still[0] and not still[-1]
    assert not changes[still].any()
    assert changes.min() < 0
    assert "threshold" not in found.changes


def test_the_model_is_left_as_it_was(plain_engine):
    mlp = model(Commit(weight=0.7))
    before, bottleneck = mlp.model_id(), mlp.bottleneck
    encoder_gradients(mlp, IMAGES)
    assert mlp.model_id() == before and mlp.bottleneck is bottleneck


def test_other_models_are_refused(plain_engine):
    assert not has_encoder_gradients(model(Naive()))
    with pytest.raises(TypeError, match="MLPAutoencoder with the bottleneck Commit"):
        encoder_gradients(model(Naive()), IMAGES)


def test_the_picture_is_drawn_for_several_moments(tmp_path):
    found = encoder_gradients(model(Commit()), IMAGES)
    plots.encoder_gradients([("before", found), ("after", found)], path=tmp_path / "gradients.png")
    assert (tmp_path / "gradients.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
