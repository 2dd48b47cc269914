"""Content of the sections of report.html that are tables: claims, why rows miss, the tables, the ranking, errata.

Each function takes outputs.Results and returns the variables of the template with its name.
"""

from .agreement import NEAR, OFF, RULE, WITHIN, agreement
from .claims import AHEAD, FAILS, HOLDS, NAMES, OWN_METRIC_ONLY, UNDECIDED
from .misses import MISSED, counted, why_in_words
from .ranking import HEADINGS, cells_of, rankings
from .ranking import RULE as APART
from .ranking import words as ranking_in_words
from .rows import effort, plus_minus

VERDICTS = {HOLDS: "holds", FAILS: "fails", OWN_METRIC_ONLY: "own", UNDECIDED: "undecided"}
"""{verdict: its CSS class}."""
DIGITS = {"psnr": 2, "ssim": 3, "mse": 1, "mae": 1, "levenshtein": 2, "exact_match_rate": 3}
VIEWS = {"own": "By the report's metrics", "correct": "Correct, held-out", "default": "Recipe default, held-out"}
RECIPES = {"report": "the settings behind the report's table", "default": "the best settings found on a validation split"}


def claims(results):
    """Each claim of the report with its verdict and the numbers behind it."""
    return {
        "has_report": _has_report(results),
        "judged": [one for judged in results.claims.values() for one in judged],
        "ahead": AHEAD,
        "verdicts": VERDICTS,
        "views": VIEWS,
    }


def _has_report(results):
    return any("report" in published["tables"] for published in results.published.values())


def errata(results):
    """Each erratum with the figures that show it."""
    return {"errata": results.errata}


def missed(results):
    """Each row of the report's recipe that misses its published figures, and why."""
    by_table = [
        (kind.title, [miss for miss in results.misses if miss.table == number]) for number, kind in results.tables.items()
    ]
    return {
        "quick": results.quick,
        "has_report": _has_report(results),
        "missed": MISSED,
        "why": why_in_words,
        "tables": [(title, counted(miss.verdict for miss in misses), misses) for title, misses in by_table if misses],
    }


def ranked(results):
    """All bottlenecks at one size of each model, best first."""
    return {
        "rule": APART,
        "rankings": [
            (
                ranking.what,
                results.published[number]["data"].split(";")[0].split(",")[0],
                ranking_in_words(ranking),
                ["bottleneck", NAMES[ranking.metric], *HEADINGS],
                cells_of(ranking),
            )
            for number, kind in results.tables.items()
            for ranking in rankings(kind, results.published[number])
        ],
    }


def tables(results):
    """Each row as published, by the report's definitions, and correct on held-out data."""
    return {
        "legend": [(name, RULE[name]) for name in (WITHIN, NEAR, OFF)],
        "recipes": RECIPES,
        "tables": [
            (
                kind.title,
                results.published[number],
                {
                    recipe: (_three_ways if recipe == "report" else _held_out)(kind, rows)
                    for recipe, rows in results.published[number]["tables"].items()
                },
            )
            for number, kind in results.tables.items()
        ],
    }


def _metrics(kind):
    """The correct metrics of a table."""
    return ("psnr", "ssim", "mse", "mae") if kind.items == "training_images" else (*kind.metrics, "exact_match_rate")


def _name(metric):
    return NAMES.get(metric, "exact")


def _cells(row, key, metrics):
    figures = row.get(key)
    return [plus_minus(figures[m], DIGITS.get(m, 3)) if figures else "" for m in metrics]


def _three_ways(kind, rows):
    """(headings, rows of cells): as published, by the report's definitions, correct and held-out. Where a figure of ours
    stands beside a published one its cell is (text, how well they agree).
    """
    correct = _metrics(kind)
    headings = ["row", "examples x epochs x seeds"]
    for metric in kind.metrics:
        headings += [f"{_name(metric)} published", "ours, report's definition"]
    headings += [f"{_name(metric)} correct, held-out" for metric in correct]
    body = []
    for row in rows:
        cells, key = [row["label"], effort(row, kind.items)], kind.report_key(row)
        for i, metric in enumerate(kind.metrics):
            ours = row.get(key, {}).get(metric)
            if ours is None:  # A data set too short for the report's sentences.
                cells += [f"{row['published'][i]:g}" if row["published"] else "–", "–"]
                continue
            said = plus_minus(ours, DIGITS.get(metric, 3))
            if row["published"] is None:
                cells += ["–", said]
                continue
            column = [figures[i] for figures in kind.published.values()]
            cells += [f"{row['published'][i]:g}", (said, agreement(row["published"][i], ours, row["seeds"], column))]
        body.append(cells + _cells(row, kind.held_out, correct))
    return headings, body


def _held_out(kind, rows):
    """(headings, rows of cells): correct and held-out, beside what the threshold costs."""
    correct, first = _metrics(kind), _metrics(kind)[0]
    headings = [
        "row",
        "examples x epochs x seeds",
        "bits",
        "compression ratio",
        *map(_name, correct),
        f"{_name(first)} before the threshold",
        "bits that never change",
        "training time, s",
    ]
    return headings, [
        [
            row["label"],
            effort(row, kind.items),
            row["bits"],
            f"{row['cr']:.2f}",
            *_cells(row, kind.held_out, correct),
            *_cells(row, "before_threshold", [first]),
            max(row["dead_bits"]),
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
