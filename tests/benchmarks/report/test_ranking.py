"""The order of the bottlenecks: distances to commit, their standard errors, and who is said to be apart."""

import pytest

from benchmarks.report import TABLES, ranking

MLP, LSTM = TABLES[1], TABLES[3]


def row(quant, mean, deviation, seeds, table=MLP, dead=(0,)):
    """A built row of a table as far as a ranking reads it."""
    figures = {table.metrics[0]: (mean, deviation)}
    return {
        "label": f"{quant} {table.figure_size}",
        "quant": quant,
        "size": table.figure_size,
        "seeds": seeds,
        "normalized": quant != "naive",
        "dead_bits": list(dead),
        table.held_out: figures,
    }


def ranked(*rows, table=MLP):
    (found,) = ranking.rankings(table, {"tables": {"default": list(rows)}})
    return found


def test_the_error_of_a_distance_is_that_of_a_difference_of_two_means():
    found = ranked(row("entropy", 18.0, 0.8, 4), row("commit", 17.5, 0.3, 9), row("naive", 15.0, 0.1, 100))
    errors = {place.name: place.error for place in found.places}
    # sqrt(0.64 / 4 + 0.09 / 9), sqrt(0.09 / 9 + 0.09 / 9), sqrt(0.01 / 100 + 0.09 / 9)
    assert errors == pytest.approx({"entropy": 0.412311, "commit": 0.141421, "naive": 0.100499}, rel=1e-5)
    assert [ranking.gain(place) for place in found.places] == ["+0.50 ± 0.41", "", "-2.50 ± 0.10"]


def test_what_is_better_has_a_gain_whatever_the_metric():
    found = ranked(
        row("clipped", 6.0, 0.1, 3, LSTM), row("commit", 8.0, 0.1, 3, LSTM), row("naive", 9.0, 0.1, 3, LSTM), table=LSTM
    )
    assert [(place.name, place.gain) for place in found.places] == [("clipped", 2), ("commit", 0), ("naive", -1)]


def test_the_winner_s_distance_is_to_commit_or_from_commit_to_the_next():
    rows = [row("commit", 18.0, 0.1, 3), row("naive", 15.0, 0.1, 3), row("fence", 17.0, 0.1, 3)]
    assert ranking.words(ranked(*rows)) == (
        "MLP 50: commit is first with 18.00 ± 0.10 dB (3 seeds), 1.00 ± 0.08 dB better "
        "than the next, fence. All others are significantly worse."
    )
    mixed = ranking.words(ranked(row("commit", 18.0, 0.1, 3), row("naive", 15.0, None, 1)))
    assert mixed == (
        "MLP 50: commit is first with 18.00 ± 0.10 dB (3 seeds), 3.00 dB better than the next, naive. Not "
        "decided, with one seed: naive."
    )


def test_the_cells_of_a_ranking():
    found = ranked(row("commit", 18.0, 0.1, 3, dead=(1, 3, 2)), row("naive", 15.0, None, 1), row("vanilla", 23.0, 0.2, 3))
    assert ranking.cells_of(found) == [
        ["1. commit", "18.00 ± 0.10", 3, "", "yes", 3],
        ["2. naive", "15.00", 1, "-3.00", "no", 0],
        ["vanilla (not quantized)", "23.00 ± 0.20", 3, "+5.00 ± 0.13", "yes", 0],
    ]


def test_the_rankings_as_markdown():
    found = ranked(row("commit", 18.0, 0.1, 3), row("naive", 15.0, None, 1), row("vanilla", 23.0, 0.2, 3))
    lines = ranking.markdown([found, found]).splitlines()
    assert lines[:2] == ["## Which bottleneck wins", ""] and ranking.RULE in lines[2]
    assert lines[4:12] == [
        ranking.words(found),
        "",
        "| MLP 50 | PSNR | seeds | difference from commit | batch norm before the code | bits that never change |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1. commit | 18.00 ± 0.10 | 3 |  | yes | 0 |",
        "| 2. naive | 15.00 | 1 | -3.00 | no | 0 |",
        "| vanilla (not quantized) | 23.00 ± 0.20 | 3 | +5.00 ± 0.13 | yes | 0 |",
        "",
    ]
    assert lines[12:] == lines[4:11]
