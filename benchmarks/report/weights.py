"""The effect of the commit loss's weight, from 0 (straight-through alone) to 10: rows of commit that differ in nothing else.

The figures are on held-out images, so the best weight is only reported and was not used to choose settings: the recipe's
own weight was chosen on a validation split.
"""

import statistics
from dataclasses import dataclass

from . import significance
from .rows import plus_minus

RULE = f"Significance is decided {significance.in_words('all comparisons with the best')}."
COLLAPSE = "more than half of the bits never change"


@dataclass(frozen=True)
class Weighted:
    """One row: its weight, and (mean, standard deviation or None) over its seeds. psnr in dB, ssim: held-out. distance:
    to the nearest bit; undecided: the share of the values between 1/4 and 3/4; dead: bits that never change; of `bits`.
    """

    weight: float
    label: str
    seeds: int
    psnr: tuple
    ssim: tuple
    distance: tuple
    undecided: tuple
    dead: tuple
    bits: int


def commit_weights(table, published):
    """[Weighted] by weight, ascending: empty if a run has fewer than two. published: the results of Table 1."""
    size = table.figure_size
    rows = [
        row
        for row in published["tables"].get("default", ())
        if row["label"] == f"commit {size}" or row["label"].startswith(f"commit {size}, weight ")
    ]
    if len(rows) < 2:
        return []
    return sorted(
        (
            Weighted(
                row["weight"],
                row["label"],
                row["seeds"],
                row["held_out"]["psnr"],
                row["held_out"]["ssim"],
                row["distance_to_bit"],
                row["undecided"],
                _spread(row["dead_bits"]),
                row["bits"],
            )
            for row in rows
        ),
        key=lambda one: one.weight,
    )


def _spread(values):
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def words(weights):
    """Describe the effect of the weight in sentences."""
    best = max(weights, key=lambda one: one.psnr[0])
    others = [one for one in weights if one is not best]
    outcomes = significance.better([(_figure(best), _figure(one), "psnr") for one in others])
    worse = {one.weight: outcome for one, (outcome, _) in zip(others, outcomes, strict=True)}
    behind, level, undecided = ([one for one in others if worse[one.weight] is outcome] for outcome in (True, False, None))
    collapsed = [one for one in weights if one.dead[0] > one.bits / 2]
    first, last = weights[0], weights[-1]
    said = [
        f"Best on held-out images, which were not used to choose the recipe's weight: weight {best.weight:g} with "
        f"{plus_minus(best.psnr)} dB" + (f"; not significantly worse: {_list(level)}" if level else "") + "."
    ]
    if behind:
        distances = (f"{one.weight:g} by {best.psnr[0] - one.psnr[0]:.2f} dB" for one in behind)
        said.append(f"Significantly worse: {', '.join(distances)}.")
    if all(one.seeds == 1 for one in weights):
        said.append("One seed each: small differences may be due to chance.")
    elif undecided:
        said.append(f"Not decided, with one seed: {_list(undecided)}.")
    if behind or level:
        said.append(RULE)
    said.append(
        f"Collapsed ({COLLAPSE}): {_list(collapsed)}."
        if collapsed
        else f"None collapses: at most {max(one.dead[0] for one in weights):.3g} of {first.bits} bits never change."
    )
    said.append(
        f"From weight {first.weight:g} to {last.weight:g}, the mean distance to the nearest bit changes from "
        f"{first.distance[0]:.3f} to {last.distance[0]:.3f}, the share of values between ¼ and ¾ from "
        f"{first.undecided[0]:.1%} to {last.undecided[0]:.1%}."
    )
    return " ".join(said)


def _figure(one):
    return *one.psnr, one.seeds


def _list(weights):
    return ", ".join(f"{one.weight:g}" for one in weights)


def panels(weights):
    """Return what plots.commit_weights draws: (titles and figures of each panel)."""
    named = (
        ("held-out PSNR, dB", "psnr"),
        ("mean distance to the nearest bit", "distance"),
        ("share of values between ¼ and ¾", "undecided"),
        (f"bits that never change, of {weights[0].bits}", "dead"),
    )
    return [(title, *zip(*(getattr(one, name) for one in weights), strict=True)) for title, name in named]
