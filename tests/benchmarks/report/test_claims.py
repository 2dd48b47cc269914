"""The rules behind the verdicts on the report's claims, each at its edge."""

import pytest

from benchmarks.report import claims
from benchmarks.report.claims import View


def view(**figures):
    """A View of rows with these figures in every metric. figures: {bottleneck: [(mean, deviation, seeds) at each size]}."""
    rows = {}
    for quant, of_sizes in figures.items():
        for size, (mean, deviation, seeds) in zip("ABC", of_sizes, strict=False):
            pair = (mean, deviation)
            rows[quant, size] = {
                "seeds": seeds,
                "undecided": pair,
                "distance_to_bit": pair,
                "measured": dict.fromkeys(claims.NAMES, pair),
            }
    return View(rows, tuple("ABC"[: max(map(len, figures.values()))]), lambda row: "measured")


def holds(rule, **figures):
    """Which of a rule's checks hold."""
    return [check.holds for check in rule(view(**figures))]


def exact(*means):
    """Figures without spread."""
    return [(mean, 0.0, 3) for mean in means]


def test_better_asks_for_every_size_and_metric_and_not_better_for_none():
    figures = {"commit": exact(3, 1), "naive": exact(2, 2)}
    assert holds(claims.better("commit", "naive", "psnr", "mse"), **figures) == [True, False, False, True]
    assert holds(claims.not_better("commit", "naive", "psnr", "mse"), **figures) == [False, True, True, False]
    assert holds(claims.better("commit", "naive", "psnr", sizes=("B",)), **figures) == [False]
    assert holds(claims.not_better("commit", "naive", "psnr"), commit=exact(2), naive=exact(2)) == [True]


def test_rows_that_are_missing_are_not_compared():
    assert holds(claims.better("commit", "naive", "psnr"), commit=exact(3, 4), naive=exact(2)) == [True]
    assert holds(claims.grows("psnr"), commit=exact(3), naive=exact(2)) == []
    assert holds(claims.grows("psnr"), commit=exact(3, 4), naive=exact(2)) == [True]
    assert view(commit=exact(3)).figure("fence", "A", "psnr") is None


def test_a_share_is_kept_up_to_the_very_share():
    rule = claims.share_kept("commit", "vanilla", "ssim", 0.75)
    assert holds(rule, commit=exact(6, 5.9, 9), vanilla=exact(8, 8, 8)) == [True, False, True]


def test_a_margin_is_kept_up_to_the_very_margin_whatever_is_better():
    higher = claims.at_most_behind("commit", "vanilla", "psnr", 1)
    assert holds(higher, commit=exact(19, 18.9, 25), vanilla=exact(20, 20, 20)) == [True, False, True]
    fewer = claims.at_most_behind("commit", "vanilla", "levenshtein", 1)
    assert holds(fewer, commit=exact(4, 4.1, 1), vanilla=exact(3, 3, 3)) == [True, False, True]


def test_growing_compares_each_size_with_the_one_before():
    checks = claims.grows("psnr", ("commit",))(view(commit=exact(1, 3, 2)))
    assert [(check.what, check.holds) for check in checks] == [
        ("PSNR of commit: B better than A", True),
        ("PSNR of commit: C better than B", False),
    ]
    assert holds(claims.grows("levenshtein", ("commit",)), commit=exact(3, 1, 2)) == [True, False]
    of_all = {quant: exact(1, 2) for quant in ("vanilla", "naive", "fence", "commit")}
    assert holds(claims.grows("psnr"), **of_all) == [True] * 4


@pytest.mark.parametrize("above", [True, False])
def test_a_limit_itself_is_neither_above_nor_below(above):
    rule = claims.bounded("naive", "undecided", 0.1, above)
    assert holds(rule, naive=exact(0.11, 0.1, 0.09)) == [above, False, not above]


def test_two_rules_are_checked_one_after_the_other():
    rule = claims.both(claims.bounded("naive", "undecided", 0.1, True), claims.bounded("naive", "undecided", 0.1, False))
    assert holds(rule, naive=exact(0.2)) == [True, False]


def test_a_view_reads_the_figures_that_its_key_names():
    row = {"seeds": 3, "undecided": (0.1, 0.01), "own": {"psnr": (20.0, 0.2)}, "correct": {"psnr": (15.0, 0.1)}}
    for key, figure in (("own", (20.0, 0.2, 3)), ("correct", (15.0, 0.1, 3)), ("nowhere", None)):
        seen = View({("commit", "A"): row}, ("A",), lambda _, key=key: key)
        assert seen.figure("commit", "A", "psnr") == figure
        assert seen.figure("commit", "A", "undecided") == (0.1, 0.01, 3)
