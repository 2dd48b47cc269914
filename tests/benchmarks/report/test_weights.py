"""The spread over seeds of the bits that never change, and when they count as a collapse."""

import numpy as np
import pytest

from benchmarks.report import TABLES, weights


def weighted(weight, psnr, dead=(0, 0, 0), deviation=0.3, seeds=3):
    return {
        "label": f"commit 50, weight {weight:g}",
        "weight": weight,
        "seeds": seeds,
        "bits": 50,
        "held_out": {"psnr": (psnr, deviation), "ssim": (0.5, 0.01)},
        "distance_to_bit": (0.1, 0.01),
        "undecided": (0.1, 0.01),
        "dead_bits": list(dead),
    }


def found(*rows):
    return weights.commit_weights(TABLES[1], {"tables": {"default": list(rows)}})


def test_bits_that_never_change_have_a_mean_and_the_deviation_of_a_sample():
    first, second, third = found(weighted(1, 18.0, (1, 3, 8)), weighted(2, 17.0, (4, 5)), weighted(3, 16.0, (7,)))
    assert first.dead == pytest.approx((4, np.std([1, 3, 8], ddof=1)))
    assert second.dead == pytest.approx((4.5, np.sqrt(0.5)))
    assert third.dead == (7, None)


@pytest.mark.parametrize(("dead", "collapses"), [((24, 26, 25), False), ((24, 26, 26), True)])
def test_a_collapse_is_more_than_half_of_the_bits_on_average(dead, collapses):
    said = weights.words(found(weighted(1, 18.0), weighted(10, 9.0, dead)))
    assert ("(more than half of the bits never change): 10." in said) == collapses
    assert ("None collapses: at most 25 of 50 bits never change." in said) == (not collapses)


def test_one_seed_each_is_said():
    rows = [weighted(weight, psnr, (0,), None, 1) for weight, psnr in ((0, 17.0), (1, 18.0))]
    assert "One seed each: small differences may be due to chance." in weights.words(found(*rows))
    assert "One seed" not in weights.words(found(rows[0], weighted(1, 18.0)))
