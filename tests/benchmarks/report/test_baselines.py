"""The baselines: k-means and residual vector quantization against their definitions, the table."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report import readme_tables
from benchmarks.report.baselines import k_means, nearest, photo_rows, residual_quantization, table
from tinyqae import synthetic_shapes

RANDOM = np.random.default_rng(0)
CENTRES = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
POINTS = (np.repeat(CENTRES, 50, axis=0) + RANDOM.normal(0, 2, (200, 2))).astype(np.float32)


def test_nearest_is_the_least_euclidean_distance():
    x, centroids = (RANDOM.normal(size=(n, 5)).astype(np.float32) for n in (2500, 30))
    distances = ((x[:, None].astype(float) - centroids) ** 2).sum(axis=2)
    index, squared = nearest(x, centroids)
    np.testing.assert_array_equal(index, distances.argmin(axis=1))
    np.testing.assert_allclose(squared, distances.min(axis=1), atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_each_centroid_is_the_mean_of_its_points_once_converged(seed):
    centroids = k_means(POINTS, 6, seed)
    index, _ = nearest(POINTS, centroids)
    for i in range(6):
        np.testing.assert_allclose(centroids[i], POINTS[index == i].mean(axis=0), atol=1)


def test_as_many_centroids_as_distinct_points_leave_no_error():
    x = np.tile(CENTRES, (10, 1))
    # Random rows repeat, so some centroids start at one place and have to move away.
    _, squared = nearest(x, k_means(x, 4, seed=1))
    assert squared.max() == 0


def test_clusters_far_apart_are_found():
    worst = [nearest(POINTS, k_means(POINTS, 8, seed))[1].mean() for seed in range(3)]
    assert max(worst) < 2 * 2**2 * 1.5


def test_a_stage_quantizes_what_the_stages_before_left_over(monkeypatch):
    monkeypatch.setattr("benchmarks.report.baselines.STAGE_BITS", 2)
    before = POINTS.copy()
    stages = residual_quantization(POINTS, POINTS, 3, seed=0)
    errors = [((stage - POINTS) ** 2).mean() for stage in stages]
    assert errors[0] > errors[1] > errors[2]
    # Two stages of 4 centroids make at most 16 different points, each a sum of one of either.
    assert len(np.unique(stages[0].round(2), axis=0)) <= 4 < len(np.unique(stages[1].round(2), axis=0)) <= 16
    np.testing.assert_array_equal(POINTS, before)


def test_a_transform_code_of_photos_needs_its_components_and_the_values_of_its_bits():
    data = synthetic_shapes(300, 30)
    small = replace(data, train_images=data.train_images[:, ::4, ::4], test_images=data.test_images[:, ::4, ::4])
    few, many = photo_rows(small, (16, 64))
    components = [int(row["method"].removeprefix("transform code, ").split()[0]) for row in (few, many)]
    assert 1 < components[0] < 16 and components[0] < components[1] < 64
    assert [row["numbers_stored"] for row in (few, many)] == [
        (count + 1) * 8 * 8 * 3 + bits for count, bits in zip(components, (16, 64), strict=True)
    ]
    assert few["value"] + 1 < many["value"]


def test_the_table_has_means_over_seeds():
    rows = [
        {"data": "D", "method": "M", "bits": 10, "unit": "dB", "value": value, "numbers_stored": 1234, "seed": seed}
        for seed, value in enumerate((16.0, 16.5, 17.0))
    ]
    text = table(rows, {"command": "C", "date": "2020-01-01", "seeds": 3})
    assert "| D | M | 10 | 16.50 ± 0.50 dB | 1,234 |" in text


def results(psnr, edits):
    """Rows of recipe default: commit has `psnr` with 10 bits, 1 dB more with a hidden layer, and `edits` with 64 bits."""
    images = {
        "commit 10": {"bits": 10, "held_out": {"psnr": [psnr, 0.1]}},
        "commit 256,10": {"bits": 10, "held_out": {"psnr": [psnr + 1, 0.1]}},
    }
    texts = {
        f"commit {size}": {"bits": 2 * size, "test": {"levenshtein": [edits * 32 / size, 0.1]}}
        for size in (32, 64, 128, 256)
    }
    found = readme_tables.Results.__new__(readme_tables.Results)
    photos = {
        label: {"bits": 512, "held_out": {"psnr": [value, None]}}
        for label, value in (("commit medium", psnr + 10), ("commit medium, transform", psnr + 12))
    }
    found.rows = lambda number, recipe: {1: images, 2: photos, 3: texts}[number]
    return found


BASELINES = {
    "command": "C",
    "date": "2020-01-01",
    "seeds": 2,
    "rows": [
        {
            "data": "MNIST",
            "method": "k-means",
            "bits": 10,
            "unit": "dB",
            "seed": seed,
            "value": 15.0,
            "numbers_stored": 2000,
        }
        for seed in (0, 1)
    ]
    + [{"data": "CIFAR-10", "method": "transform code", "bits": 512, "unit": "dB", "seed": 0, "value": 24.5}]
    + [{"data": "Anki", "method": "nearest, split length", "bits": 15, "unit": "edits", "seed": 0, "value": 5.0}],
}

TRIED = [
    {
        "command": f"python {hidden}",
        "date": "2020-01-02",
        "hidden": hidden,
        "numbers_stored": numbers,
        "psnr": {"encoder's code": [10.0, 10.0], "trained": values},
    }
    for hidden, numbers, values in (([10], 100, [13.0, 13.2]), ([512, 256, 10], 1000, [14.9, 14.7]))
]


def test_ours_stand_beside_the_baselines():
    text = readme_tables.baselines(results(14.5, 8), BASELINES, TRIED)
    assert (
        "| MNIST | 10 | k-means | 15.00 ± 0.00 dB | 10 (10): 14.50 ± 0.10; 256,10 (10): 15.50 ± 0.10; "
        "10, every code tried (10): 13.10 ± 0.14; 512,256,10, every code tried (10): 14.80 ± 0.14 |" in text
    )
    assert (
        "whose decoders store 100 and 1,000 numbers, k-means 2,000 (`python [10]` and `python [512, 256, 10]`, 2020-01-02). "
        "`C`, 2020-01-01" in text
    )
    assert "| 5.00 edits | 32 (64): 8.00 ± 0.10; 64 (128): 4.00 ± 0.10; 128 (256): 2.00 ± 0.10; 256 (512): 1.00" in text


@pytest.mark.parametrize(
    ("psnr", "edits", "said"),
    [
        (
            13,
            4,
            "k-means (10 bits): 15.00 ± 0.00 dB, against 13.00 ± 0.10 (commit 10) and "
            "14.80 ± 0.14 (commit 512,256,10, every code tried)",
        ),
        (
            13,
            4,
            "transform code (512 bits): 24.50 dB, against 23.00 (commit medium); trained from there, it reaches 25.00 (one",
        ),
        (16, 8, "nearest, split length (15 bits): 5.00 edits, against 8.00 ± 0.10 (commit 32, 64 bits)"),
    ],
)
def test_the_baselines_that_are_ahead_are_named(psnr, edits, said):
    assert readme_tables.where_baselines_win(results(psnr, edits), BASELINES, TRIED).count(said) == 1


def test_it_is_said_when_no_baseline_is_ahead():
    best = [{**run, "psnr": {"trained": [15.5, 15.6]}} for run in TRIED]
    assert readme_tables.where_baselines_win(results(16, 4), BASELINES, best) == "Commit is ahead of every baseline."


def test_a_row_in_full_stands_for_the_one_trained_for_less():
    found = results(16, 8)
    images, photos, texts = (found.rows(number, "default") for number in (1, 2, 3))
    texts = texts | {"commit 32, in full": {"bits": 64, "test": {"levenshtein": [6.0, 0.2]}}}
    photos = photos | {"commit medium, in full": {"bits": 512, "held_out": {"psnr": [27.0, None]}}}
    found.rows = lambda number, recipe: {1: images, 2: photos, 3: texts}[number]
    text = readme_tables.baselines(found, BASELINES, TRIED)
    assert "| 5.00 edits | 32, in full (64): 6.00 ± 0.20; 64 (128): 4.00 ± 0.10;" in text
    assert "| 24.50 dB | medium, in full (512): 27.00; medium, transform (512): 28.00 |" in text
