"""How a figure is said to agree with the published one: both rules at their edges."""
import pytest

from benchmarks.report.agreement import NEAR, OFF, RULE, WITHIN, agreement

NARROW = (24.9, 25.0)
"""A column in which hardly anything is near."""


@pytest.mark.parametrize(("seeds", "reach"), [(2, 2.449490), (3, 2.309401), (5, 2.190890), (100, 2.009975)])
def test_within_means_twice_the_deviation_of_one_run_from_the_mean_of_n(seeds, reach):
    """A run and the mean of n others differ with variance s^2 + s^2 / n, so for s = 1/2 by at most sqrt(1 + 1/n) = reach / 2
    in most cases.
    """
    for sign in (-1, 1):
        assert agreement(25.0, (25.0 + sign * 0.999 * reach / 2, 0.5), seeds, NARROW) == WITHIN
        assert agreement(25.0, (25.0 + sign * 1.001 * reach / 2, 0.5), seeds, NARROW) == OFF


def test_one_seed_has_no_spread_to_be_within():
    assert agreement(25.0, (25.0, None), 1, NARROW) == NEAR
    assert agreement(25.0, (25.0, 0.0), 3, NARROW) == WITHIN


@pytest.mark.parametrize("sign", [-1, 1])
def test_near_means_a_tenth_of_the_range_of_the_published_column(sign):
    column = (30.0, 10.0, 25.0)
    assert agreement(25.0, (25.0 + sign * 2.0, 0.0), 3, column) == NEAR
    assert agreement(25.0, (25.0 + sign * 2.001, 0.0), 3, column) == OFF
    assert agreement(25.0, (25.0 + sign * 2.001, None), 1, column) == OFF


def test_every_answer_is_explained():
    assert set(RULE) == {WITHIN, NEAR, OFF}
