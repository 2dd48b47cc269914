"""Write the results once all rows are trained: results.csv, results.json, tables.md, report.html, and the figures."""

import csv
import io
import json
from dataclasses import asdict, dataclass

from tinyqae.checkpoint import write_atomically
from tinyqae.plots import commit_weights as draw_weights
from tinyqae.plots import encoder_gradients as draw_gradients

from . import encoder, misses, page, page_pictures, plots, ranking, weights
from .claims import judge
from .errata import errata
from .rows import QUICK, QUICK_MARK

COLUMNS = ("amount", "table", "row", "recipe", "seed", "kind", "metric", "value")
PUBLISHED = "published"
KINDS = {
    "test": "held_out",
    "train": "training",
    "test_before_threshold": "held_out_before_threshold",
    "same_images": "same_images",
    "rate": "rate",
    "code": "code",
}
"""The parts of a row's result whose figures are in the CSV file, and their names there."""


@dataclass
class Results:
    """All results of a run. tables: {number: table}. published: {number: what its JSON file holds}. raw: {(number,
    recipe, row's label): [result of each seed]}. claims: {number: claims.judge}. errata, misses: lists, from the modules of
    these names. about: the run's settings.
    """

    about: dict
    tables: dict
    published: dict
    raw: dict
    claims: dict
    errata: list
    misses: list

    @property
    def quick(self):
        """Whether this was a quick run, whose figures mean nothing."""
        return is_quick(self.about)


def is_quick(about):
    """Whether a run with these settings is a quick one."""
    return QUICK in about["amounts"].values()


def collect(data, found, about):
    """Return the Results of all jobs. data: {table: its data}; found: {job: its result}; about: "command", "amounts",
    "seeds", "date".
    """
    rows, raw = {}, {}
    for job, result in found.items():
        key = job.table.number, job.row.recipe.name, job.row.label
        rows[key] = job.row
        raw.setdefault(key, []).append(result)
    published, used = {}, {}
    for table, loaded in data.items():
        used[table.number] = part = table.part(loaded, is_quick(about))
        built = {}
        for (number, recipe, label), row in rows.items():
            if number == table.number:
                built.setdefault(recipe, []).append(table.build(row, raw[number, recipe, label]))
        settings = [result["settings"] for key, results in raw.items() if key[0] == table.number for result in results]
        published[table.number] = {
            "data": table.describe(part),
            "data_sha256": loaded.sha256,
            **about,
            "machine": "; ".join(sorted({one["backend"] for one in settings})),
            "kernels": ", ".join(sorted({one["kernels"] for one in settings})),
            "versions": settings[0]["versions"],
            "tables": built,
            **table.extras(part),
        }
    tables = {table.number: table for table in data}
    return Results(
        about,
        tables,
        published,
        raw,
        {number: judge(table, published[number]["tables"]) for number, table in tables.items()},
        errata(tables, published, used),
        misses.misses(tables, published, about["amounts"].get("report")),
    )


def write(results, out):
    """Write every file atomically; returns their names."""
    drawn = write_figures(results, out)
    files = {
        "report.html": page.as_html(results),
        "results.csv": as_csv(results),
        "results.json": as_json(results),
        "tables.md": "\n".join(as_markdown(results, number) for number in results.tables),
    }
    for name, text in files.items():
        write_atomically(out / name, lambda file, text=text: file.write(text.encode()))
    return [*files, *drawn]


def write_figures(results, out):
    """Write the report's Figures 3 to 5, and the pictures of rate and quality, the commit loss's weight and the encoder's
    gradients, as far as the run has their rows; returns the files' names.
    """
    written = [
        name
        for number, name in ((1, "figure3.png"), (2, "figure4.png"))
        if number in results.tables and draw(results, number, out / name)
    ]
    if 3 in results.tables:
        write_atomically(out / "figure5.md", lambda file: file.write(figure5(results).encode()))
        written.append("figure5.md")
    recipe = next(name for name in ("default", "report") if any(name == recipe for _, recipe, _ in results.raw))
    plots.rate_and_quality(page_pictures.rate_panels(results.tables, results.published, recipe), path=out / "rate.png")
    written.append("rate.png")
    for number, table in results.tables.items():
        weighted = weights.commit_weights(table, results.published[number])
        if weighted:
            draw_weights([one.weight for one in weighted], weights.panels(weighted), path=out / "weights.png")
            written.append("weights.png")
        if "gradients" in results.published[number]:
            draw_gradients(encoder.labelled(results.published[number]["gradients"]), path=out / "gradients.png")
            written.append("gradients.png")
    return written


