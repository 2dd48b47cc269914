"""examples/nearest_codes.py: its search against brute force, its training, and as a person runs it, on a few digits."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyqae
from tinyqae.metrics.image import psnr

EXAMPLE = Path(__file__).parents[2] / "examples" / "nearest_codes.py"


@pytest.fixture(scope="module")
def functions():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture
def digits():
    return tinyqae.synthetic_digits(600, 100, 0)


def trained(digits, engine=None):
    model = tinyqae.MLPAutoencoder(
        tinyqae.Commit(signed=True), (16, 6), normalize_hidden=True, normalize_latent=True, engine=engine
    )
    tinyqae.fit(model, digits.train_images, tinyqae.Adam(1e-2), epochs=2, progress=False)
    return model


def test_all_codes_are_all_and_different(functions):
    codes = functions["all_codes"](6)
    assert codes.shape == (64, 6) and codes.dtype == bool and len(np.unique(codes, axis=0)) == 64


def test_the_nearest_code_has_the_least_squared_error_of_all(functions, digits):
    model, images = trained(digits), digits.test_images
    every = model.decode_floats(functions["all_codes"](6)).reshape(64, -1).astype(float)
    errors = ((images.reshape(-1, 1, 784) / 255 - every) ** 2).sum(axis=2)
    found = model.decode_floats(functions["nearest_codes"](model, images)).reshape(-1, 784)
    np.testing.assert_allclose(((images.reshape(-1, 784) / 255 - found) ** 2).sum(axis=1), errors.min(axis=1), rtol=1e-4)


def test_training_changes_the_decoder_alone_and_improves_its_reconstructions(functions, digits, plain_engine):
    model, images = trained(digits), digits.train_images
    before = [array.copy() for layer in model.encoder.layers for array in layer.params.values()]
    nearest = functions["nearest_codes"]
    untrained = psnr(images, model.decode(nearest(model, images))).mean()
    functions["train_decoder"](model, images, epochs=8, seed=0)
    assert psnr(images, model.decode(nearest(model, images))).mean() > untrained + 0.1
    after = [array for layer in model.encoder.layers for array in layer.params.values()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_engines_train_the_same_decoder(functions, digits):
    models = [trained(digits, "reference"), trained(digits, "fast")]
    for model in models:
        functions["train_decoder"](model, digits.train_images, epochs=1, seed=0)
    codes = functions["all_codes"](6)
    np.testing.assert_allclose(models[0].decode_floats(codes), models[1].decode_floats(codes), atol=2e-3)


def test_it_prints_three_figures_and_writes_them(monkeypatch, tmp_path, capsys, digits):
    monkeypatch.setattr(tinyqae, "synthetic_digits", lambda seed: digits)
    options = ["--dataset", "synthetic", "--hidden", "32", "--epochs", "2", "--decoder-epochs", "3", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, *options, "--out", str(tmp_path)])
    names = runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "SYNTHETIC, NOT MNIST: 784-32-10, a decoder of 26,288 numbers; 100 test digits" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["hidden"] == [32, 10] and results["epochs"] == [2, 3] and results["numbers_stored"] == 26_288
    for method in names["METHODS"]:
        values = results["psnr"][method]
        assert f"| {method} | {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} |" in printed
    means = [np.mean(results["psnr"][method]) for method in names["METHODS"]]
    assert means[0] <= means[1] and (tmp_path / "reconstructions.png").stat().st_size > 1000
