"""The sections of results/README.md about the report's tables, from results/report/results.json."""

import hashlib
import json
from collections import Counter
from pathlib import Path

from .claims import FAILS, HOLDS, NAMES, OWN_METRIC_ONLY, UNDECIDED
from .misses import NOT_EXPLAINED, counted
from .ranking import gain, rankings, words
from .rows import ALL_IMAGES, IN_FULL, TRANSFORM, TRANSFORM_IN_WORDS, plus_minus, summary
from .run import TABLES
from .text_table import WIDE

REPORT = Path(__file__).resolve().parents[1] / "results" / "report"
VERDICTS = {
    HOLDS: "hold",
    OWN_METRIC_ONLY: "hold only under its own metrics",
    FAILS: "do not hold",
    UNDECIDED: "are not decided (single seeds)",
}
MOST_NAMED = 3
EVERY_CODE = ", every code tried"
ALL_FIGURES = "[tables.md](report/tables.md)"


class Results:
    """results.json as the sections need it. folder: the folder that contains it."""

    def __init__(self, folder=REPORT):
        text = (folder / "results.json").read_bytes()
        self.content, self.sha256 = json.loads(text), hashlib.sha256(text).hexdigest()

    def rows(self, number, recipe):
        """{label: row} of a table and recipe."""
        return {row["label"]: row for row in self.content["tables"][str(number)]["tables"][recipe]}

    def provenance(self, *numbers):
        """Return the provenance of these figures: command, machine, date, hash of the file."""
        machines = sorted({self.content["tables"][str(number)]["machine"] for number in numbers})
        return (
            f"`{self.content['command']}` on {'; '.join(machines)}, {self.content['date']}; results.json {self.sha256[:12]}…"
        )

    def missed(self, number):
        """Describe how many rows miss the published figures; of a row that was also trained on all images, that version."""
        report = self.rows(number, "report")
        rows = [label for label, row in report.items() if row["published"] and label + ALL_IMAGES not in report]
        missed = [miss for miss in self.content["misses"] if miss["table"] == number and miss["label"] in rows]
        open_ = [miss["label"] for miss in missed if miss["verdict"] == NOT_EXPLAINED]
        if not missed:
            return "Every row matches the published figures within the spread over seeds."
        said = (
            f"{len(rows) - len(missed)} of {len(rows)} rows of recipe `report` match all published figures within the "
            f"spread over seeds. The others: {counted(miss['verdict'] for miss in missed)}"
        )
        named = f" ({', '.join(open_)})" if 0 < len(open_) <= MOST_NAMED else ""
        return f"{said}{named}; the reasons are in {ALL_FIGURES}."


