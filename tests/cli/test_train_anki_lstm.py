"""`tinyqae train anki-lstm` as a person runs it, on the synthetic sentences and on a text of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyqae import cli, load
from tinyqae.data import synthetic_sentences
from tinyqae.metrics import text as text_metrics

for package in ("rapidfuzz", "nltk", "simplemma"):
    pytest.importorskip(package, reason="the example measures with the extra `text`")

REPOSITORY = Path(__file__).parents[2]
SMALL = ["--hidden", "32", "--epochs", "2", "--train-sentences", "300"]
FILES = {"checkpoint.npz", "model.npz", "metrics.json", "history.csv", "reconstructions.txt", "latents.png", "curves.png"}


def example(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tinyqae", "train", "anki-lstm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=170)


def run_here(monkeypatch, capsys, *arguments):
    """The example in this process, where the kernels are compiled already; what it printed."""
    monkeypatch.setattr(sys, "argv", ["tinyqae", "train", "anki-lstm", *map(str, arguments)])
    cli.main()
    return capsys.readouterr().out


@pytest.fixture
def book(tmp_path):
    """A text file of 400 different sentences."""
    path = tmp_path / "book.txt"
    path.write_text("\n".join(f"{s.capitalize()}!" for s in synthetic_sentences(400).sentences))
    return path


def test_a_text_of_one_s_own_with_json_and_the_split_by_length(book, tmp_path, monkeypatch, capsys):
    printed = run_here(
        monkeypatch,
        capsys,
        "--text",
        book,
        *SMALL,
        "--split",
        "length",
        "--quant",
        "naive",
        "--json",
        "--out",
        tmp_path / "run",
    )
    metrics = json.loads(printed)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    data = metrics["settings"]["data"]
    assert (data["name"], data["split"]) == ("book.txt", "length")
    assert (data["training_sentences"], data["validation_sentences"], data["test_sentences"]) == (270, 30, 80)
    assert metrics["rate"]["bits_per_item"] == 64
    for part in ("test", "train", "test_before_threshold"):
        assert set(metrics[part]) == {
            "levenshtein",
            "cosine_distance",
            "jaccard_distance",
            "bleu_distance",
            "exact_match_rate",
        }
    # The figures are those of the model that was saved.
    test = [s for s in synthetic_sentences(400).sentences[320:]]
    again = text_metrics.text_metrics(test, load(tmp_path / "run" / "model.npz").reconstruct(test))
    assert metrics["test"] == pytest.approx(again)


def test_units_of_one_s_own(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, capsys, "--dataset", "synthetic", *SMALL, "--units", 40, "--out", tmp_path / "run")
    assert load(tmp_path / "run" / "model.npz").units == 40
    with pytest.raises(SystemExit, match="2"):
        run_here(monkeypatch, capsys, "--dataset", "synthetic", "--units", 40, "--recipe", "report")
    assert "argument --units: with --recipe report, it equals --hidden" in capsys.readouterr().err


def test_what_is_printed_and_one_s_own_sentence(tmp_path, monkeypatch, capsys):
    printed = run_here(
        monkeypatch, capsys, "--dataset", "synthetic", *SMALL, "--beam", 2, "--say", "Where is my Horse?", "--out", tmp_path
    )
    assert "SYNTHETIC, NOT ANKI, split random" in printed
    assert "64 bits per sentence, compression ratio" in printed
    assert printed.count("  ->  ") == 10
    assert "the same number of epochs on all of them would take about" in printed
    said = printed[printed.index("sentence        ") :].splitlines()
    assert said[0] == "sentence        where is my horse"
    assert len(said[1].split()[-1]) == 64 and set(said[1].split()[-1]) <= {"0", "1"}
    assert said[2].startswith("reconstruction")
    assert (tmp_path / "reconstructions.txt").read_text().count("  ->  ") == 10


def test_bad_input_is_one_line(book, tmp_path):
    done = example("--text", tmp_path / "missing.txt", "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1
    done = example("--hidden", 33)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


def test_a_missing_text_package_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tinyqae", "train", "anki-lstm", "--dataset", "synthetic", "--out", str(tmp_path)])
    monkeypatch.setitem(sys.modules, "simplemma", None)
    with pytest.raises(SystemExit, match=r"error: .* needs the package simplemma: pip install 'tinyqae\[text\]'"):
        cli.main()
    assert not (tmp_path / "checkpoint.npz").exists()
