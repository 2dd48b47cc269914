"""Figures of several seeds in short."""

import numpy as np
import pytest

from benchmarks.report.rows import Row, effort, plus_minus, summary
from tinyqae import recipes


@pytest.mark.parametrize("values", [(1.0, 2.0), (14.9, 15.3, 15.1), (3.0, 3.0, 9.0, 1.0, 2.0)])
def test_a_summary_is_the_mean_and_the_deviation_of_a_sample(values):
    results = [{"test": {"psnr": value, "mse": 0.0}, "train": {"psnr": 0.0}} for value in values]
    mean, deviation = summary(results, "test", "psnr")
    assert mean == pytest.approx(np.mean(values))
    assert deviation == pytest.approx(np.std(values, ddof=1))


def test_one_seed_has_no_deviation():
    assert summary([{"psnr": 15.0}], "psnr") == (15.0, None)


def test_a_mean_and_its_deviation_as_text():
    assert plus_minus((15.125, 0.25)) == "15.12 ± 0.25"
    assert plus_minus((15.126, None)) == "15.13"
    assert plus_minus((0.12345, 0.0), 3) == "0.123 ± 0.000"


def test_effort_is_examples_epochs_and_seeds():
    assert effort({"training_images": 10_000, "epochs": 3, "seeds": 2}, "training_images") == "10000 x 3 x 2"


def test_a_row_is_trained_with_the_first_of_the_seeds_and_plain_if_it_is_a_bottleneck_at_a_size():
    recipe = recipes.mnist_mlp("default", "commit", (50,))
    assert Row("commit 50", 50, recipe, most_seeds=2).seeds((4, 5, 6)) == (4, 5)
    assert Row("commit 50", 50, recipe).seeds((4, 5, 6)) == (4, 5, 6)
    assert [Row(label, 50, recipe).is_plain for label in ("commit 50", "commit 50, weight 3", "commit 256,50")] == [
        True,
        False,
        False,
    ]
