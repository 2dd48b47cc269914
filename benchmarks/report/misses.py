"""Why rows of recipe `report` miss the published figures: each explanation is backed by an experiment.

An experiment is a trial: the same row with one thing changed. Some trials are rows of the run itself (small CNNs on all
images), others are recorded in trials.json beside this file, which why_missed.py writes. The explanation is
computed: how far the change moves each figure towards the published one.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .agreement import WITHIN, agreement
from .claims import NAMES
from .rows import ALL_IMAGES, FULL, QUICK
from .significance import t_quantile

TRIALS = Path(__file__).parent / "trials.json"
EXPLAINED, PARTLY_EXPLAINED, NOT_EXPLAINED = "explained", "partly explained", "not explained"
MOST, SOME = 0.5, 0.1
MISSED = (
    "A figure by the report's definition is listed if the published one is not within the spread over our seeds, or if our "
    "row has a single seed and thus no spread. One kind of reason is a trial, the same row with one thing changed, from a "
    "list of experiments fixed beforehand (benchmarks/report/why_missed.py), and how much of the distance to the published "
    "figures the change closes, over all figures together, each in units of its published column's range. The other is "
    "that our figures lie between two runs of the authors themselves: the published one and another in their notebooks "
    f"(github.com/divamgupta/dnn_lossy_compression). A row is explained if a reason closes at least {MOST:.0%} of the "
    f"distance, partly explained from {SOME:.0%} on, and otherwise not explained. A figure that moves by no more than "
    "t(0.975) standard errors, or whose row has a single seed and thus no known error, counts as not moved. Command, "
    "machine and date of the recorded trials are in benchmarks/report/trials.json."
)
NEAR_CHANCE = 0.3
"""Within how many dB of the PSNR of unrelated images a row counts as chance."""
DIGITS = {"psnr": 2, "ssim": 3, "mse": 1, "mae": 1, "levenshtein": 2}


@dataclass(frozen=True)
class Trial:
    """A row with one thing changed. change: a description. start, end: {metric: mean by the report's definition} before the
    change and after it, start None for the row's own. seeds: how many the trial has. source: a description of its origin.
    error: {metric: standard error of the mean change} if both sides have the same seeds, more than one; None otherwise.
    epochs: for how many its row was trained; the trial says nothing about a row that was trained for longer or shorter.
    None: it does not depend on them.
    """

    table: int
    row: str
    change: str
    start: dict | None
    end: dict
    seeds: int
    source: str
    error: dict | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Figure:
    """One figure: metric, the published value, ours (mean, standard deviation or None), and its number of seeds."""

    metric: str
    published: float
    ours: tuple
    seeds: int

    def __str__(self):
        digits = DIGITS.get(self.metric, 3)
        spread = f" ± {self.ours[1]:.{digits}f}" if self.ours[1] is not None else ""
        return f"{NAMES[self.metric]} {self.published:.{digits}f}, ours {self.ours[0]:.{digits}f}{spread}"


@dataclass(frozen=True)
class Reason:
    """A trial, or the authors' second run: a short description, the full sentence, and the share of the distance to the
    published figures that it explains, at most 1.
    """

    what: str
    sentence: str
    share: float

    @property
    def explains(self):
        """Whether it explains a relevant share."""
        return self.share >= SOME


@dataclass(frozen=True)
class Miss:
    """A row with the figures that miss and the reasons examined. verdict: EXPLAINED, PARTLY_EXPLAINED or NOT_EXPLAINED.
    known: sentences on what needs no trial: how much shorter it was trained, and whether its PSNR is chance.
    """

    table: int
    label: str
    known: list
    figures: list
    reasons: list
    verdict: str


def misses(tables, published, amount):
    """[Miss] of all rows of recipe `report`. tables: {number: table}; published: {number: its results}; amount: of this
    recipe in the run. Empty for a quick run, whose figures mean nothing.
    """
    if amount == QUICK:
        return []
    found = []
    for number, kind in tables.items():
        rows = {
            row["label"]: row
            for row in published[number]["tables"].get("report", ())
            if row["published"] is not None and kind.report_key(row) in row
        }
        figures = {label: _figures(kind, row) for label, row in rows.items()}
        trials = [*_recorded(number), *_of_this_run(number, kind, rows)]
        for label, row in rows.items():
            missing = [one for one in figures[label] if _misses(kind, one)]
            if missing:
                chance = _chance(published[number], figures[label])
                # What is chance needs no other reason.
                open_ = [one for one in missing if not (chance and one.metric in ("psnr", "mse"))]
                reasons = _reasons(kind, row, open_, rows, figures, trials) if open_ else []
                verdict = _verdict(max((reason.share for reason in reasons), default=0.0)) if open_ else EXPLAINED
                found.append(Miss(number, label, [*_shorter(kind, row), *chance], missing, reasons, verdict))
    return found


def _verdict(share):
    """Return the verdict if the best reason explains this share of the distance."""
    return EXPLAINED if share >= MOST else PARTLY_EXPLAINED if share >= SOME else NOT_EXPLAINED


def counted(verdicts):
    """Return how many rows have each verdict, as text: "2 explained, 1 partly explained, 4 not explained"."""
    count = Counter(verdicts)
    return ", ".join(f"{count[one]} {one}" for one in (EXPLAINED, PARTLY_EXPLAINED, NOT_EXPLAINED) if count[one])


def _shorter(kind, row):
    full = {one.label: one.recipe.epochs for one in kind.rows("report", FULL)}.get(row["label"], row["epochs"])
    return [f"Trained for {row['epochs']} of the report's {full} epochs."] if row["epochs"] < full else []


def _chance(published, figures):
    """Whether an unrelated image scores the same PSNR by the report's definition."""
    (psnr,) = [one for one in figures if one.metric == "psnr"] or [None]
    if psnr is None or "unrelated" not in published.get("demonstration", ()):
        return []
    chance = published["demonstration"]["unrelated"]["report"]["psnr"]
    if max(abs(psnr.published - chance), abs(psnr.ours[0] - chance)) > NEAR_CHANCE:
        return []
    return [f"Unrelated images score {chance:.2f} dB by this definition: PSNR and MSE, published and ours, are at chance."]


def _figures(kind, row):
    ours = row[kind.report_key(row)]
    return [
        Figure(metric, published, ours[metric], row["seeds"])
        for metric, published in zip(kind.metrics, row["published"], strict=True)
    ]


def _misses(kind, figure):
    return agreement(figure.published, figure.ours, figure.seeds, _column(kind, figure)) != WITHIN


def _column(kind, figure):
    return [figures[kind.metrics.index(figure.metric)] for figures in kind.published.values()]


def _recorded(number):
    """The trials in trials.json for this table."""
    content = json.loads(TRIALS.read_text(encoding="utf-8"))
    return [
        Trial(
            number,
            trial["row"],
            trial["change"],
            trial["start"],
            trial["end"],
            trial["seeds"],
            "recorded",
            trial.get("error"),
            trial["epochs"],
        )
        for trial in content
        if trial["table"] == number
    ]


def _of_this_run(number, kind, rows):
    """Return rows of the run that are trials of others: the same on all images."""
    found = []
    for label, row in rows.items():
        whole = rows.get(label + ALL_IMAGES)
        if whole:
            figures = {metric: pair[0] for metric, pair in whole[kind.report_key(whole)].items()}
            change = (
                f"on {whole['training_images']:,} images for {whole['epochs']} epochs in place of "
                f"{row['training_images']:,} for {row['epochs']}"
            )
            found.append(Trial(number, label, change, None, figures, whole["seeds"], "this run", epochs=row["epochs"]))
    return found


def _reasons(kind, row, missing, rows, figures, trials):
    """[Reason] from the row's own trials (and, if none of them can be told from chance, those of the smallest row with its
    bottleneck) and from the authors' second run. rows, figures: {label: built row}, {label: its figures}.
    """
    label, smallest = row["label"], f"{row['quant']} {kind.sizes[0]}"
    # A trial that has both sides does not depend on how many images the row was trained on.
    own = [
        trial
        for trial in trials
        if _is_about(trial, row) and (trial.row == label or trial.start and label == trial.row + ALL_IMAGES)
    ]
    found = [_reason(kind, trial, missing) for trial in own]
    judged = label.endswith(ALL_IMAGES) or any(trial.error or row["seeds"] > 1 for trial in own)
    if not judged and row["size"] != kind.sizes[0] and smallest in rows:
        metrics = {figure.metric for figure in missing}
        of_smallest = [figure for figure in figures[smallest] if figure.metric in metrics]
        found += [
            _reason(kind, trial, of_smallest, f"As for {smallest}: ")
            for trial in trials
            if trial.row == smallest and _is_about(trial, rows[smallest])
        ]
    return found + _second_run(kind, row, missing)


def _is_about(trial, row):
    return trial.epochs in (None, row["epochs"])


def _second_run(kind, row, missing):
    """[Reason] if the authors' notebooks keep another run of the row: whether ours, by the definition that they used there,
    is between their two runs or agrees with this one.
    """
    other = kind.second_run.get((row["quant"], row["size"]))
    if other is None or row["label"] != f"{row['quant']} {row['size']}":
        return []
    ours, what = row[kind.second_run_key], f"the authors' second run, from their notebook{kind.second_run_words}"
    seconds = [Figure(one.metric, other[kind.metrics.index(one.metric)], ours[one.metric], row["seeds"]) for one in missing]
    as_good = all(
        (first.published - first.ours[0]) * (second.published - second.ours[0]) <= 0 or not _misses(kind, second)
        for first, second in zip(missing, seconds, strict=True)
    )
    verdict = "ours lie between the authors' two runs or agree with the second" if as_good else "does not explain it"
    return [Reason(what, f"{_capital(what)}: {'; '.join(map(str, seconds))}; {verdict}.", float(as_good))]


def _capital(words):
    return words[0].upper() + words[1:]


def _reason(kind, trial, figures, before=""):
    """Return the Reason that a trial is for these figures: the share that it closes of the sum of their distances to the
    published ones, each in units of the range of its published column.

    A move within chance, as far as that is known, closes nothing: see _is_beyond_chance.
    """
    farther, nearer, moves, moved = 0.0, 0.0, [], []
    for figure in figures:
        start, end = (figure.ours[0] if side is None else side[figure.metric] for side in (trial.start, trial.end))
        moved.append(_is_beyond_chance(trial, figure, end - start))
        column = _column(kind, figure)
        unit = max(column) - min(column)
        farther += abs(figure.published - start) / unit
        nearer += abs(figure.published - (end if moved[-1] else start)) / unit
        digits = DIGITS.get(figure.metric, 3)
        moves.append(f"{NAMES[figure.metric]} {start:.{digits}f} → {end:.{digits}f}")
    share = 1 - nearer / farther if farther else 0.0
    if set(moved) == {None}:
        verdict = "the row has one seed, so the change may be chance and does not explain it"
    elif not any(moved):
        verdict = "within chance variation over seeds, so it does not explain it"
    elif share >= SOME:
        verdict = f"closes {share:.0%} of the distance" + ("" if share >= MOST else " and leaves the rest unexplained")
    else:
        verdict = "does not explain it" + (" and moves away from the published figures" if share <= -SOME else "")
    what = before + (trial.change if before else _capital(trial.change))
    seeds = f"{trial.seeds} seed{'s' * (trial.seeds > 1)}"
    return Reason(trial.change, f"{what} ({trial.source}, {seeds}): {', '.join(moves)}; {verdict}.", share)


def _is_beyond_chance(trial, figure, move):
    """Whether a trial moves a figure by more than t(0.975) of its standard errors: from pairs of seeds, or from the spread
    of the row with these figures; None where neither is known.
    """
    if trial.error:
        return abs(move) > t_quantile(trial.seeds - 1) * trial.error[figure.metric]
    if figure.ours[1] is None:
        return None
    others = trial.seeds if trial.start else figure.seeds
    return abs(move) > t_quantile(figure.seeds - 1) * figure.ours[1] * math.sqrt(1 / others + 1 / trial.seeds)


def why_in_words(miss):
    """Return the verdict on a Miss and the reasons as one text, the best explanation first, then what else was tried."""
    reasons = sorted(miss.reasons, key=lambda reason: -reason.share)
    verdict = _capital(miss.verdict) + "."
    if miss.verdict == NOT_EXPLAINED:
        tried = ["Tried:", *(reason.sentence for reason in reasons)] if reasons else []
        return " ".join([*miss.known, verdict, *tried])
    said = [reason.sentence for reason in reasons if reason.explains]
    others = "; ".join(reason.what for reason in reasons if not reason.explains)
    return " ".join([*miss.known, verdict, *said, *([f"Also tried, without explaining it: {others}."] if others else [])])


def markdown(found):
    """Markdown: the rows of one table that miss, a bullet each."""
    if not found:
        return ""
    lines = [
        "## Rows that miss the published figures",
        "",
        MISSED,
        "",
        f"Verdicts: {counted(miss.verdict for miss in found)}.",
        "",
    ]
    return "\n".join(
        [*lines, *(f"- **{miss.label}** ({'; '.join(map(str, miss.figures))}): {why_in_words(miss)}" for miss in found), ""]
    )
