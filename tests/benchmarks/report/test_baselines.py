"""The baselines: k-means and residual vector quantization against their definitions, the table."""
import numpy as np
import pytest

from benchmarks.report.baselines import k_means, nearest, residual_quantization, table

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
    assert max(worst) < 2 * 2 ** 2 * 1.5


def test_a_stage_quantizes_what_the_stages_before_left_over(monkeypatch):
    monkeypatch.setattr("benchmarks.report.baselines.STAGE_BITS", 2)
    before = POINTS.copy()
    stages = residual_quantization(POINTS, POINTS, 3, seed=0)
    errors = [((stage - POINTS) ** 2).mean() for stage in stages]
    assert errors[0] > errors[1] > errors[2]
    # Two stages of 4 centroids make at most 16 different points, each a sum of one of either.
    assert len(np.unique(stages[0].round(2), axis=0)) <= 4 < len(np.unique(stages[1].round(2), axis=0)) <= 16
    np.testing.assert_array_equal(POINTS, before)


def test_the_table_has_means_over_seeds():
    rows = [{"data": "D", "method": "M", "bits": 10, "unit": "dB", "value": value, "numbers_stored": 1234, "seed": seed}
            for seed, value in enumerate((16.0, 16.5, 17.0))]
    text = table(rows, {"command": "C", "date": "2020-01-01", "seeds": 3})
    assert "| D | M | 10 | 16.50 ± 0.50 dB | 1,234 |" in text
