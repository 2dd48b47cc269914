"""The recorded trials behind the sentences that say why rows of recipe `report` miss the published figures.

    python -m benchmarks.report.why_missed mlp --rows "vanilla 100" "commit 50"      Keras' Adam, and fewer epochs
    python -m benchmarks.report.why_missed cnn --rows "vanilla small"                originals against JPEGs of quality 75
    python -m benchmarks.report.why_missed lstm-longer --rows "vanilla 32"           more epochs than the row's
    python -m benchmarks.report.why_missed lstm-edition --rows "vanilla 32"          on the report's own sentences
    python -m benchmarks.report.why_missed lstm-shorter --rows "commit 128"          the same, two fifths of the row's epochs

Each trains the rows with one thing changed and measures them by the report's definition. Writes the means over --seeds to
trials.json beside this file, replacing the results of an earlier call of the same experiment for rows with as many epochs;
misses.py turns them into sentences. `--quick` is a smoke test on a few examples and writes nothing.
"""

import argparse
import io
import json
import math
import shlex
import statistics
import sys
import time
from dataclasses import replace

import numpy as np
from PIL import Image

from tinyqae import backend, fit
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.data import split_sentences
from tinyqae.optim import Adam

from .image_metrics import report_image_metrics
from .misses import TRIALS
from .rows import FULL, REDUCED
from .run import TABLES
from .text_table import measure_as_report

FEWER_EPOCHS = 8
"""For MLPs, whose rows have 10."""
MORE_EPOCHS = {50: 65, 5: 10}
"""For LSTMs, by those of the row: a little longer than the report, and twice as long as the largest in a reduced run."""
LONGEST = 22
"""Characters of the longest sentence that the report's models read: its input is 22 x 38."""
FIRST, LAST = "when will you be back", "who else is out there"
"""Of the hundred sentences of the quantized rows, which are kept in the authors' notebooks. In the report's edition of the
file they are the lines from index 45,100 on, and training ended before index 40,000.
"""
ORIGINALS, JPEG_QUALITY, CNN_EPOCHS = 4000, 75, 40
"""How many of the training images are originals in the CIFAR-10 proxy, the JPEG quality of the others, and the number of
epochs: for about as many steps as in the report.
"""


QUICK_ITEMS = {1: 200, 2: 20, 3: 200}
"""The number of examples that a quick run trains on, by the number of the table."""


class KerasAdam(Adam):
    """Adam as in Keras 2.3: p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps), with eps added to the root of v
    and not to that of v / (1 - beta2^t).
    """

    def update(self, p, g, lr, m, v):
        """m and v are the running means of g and g^2."""
        m[...] = self.beta1 * m + (1 - self.beta1) * g
        v[...] = self.beta2 * v + (1 - self.beta2) * g**2
        step = lr * math.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        p -= step * m / (backend.xp.sqrt(v) + self.eps)


def mlp(table, row, seed, data):
    """{change: figures of the row with it}: Keras' Adam, and fewer epochs."""
    recipe, images = row.recipe, data.train_images
    keras = _trained(row, recipe, images, seed, KerasAdam(recipe.lr, **recipe.optimizer_arguments))
    shorter = _trained(row, recipe.override(epochs=FEWER_EPOCHS), images, seed)
    return {
        "Adam's epsilon where Keras has it": _image_figures(table, row, keras, images),
        f"{FEWER_EPOCHS} epochs in place of {recipe.epochs}": _image_figures(table, row, shorter, images),
    }


def _trained(row, recipe, examples, seed, optimizer=None):
    """Train a model by the recipe on as many of the examples as the row. optimizer: None for the recipe's own."""
    examples = examples[: row.items]
    model = recipe.make_model(examples, seed)
    fit(model, examples, optimizer or recipe.make_optimizer(), **recipe.fit_arguments(), seed=seed, progress=False)
    return model


def _image_figures(table, row, model, images):
    measured = table.measured_on(images, row)
    truncated = (model.decode_floats(model.encode(measured)) * 255).astype(np.uint8)
    figures = report_image_metrics(measured, truncated, table.pooling)
    return {metric: figures[metric] for metric in table.metrics}


def cnn(table, row, seed, data):
    """{"JPEGs", "originals": figures} of the row trained on the same few images, both measured on the originals."""
    originals = data.train_images[:ORIGINALS]
    jpegs = np.stack([_as_jpeg(image) for image in originals])
    recipe = row.recipe.override(epochs=CNN_EPOCHS)
    return {
        name: _image_figures(table, row, _trained(row, recipe, images, seed), originals)
        for name, images in (("JPEGs", jpegs), ("originals", originals))
    }


def _as_jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


def lstm_longer(table, row, seed, data):
    """{"all", "more": figures} of the row trained for its own number of epochs, and for more."""
    split, longer = split_sentences(data, "report"), row.recipe.override(epochs=MORE_EPOCHS[row.recipe.epochs])
    return {
        "all": _sentence_figures(table, row, row.recipe, split, seed),
        "more": _sentence_figures(table, row, longer, split, seed),
    }


