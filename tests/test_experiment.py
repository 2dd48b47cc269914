"""tinyqae.experiment: what a run's pictures are made of."""

import numpy as np
import pytest

from tinyqae import CNNAutoencoder, Commit, MLPAutoencoder, Vanilla, experiment, plots, recipes
from tinyqae.data import synthetic_digits
from tinyqae.experiment import images
from tinyqae.gradients import MOST_BITS, has_encoder_gradients

DIGITS = synthetic_digits(train=200, test=60)


@pytest.fixture
def drawn(monkeypatch):
    """{function of tinyqae.plots: its arguments}, and nothing is drawn."""
    calls = {}
    for name in ("reconstructions", "encoder_gradients", "latent_histograms", "training_curves"):
        monkeypatch.setattr(plots, name, lambda *arguments, path, name=name: calls.update({name: arguments}))
    return calls


def written(quant, directory, epochs=1):
    recipe = recipes.mnist_mlp("default", quant, (12,)).override(epochs=epochs)
    run = images.train_and_measure(recipe, DIGITS, seed=4, progress=False)
    images.write(run, DIGITS, directory, "MLP 12")
    return run


def test_the_untrained_model_is_the_one_that_training_began_with(engine):
    recipe = recipes.mnist_mlp("default", "commit", (16, 6)).override(epochs=1)
    run = images.train_and_measure(recipe, DIGITS, seed=5, progress=False)
    found = images.untrained(run.model, 5).state_arrays()["parameters"]
    expected = recipe.make_model(DIGITS.train_images[:180], 5).state_arrays()["parameters"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # A saved mean image is rounded to float32.
    assert not np.allclose(found, run.model.state_arrays()["parameters"], rtol=1e-5, atol=1e-6)


def test_the_untrained_model_has_the_same_bottleneck():
    model = images.untrained(CNNAutoencoder(Commit(weight=0.7, signed=True, window=0.4), seed=1), 1)
    assert repr(model.bottleneck) == repr(Commit(weight=0.7, signed=True, window=0.4))
    assert model.model_id() == CNNAutoencoder(Commit(weight=0.7, signed=True, window=0.4), seed=1).model_id()
    assert type(images.untrained(MLPAutoencoder(Vanilla()), 0).bottleneck).kind == "vanilla"


def test_gradients_are_shown_before_and_after_training_and_codes_beside_the_images(drawn, tmp_path):
    written("commit", tmp_path)
    (states,) = drawn["encoder_gradients"]
    assert [label for label, _ in states] == ["untrained", "after epoch 1"] and states[1][1].loss < states[0][1].loss
    run = written("commit", tmp_path, epochs=3)
    ((untrained, early, late),) = drawn["encoder_gradients"]
    assert [label for label, _ in (untrained, early, late)] == ["untrained", "after epoch 1", "after epoch 3"]
    assert untrained[1].loss > early[1].loss > late[1].loss
    title, rows, codes = drawn["reconstructions"]
    assert "held-out PSNR" in title and [label for label, _ in rows] == ["original", "decoded from\nthe code"]
    assert codes.shape == (10, 12) and (run.model.decode(codes) == rows[1][1]).all()
    assert drawn["training_curves"][2] == "nats per pixel"


def test_flips_of_very_many_bits_are_not_counted():
    assert [has_encoder_gradients(MLPAutoencoder(Commit(), (bits,))) for bits in (MOST_BITS, MOST_BITS + 1)] == [True, False]


def test_without_bits_no_code_is_shown_and_with_a_later_threshold_what_it_costs(drawn, tmp_path):
    written("vanilla", tmp_path)
    assert drawn["reconstructions"][2] is None and "encoder_gradients" not in drawn
    written("naive", tmp_path)
    assert [label for label, _ in drawn["reconstructions"][1]] == [
        "original",
        "decoded from\nthe code",
        "decoded from\nthe activations",
    ]


@pytest.mark.parametrize("dead", [0, 3])
def test_a_run_whose_bits_die_says_what_to_try(dead):
    model = MLPAutoencoder(Commit(), (12,))
    metrics = images.measure(model, None, DIGITS.test_images)
    metrics["code"]["dead_bits"] = dead
    assert ("try a smaller --lr" in images.results_table(metrics)) == bool(dead)


def test_what_a_run_takes_is_said_before_it_trains(monkeypatch, capsys):
    recipe = recipes.mnist_mlp("default", "commit", (40,))
    monkeypatch.setattr(experiment, "MUCH_MEMORY", 0)
    monkeypatch.setattr(experiment, "fit", lambda *arguments, **options: 1 / 0)  # Nothing is trained.
    with pytest.raises(ZeroDivisionError):
        images.train_and_measure(recipe, DIGITS)
    # Weights, biases and batch norm; four arrays of each, and the codes of 180 training images, in float32.
    parameters = 2 * 784 * 40 + 784 + 3 * 40
    assert capsys.readouterr().err == (
        f"MLPAutoencoder with {parameters:,} parameters and 40 values per code: at least "
        f"{4 * (4 * parameters + 180 * 40) / 2**20:.0f} MiB of memory\n"
    )
    monkeypatch.setattr(experiment, "MEMORY_BYTES", 1 << 19)
    with pytest.raises(MemoryError, match="takes at least 1 MiB, this machine has 0"):
        images.train_and_measure(recipe, DIGITS, progress=False)
