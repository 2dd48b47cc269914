"""Content of the sections of report.html that are pictures and sentences.

Each function listed in page.py takes outputs.Results and returns the variables of the template with its name.
"""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from tinyqae.plots import commit_weights as draw_weights
from tinyqae.plots import encoder_gradients as draw_gradients
from tinyqae.plots import latent_strips

from . import encoder, plots
from .claims import NAMES
from .rows import QUANTS
from .text_table import FIGURE_5
from .weights import commit_weights, panels
from .weights import words as weights_in_words

COLOURS = 128


@dataclass(frozen=True)
class Picture:
    """A picture embedded in the page. png: in base64."""

    png: str
    alt: str


def chart(draw, alt, *arguments):
    """Return the Picture that draw(*arguments, path=file) writes, reduced to COLOURS colors: a third of the bytes."""
    file, smaller = io.BytesIO(), io.BytesIO()
    draw(*arguments, path=file)
    picture = Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(smaller, "PNG", optimize=True)
    return Picture(base64.b64encode(smaller.getvalue()).decode(), alt)


def figures(results):
    """Figures 3 to 5: the reconstructions by every row, both recipes side by side."""
    found = []
    for number, kind in results.tables.items():
        of_images = kind.items == "training_images"
        title = f"Figure {number + 2}: {kind.model}{', held-out images' if of_images else ''}, first seed"
        if of_images:
            recipes, rows = _by_label(
                number, results, lambda label, recipe, result: [Picture(result["examples"], f"{label}, {recipe}")], 1
            )
            original = Picture(results.published[number]["originals"], "original test images")
            found.append(
                {
                    "title": title,
                    "headings": [f"recipe {recipe}" for recipe in recipes],
                    "strips": [["original", *(original for _ in recipes)], *rows],
                }
            )
        else:
            found.append({"title": title, "sentences": sentences(number, kind, results)})
    return {"figures": found}


def _by_label(number, results, cells, count):
    """Return (recipes, rows of a table, one for each label); cells(label, recipe, result) gives `count` for each recipe."""
    first = {(recipe, label): seeds[0] for (n, recipe, label), seeds in results.raw.items() if n == number}
    recipes = list(dict.fromkeys(recipe for recipe, _ in first))
    return recipes, [
        [
            label,
            *(
                cell
                for recipe in recipes
                for cell in (cells(label, recipe, first[recipe, label]) if (recipe, label) in first else [""] * count)
            ),
        ]
        for label in dict.fromkeys(label for _, label in first)
    ]


def sentences(number, kind, results):
    """[(heading or None, headings of the columns, rows)]: the report's two sentences through every row, and held-out ones
    through those of one size.
    """
    own = [(recipe, label, seeds[0]) for (n, recipe, label), seeds in results.raw.items() if n == number]
    recipes, rows = _by_label(number, results, lambda label, recipe, result: result["figure5"], len(FIGURE_5))
    found = [(None, ["row", *(f"“{sentence}”, {recipe}" for recipe in recipes for sentence in FIGURE_5)], rows)]
    for split, held_out in results.published[number]["held_out"].items():
        splits = {"length": ("length", "report"), "random": ("random",)}[split]
        rows = {(row["label"], recipe): row for recipe, rows in results.published[number]["tables"].items() for row in rows}
        chosen = [
            (recipe, label, result)
            for recipe, label, result in own
            if rows[label, recipe]["split"] in splits and rows[label, recipe]["size"] == kind.figure_size
        ]
        if chosen:
            found.append(
                (
                    f"Held-out sentences, split {split}, hidden size {kind.figure_size}",
                    ["original", *(f"{label.split(',')[0]}, {recipe}" for recipe, label, _ in chosen)],
                    [
                        [original, *(result["examples"][i] for _, _, result in chosen)]
                        for i, original in enumerate(held_out["shown"])
                    ],
                )
            )
    return found


def rate(results):
    """Held-out quality against bits, of the plain rows."""
    return {
        "charts": [
            (
                recipe,
                chart(
                    plots.rate_and_quality,
                    f"recipe {recipe}: held-out quality against bits",
                    rate_panels(results.tables, results.published, recipe),
                ),
            )
            for recipe in dict.fromkeys(recipe for _, recipe, _ in results.raw)
        ]
    }


def rate_panels(tables, published, recipe):
    """Return what plots.rate_and_quality draws for a recipe: a panel for each table, with the report's four bottlenecks,
    which have rows of several sizes.
    """
    panels = []
    for number, kind in tables.items():
        metric, of_images = kind.metrics[0], kind.items == "training_images"
        points = [
            (row["quant"], row["bits"], *row[kind.held_out][metric])
            for row in published[number]["tables"].get(recipe, ())
            if row["quant"] in QUANTS and row["label"] == f"{row['quant']} {row['size']}"
        ]
        quality = (
            f"held-out {NAMES[metric]}, dB (higher is better)"
            if of_images
            else (f"{NAMES[metric]} per held-out sentence (lower is better)")
        )
        panels.append(
            (
                f"{kind.model} on {published[number]['data'].split(';')[0].split(',')[0]}",
                "image" if of_images else "sentence",
                quality,
                points,
            )
        )
    return panels


def weights(results):
    """The effect of the commit loss's weight: figures, and latent strips."""
    found = []
    for number, kind in results.tables.items():
        weighted = commit_weights(kind, results.published[number])
        if weighted:
            name = f"{kind.model} {kind.figure_size} on {results.published[number]['data'].split(';')[0]}"
            strips = [
                (f"weight {one.weight:g}", results.raw[number, "default", one.label][0]["latents"]) for one in weighted
            ]
            naive = results.raw.get((number, "default", f"naive {kind.figure_size}"))
            if naive:
                strips.insert(0, ("naive, its own settings", naive[0]["latents"]))
            found.append(
                {
                    "name": name,
                    "words": weights_in_words(weighted),
                    "figures": chart(
                        draw_weights,
                        f"{name}: figures against the weight of the commit loss",
                        [one.weight for one in weighted],
                        panels(weighted),
                    ),
                    "latents": chart(latent_strips, f"{name}: latent values by epoch and weight", strips),
                }
            )
    return {"models": found}


def gradients(results):
    """The encoder's gradients with and without straight-through."""
    found = []
    for number, kind in results.tables.items():
        content = results.published[number].get("gradients")
        if content:
            compared = encoder.labelled(content)
            found.append(
                {
                    "model": kind.model,
                    "hidden": ",".join(map(str, encoder.HIDDEN)),
                    "images": compared[0][1].images,
                    "data": results.published[number]["data"].split(";")[0],
                    "words": [encoder.words(label, one) for label, one in compared],
                    "chart": chart(draw_gradients, "gradients of the encoder with and without straight-through", compared),
                }
            )
    return {"models": found}


def latents(results):
    """Strips of every row's values before the threshold."""
    return {"sheets": _sheets(results, "latents", latent_strips, "latent values by epoch")}


def curves(results):
    """Every row's loss terms by epoch."""
    return {"sheets": _sheets(results, "history", plots.loss_sheet, "loss terms by epoch")}


def _sheets(results, part, draw, alt):
    """[(caption, chart with a panel for each row)] of each table and recipe."""
    found = []
    for number, kind in results.tables.items():
        for recipe in results.published[number]["tables"]:
            labelled = [
                (label, seeds[0][part]) for (n, name, label), seeds in results.raw.items() if (n, name) == (number, recipe)
            ]
            found.append((f"{kind.title}, recipe {recipe}", chart(draw, f"{kind.title}, {recipe}: {alt}", labelled)))
    return found
