"""How a figure is said to agree with the published one: both rules at their edges."""

import pytest

from benchmarks.report.agreement import NEAR, OFF, RULE, WITHIN, agreement

NARROW = (24.9, 25.0)
"""A column in which hardly anything is near."""


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
