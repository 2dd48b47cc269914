"""Which bottleneck wins: all of them at one size of each model, the default recipe, by held-out quality.

Each is trained with its own settings, which were chosen on a validation split; the ranking is on held-out examples.
"""

import math
from dataclasses import dataclass

from . import significance
from .claims import NAMES
from .rows import plus_minus
from .significance import HIGHER_IS_BETTER

UNITS = {"psnr": "dB", "levenshtein": "edits"}
RULE = f"Significance against the first is decided {significance.in_words('all comparisons with the first')}."
HEADINGS = ("seeds", "difference from commit", "batch norm before the code", "bits that never change")
"""The headings of the cells of cells_of, after the bottleneck and its figure."""


@dataclass(frozen=True)
class Place:
    """One row of the ranking. figure: (mean, standard deviation or None, seeds). gain: how much better than commit, in the
    metric's unit, negative for worse; error: its standard error, None if a row has one seed. normalized: whether there is
    batch norm before the code.
    """

    name: str
    figure: tuple
    gain: float
    error: float | None
    normalized: bool
    dead_bits: int


@dataclass(frozen=True)
class Ranking:
    """Places, best first; `vanilla`, the place of the unquantized model, None if it was not trained. metric: the figure
    ranked by. what: a description of model, size and split.
    """

    what: str
    metric: str
    places: list
    vanilla: Place | None


def rankings(table, published):
    """Return the Rankings of a table, a list: one for each split of the data. published: the table's results."""
    metric, size = table.metrics[0], table.figure_size
    rows = [row for row in published["tables"].get("default", ()) if row["size"] == size]
    found = []
    for split in dict.fromkeys(row.get("split") for row in rows):
        names = {
            row["label"].split(",")[0].removesuffix(f" {size}"): row
            for row in rows
            if row.get("split") == split and row["label"] in (_label(row, size), _label(row, size) + ", random split")
        }
        if "commit" not in names:
            continue
        figures = {name: (*row[table.held_out][metric], row["seeds"]) for name, row in names.items()}
        places = {name: _place(name, row, figures[name], figures["commit"], metric) for name, row in names.items()}
        vanilla = places.pop("vanilla", None)
        what = f"{table.model} {size}" + (f", split {split}" if split else "")
        ordered = sorted(places.values(), key=lambda place: -place.gain)
        found.append(Ranking(what, metric, ordered, vanilla))
    return found


def _label(row, size):
    return f"naive + noise {size}" if "noise" in row["label"] else f"{row['quant']} {size}"


def _place(name, row, figure, commit, metric):
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    several = figure[1] is not None and commit[1] is not None
    error = math.sqrt(figure[1] ** 2 / figure[2] + commit[1] ** 2 / commit[2]) if several else None
    return Place(name, figure, sign * (figure[0] - commit[0]), error, row["normalized"], max(row["dead_bits"]))


def against_the_first(ranking):
    """{name: whether it is significantly worse than the first; None if one of the two has a single seed}; see RULE."""
    first, *others = ranking.places
    outcomes = significance.better([(first.figure, place.figure, ranking.metric) for place in others])
    return {place.name: worse for place, (worse, _) in zip(others, outcomes, strict=True)}


def words(ranking):
    """Describe the ranking in two sentences: which is first, by how much, and which are not significantly worse."""
    unit = UNITS[ranking.metric]
    first, *others = ranking.places
    said = f"{ranking.what}: {first.name} is first with {plus_minus(first.figure[:2])} {unit}"
    said += f" ({_seeds(first.figure[2])})"
    if first.name != "commit":
        said += f", {_distance(first)} {unit} better than commit"
    elif others:
        said += f", {_distance(others[0])} {unit} better than the next, {others[0].name}"
    if all(place.figure[1] is None for place in ranking.places):
        return said + ". One seed each: the order may be due to chance."
    worse = against_the_first(ranking)
    level = [name for name, outcome in worse.items() if outcome is False]
    undecided = [name for name, outcome in worse.items() if outcome is None]
    if not level and not undecided:
        return said + ". All others are significantly worse."
    said += f". Not significantly worse: {', '.join(level)}" if level else ""
    return said + (f". Not decided, with one seed: {', '.join(undecided)}." if undecided else ".")


def gain(place):
    """Return the distance to commit as text, with its standard error if there is one."""
    if place.name == "commit":
        return ""
    return ("+" if place.gain > 0 else "-") + _distance(place)


def _distance(place):
    return plus_minus((abs(place.gain), place.error))


def _seeds(count):
    return f"{count} seeds" if count > 1 else "one seed"


def markdown(found):
    """Markdown: the rankings of one table."""
    lines = [
        "## Which bottleneck wins",
        "",
        "Recipe `default`, held-out, mean ± standard deviation over seeds; the "
        f"difference from commit (+: better) ± its standard error. {RULE}",
        "",
    ]
    for ranking in found:
        lines += [
            words(ranking),
            "",
            f"| {ranking.what} | {NAMES[ranking.metric]} | " + " | ".join(HEADINGS) + " |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += ["| " + " | ".join(map(str, cells)) + " |" for cells in cells_of(ranking)] + [""]
    return "\n".join(lines)


def cells_of(ranking):
    """Return the ranking as rows of cells: name, figure, seeds, distance to commit, batch norm, dead bits."""
    places = [(f"{i}. {place.name}", place) for i, place in enumerate(ranking.places, start=1)]
    if ranking.vanilla:
        places.append(("vanilla (not quantized)", ranking.vanilla))
    return [
        [
            name,
            plus_minus(place.figure[:2]),
            place.figure[2],
            gain(place),
            "yes" if place.normalized else "no",
            place.dead_bits,
        ]
        for name, place in places
    ]
