"""The three examples that train a model, as a person runs them, on synthetic data."""

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

from tinyqae import data, load, recipes
from tinyqae.experiment import images, sentences

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {"model.npz", "metrics.json", "history.csv", "latents.png", "curves.png"}


def run(monkeypatch, name, *arguments):
    """The example in this process, where the kernels are compiled already."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    """600 training digits in place of thousands."""
    few = data.synthetic_digits(600, 100, 0)
    monkeypatch.setattr("tinyqae.synthetic_digits", lambda seed: few)
    return few


@pytest.fixture
def few_shapes(monkeypatch):
    """300 training pictures in place of thousands."""
    few = data.synthetic_shapes(300, 50, 0)
    monkeypatch.setattr("tinyqae.synthetic_shapes", lambda seed: few)
    return few


@pytest.mark.parametrize("name", ["mnist_mlp", "cifar_cnn", "anki_lstm"])
def test_an_example_is_one_page(name):
    assert 80 <= len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 100


@pytest.mark.parametrize("quant", ["vanilla", "naive", "fence", "commit"])
def test_mnist_mlp_writes_its_files_and_prints_its_table(quant, monkeypatch, tmp_path, capsys):
    run(
        monkeypatch,
        "mnist_mlp",
        "--dataset",
        "synthetic",
        "--epochs",
        1,
        "--hidden",
        12,
        "--quant",
        quant,
        "--out",
        tmp_path,
    )
    expected = FILES | {"reconstructions.png"} | ({"gradients.png"} if quant == "commit" else set())
    assert {path.name for path in tmp_path.iterdir()} == expected
    printed = capsys.readouterr().out
    for text in ("SYNTHETIC, NOT MNIST", "PSNR", "held-out test images", "compression ratio", str(tmp_path)):
        assert text in printed, text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["settings"]["model_id"] == load(tmp_path / "model.npz").model_id()
    assert "mnist_mlp.py --dataset synthetic --epochs 1" in metrics["settings"]["command"]
    with open(tmp_path / "history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    terms = {"reconstruction"} | ({quant} & {"fence", "commit"})
    assert row.keys() == {"epoch", "lr", "seconds", "val_psnr"} | terms


def test_mnist_mlp_is_the_default_recipe(engine, few_digits, monkeypatch, tmp_path):
    run(monkeypatch, "mnist_mlp", "--dataset", "synthetic", "--epochs", 1, "--out", tmp_path)
    recipe = recipes.mnist_mlp("default", "commit", (50,)).override(epochs=1)
    expected = images.train_and_measure(recipe, few_digits, progress=False)
    assert load(tmp_path / "model.npz").model_id() == expected.model.model_id()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["settings"]["engine"] == engine
    assert metrics["test"] == expected.metrics["test"]


def test_engine_and_estimator_are_options(monkeypatch, tmp_path):
    run(
        monkeypatch,
        "mnist_mlp",
        "--dataset",
        "synthetic",
        "--epochs",
        1,
        "--engine",
        "reference",
        "--ste",
        "clipped",
        "--quant-weight",
        0.5,
        "--out",
        tmp_path,
    )
    assert json.loads((tmp_path / "metrics.json").read_text())["settings"]["engine"] == "reference"
    bottleneck = load(tmp_path / "model.npz").bottleneck
    assert (bottleneck.window, bottleneck.weight) == (0.4, 0.5)


def test_cifar_cnn_is_the_default_recipe(few_shapes, monkeypatch, tmp_path, capsys):
    run(monkeypatch, "cifar_cnn", "--dataset", "synthetic", "--epochs", 1, "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"reconstructions.png"}
    assert "SYNTHETIC, NOT CIFAR-10" in capsys.readouterr().out
    recipe = recipes.cifar_cnn("default", "commit", "small").override(epochs=1)
    expected = images.train_and_measure(recipe, few_shapes, progress=False)
    assert load(tmp_path / "model.npz").model_id() == expected.model.model_id()


def test_anki_lstm_is_the_default_recipe_and_says_a_sentence(monkeypatch, tmp_path, capsys):
    for package in ("rapidfuzz", "nltk", "simplemma"):
        pytest.importorskip(package, reason="the example measures with the extra `text`")
    run(
        monkeypatch,
        "anki_lstm",
        "--dataset",
        "synthetic",
        "--train-sentences",
        400,
        "--hidden",
        32,
        "--epochs",
        1,
        "--say",
        "Where is my Horse?",
        "--out",
        tmp_path,
    )
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"reconstructions.txt"}
    printed = capsys.readouterr().out
    assert "SYNTHETIC, NOT ANKI" in printed and "where is my horse" in printed and printed.count("  ->  ") == 10
    recipe = recipes.anki_lstm("default", "commit", 32).override(epochs=1)
    split = data.split_sentences(data.synthetic_sentences(seed=0), "random")
    expected = sentences.train_and_measure(recipe, split, train_items=400, progress=False)
    assert load(tmp_path / "model.npz").model_id() == expected.model.model_id()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--quant", "vq"], "argument --quant"),
        (["--hidden", "0"], "argument --hidden"),
        (["--lr", "-1"], "argument --lr"),
        (["--ste", "soft"], "argument --ste"),
        (["--engine", "slow"], "argument --engine"),
    ],
)
def test_a_bad_argument_is_one_line_that_names_it(arguments, named, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mnist_mlp", *arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {named}")
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_diverges_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="error: the .* became (nan|inf) in epoch 1 at learning rate"):
        run(monkeypatch, "mnist_mlp", "--dataset", "synthetic", "--epochs", 1, "--lr", 1e30, "--out", tmp_path)
    assert not (tmp_path / "model.npz").exists()
