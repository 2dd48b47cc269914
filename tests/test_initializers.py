"""Initial values of parameters."""

import numpy as np
import pytest

from tinyqae.initializers import at_most, filled, glorot, orthogonal


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [((100, 300), 100, 300), ((3, 3, 20, 30), 180, 270)])
def test_glorot_is_uniform_in_its_range(shape, fan_in, fan_out):
    w, limit = glorot(np.random.default_rng(0), shape, fan_in, fan_out), np.sqrt(6 / (fan_in + fan_out))
    assert w.shape == shape
    assert 0.99 * limit < np.abs(w).max() <= limit
    np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(w.mean(), 0, atol=0.03 * limit)


def test_filled_draws_as_many_numbers_as_it_returns():
    first, second = np.random.default_rng(0), np.random.default_rng(0)
    np.testing.assert_array_equal(filled(first, 1, 5), np.ones(5))
    second.uniform(-1, 1, 5)
    assert first.random() == second.random()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 12), (12, 12), (20, 80)])
def test_orthogonal_matrices_have_orthonormal_rows(rows, columns):
    q = orthogonal(np.random.default_rng(0), rows, columns)
    assert q.shape == (rows, columns) and q.flags.c_contiguous
    np.testing.assert_allclose(q @ q.T, np.eye(rows), atol=1e-12)


def test_orthogonal_matrices_favour_no_sign():
    draws = np.array([orthogonal(np.random.default_rng(seed), 3, 12) for seed in range(300)])
    # 300 signs of one entry have a standard deviation of 1/sqrt(300) = 0.06 around 0.
    assert np.abs(np.sign(draws).mean(axis=0)).max() < 0.25


def test_the_same_generator_gives_the_same_values():
    for draw in (lambda random: glorot(random, (4, 3), 4, 3), lambda random: orthogonal(random, 3, 4)):
        np.testing.assert_array_equal(draw(np.random.default_rng(1)), draw(np.random.default_rng(1)))
        assert not np.array_equal(draw(np.random.default_rng(1)), draw(np.random.default_rng(2)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda random, n: glorot(random, (n, n), n, n),
        lambda random, n: filled(random, 0, n * n),
        lambda random, n: orthogonal(random, n, n),
    ],
    ids=["glorot", "filled", "orthogonal"],
)
def test_more_than_there_is_room_for_is_refused_before_memory_is_taken(draw):
    with pytest.raises(MemoryError, match="room for"):
        draw(np.random.default_rng(0), 1 << 30)
    with at_most(8), pytest.raises(MemoryError, match="an array of 9 parameters, but there is room for only 4"):
        draw(np.random.default_rng(0), 2)
        draw(np.random.default_rng(0), 3)
    draw(np.random.default_rng(0), 3)