def lstm_edition(table, row, seed, data):
    """{change: figures} of the row measured on the report's own sentences, as far as this edition has them, and trained on
    the same share of the lines before them as in the report: quantized rows are thus measured on the report's sentences,
    vanilla on the hundred lines at the corresponding position. All are padded to the report's 22 characters.
    """
    lines = data.sentences
    first, last = lines.index(FIRST), len(lines) - 1 - lines[::-1].index(LAST)
    border = first * 40_000 // 45_100
    report = {"vanilla": lines[border + 1 : border + 101], "quantized": lines[first : last + 1]}
    split = split_sentences(data, "report")
    recipe = replace(row.recipe, model={**row.recipe.model, "pad_to": LONGEST})
    which = "vanilla" if recipe.quant == "vanilla" else "quantized"
    length, rows_length = (statistics.mean(map(len, sentences[which])) for sentences in (report, split.report))
    if which == "quantized":
        measured = f"measured on the report's own sentences, index {first:,} to {last:,} in this edition of the file"
    else:
        measured = f"measured from index {border + 1:,} on, which by proportion is the report's 40,001"
    change = (
        f"{measured} ({length:.1f} characters in place of {rows_length:.1f}), and trained on the first {border:,} "
        "lines accordingly"
    )
    return {change: _sentence_figures(table, row, recipe, replace(split, train=lines[:border], report=report), seed)}


def lstm_shorter(table, row, seed, data):
    """{"all", "fewer": figures} of the row on the report's own sentences, with all its epochs and two fifths of them."""
    fewer = replace(row, recipe=row.recipe.override(epochs=row.recipe.epochs * 2 // 5))
    figures = {}
    for name, changed in (("all", row), ("fewer", fewer)):
        (figures[name],) = lstm_edition(table, changed, seed, data).values()
    return figures


def _sentence_figures(table, row, recipe, split, seed):
    model = _trained(row, recipe, list(split.train), seed)
    figures = measure_as_report(model, split.report)["vanilla" if recipe.quant == "vanilla" else "quantized"]
    return {metric: figures[metric] for metric in table.metrics}


EXPERIMENTS = {
    "mlp": (1, mlp),
    "cnn": (2, cnn),
    "lstm-longer": (3, lstm_longer),
    "lstm-edition": (3, lstm_edition),
    "lstm-shorter": (3, lstm_shorter),
}
"""{name: (number of the table, experiment)}."""


def trials_of(name, row, by_change):
    """The trials of a row as trials.json holds them. by_change: {change: mean figures}."""
    epochs = row.recipe.epochs
    # The CNNs of that experiment have their own number of epochs.
    about = {"row": row.label, "epochs": None if name == "cnn" else epochs}
    both_sides = {
        "cnn": f"trained on {ORIGINALS:,} originals in place of the same images as JPEGs of quality {JPEG_QUALITY}",
        "lstm-longer": f"{MORE_EPOCHS.get(epochs)} epochs in place of {epochs}",
        "lstm-shorter": f"{epochs * 2 // 5} epochs in place of {epochs}, both measured on the report's own sentences",
    }
    if name in both_sides:
        start, end = by_change.values()
        return [{**about, "change": both_sides[name], "start": start, "end": end}]
    return [{**about, "change": change, "start": None, "end": figures} for change, figures in by_change.items()]


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report.why_missed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--rows", nargs="+", required=True, metavar="ROW", help='labels, such as "vanilla 100"')
    parser.add_argument("--seeds", type=program.non_negative_int, nargs="+", default=[0, 1])
    parser.add_argument("--reduced", action="store_true", help="rows as in the report's --reduced runs")
    parser.add_argument("--quick", action="store_true", help="smoke test: use a few examples, write nothing")
    parser.add_argument("--data-dir", metavar="DIR")
    args = parser.parse_args(argv)
    backend.use("numpy")
    backend.use_threads(1)
    number, run = EXPERIMENTS[args.experiment]
    table = TABLES[number]
    data = table.load(args.data_dir, True)
    rows = {row.label: row for row in table.rows("report", REDUCED if args.reduced else FULL)}
    if args.quick:
        rows = {label: replace(row, items=QUICK_ITEMS[number]) for label, row in rows.items()}
    about = {"experiment": args.experiment, "table": number}
    made = {
        "seeds": len(args.seeds),
        "data": data.name,
        "machine": backend.describe(),
        "source": f"python -m benchmarks.report.why_missed {shlex.join(argv)}, {time.strftime('%Y-%m-%d')}",
    }
    for label in args.rows:
        found = []
        for seed in args.seeds:
            found.append(run(table, rows[label], seed, data))
            print(label, seed, found[-1], flush=True)
        means = {
            change: {metric: statistics.mean(one[change][metric] for one in found) for metric in table.metrics}
            for change in found[0]
        }
        trials = trials_of(args.experiment, rows[label], means)
        if trials[0]["start"] and len(found) > 1:
            trials[0]["error"] = paired_error(table, found)
        if not args.quick:
            record(label, [{**about, **trial, **made} for trial in trials])


def paired_error(table, found):
    """{metric: standard error of the mean change}. found: for each seed the figures of both sides of a trial."""
    changes = {
        metric: [end[metric] - start[metric] for start, end in (sides.values() for sides in found)]
        for metric in table.metrics
    }
    return {metric: statistics.stdev(values) / math.sqrt(len(values)) for metric, values in changes.items()}


def record(label, trials):
    """Write the trials of a row, replacing those of an earlier call of the same experiment."""
    replaced = trials[0]["experiment"], label, trials[0]["epochs"]
    kept = [
        one
        for one in json.loads(TRIALS.read_text(encoding="utf-8"))
        if (one["experiment"], one["row"], one["epochs"]) != replaced
    ]
    ordered = sorted([*kept, *trials], key=lambda one: list(EXPERIMENTS).index(one["experiment"]))
    write_atomically(TRIALS, lambda file: file.write((json.dumps(ordered, indent=1) + "\n").encode()))


if __name__ == "__main__":
    main()
