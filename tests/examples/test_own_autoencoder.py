"""examples/own_autoencoder.py, as a person runs it, and its file in another program."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import tinyqae

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_autoencoder.py"


def test_it_checks_trains_saves_and_loads_its_model(monkeypatch, tmp_path, capsys, engine):
    few = tinyqae.synthetic_digits(600, 100, 0)
    monkeypatch.setattr(tinyqae, "synthetic_digits", lambda seed: few)
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--dataset", "synthetic", "--epochs", "1", "--out", str(tmp_path)])
    names = runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "gradient check: relative error" in printed and "32 bits per image" in printed
    assert names["check_gradients"]() < 1e-6
    assert [line.split()[0] for line in printed.splitlines()].count("Reshape") == 2

    def in_another_program(statement):
        code = f"import tinyqae\n{statement}\nprint(tinyqae.load('model.npz').model_id())"
        path = os.pathsep.join([str(EXAMPLE.parent), str(EXAMPLE.parents[1])])
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    assert len(in_another_program("from own_autoencoder import ConvDense").stdout.strip()) == 64
    refused = in_another_program("")
    assert refused.returncode
    assert "a model of the class __main__.ConvDense, which is not defined here; import the module that" in refused.stderr
