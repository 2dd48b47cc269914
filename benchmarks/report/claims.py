"""What the report claims, and what the figures say about it.

Each claim is a rule that compares rows. It is applied three times: to the report's settings by the report's own metrics, to
the same models by correct metrics on held-out data, and to the default recipe by correct metrics. The verdict is about the
report's settings.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import significance
from .rows import ALL_IMAGES
from .significance import HIGHER_IS_BETTER

HOLDS, FAILS, OWN_METRIC_ONLY = "holds", "does not hold", "holds only under its own metric"
UNDECIDED = "not decided: single seeds"
NAMES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "mse": "MSE",
    "mae": "MAE",
    "levenshtein": "edits",
    "cosine_distance": "cosine",
    "jaccard_distance": "Jaccard",
    "bleu_distance": "1 - BLEU",
    "undecided": "share between ¼ and ¾",
    "distance_to_bit": "distance to the nearest bit",
}
AHEAD = (
    f"“Ahead” and “better” mean significantly, {significance.in_words('all comparisons of the claim in one column')}. "
    "Shares, margins and limits apply to the means."
)


@dataclass(frozen=True)
class Check:
    """One comparison of a claim and its outcome: what is compared, both figures (None for a number of the rule itself),
    whether it holds (None where a figure has a single seed), and p of the test that decides it, corrected over the claim, to
    three digits (None where there is no test).
    """

    what: str
    left: tuple
    right: tuple | None
    holds: bool | None
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A check to be decided. test(left, right), of the figures, says whether it holds; where it is None, the check holds if
    left is significantly better than right, or if it is not, as `ahead` says.
    """

    what: str
    left: tuple
    right: tuple | None
    metric: str
    test: Callable | None = None
    ahead: bool = True


@dataclass(frozen=True)
class Rule:
    """What a claim is checked by. comparisons(view): a list of Comparison. Called with a View, it gives the Checks."""

    comparisons: Callable

    def __call__(self, view):
        """[Check], the tests among them corrected as one family."""
        found, checks = self.comparisons(view), []
        tested = [(one.left, one.right, one.metric) for one in found if one.test is None]
        outcomes = iter(significance.better(tested))
        for one in found:
            holds, p = next(outcomes) if one.test is None else (_by_test(one), None)
            if one.test is None and holds is not None:
                # Rounded, since the last digits depend on the version of SciPy.
                holds, p = holds == one.ahead, float(f"{p:.3g}")
            checks.append(Check(one.what, one.left, one.right, holds, p))
        return checks


def _by_test(comparison):
    figures = [figure for figure in (comparison.left, comparison.right) if figure is not None]
    if any(deviation is None for _, deviation, _ in figures):
        return None
    return comparison.test(*figures)


@dataclass(frozen=True)
class View:
    """One way to read a table's rows. rows: {(bottleneck, size): built row}. key(row): where its figures are."""

    rows: dict
    sizes: tuple
    key: Callable

    def figure(self, quant, size, metric):
        """(mean, standard deviation or None, seeds), or None where there is no such row or figure."""
        row = self.rows.get((quant, size))
        if row is None:
            return None
        pair = row[metric] if metric in ("undecided", "distance_to_bit") else row.get(self.key(row), {}).get(metric)
        return None if pair is None else (*pair, row["seeds"])


@dataclass(frozen=True)
class Claim:
    """A claim of the report: where it stands, its words, how it is checked, and on which table."""

    place: str
    words: str
    rule: str
    table: int
    checks: Rule
    has_own_metric: bool = True


def _pairs(first, second, metrics, sign, *, sizes=None, **decision):
    """A Rule of a Comparison of each size and metric for which there are both figures. decision: its `test` or `ahead`."""

    def comparisons(view):
        found = []
        for size in sizes or view.sizes:
            for metric in metrics:
                a, b = view.figure(first, size, metric), view.figure(second, size, metric)
                if a and b:
                    found.append(Comparison(f"{NAMES[metric]} at {size}: {first} {sign} {second}", a, b, metric, **decision))
        return found

    return Rule(comparisons)