def draw(results, number, path):
    """Draw a table's bottlenecks side by side, for the default recipe or else the report's. Returns whether that was
    possible; it needs all four.
    """
    for recipe in ("default", "report"):
        examples = {
            label: seeds[0]["examples"] for (n, name, label), seeds in results.raw.items() if (n, name) == (number, recipe)
        }
        if results.tables[number].draw(path, examples, results.published[number], results.quick):
            return True
    return False


def figure5(results):
    """Markdown: the report's two sentences, and held-out ones, as they are reconstructed."""
    lines = ["# Figure 5", ""] + [f"**{QUICK_MARK}**", ""] * results.quick
    for heading, headings, rows in page_pictures.sentences(3, results.tables[3], results):
        lines += [f"## {heading}", ""] if heading else []
        lines += ["| " + " | ".join(headings) + " |", "| --- |" + " --- |" * (len(headings) - 1)]
        lines += ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows] + [""]
    return "\n".join(lines)


def as_csv(results):
    """Return every figure of every seed on its own line, and the published ones, which have no seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (number, recipe, label), seeds in results.raw.items():
        start = (results.about["amounts"][recipe], number, label, recipe)
        for result in seeds:
            seed = result["settings"]["seed"]
            for kind, metric, value in _figures(result):
                writer.writerow((*start, seed, kind, metric, value))
        row = next(row for row in results.published[number]["tables"][recipe] if row["label"] == label)
        for metric, value in zip(results.tables[number].metrics, row["published"] or (), strict=False):
            writer.writerow((*start, "", PUBLISHED, metric, value))
    return text.getvalue()


def _figures(result):
    """(kind, metric, value) of every number that a row's result holds."""
    parts = {name: result[key] for key, name in KINDS.items() if key in result}
    parts |= {f"report_{name}": figures for name, figures in result.get("report_definitions", {}).items()}
    settings = result["settings"]
    parts["training_run"] = {
        "examples": settings["data"].get("training_images", settings["data"].get("training_sentences")),
        "epochs": settings["recipe"]["epochs"],
        "seconds": settings["seconds"]["training"],
    }
    return [
        (kind, metric, value)
        for kind, figures in parts.items()
        for metric, value in figures.items()
        if isinstance(value, int | float)
    ]


def as_json(results):
    """Return the tables as benchmarks/results/ has them, the claims with their checks, and the errata."""
    claims = [
        {
            "table": number,
            "place": claim.place,
            "claim": claim.words,
            "rule": claim.rule,
            "verdict": said,
            "checks": {view: [asdict(check) for check in checks] for view, checks in checked.items()},
        }
        for number, judged in results.claims.items()
        for claim, said, checked in judged
    ]
    return (
        json.dumps(
            {
                **results.about,
                "tables": {str(number): table for number, table in results.published.items()},
                "claims": claims,
                "errata": [asdict(erratum) for erratum in results.errata],
                "misses": [asdict(miss) for miss in results.misses],
            },
            indent=1,
        )
        + "\n"
    )


def as_markdown(results, number):
    """Return a table's page as Markdown."""
    table, published = results.tables[number], results.published[number]
    return "\n".join(
        [
            f"# {table.title}",
            "",
            *[f"**{QUICK_MARK}**", ""] * results.quick,
            f"Data: {published['data']} (SHA-256 of the content {published['data_sha256'][:16]}…). Seeds "
            f"{', '.join(map(str, published['seeds']))}, or the first of them for rows with fewer; ± is the standard "
            f"deviation over seeds. `{published['command']}`, {published['machine']}, kernels {published['kernels']}, "
            f"one thread per row, {published['date']}.",
            "",
            table.markdown(published),
            ranking.markdown(ranking.rankings(table, published)),
            misses.markdown([miss for miss in results.misses if miss.table == number]),
        ]
    )
