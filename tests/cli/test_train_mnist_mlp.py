"""`tinyqae train mnist-mlp` as a person runs it, on the synthetic digits."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyqae import cli, load
from tinyqae.data import synthetic_digits
from tinyqae.metrics import image as image_metrics

REPOSITORY = Path(__file__).parents[2]
SMALL = ["--dataset", "synthetic", "--train-images", "1000", "--epochs", "2", "--hidden", "12"]
FILES = {"checkpoint.npz", "model.npz", "metrics.json", "history.csv", "reconstructions.png", "latents.png", "curves.png"}
SYNTHETIC = "SYNTHETIC, NOT MNIST"


def example(*arguments, **options):
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-m", "tinyqae", "train", "mnist-mlp", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def digits():
    return synthetic_digits(seed=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{quantizer: (finished process, its directory)}, each made when it is first asked for. Naive prints JSON."""
    directory, done = tmp_path_factory.mktemp("runs"), {}

    def get(quant):
        if quant not in done:
            json_ = ["--json"] if quant == "naive" else []
            process = example("--quant", quant, *SMALL, *json_, "--out", directory / quant)
            assert process.returncode == 0, process.stderr
            done[quant] = process, directory / quant
        return done[quant]

    return get


# The first three take some seconds each and find what commit finds, but for the threshold's row.
@pytest.mark.parametrize(
    "quant", [*(pytest.param(quant, marks=pytest.mark.slow) for quant in ("vanilla", "naive", "fence")), "commit"]
)
def test_run_writes_its_files_and_metrics(quant, runs, digits):
    _, directory = runs(quant)
    files = FILES | ({"gradients.png"} if quant == "commit" else set())
    assert {path.name for path in directory.iterdir()} == files
    for name in files:
        if name.endswith(".png"):
            assert (directory / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    metrics = json.loads((directory / "metrics.json").read_text())
    before = {"test_before_threshold"} if quant in ("naive", "fence") else set()
    assert metrics.keys() == {"test", "train", "rate", "code", "settings"} | before
    for part in {"test", "train"} | before:
        assert {"psnr", "ssim", "mse", "mae"} <= metrics[part].keys()
        assert 5 < metrics[part]["psnr"] < 40 and -1 <= metrics[part]["ssim"] <= 1
    bits = 12 * 32 if quant == "vanilla" else 12
    assert metrics["rate"]["bits_per_item"] == bits
    assert metrics["rate"]["cr"] == pytest.approx(784 * 8 / bits)
    assert metrics["code"].keys() == {"distance_to_bit", "dead_bits", "mean_bit_entropy"}

    settings = metrics["settings"]
    assert {"data", "seed", "recipe", "backend", "versions", "command", "seconds"} <= settings.keys()
    assert settings["data"]["name"] == SYNTHETIC and settings["data"]["sha256"] == digits.sha256
    assert settings["data"]["training_images"] + settings["data"]["validation_images"] == 1000
    assert settings["recipe"]["quant"] == quant and settings["recipe"]["epochs"] == 2
    assert settings["seed"] == 0 and settings["backend"].startswith(("numpy", "cupy"))
    assert settings["versions"]["numpy"] == np.__version__
    assert settings["command"].startswith("tinyqae train mnist-mlp ") and f"--quant {quant}" in settings["command"]

    with open(directory / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) - {"epoch", "lr", "seconds", "val_psnr"} == {"reconstruction"} | ({quant} & {"fence", "commit"})


@pytest.mark.parametrize("quant", ["naive", "commit"])
def test_saved_model_gives_the_figures_of_metrics_json(quant, runs, digits):
    _, directory = runs(quant)
    metrics, model = json.loads((directory / "metrics.json").read_text()), load(directory / "model.npz")
    assert model.model_id() == metrics["settings"]["model_id"]
    decoded = model.decode(model.encode(digits.test_images, packed=True))
    psnr = image_metrics.psnr(digits.test_images, decoded).mean()
    assert psnr == pytest.approx(metrics["test"]["psnr"], rel=1e-6)


def test_run_prints_a_table_that_says_synthetic(runs):
    process, directory = runs("fence")
    for text in (
        SYNTHETIC,
        "PSNR",
        "SSIM",
        "MSE",
        "MAE",
        "held-out test images",
        "before the threshold",
        "12 bits per image",
        "compression ratio 522.67",
        "bits that never change",
        "entropy",
        str(directory),
    ):
        assert text in process.stdout, text
    # The progress bar shows every loss term by itself.
    assert "reconstruction=" in process.stderr and "fence=" in process.stderr
    assert "Traceback" not in process.stderr and "Warning" not in process.stderr


def test_json_prints_the_metrics_and_nothing_else(runs):
    process, directory = runs("naive")
    assert json.loads(process.stdout) == json.loads((directory / "metrics.json").read_text())
    assert process.stderr == ""


def test_quiet_resume_of_a_finished_run_gives_the_same_model(runs):
    _, directory = runs("commit")
    before, checkpoint = load(directory / "model.npz").model_id(), (directory / "checkpoint.npz").read_bytes()
    (directory / "model.npz").unlink()
    process = example("--quant", "commit", *SMALL, "--out", directory, "--resume", "--quiet")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert load(directory / "model.npz").model_id() == before
    assert (directory / "checkpoint.npz").read_bytes() == checkpoint


def one_line(process, code):
    assert process.returncode == code
    assert process.stdout == ""
    lines = process.stderr.strip().splitlines()
    assert "Traceback" not in process.stderr
    return lines


def test_resume_with_another_setting_is_one_line(runs):
    _, directory = runs("vanilla")
    before = (directory / "metrics.json").read_bytes()
    lines = one_line(example("--quant", "vanilla", *SMALL, "--lr", "0.5", "--out", directory, "--resume"), 1)
    assert len(lines) == 1 and "its lr is " in lines[0] and "0.5" in lines[0]
    assert (directory / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "named", "reason"),
    [
        (["--quant", "vq"], "--quant", "'vq'"),
        (["--hidden", "0"], "--hidden", "'0' is not a whole number above 0"),
        (["--hidden", "64,x"], "--hidden", "'x'"),
        (["--epochs", "0"], "--epochs", "'0' is not a whole number above 0"),
        (["--lr", "-1"], "--lr", "'-1' is not a number above 0"),
    ],
)
def test_usage_error_is_one_line_that_names_the_argument(arguments, named, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tinyqae", "train", "mnist-mlp", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    output = capsys.readouterr()
    (line,) = output.err.strip().splitlines()
    assert line.startswith(f"error: argument {named}:") and reason in line
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


def test_missing_cupy_is_one_line(tmp_path):
    try:
        import cupy  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("CuPy is installed")
    lines = one_line(example(*SMALL, "--backend", "cupy", "--out", tmp_path / "out"), 1)
    assert len(lines) == 1 and "backend='cupy': CuPy cannot be imported" in lines[0] and "pip install" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_unwritable_out_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    lines = one_line(example(*SMALL, "--out", tmp_path / "file" / "out"), 1)
    assert len(lines) == 1 and str(tmp_path / "file") in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