def better(first, second, *metrics, sizes=None):
    """`first` is ahead of `second`, at every size and by every metric."""
    return _pairs(first, second, metrics, "better than", sizes=sizes)


def not_better(first, second, *metrics):
    """`first` is nowhere ahead of `second`."""
    return _pairs(first, second, metrics, "no better than", ahead=False)


def share_kept(first, second, metric, share):
    """`first` has at least this share of what `second` has."""
    return _pairs(first, second, [metric], f"has at least {share:.0%} of", test=lambda a, b: a[0] >= share * b[0])


def at_most_behind(first, second, metric, margin):
    """`first` is at most `margin` worse than `second`."""
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    return _pairs(first, second, [metric], f"at most {margin:g} behind", test=lambda a, b: (b[0] - a[0]) * sign <= margin)


def grows(metric, quants=("vanilla", "naive", "fence", "commit")):
    """Each bottleneck gets better from size to size."""

    def comparisons(view):
        found = []
        for quant in quants:
            for small, large in zip(view.sizes, view.sizes[1:], strict=False):
                a, b = view.figure(quant, large, metric), view.figure(quant, small, metric)
                if a and b:
                    found.append(Comparison(f"{NAMES[metric]} of {quant}: {large} better than {small}", a, b, metric))
        return found

    return Rule(comparisons)


def bounded(quant, metric, limit, above):
    """The figure is above, or else below, a limit at every size."""

    def comparisons(view):
        figures = [(size, view.figure(quant, size, metric)) for size in view.sizes]
        side = "above" if above else "below"
        return [
            Comparison(
                f"{quant} at {size}: {NAMES[metric]} {side} {limit:g}",
                a,
                None,
                metric,
                test=lambda a: a[0] > limit if above else a[0] < limit,
            )
            for size, a in figures
            if a
        ]

    return Rule(comparisons)


def both(*rules):
    """Combine several rules, as one family of tests."""
    return Rule(lambda view: [comparison for rule in rules for comparison in rule.comparisons(view)])


_IMAGES, _TEXT = ((1, "psnr"), (2, "psnr")), ((3, "levenshtein"),)
_MODELS = {1: "MLP", 2: "CNN", 3: "LSTM"}

