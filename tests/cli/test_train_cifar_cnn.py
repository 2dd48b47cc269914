"""`tinyqae train cifar-cnn` as a person runs it, on the synthetic shapes and on a folder of images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyqae import TransformAutoencoder, cli, load

REPOSITORY = Path(__file__).parents[2]
FILES = {"checkpoint.npz", "model.npz", "metrics.json", "history.csv", "reconstructions.png", "latents.png", "curves.png"}


def example(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tinyqae", "train", "cifar-cnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=170)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four images of 96x64 smooth random colours."""
    directory, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(4):
        small = random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((96, 64), Image.Resampling.BICUBIC).save(directory / f"{i}.png")
    return directory


def test_a_folder_of_one_s_own_images(folder, tmp_path):
    done = example("--images", folder, "--epochs", 2, "--batch-size", 4, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    # Three of the images train, and each gives six patches.
    assert metrics["settings"]["data"]["training_images"] + metrics["settings"]["data"]["validation_images"] == 18
    assert metrics["settings"]["data"]["test_images"] == 6
    assert metrics["rate"] == {"bits_per_item": 256, "cr": 96.0}


@pytest.mark.slow  # The principal components of 3,072 pixels take ten seconds.
def test_a_transform_code_for_a_folder_of_images(folder, tmp_path):
    done = example(
        *("--images", folder, "--transform", "--epochs", 1, "--batch-size", 4, "--out", tmp_path / "run", "--json")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rate"] == {"bits_per_item": 256, "cr": 96.0}
    assert isinstance(load(tmp_path / "run" / "model.npz"), TransformAutoencoder)


@pytest.mark.parametrize("options", [("--quant", "naive"), ("--recipe", "report")])
def test_a_transform_code_of_another_quantizer_or_recipe_is_a_usage_error(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tinyqae", "train", "cifar-cnn", "--transform", *options])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "argument --transform: needs --recipe default and --quant vanilla or commit" in capsys.readouterr().err


def test_the_synthetic_shapes_say_that_they_are_not_cifar(tmp_path, monkeypatch, capsys):
    # In this process, where the kernels are compiled already; the fewest images that still make a run.
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "tinyqae",
            "train",
            "cifar-cnn",
            "--dataset",
            "synthetic",
            "--train-images",
            "200",
            "--epochs",
            "1",
            "--quant",
            "naive",
            "--size",
            "medium",
            "--out",
            str(tmp_path),
        ],
    )
    from tinyqae.cli import train
    from tinyqae.data import synthetic_shapes

    monkeypatch.setattr(train, "synthetic_shapes", lambda seed: synthetic_shapes(300, 50, seed))
    cli.main()
    printed = capsys.readouterr().out
    assert "SYNTHETIC, NOT CIFAR-10" in printed
    assert "before the threshold" in printed
    assert "the same number of epochs on all of them would take" in printed
    assert json.loads((tmp_path / "metrics.json").read_text())["rate"]["bits_per_item"] == 512


def test_an_empty_folder_is_one_line(tmp_path):
    done = example("--images", tmp_path, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1
