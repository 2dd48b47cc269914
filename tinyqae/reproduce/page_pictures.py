"""The parts of report.html that are pictures and sentences."""
from .. import plots
from . import encoder
from .claims import NAMES
from .html import chart, element, png, table
from .ranking import UNITS
from .text_table import FIGURE_5
from .weights import commit_weights, panels
from .weights import words as weights_in_words


def figures(results):
    """Figures 3 to 5: what comes back through every row, both recipes side by side."""
    parts = []
    for number, kind in results.tables.items():
        title = f"Figure {number + 2}: {kind.model}"
        if kind.items == "training_images":
            def strip(label, recipe, result):
                return [png(result["examples"], f"{label}, {recipe}", "strip")]
            recipes, rows = _by_label(number, results, strip, 1)
            original = png(results.published[number]["originals"], "original test images", "strip")
            parts += [element("h3", f"{title}, held-out images, first seed"),
                      table(["row", *(f"recipe {recipe}" for recipe in recipes)],
                            [["original", *(original for _ in recipes)], *rows])]
        else:
            parts += [element("h3", f"{title}, first seed"), *_sentences(number, kind, results)]
    return parts


def _by_label(number, results, cells, count):
    """(recipes, rows of a table with a line for each label): cells(label, recipe, result) gives `count` for each recipe."""
    first = {(recipe, label): seeds[0] for (n, recipe, label), seeds in results.raw.items() if n == number}
    recipes = list(dict.fromkeys(recipe for recipe, _ in first))
    return recipes, [[label, *(cell for recipe in recipes for cell in (
        cells(label, recipe, first[recipe, label]) if (recipe, label) in first else [""] * count))]
        for label in dict.fromkeys(label for _, label in first)]


def _sentences(number, kind, results):
    """The report's two sentences through every row, and held-out ones through those of one size."""
    own = [(recipe, label, seeds[0]) for (n, recipe, label), seeds in results.raw.items() if n == number]
    recipes, rows = _by_label(number, results, lambda label, recipe, result: result["figure5"], len(FIGURE_5))
    parts = [table(["row", *(f"“{sentence}”, {recipe}" for recipe in recipes for sentence in FIGURE_5)], rows)]
    for split, held_out in results.published[number]["held_out"].items():
        splits = {"length": ("length", "report"), "random": ("random",)}[split]
        rows = {(row["label"], recipe): row for recipe, rows in results.published[number]["tables"].items() for row in rows}
        chosen = [(recipe, label, result) for recipe, label, result in own
                  if rows[label, recipe]["split"] in splits and rows[label, recipe]["size"] == kind.figure_size]
        if chosen:
            parts += [element("h4", f"Held-out sentences, split {split}, hidden size {kind.figure_size}"),
                      table(["original", *(f"{label.split(',')[0]}, {recipe}" for recipe, label, _ in chosen)],
                            [[original, *(result["examples"][i] for _, _, result in chosen)]
                             for i, original in enumerate(held_out["shown"])])]
    return parts


def rate(results):
    """Held-out quality against bits, of the plain rows."""
    parts = [element("p", "Held-out quality of each bottleneck by the bits of its codes; bars are standard deviations.")]
    for recipe in dict.fromkeys(recipe for _, recipe, _ in results.raw):
        parts += [element("h3", f"Recipe {recipe}"),
                  chart(plots.rate_and_quality, f"recipe {recipe}: held-out quality against bits",
                        rate_panels(results.tables, results.published, recipe))]
    return parts


def rate_panels(tables, published, recipe):
    """What plots.rate_and_quality draws of a recipe: a panel for each table."""
    panels = []
    for number, kind in tables.items():
        metric = kind.metrics[0]
        points = [(row["quant"], row["bits"], *row[kind.held_out][metric])
                  for row in published[number]["tables"].get(recipe, ()) if row["label"] == f"{row['quant']} {row['size']}"]
        panels.append((f"{kind.model} on {published[number]['data'].split(';')[0].split(',')[0]}",
                       f"held-out {NAMES[metric]}" + ", dB" * (UNITS[metric] == "dB"), points))
    return panels


def weights(results):
    """The effect of the commit loss's weight: figures, and latent strips."""
    parts = []
    for number, kind in results.tables.items():
        found = commit_weights(kind, results.published[number])
        if found:
            strips = [(f"weight {one.weight:g}", results.raw[number, "default", one.label][0]["latents"]) for one in found]
            name = f"{kind.model} {kind.figure_size} on {results.published[number]['data'].split(';')[0]}"
            parts += [element("p", f"{name}, commit, recipe default but for the weight. {weights_in_words(found)}"),
                      chart(plots.commit_weights, f"{name}: figures against the weight of the commit loss",
                            [one.weight for one in found], panels(found)),
                      element("p", "The values before the threshold over the epochs, by weight (first seed):"),
                      chart(plots.latent_strips, f"{name}: latent values by epoch and weight", strips)]
    return parts or [element("p", "This run has no rows with other weights.")]


def gradients(results):
    """The encoder's gradients with and without straight-through."""
    parts = []
    for number, kind in results.tables.items():
        content = results.published[number].get("gradients")
        if content:
            compared = encoder.labelled(content)
            hidden, data = ",".join(map(str, encoder.HIDDEN)), results.published[number]["data"].split(";")[0]
            parts += [element("p", f"The {kind.model} {hidden} with commit, trained here for a moment, and one batch of "
                              f"{compared[0][1].images} training images of {data}: the gradient of the reconstruction loss "
                              "by the encoder's weights. Threshold: its true derivative. Straight-through: as if the "
                              "threshold were the identity. Flips: what turning each bit alone would change, computed "
                              "exactly, the yardstick. No threshold: the vanilla model with the same weights. Changes are "
                              "of the loss with the threshold."),
                      [element("p", encoder.words(label, one)) for label, one in compared],
                      chart(plots.encoder_gradients, "gradients of the encoder with and without straight-through", compared)]
    return parts or [element("p", "This run has no MLP.")]


def latents(results):
    """Strips of every row's values before the threshold."""
    words = ("The values before the threshold over the epochs (first seed): from bottom to top 0 to 1, dotted the "
             "threshold, the darker the more of them.")
    return [element("p", words), *_sheets(results, "latents", plots.latent_strips, "latent values by epoch")]


def curves(results):
    """Every row's loss terms by epoch."""
    words = ("The loss terms over the epochs (first seed), without their weights: the reconstruction, and dashed, on the "
             "axis at the right, what the bottleneck adds.")
    return [element("p", words), *_sheets(results, "history", plots.loss_sheet, "loss terms by epoch")]


def _sheets(results, part, draw, alt):
    """A chart with a panel for each row, of each table and recipe."""
    parts = []
    for number, kind in results.tables.items():
        for recipe in results.published[number]["tables"]:
            labelled = [(label, seeds[0][part]) for (n, name, label), seeds in results.raw.items()
                        if (n, name) == (number, recipe)]
            parts.append(element("figure", element("figcaption", f"{kind.title}, recipe {recipe}"),
                                 chart(draw, f"{kind.title}, {recipe}: {alt}", labelled)))
    return parts
