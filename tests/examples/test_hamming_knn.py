"""examples/hamming_knn.py: its searches against brute force, and as a person runs it, on few synthetic digits."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyqae

EXAMPLE = Path(__file__).parents[2] / "examples" / "hamming_knn.py"


@pytest.fixture(scope="module")
def functions():
    return runpy.run_path(str(EXAMPLE))


def test_nearest_codes_are_those_in_which_the_fewest_bits_differ_of_equals_the_earlier(functions):
    random = np.random.default_rng(0)
    queries, database = random.random((20, 50)) > 0.5, random.random((300, 50)) > 0.5
    distances = (queries[:, np.newaxis] != database).sum(axis=2)
    found = functions["nearest_codes"](np.packbits(queries, axis=1), np.packbits(database, axis=1), 25)
    np.testing.assert_array_equal(found, distances.argsort(axis=1, kind="stable")[:, :25])


def test_nearest_vectors_are_those_with_the_smallest_euclidean_distance(functions):
    queries, database = np.split(np.random.default_rng(0).random((320, 9)), [20])
    distances = np.linalg.norm(queries[:, np.newaxis] - database, axis=2)
    np.testing.assert_array_equal(functions["nearest_vectors"](queries, database, 25), distances.argsort(axis=1)[:, :25])


def test_the_majority_of_the_nearest_names_a_digit(functions):
    labels = np.array([7, 1, 1, 2, 2, 2] + 19 * [0] + 100 * [9], np.uint8)
    data = tinyqae.data.ImageData(np.empty(0), labels, np.empty(0), np.array([1], np.uint8), "", "", "")
    train, test = np.arange(len(labels), dtype=np.float64)[:, np.newaxis], np.zeros((1, 1))
    accuracy, size, _ = functions["search"](train, test, data, functions["nearest_vectors"])
    assert accuracy == [0, 1, 1, 0, 0, 0]  # k = 1: 7, nearest; 3: 1; 5: 1 and 2 are equal; then 2, and 0.
    assert size == 1


@pytest.mark.parametrize(("seeds", "spread"), [((0,), False), ((0, 1), True)])
def test_it_compares_the_methods_and_draws_them(monkeypatch, tmp_path, capsys, seeds, spread):
    few = tinyqae.synthetic_digits(1000, 200)
    monkeypatch.setattr(tinyqae, "synthetic_digits", lambda seed: few)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            EXAMPLE.name,
            "--dataset",
            "synthetic",
            "--epochs",
            "1",
            "--seeds",
            *map(str, seeds),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    title, _, _, _, *rows, _, _ = capsys.readouterr().out.strip().splitlines()
    assert title.startswith("SYNTHETIC, NOT MNIST: 200 test digits, neighbors among 1000 training digits, 50 bits, seeds 0")
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [method for method, *_ in cells] == [
        "pixels, Euclidean",
        "commit, Hamming",
        "naive, Hamming",
        "random projections, Hamming",
    ]
    assert ["±" in accuracy for _, accuracy, *_ in cells] == [False, spread, spread, spread]
    assert [size for _, _, size, _ in cells] == ["784", "7", "7", "7"]
    table = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert table.splitlines()[4:] == rows
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["seeds"] == list(seeds) and results["command"].startswith("python examples/hamming_knn.py --dataset")
    for method, accuracy, *_ in cells:
        measured = [100 * run["accuracy"][results["neighbors"].index(5)] for run in results["methods"][method]]
        assert accuracy.split()[0] == f"{np.mean(measured):.2f}"
    assert (tmp_path / "out" / "neighbors.png").stat().st_size > 10_000