def image_table(results, number):
    """Summarize Table 1 or 2: each row as published, by the report's definition, and by correct metrics for both recipes. If
    a row of recipe `report` was also trained on all images, that version is used.
    """
    kind, content = TABLES[number], results.content["tables"][str(number)]
    report, default = results.rows(number, "report"), results.rows(number, "default")
    report = {label: report.get(label + ALL_IMAGES, row) for label, row in report.items()}
    lines = [
        "| row | published PSNR | ours, report's definition | held-out PSNR / SSIM, recipe `report` | recipe `default` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for size in kind.sizes:
        for quant in ("vanilla", "naive", "fence", "commit"):
            a, b = report[f"{quant} {size}"], default[f"{quant} {size}"]
            published = f"{a['published'][0]:.2f}" if a["published"] else "none"
            lines.append(
                f"| {quant} {size} | {published} | {plus_minus(a[kind.report_key(a)]['psnr'])} | {_quality(a)} | "
                f"{_quality(b)} |"
            )
            for kind_of_row in (IN_FULL, TRANSFORM):
                if other := default.get(f"{quant} {size}{kind_of_row}"):
                    name = f"{quant} {size}" + TRANSFORM * (kind_of_row == TRANSFORM)
                    lines.append(f"| {name} ({_effort(other)}) | | | | {_quality(other)} |")
    effort = "; ".join(
        f"{size}: {_effort(report[f'commit {size}'])} and {_effort(default[f'commit {size}'])}" for size in kind.sizes
    )
    nonsense = content["demonstration"]["all_black" if number == 1 else "unrelated"]
    measured = "60,000 training images" if number == 1 else "first 1,000 training images"
    what = "an all-black image" if number == 1 else "an unrelated image"
    chance, correct = nonsense["report"]["psnr"], nonsense["correct"]["psnr_of_mean_mse"]
    return "\n".join(
        [
            *lines,
            "",
            f"{content['data'].split(';')[0]}. Report's definition: on its {measured}, with squared errors that wrap around "
            f"at 256 ({what} scores {chance:.1f} dB by it, computed correctly {correct:.1f}). Held-out: the 10,000 test "
            "images; PSNR (dB) and SSIM are means over images, ± the standard deviation over seeds. Images x epochs x seeds "
            f"of recipes `report` and `default` by size ({effort})."
            f"{TRANSFORM_IN_WORDS * any(label.endswith(TRANSFORM) for label in default)} "
            f"{results.missed(number)} {results.provenance(number)}.",
        ]
    )


def _quality(row):
    return f"{plus_minus(row['held_out']['psnr'])} / {row['held_out']['ssim'][0]:.2f}"


def _effort(row):
    examples = row.get("training_images", row.get("training_sentences"))
    return f"{examples:,} x {row['epochs']} x {row['seeds']}"


def text_table(results):
    """Summarize Table 3."""
    kind, content = TABLES[3], results.content["tables"]["3"]
    report, default = results.rows(3, "report"), results.rows(3, "default")
    lines = [
        "| row | bits | published edits | ours, report's definition | split by length, held-out, recipe `report` | recipe "
        "`default` | exact matches | random split, held-out, recipe `default` | exact matches |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in kind.sizes:
        for quant in ("vanilla", "naive", "fence", "commit"):
            label = f"{quant} {size}"
            a, length, random = report[label], default[label], default[f"{label}, random split"]
            lines.append(
                f"| {label} | {a['bits']} | {a['published'][0]:.2f} | "
                f"{plus_minus(a[kind.report_key(a)]['levenshtein'])} | {_edits(a)} | {_edits(length)} | "
                f"{_exact(length)} | {_edits(random)} | {_exact(random)} |"
            )
        for kind_of_row, name in ((WIDE, WIDE), (IN_FULL, "")):
            other = [default.get(f"commit {size}{split}{kind_of_row}") for split in ("", ", random split")]
            if all(other):
                figures = " | ".join(f"{_edits(row)} | {_exact(row)}" for row in other)
                lines.append(f"| commit {size}{name} ({_effort(other[0])}) | {other[0]['bits']} | | | | {figures} |")
    effort = "; ".join(
        f"{size}: {_effort(report[f'commit {size}'])} and {_effort(default[f'commit {size}'])}" for size in kind.sizes
    )
    return "\n".join(
        [
            *lines,
            "",
            f"{content['data']}. Edits: the mean Levenshtein distance in characters, ± the standard deviation over "
            "seeds. Report's definition: on its 100 sentences. Held-out, split by length: the distinct sentences of the "
            "last 20% of the lines, longer than those trained on. Sentences x epochs x seeds of recipes `report` and "
            f"`default` by size ({effort}). {results.missed(3)} {results.provenance(3)}.",
        ]
    )


def _edits(row):
    return plus_minus(row["test"]["levenshtein"])


def _exact(row):
    return f"{row['test']['exact_match_rate'][0]:.0%}"


def bottlenecks(results):
    """Which bottleneck wins: all of them at one size of each model."""
    tables = results.content["tables"]
    found = [ranking for number, kind in TABLES.items() for ranking in rankings(kind, tables[str(number)])]
    lines = [
        "| bottleneck | " + " | ".join(f"{one.what}, {NAMES[one.metric]}" for one in found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    places = [{place.name: place for place in [*one.places, *([one.vanilla] if one.vanilla else [])]} for one in found]
    for name in dict.fromkeys(name for column in places for name in column):
        cells = [_place(column.get(name)) for column in places]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    normalized = [sorted(name for name, place in column.items() if not place.normalized) for column in places]
    without = "; ".join(f"{one.what}: {', '.join(names)}" for one, names in zip(found, normalized, strict=True) if names)
    data = ", ".join(table["data"].split(";")[0].split(",")[0] for table in tables.values())
    return "\n".join(
        [
            *lines,
            "",
            f"{data}; recipe `default`, held-out, mean ± standard deviation over seeds; in brackets how much better "
            "(+) or worse (-) than commit, ± the standard error of the difference if both have several seeds. Codes are "
            f"batch-normalized except for {without}. {results.provenance(*TABLES)}.",
            "",
            *(f"- {words(one)}" for one in found),
        ]
    )


def _place(place):
    if place is None:
        return ""
    return plus_minus(place.figure[:2]) + (f" ({gain(place)})" if gain(place) else "")


def tried_row(run):
    """(label, row) of codes found by trying every one. run: results.json of examples/nearest_codes.py."""
    *_, values = run["psnr"].values()
    hidden = run["hidden"]
    figure = summary([{"psnr": value} for value in values], "psnr")
    return f"commit {','.join(map(str, hidden))}{EVERY_CODE}", {"bits": hidden[-1], "held_out": {"psnr": figure}}


def rivals(results, baselines, tried):
    """Each baseline with our rows beside it: [(baseline, its mean, its cell, [(label, bits, mean, cell)], whether more is
    better)]. Of images, ours have the same number of bits; of sentences, where none does, all sizes are listed. A row in
    full stands for one trained for less.
    """
    digits, photos, texts = (results.rows(number, "default") for number in (1, 2, 3))
    every_code_tried = dict(map(tried_row, tried))
    digits = digits | every_code_tried
    size_of = {TABLES[2].latent_size(size): size for size in TABLES[2].sizes}
    found = []
    for method, bits in dict.fromkeys((row["method"], row["bits"]) for row in baselines["rows"]):
        same = [row for row in baselines["rows"] if (row["method"], row["bits"]) == (method, bits)]
        figure = summary(same, "value")
        if same[0]["unit"] == "dB":
            plain = f"commit {size_of.get(bits)}"
            mlps = (f"commit {hidden}{bits}" for hidden in ("", "256,", "512,", "512,256,"))
            images = digits | photos
            every_code = (label for label, row in every_code_tried.items() if row["bits"] == bits)
            labels = (*mlps, *every_code, _longest(plain, images), plain + TRANSFORM)
            ours = [(label, images[label]["held_out"]["psnr"]) for label in labels if label in images]
        else:
            split = ", random split" if "random" in method else ""
            ours = [
                (label, texts[label]["test"]["levenshtein"])
                for size in TABLES[3].sizes
                for label in (_longest(f"commit {size}{split}", texts), f"commit {size}{split}{WIDE}")
                if label in texts
            ]
        rows = digits | photos | texts
        found.append(
            (
                same[0],
                figure[0],
                plus_minus(figure),
                [(label, rows[label]["bits"], value[0], plus_minus(value)) for label, value in ours],
                same[0]["unit"] == "dB",
            )
        )
    return found


def _longest(label, rows):
    """The label of the row in full, where there is one."""
    return label + IN_FULL if label + IN_FULL in rows else label


def _short(label):
    return label.replace(", random split", "")


def baselines(results, content, tried):
    """Return the table of baselines. content: of baselines.json; tried: runs, see tried_row."""
    numbers = " and ".join(f"{run['numbers_stored']:,}" for run in tried)
    commands = " and ".join(f"`{run['command']}`" for run in tried)
    lines = ["| data | bits | baseline | held-out | commit (bits): held-out |", "| --- | --- | --- | --- | --- |"]
    for baseline, _, cell, ours, _ in rivals(results, content, tried):
        beside = "; ".join(f"{_short(label).removeprefix('commit ')} ({bits}): {value}" for label, bits, _, value in ours)
        lines.append(
            f"| {baseline['data']} | {baseline['bits']} | {baseline['method']} | {cell} {baseline['unit']} | {beside} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "PSNR in dB (higher is better) or edits in characters (lower is better), means ± standard deviations over "
            "seeds; commit with recipe `default`: on MNIST with and without hidden layers; on CIFAR-10 the CNN, and the "
            "model that starts from the transform code (transform). Every code tried: "
            "[nearest_codes.py](../../examples/nearest_codes.py), whose decoders store "
            f"{numbers} numbers, k-means {content['rows'][0]['numbers_stored']:,} ({commands}, {tried[-1]['date']}). "
            f"`{content['command']}`, "
            f"{content['date']}, k-means with seeds 0 to {content['seeds'] - 1}; [decoder sizes](baselines.md).",
        ]
    )


def where_baselines_win(results, content, tried):
    """Return the baselines that are ahead of commit, a line for each, with our first row and our best of many. Arguments as
    in baselines.
    """
    said = []
    for baseline, mean, cell, ours, more in rivals(results, content, tried):
        behind = [one for one in ours if (one[2] < mean) == more]
        if len(behind) > MOST_NAMED:
            behind = [behind[0], (max if more else min)(behind, key=lambda one: one[2])]
        wide = next(
            (
                (
                    f"; LSTMs with{WIDE[1:]} reach {value} with {bits} bits"
                    if WIDE in label
                    else f"; trained from there, it reaches {value}"
                )
                + " (one seed)" * ("±" not in value)
                for label, bits, figure, value in ours
                if label.endswith((WIDE, TRANSFORM)) and (figure < mean) != more
            ),
            "",
        )
        if behind:
            *others, last = (
                f"{value} ({_short(label)}" + (")" if bits == baseline["bits"] else f", {bits} bits)")
                for label, bits, _, value in behind
            )
            beside = f"{', '.join(others)} and {last}" if others else last
            said.append(
                f"- {baseline['method']} ({baseline['bits']} bits): {cell} {baseline['unit']}, against {beside}{wide}"
            )
    return (
        "Simple baselines are ahead of commit in some cases:\n\n" + "\n".join(said)
        if said
        else ("Commit is ahead of every baseline.")
    )


def claims(results):
    """Describe how many of the report's claims hold."""
    count = Counter(claim["verdict"] for claim in results.content["claims"])
    said = ", ".join(f"{count[verdict]} {words}" for verdict, words in VERDICTS.items() if count[verdict])
    return (
        f"Of {sum(count.values())} checks of the report's claims, {said}. Each is listed with its rule and numbers in "
        "[report.html](report/report.html), the page that `python -m benchmarks.report` writes; "
        "every row and seed is in [rows.zip](report/rows.zip)."
    )
