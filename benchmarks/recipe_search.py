"""The hyperparameter searches behind recipe `default`, on the validation split of the training data.

    python benchmarks/recipe_search.py mlp      MLPs with hidden layers, on MNIST; twenty minutes on one core
    python benchmarks/recipe_search.py lstm     the LSTM of 128 bits, on Anki sentences; half an hour on one core
    python benchmarks/recipe_search.py transform    the transform code of 256 bits, on CIFAR-10; five minutes on one core

A trial trains commit with one seed for fewer epochs than the recipe does, and measures on the validation split; the held-out
data are not used. An interrupted search resumes. Writes benchmarks/results/recipe_search.json and .md.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from tinyqae import Adam, Commit, MLPAutoencoder, backend, fit, load_anki, load_cifar10, load_mnist, split_sentences
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.metrics.image import psnr
from tinyqae.metrics.rate import code_usage
from tinyqae.metrics.text import levenshtein
from tinyqae.recipes import anki_lstm, cifar_cnn

RESULTS = Path(__file__).parent / "results"


LSTM_BEFORE = {"units": 96, "lr": 1e-2, "weight": 0.2, "splice": 0.5, "noise": 0.0}
TRANSFORM_BEFORE = {"lr": 1e-3, "weight": 0.003, "correction": [48, 64, 64]}


class MLPSearch:
    """Depth: batch norm in hidden layers, learning rate and weight of the commitment loss."""

    title = "MLPs with hidden layers, on MNIST"
    epochs, batch_size, held_back = 10, 128, 5000
    before = (False, 4e-3, 1.0)
    normalized = (True, 4e-3, 1.0)
    trials = [
        dict(zip(("hidden", "normalized", "lr", "weight"), ([*middle, bits], *settings), strict=True))
        for middle, bits, tried in (
            ([16], 10, (before, normalized, (True, 1e-2, 0.5))),
            ([256], 10, (before, normalized, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
            ([256], 50, (before, normalized, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
            ([256], 100, (before, normalized, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
            ([512, 256], 10, (before, normalized, (True, 2e-3, 1.0), (True, 5e-3, 0.5), (True, 5e-3, 0.25))),
            ([1024, 512, 256], 10, (before, (True, 2.5e-3, 0.125))),
            ([64, 32, 16], 10, (before, normalized, (True, 3e-3, 1.0), (True, 2.5e-3, 0.125))),
        )
        for settings in tried
    ]
    columns = {
        "network": lambda one: f"784-{'-'.join(map(str, one['hidden']))}",
        "batch norm in hidden layers": lambda one: "yes" if one["normalized"] else "no",
        "learning rate": lambda one: f"{one['lr']:g}",
        "weight of the commitment loss": lambda one: f"{one['weight']:g}",
        "PSNR, dB": lambda one: f"{one['psnr']:.2f}",
        "dead bits": lambda one: str(one["dead_bits"]),
        "mean entropy per bit": lambda one: f"{one['mean_bit_entropy']:.2f}",
    }
    remark = "The first row of each network is the previous recipe."

    def __init__(self, args):
        data = load_mnist(args.data_dir)
        self.data = f"{data.name}, measured on the last {self.held_back:,} training images"
        self.training, self.validation = data.train_images[: -self.held_back], data.train_images[-self.held_back :]

    def trial(self, hidden, normalized, lr, weight):
        """Train with these settings and return the figures."""
        model = MLPAutoencoder(
            Commit(weight=weight, signed=True),
            hidden,
            normalize_hidden=normalized,
            normalize_latent=True,
            mean_image=self.training.mean(axis=0) / 255,
        )
        fit(
            model,
            self.training,
            Adam(lr),
            epochs=self.epochs,
            batch_size=self.batch_size,
            schedule="cosine",
            progress=sys.stderr.isatty(),
            description="-".join(map(str, hidden)),
        )
        usage = code_usage(model.latent(self.validation))
        return {
            "psnr": round(float(psnr(self.validation, model.decode(model.encode(self.validation))).mean()), 3),
            "dead_bits": usage["dead_bits"],
            "mean_bit_entropy": round(usage["mean_bit_entropy"], 3),
        }


class LSTMSearch:
    """Width, learning rate, weight of the commitment loss and the rest of the recipe, one change at a time."""

    title = "The LSTM of 128 bits, on Anki sentences"
    epochs, hidden = 12, 64
    trials = [
        LSTM_BEFORE | change
        for change in ({}, {"units": 192}, {"units": 256, "lr": 5e-3}, {"weight": 0.05}, {"splice": 0.0}, {"noise": 0.1})
    ]
    columns = {
        "units": lambda one: str(one["units"]),
        "learning rate": lambda one: f"{one['lr']:g}",
        "weight of the commitment loss": lambda one: f"{one['weight']:g}",
        "spliced sentences": lambda one: f"{one['splice']:.0%}",
        "noise on the code": lambda one: f"{one['noise']:g}",
        "edits": lambda one: f"{one['edits']:.2f}",
        "exact matches": lambda one: f"{one['exact']:.0%}",
        "mean entropy per bit": lambda one: f"{one['mean_bit_entropy']:.2f}",
    }
    remark = (
        "The first row is the recipe. The gain from a wide LSTM, at three to seven times the training time, is in "
        "Table 3: commit, 256 units."
    )

    def __init__(self, args):
        data = split_sentences(load_anki(args.data_dir), "length")
        self.recipe = replace(anki_lstm("default", "commit", self.hidden), epochs=self.epochs)
        self.training, self.validation = self.recipe.split(data.train)
        self.data = f"{data.name}, measured on {len(self.validation):,} of the training sentences"

    def trial(self, units, lr, weight, splice, noise):
        """Train with these settings and return the figures."""
        recipe = replace(
            self.recipe,
            lr=lr,
            bottleneck={**self.recipe.bottleneck, "weight": weight, "noise": noise},
            model={**self.recipe.model, "units": units, "splice": splice},
        )
        model = recipe.make_model(self.training, seed=0)
        fit(
            model,
            self.training,
            recipe.make_optimizer(),
            **recipe.fit_arguments(),
            progress=sys.stderr.isatty(),
            description=f"{units} units",
        )
        edits = levenshtein(self.validation, model.reconstruct(self.validation))
        return {
            "edits": round(float(edits.mean()), 3),
            "exact": round(float((edits == 0).mean()), 3),
            "mean_bit_entropy": round(code_usage(model.latent(self.validation))["mean_bit_entropy"], 3),
        }


class TransformSearch:
    """Learning rate, weight of the commitment loss and the convolutions of the correction, one change at a time."""

    title = "The transform code of 256 bits, on CIFAR-10"
    epochs, images = 2, 20_000
    trials = [
        TRANSFORM_BEFORE | change
        for change in ({}, {"lr": 5e-4}, {"lr": 2e-3}, {"weight": 0.0}, {"weight": 0.03}, {"correction": [32, 64]})
    ]
    columns = {
        "learning rate": lambda one: f"{one['lr']:g}",
        "weight of the commitment loss": lambda one: f"{one['weight']:g}",
        "channels of the correction": lambda one: ", ".join(map(str, one["correction"])),
        "PSNR untrained, dB": lambda one: f"{one['untrained']:.2f}",
        "PSNR, dB": lambda one: f"{one['psnr']:.2f}",
        "mean entropy per bit": lambda one: f"{one['mean_bit_entropy']:.2f}",
    }
    remark = "20,000 training images. The first row is the recipe. Narrow convolutions take half the time."

    def __init__(self, args):
        data = load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data)
        self.recipe = replace(cifar_cnn("default", "commit", "small", transform=True), epochs=self.epochs)
        training, self.validation = self.recipe.split(data.train_images)
        self.training = training[: self.images]
        self.data = f"{data.name}, measured on the last {len(self.validation):,} training images"

    def trial(self, lr, weight, correction):
        """Train with these settings and return the figures."""
        recipe = replace(
            self.recipe,
            lr=lr,
            bottleneck={**self.recipe.bottleneck, "weight": weight},
            model={**self.recipe.model, "correction": correction},
        )
        model = recipe.make_model(self.training, seed=0)
        untrained = model.validate(self.validation)["val_psnr"]
        fit(model, self.training, recipe.make_optimizer(), **recipe.fit_arguments(), progress=sys.stderr.isatty())
        return {
            "untrained": round(untrained, 3),
            "psnr": round(model.validate(self.validation)["val_psnr"], 3),
            "mean_bit_entropy": round(code_usage(model.latent(self.validation))["mean_bit_entropy"], 3),
        }


SEARCHES = {"mlp": MLPSearch, "lstm": LSTMSearch, "transform": TransformSearch}


def table(name, found):
    """Return the trials of a search as Markdown."""
    search = SEARCHES[name]
    lines = [
        f"## {search.title}",
        "",
        f"`python benchmarks/recipe_search.py {name}`, {found['date']}: commit on {found['data']}, which were held "
        f"back from training; {search.epochs} epochs, one seed. {search.remark}",
        "",
        "| " + " | ".join(search.columns) + " |",
        "| --- |" + " ---: |" * (len(search.columns) - 1),
    ]
    lines += ["| " + " | ".join(cell(one) for cell in search.columns.values()) + " |" for one in found["trials"]]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Run the missing trials; returns the exit code."""
    parser = program.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SEARCHES)
    program.add_data_arguments(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    args = parser.parse_args(argv)
    backend.use("numpy")
    backend.use_threads(1)
    search, path = SEARCHES[args.model](args), args.out / "recipe_search.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    found = results.setdefault(args.model, {"trials": []})
    for settings in search.trials:
        if any({name: one[name] for name in settings} == settings for one in found["trials"]):
            continue
        found["trials"].append({**settings, **search.trial(**settings)})
        found |= {"data": search.data, "date": time.strftime("%Y-%m-%d")}
        results[args.model] = found
        text = json.dumps(results, indent=1) + "\n"
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    markdown = "# The hyperparameter searches behind recipe `default`\n\n" + "\n".join(
        table(name, results[name]) for name in SEARCHES if name in results
    )
    write_atomically(args.out / "recipe_search.md", lambda file: file.write(markdown.encode()))
    print(markdown, end="")
    return 0


if __name__ == "__main__":
    sys.exit(program.run_main(main, stopped="stopped; the same command goes on"))