CLAIMS = [
    *(
        Claim(
            "§2.2",
            f"Naive quantization causes a big drop in quality ({_MODELS[table]}).",
            f"vanilla is ahead of naive in {NAMES[metric]} at every size",
            table,
            better("vanilla", "naive", metric),
        )
        for table, metric in (*_IMAGES, *_TEXT)
    ),
    *(
        Claim(
            "§2.2, §2.3",
            f"Many latent values are near ½ when nothing pushes them away ({_MODELS[table]}).",
            "more than a tenth of naive's values before the threshold lie between ¼ and ¾",
            table,
            bounded("naive", "undecided", 0.1, above=True),
            has_own_metric=False,
        )
        for table in _MODELS
    ),
    *(
        Claim(
            "§2.3",
            f"With the fence loss, the latent is close to its quantized version ({_MODELS[table]}).",
            "fence's values are on average less than 0.05 away from the nearest bit",
            table,
            bounded("fence", "distance_to_bit", 0.05, above=False),
            has_own_metric=False,
        )
        for table in _MODELS
    ),
    *(
        Claim(
            "§5",
            f"The larger the model, the better the quality ({_MODELS[table]}).",
            f"each bottleneck gets better in {NAMES[metric]} from each size to the next",
            table,
            grows(metric),
        )
        for table, metric in (*_IMAGES, *_TEXT)
    ),
    Claim(
        "§5.1",
        "With 50 and 100 units, the MAE of commit is better.",
        "commit is ahead of vanilla and naive in MAE at 50 and 100",
        1,
        both(better("commit", "vanilla", "mae", sizes=(50, 100)), better("commit", "naive", "mae", sizes=(50, 100))),
    ),
    Claim(
        "Table 1",
        "Naive is ahead of vanilla and, at 50 and 100, of commit (by its PSNRs).",
        "naive is ahead of vanilla in PSNR at every size, and of commit at 50 and 100",
        1,
        both(better("naive", "vanilla", "psnr"), better("naive", "commit", "psnr", sizes=(50, 100))),
    ),
    *(
        Claim(
            f"§5, Figure {figure}",
            f"Reconstructions with commit look much like those with vanilla ({model}).",
            "commit has at least 90% of vanilla's SSIM at every size",
            table,
            share_kept("commit", "vanilla", "ssim", 0.9),
        )
        for table, figure, model in ((1, 3, "MLP"), (2, 4, "CNN"))
    ),
    *(
        Claim(
            "§1",
            f"Discrete codes without significant loss compared with continuous ones ({_MODELS[table]}).",
            f"commit is at most {margin} behind vanilla at every size",
            table,
            at_most_behind("commit", "vanilla", metric, 1),
        )
        for table, metric, margin in ((1, "psnr", "1 dB"), (2, "psnr", "1 dB"), (3, "levenshtein", "1 edit"))
    ),
    Claim(
        "§5.2",
        "At every size, the CNN with commit is an improvement over naive.",
        "commit is ahead of naive in PSNR and SSIM",
        2,
        better("commit", "naive", "psnr", "ssim"),
    ),
    Claim(
        "§5.2",
        "The fence loss does not show any improvement (CNN).",
        "fence is nowhere ahead of naive in PSNR or SSIM",
        2,
        not_better("fence", "naive", "psnr", "ssim"),
    ),
    Claim(
        "§5.3",
        "The LSTM with commit is better than naive in Levenshtein distance and BLEU.",
        "commit is ahead of naive in both at every size",
        3,
        better("commit", "naive", "levenshtein", "bleu_distance"),
    ),
    Claim(
        "§5.3",
        "Naive is better in cosine and Jaccard distance (LSTM).",
        "naive is ahead of commit in both at every size",
        3,
        better("naive", "commit", "cosine_distance", "jaccard_distance"),
    ),
    Claim(
        "Figure 5",
        "The fence loss helps the LSTM to a small extent.",
        "fence is ahead of naive in edits at every size",
        3,
        better("fence", "naive", "levenshtein"),
    ),
]


def views(table, tables):
    """{"own", "correct", "default": View} of a table. tables: {recipe's name: built rows}. If a row of the report's
    recipe was also trained on all images, that version is used.
    """

    def plain(name):
        return {
            (row["quant"], row["size"]): row
            for row in tables.get(name, ())
            if row["label"] == f"{row['quant']} {row['size']}"
        }

    def held_out(_):
        return table.held_out

    by_label = {row["label"]: row for row in tables.get("report", ())}
    report = {place: by_label.get(row["label"] + ALL_IMAGES, row) for place, row in plain("report").items()}
    return {
        "own": View(report, table.sizes, table.report_key),
        "correct": View(report, table.sizes, held_out),
        "default": View(plain("default"), table.sizes, held_out),
    }


def verdict(own, correct):
    """The verdict of the checks by the report's own metrics (None: it has none) and by correct ones; None without checks."""
    if not correct:
        return None
    outcomes = [check.holds for check in correct]
    if all(outcomes):
        return HOLDS
    if False not in outcomes:
        return UNDECIDED
    return OWN_METRIC_ONLY if own and all(check.holds for check in own) else FAILS


def judge(table, tables):
    """[(claim, verdict, {view's name: checks})] of the claims about a table for which there are figures."""
    seen, found = views(table, tables), []
    for claim in CLAIMS:
        if claim.table == table.number:
            checks = {name: claim.checks(view) for name, view in seen.items() if name != "own" or claim.has_own_metric}
            said = verdict(checks.get("own"), checks["correct"])
            if said:
                found.append((claim, said, checks))
    return found
