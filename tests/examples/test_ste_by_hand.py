"""examples/ste_by_hand.py: its gradients are the library's, its optimizer too, and it prints what it promises."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyqae import Adam, Commit, MLPAutoencoder, Naive
from tinyqae.data import synthetic_digits

PATH = Path(__file__).parents[2] / "examples" / "ste_by_hand.py"
IMAGES = synthetic_digits(train=40, test=20, seed=3)


@pytest.fixture(scope="module")
def by_hand():
    spec = importlib.util.spec_from_file_location("ste_by_hand", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pixels():
    return IMAGES.train_images.reshape(40, -1) / 255


def library_model(parameters, mean, method, weight):
    """The same model of the library, with the same parameters, in float64."""
    bottleneck = Naive() if method == "naive" else Commit(weight=weight)
    model = MLPAutoencoder(
        bottleneck, hidden=(50,), mean_image=mean.reshape(28, 28, 1), dtype=np.float64, engine="reference"
    )
    (encoder,), (decoder,) = model.encoder.layers, model.decoder.layers
    for layer, w, b in ((encoder, "w1", "b1"), (decoder, "w2", "b2")):
        layer.params["w"][...], layer.params["b"][...] = parameters[w], parameters[b]
    return model


@pytest.mark.parametrize(("method", "weight"), [("naive", 0.0), ("ste", 0.0), ("commit", 0.3), ("commit", 2.0)])
def test_loss_and_gradients_are_the_librarys(by_hand, pixels, method, weight):
    mean = pixels.mean(axis=0)
    parameters = {name: p.astype(float) for name, p in by_hand.initial_parameters(mean, np.random.default_rng(0)).items()}
    loss, gradients = by_hand.loss_and_gradients(parameters, pixels, mean, method, weight)
    model = library_model(parameters, mean, method, weight)
    assert model.loss(pixels.reshape(40, 28, 28, 1)) == pytest.approx(loss, rel=1e-12)
    model.backward()
    for found, expected in zip(gradients.values(), model.gradients(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_only_the_methods_own_terms_differ(by_hand, pixels):
    """STE and commit have one reconstruction; naive another; the commitment loss reaches the encoder only."""
    mean = pixels.mean(axis=0)
    parameters = by_hand.initial_parameters(mean, np.random.default_rng(0))
    ste = by_hand.loss_and_gradients(parameters, pixels, mean, "ste", 0.0)
    commit = by_hand.loss_and_gradients(parameters, pixels, mean, "commit", 1.0)
    naive = by_hand.loss_and_gradients(parameters, pixels, mean, "naive", 0.0)
    np.testing.assert_array_equal(ste[1]["w2"], commit[1]["w2"])
    assert commit[0] > ste[0] and not np.allclose(ste[1]["w1"], commit[1]["w1"], rtol=1e-3)
    assert not np.allclose(ste[1]["w2"], naive[1]["w2"], rtol=1e-3)


def test_adam_is_the_librarys(by_hand, pixels):
    mean = pixels.mean(axis=0)
    parameters = {name: p.astype(float) for name, p in by_hand.initial_parameters(mean, np.random.default_rng(0)).items()}
    model = library_model(parameters, mean, "commit", 0.3)
    ours, theirs = by_hand.Adam(parameters), Adam(by_hand.LEARNING_RATE)
    for _ in range(5):
        _, gradients = by_hand.loss_and_gradients(parameters, pixels, mean, "commit", 0.3)
        ours.step(parameters, gradients)
        model.loss(pixels.reshape(40, 28, 28, 1))
        model.backward()
        theirs.step(model)
    for found, expected in zip(parameters.values(), model.parameters(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_psnr_is_that_of_stored_bits(by_hand, pixels):
    mean = pixels.mean(axis=0)
    parameters = {name: p.astype(float) for name, p in by_hand.initial_parameters(mean, np.random.default_rng(0)).items()}
    model = library_model(parameters, mean, "commit", 0.3)
    images = IMAGES.train_images
    assert by_hand.psnr(parameters, mean, pixels) == pytest.approx(model.validate(images)["val_psnr"], abs=1e-3)


def test_training_twice_gives_the_same_weights_and_a_better_image(by_hand, pixels):
    pixels = np.repeat(pixels, 8, axis=0).astype(np.float32)
    first, mean = by_hand.train(pixels, "commit", 0.3, seed=1, epochs=30)
    again, _ = by_hand.train(pixels, "commit", 0.3, seed=1, epochs=30)
    np.testing.assert_array_equal(first["w1"], again["w1"])
    start = by_hand.initial_parameters(mean, np.random.default_rng(1))
    assert by_hand.psnr(first, mean, pixels) > by_hand.psnr(start, mean, pixels) + 1


def test_it_is_one_short_file_of_numpy():
    source = PATH.read_text()
    assert len(source.splitlines()) <= 150
    assert re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE) == ["time", "numpy", "tinyqae", "tinyqae"]
    assert re.findall(r"from tinyqae import (.*)", source) == ["load_mnist, synthetic_digits"]


@pytest.mark.slow
def test_it_prints_three_methods_with_three_seeds():
    ran = subprocess.run([sys.executable, PATH, "--dataset", "synthetic"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    heading, *lines = ran.stdout.splitlines()
    assert "SYNTHETIC" in heading and "50 bits" in heading
    assert [line.split()[0] for line in lines] == ["naive", "ste", "commit"]
    for line in lines:
        scores = [float(x) for x in re.findall(r"\d+\.\d\d", line)]
        assert scores[3] == pytest.approx(sum(scores[:3]) / 3, abs=0.01)
