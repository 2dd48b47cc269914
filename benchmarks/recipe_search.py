"""The trials behind recipe `default`, on the validation split of the training data.

    python benchmarks/recipe_search.py mlp          MLPs with hidden layers, on MNIST; twenty minutes on one core
    python benchmarks/recipe_search.py cnn          the CNN of 256 bits, on CIFAR-10; twenty minutes on one core
    python benchmarks/recipe_search.py lstm         the LSTM of 128 bits, on Anki sentences; half an hour on one core
    python benchmarks/recipe_search.py transform    the transform code of 256 bits, on CIFAR-10; ten minutes on one core

A trial trains commit with one seed for fewer epochs than the recipe does, and measures on the validation split; the held-out
data are not used. An interrupted search resumes. Writes benchmarks/results/recipe_search.json and .md, which begins with one
table of all trials: what was changed, and what it gained.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyqae import (
    Adam,
    Commit,
    ImageAutoencoder,
    MLPAutoencoder,
    backend,
    cosine,
    fit,
    load_anki,
    load_cifar10,
    load_mnist,
    split_sentences,
)
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.layers import BatchNorm, ConvBlock, Sequential
from tinyqae.metrics.image import psnr
from tinyqae.metrics.rate import code_usage
from tinyqae.metrics.text import levenshtein
from tinyqae.recipes import anki_lstm, cifar_cnn
from tinyqae.transform_coding import AddBranch, Branch

RESULTS = Path(__file__).parent / "results"


LSTM_BEFORE = {"units": 96, "lr": 1e-2, "weight": 0.2, "splice": 0.5, "noise": 0.0}
TRANSFORM_BEFORE = {"lr": 1e-3, "weight": 0.003, "correction": [48, 64, 64], "change": "none"}
DECAY = 0.99
WARM_UP = 0.1


class MovingAverage(Adam):
    """Adam that also keeps the exponential moving average of each parameter, which `apply` puts in its place."""

    def update_all(self, parameters, gradients, lr):
        super().update_all(parameters, gradients, lr)
        if self.steps == 1:
            self.parameters, self.means = parameters, [p.copy() for p in parameters]
        for p, mean in zip(parameters, self.means, strict=True):
            mean += (1 - DECAY) * (p - mean)

    def apply(self):
        """Replace the parameters by their averages."""
        for p, mean in zip(self.parameters, self.means, strict=True):
            p[...] = mean


def train_images(model, images, recipe, change):
    """Train a model of images by a recipe with one change to the training."""
    arguments = recipe.fit_arguments()
    optimizer = MovingAverage(recipe.lr) if change == "average of the weights" else recipe.make_optimizer()
    if change == "horizontal flips":  # Twice the images, half the epochs: as many steps.
        images, arguments["epochs"] = np.concatenate([images, images[:, :, ::-1]]), recipe.epochs // 2
    if change == "warm-up":
        steps = arguments["epochs"] * -(-len(images) // recipe.batch_size)
        decline = cosine(steps)
        arguments["schedule"] = lambda step: min(1, (step + 1) / (WARM_UP * steps)) * decline(step)
    fit(model, images, optimizer, **arguments, progress=sys.stderr.isatty(), description=change)
    if change == "average of the weights":
        optimizer.apply()


class ResidualCNN(ImageAutoencoder):
    """The CNN with a residual block, two convolutions and what goes around them, before each pooling and upsampling."""

    inference_batch = 100

    def __init__(
        self, bottleneck, widths, latent_channels, input_shape, *, normalize_latent, reconstruction="mse", mean_image=None
    ):
        self.widths, self.latent_channels, self.normalize_latent = widths, latent_channels, normalize_latent

        def block(channels):
            branch = Branch()
            return [branch, ConvBlock(channels), ConvBlock(channels, relu=False), AddBranch(branch)]

        encoder = [layer for n in widths for layer in (ConvBlock(n, pool=True), *block(n))]
        encoder += [ConvBlock(latent_channels, kernel=1, norm=False, relu=False), *[BatchNorm()] * normalize_latent]
        innermost, *outer = reversed(widths)
        decoder = [ConvBlock(innermost), *block(innermost)]
        decoder += [layer for n in outer for layer in (ConvBlock(n, upsample=True), *block(n))]
        decoder.append(ConvBlock(input_shape[-1], upsample=True, norm=False, relu=False))
        self.build(
            Sequential(*encoder),
            bottleneck,
            Sequential(*decoder),
            input_shape=input_shape,
            reconstruction=reconstruction,
            mean_image=mean_image,
        )


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


class CNNSearch:
    """Augmentation, warm-up, averaging and architecture, one change at a time."""

    title = "The CNN of 256 bits, on CIFAR-10"
    model = "CNN, 256 bits"
    epochs, images = 4, 10_000
    trials = [
        {"change": change}
        for change in (
            "none",
            "horizontal flips",
            "warm-up",
            "average of the weights",
            "half the learning rate",
            "decoder twice as wide",
            "residual blocks",
        )
    ]
    columns = {
        "change": lambda one: one["change"],
        "PSNR, dB": lambda one: f"{one['psnr']:.2f}",
        "dead bits": lambda one: str(one["dead_bits"]),
        "mean entropy per bit": lambda one: f"{one['mean_bit_entropy']:.2f}",
    }
    remark = (
        "10,000 training images. The first row is the recipe. With flips, half the epochs: as many steps. Warm-up over a "
        "tenth of the steps. Average: exponential, with a decay of 0.99 per step."
    )

    def __init__(self, args):
        data = load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data)
        self.recipe = replace(cifar_cnn("default", "commit", "small"), epochs=self.epochs)
        training, self.validation = self.recipe.split(data.train_images)
        self.training = training[: self.images]
        self.data = f"{data.name}, measured on the last {len(self.validation):,} training images"

    def trial(self, change):
        """Train with this change and return the figures."""
        recipe = self.recipe
        if change == "half the learning rate":
            recipe = replace(recipe, lr=recipe.lr / 2)
        if change == "decoder twice as wide":
            recipe = replace(recipe, model={**recipe.model, "decoder_widths": [2 * n for n in recipe.model["widths"]]})
        if change == "residual blocks":
            bottleneck, mean_image = Commit(**recipe.bottleneck), self.training.mean(axis=0) / 255
            model = ResidualCNN(bottleneck, input_shape=mean_image.shape, mean_image=mean_image, **recipe.model)
        else:
            model = recipe.make_model(self.training, seed=0)
        train_images(model, self.training, recipe, change)
        usage = code_usage(model.latent(self.validation))
        return {
            "psnr": round(model.validate(self.validation)["val_psnr"], 3),
            "dead_bits": usage["dead_bits"],
            "mean_bit_entropy": round(usage["mean_bit_entropy"], 3),
        }


class LSTMSearch:
    """Width, learning rate, weight of the commitment loss and the rest of the recipe, one change at a time."""

    title = "The LSTM of 128 bits, on Anki sentences"
    model = "LSTM, 128 bits"
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
    model = "transform code, 256 bits"
    epochs, images = 2, 20_000
    trials = [
        TRANSFORM_BEFORE | change
        for change in (
            {},
            {"lr": 5e-4},
            {"lr": 2e-3},
            {"weight": 0.0},
            {"weight": 0.03},
            {"correction": [32, 64]},
            {"correction": [64, 96, 96, 96]},
            {"change": "horizontal flips"},
            {"change": "warm-up"},
            {"change": "average of the weights"},
        )
    ]
    columns = {
        "learning rate": lambda one: f"{one['lr']:g}",
        "weight of the commitment loss": lambda one: f"{one['weight']:g}",
        "channels of the correction": lambda one: ", ".join(map(str, one["correction"])),
        "change": lambda one: one["change"],
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

    def trial(self, lr, weight, correction, change):
        """Train with these settings and return the figures."""
        recipe = replace(
            self.recipe,
            lr=lr,
            bottleneck={**self.recipe.bottleneck, "weight": weight},
            model={**self.recipe.model, "correction": correction},
        )
        model = recipe.make_model(self.training, seed=0)
        untrained = model.validate(self.validation)["val_psnr"]
        train_images(model, self.training, recipe, change)
        return {
            "untrained": round(untrained, 3),
            "psnr": round(model.validate(self.validation)["val_psnr"], 3),
            "mean_bit_entropy": round(code_usage(model.latent(self.validation))["mean_bit_entropy"], 3),
        }


SEARCHES = {"mlp": MLPSearch, "cnn": CNNSearch, "lstm": LSTMSearch, "transform": TransformSearch}


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


def all_trials(results):
    """Return Markdown: every trial's change to the first trial of its network, and its gain over that; the best first."""
    lines = [
        "## All trials",
        "",
        "What each trial changed in the first row of its table below (or of its network), and how much better (+) or worse "
        "(-) its reconstructions of the validation split are: in dB, or in edits per sentence. One seed each: differences "
        "no larger than the spread over seeds in [the tables](README.md) may be due to chance.",
        "",
        "| model | change | gain | seeds |",
        "| --- | --- | ---: | ---: |",
    ]
    for name, search in SEARCHES.items():
        gains, first = [], {}
        for one in results.get(name, {"trials": ()})["trials"]:
            network = f"MLP {'-'.join(map(str, one['hidden']))}" if "hidden" in one else search.model
            before = first.setdefault(network, one)
            changed = [
                f"{column} {cell(one)}"
                for column, cell in list(search.columns.items())[: len(search.trials[0])]
                if cell(one) != cell(before)
            ]
            gain = (
                f"{before['edits'] - one['edits']:+.2f} edits"
                if "edits" in one
                else f"{one['psnr'] - before['psnr']:+.2f} dB"
            )
            if changed:
                gains.append((network, "; ".join(changed).removeprefix("change "), gain))
        gains.sort(key=lambda row: (row[0], -float(row[2].split()[0])))
        lines += [f"| {network} | {change} | {gain} | 1 |" for network, change, gain in gains]
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
    markdown = "# The trials behind recipe `default`\n\n" + "\n".join(
        [all_trials(results), *(table(name, results[name]) for name in SEARCHES if name in results)]
    )
    write_atomically(args.out / "recipe_search.md", lambda file: file.write(markdown.encode()))
    print(markdown, end="")
    return 0


if __name__ == "__main__":
    sys.exit(program.run_main(main, stopped="stopped; the same command goes on"))
