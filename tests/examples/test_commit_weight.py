"""examples/commit_weight.py as a person runs it, on the synthetic digits."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "commit_weight.py"


def example(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")


def test_it_trains_each_weight_draws_both_pictures_and_says_what_it_found(monkeypatch, tmp_path, capsys):
    example(
        monkeypatch,
        "--dataset",
        "synthetic",
        "--train-images",
        500,
        "--epochs",
        1,
        "--bits",
        8,
        "--weights",
        10,
        0,
        1,
        "--out",
        tmp_path / "out",
    )
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines()[:4]] == ["naive", "weight 0", "weight 1", "weight 10"]
    assert "SYNTHETIC, NOT MNIST, one seed. Best on held-out images" in printed
    assert "One seed each: small differences may be due to chance." in printed
    assert "From weight 0 to 10 the mean distance to the nearest bit goes from" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"weights.png", "latents.png"}


def test_weights_of_0_alone_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        example(monkeypatch, "--weights", 0)
    assert stopped.value.code == 2 and "at least one must be above 0" in capsys.readouterr().err
