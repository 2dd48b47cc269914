"""One run of a recipe, from data to files: shared by the examples, the command and the benchmarks.

`images` and `sentences`, at the end of this file, train, measure and write; they differ in what they measure and show.
"""

import copy
import importlib.metadata
import json
import platform
import sys
from dataclasses import dataclass

import numpy as np

from . import backend, plots
from .bottlenecks import make_bottleneck
from .checkpoint import write_atomically
from .data import clean_text
from .gradients import encoder_gradients, has_encoder_gradients
from .initializers import MEMORY_BYTES
from .metrics import image, rate, text
from .train import fit

ROUNDED_AFTERWARDS = ("naive", "fence", "annealed")
"""The bottlenecks trained on values that are rounded for storage: for these, results show what the threshold costs."""
LOSS_UNITS = {"bce": "nats per pixel", "mse": "mean squared error", None: "nats per character"}
MUCH_MEMORY = 256  # MiB
GRADIENTS_SHOWN = 128
"""The number of training images whose gradients are compared."""


@dataclass
class Run:
    """A trained model, its history, its metrics (the content of metrics.json), and the model after its first epoch, for the
    plot of its gradients; None if there is no such plot, or if the run was resumed later.
    """

    model: object
    history: object
    metrics: dict
    early: object = None


class Experiment:
    """The base class of runs on images and on sentences; `data` is an ImageData or a SentenceSplit.

    Attributes:
        items: what the data consist of, as a plural noun.
        test_items: the same for the held-out part.
        measured: the number of training examples to evaluate, None for all.
        columns: of the results table: (name in metrics.json, heading, width, format).
    """

    def train_and_measure(
        self, recipe, data, *, seed=0, train_items=None, directory=None, resume=False, progress=True, engine=None
    ):
        """Train by `recipe` on the first `train_items` training examples, except those that it keeps for validation, and
        evaluate on them and on the held-out ones.

        Args:
            directory: where to write the checkpoint; None writes nothing.
            engine: see tinyqae.engine.

        Returns:
            A Run.
        """
        examples, test = self.training(data)[:train_items], self.test(data)
        training, validation = recipe.split(examples)
        model, optimizer = recipe.make_model(training, seed, engine), recipe.make_optimizer()
        self.say_what_it_takes(model, optimizer, len(training), progress)
        early = []

        def keep_early(model, history):
            if len(history.rows) == 1 and not early and has_encoder_gradients(model):
                early.append(copy.deepcopy(model))

        history = fit(
            model,
            training,
            optimizer,
            **recipe.fit_arguments(),
            validation=validation,
            seed=seed,
            checkpoint=directory / "checkpoint.npz" if directory else None,
            resume=resume,
            progress=progress,
            description=recipe.quant,
            callbacks=[keep_early],
        )
        metrics = self.measure(model, training, test)
        metrics["settings"] = {
            "data": self.describe(data, len(training), len(examples) - len(training)),
            **settings_of(model, history, seed, recipe=recipe.as_dict()),
        }
        return Run(model, history, metrics, early[0] if early else None)

    def say_what_it_takes(self, model, optimizer, training, say):
        """Print the memory that the model needs for training and evaluation on `training` examples, if it is large and
        `say` is true. MemoryError if this machine has too little.
        """
        parameters = sum(array.size for array in model.parameters())
        arrays = 2 + len(optimizer.state_names)  # Weights, gradients, and the optimizer's state for each.
        codes = (training if self.measured is None else min(training, self.measured)) * model.latent_size
        needed = f"{type(model).__name__} with {parameters:,} parameters and {model.latent_size:,} values per code"
        mebibytes = model.dtype.itemsize * (arrays * parameters + codes) / 2**20
        if mebibytes > MEMORY_BYTES / 2**20:
            raise MemoryError(f"{needed} takes at least {mebibytes:,.0f} MiB, this machine has {MEMORY_BYTES / 2**20:,.0f}")
        if say and mebibytes > MUCH_MEMORY:
            print(f"{needed}: at least {mebibytes:,.0f} MiB of memory", file=sys.stderr)

    def title(self, data):
        """The name of the data."""
        return data.name

    def split(self, data):
        """The entries of metrics.json on how the held-out examples were chosen, if there is a choice."""
        return {}

    def describe(self, data, training, validation):
        """The entries of metrics.json on the data. training, validation: the numbers of items used for each."""
        return {
            "name": data.name,
            "sha256": data.sha256,
            "source": data.source,
            **self.split(data),
            f"training_{self.items}": training,
            f"validation_{self.items}": validation,
            f"test_{self.items}": len(self.test(data)),
        }

    def measure(self, model, training, test):
        """{"test", "train", "rate", "code"} and, if training saw values that are rounded for storage,
        "test_before_threshold": the same metrics as if these values were stored.

        "code" is measured on the test examples. training: None leaves "train" out.
        """
        latent, code = model.latent(test), model.encode(test)
        bits = rate.bits_per_item(model.latent_size, "binary" if model.bottleneck.is_binary else "float32")
        metrics = {
            "test": self.figures(test, model.decode(code)),
            "rate": {"bits_per_item": bits, **self.rate(test, bits)},
            "code": rate.code_usage(latent),
        }
        if training is not None:
            measured = training[: self.measured]
            metrics["train"] = self.figures(measured, model.reconstruct(measured))
        if model.bottleneck.kind in ROUNDED_AFTERWARDS:
            metrics["test_before_threshold"] = self.figures(test, model.decode(latent))
        return metrics

    def results_table(self, metrics):
        """The metrics of metrics.json as lines of text."""
        names = {
            "test": self.test_items,
            "test_before_threshold": "  before the threshold",
            "train": f"training {self.items}",
        }
        lines = [f"{'':24}" + "".join(f"{heading:>{width}}" for _, heading, width, _ in self.columns)]
        for part in (part for part in names if part in metrics):
            cells = (f"{metrics[part][key]:>{width}{form}}" for key, _, width, form in self.columns)
            lines.append(f"{names[part]:24}" + "".join(cells))
        code = metrics["code"]
        lines += self.rate_in_words(metrics["rate"])
        lines.append(
            f"code: mean distance to the nearest bit {code['distance_to_bit']:.3f}, bits that never change "
            f"{code['dead_bits']}, entropy {code['mean_bit_entropy']:.3f} of 1 bit each"
        )
        if code["dead_bits"]:
            lines.append("bits that never change store nothing: try a smaller --lr or --quant-weight, or fewer bits")
        return "\n".join(lines)


class Images(Experiment):
    """Runs on images."""

    items, test_items, measured = "images", "held-out test images", None
    columns = (("psnr", "PSNR dB", 9, ".2f"), ("ssim", "SSIM", 8, ".3f"), ("mse", "MSE", 9, ".1f"), ("mae", "MAE", 8, ".2f"))
    figures = staticmethod(image.image_metrics)

    def training(self, data):
        """The training images."""
        return data.train_images

    def test(self, data):
        """The held-out images."""
        return data.test_images

    def rate(self, images, bits):
        """The compression ratio at `bits` per image."""
        return {"cr": rate.compression_ratio(rate.image_bits(images.shape[1:]), bits)}

    def rate_in_words(self, found):
        """The rate as lines of text."""
        return [f"{found['bits_per_item']} bits per image, compression ratio {found['cr']:.2f}"]

    def write(self, run, data, directory, what):
        """Write the run's files: model.npz, metrics.json, history.csv and the plots. what: the model's name, "MLP"."""
        model = run.model
        title = (
            f"{data.name}: {what}, {model.bottleneck.kind}, {run.metrics['rate']['bits_per_item']} bits per image, "
            f"held-out PSNR {run.metrics['test']['psnr']:.2f} dB"
        )
        write_files(run, directory, title)
        examples = self.one_of_each(data.test_images, data.test_labels)
        codes = model.encode(examples)
        rows = [("original", examples), ("decoded from\nthe code", model.decode(codes))]
        if "test_before_threshold" in run.metrics:
            rows.append(("decoded from\nthe activations", model.decode(model.latent(examples))))
        plots.reconstructions(
            title, rows, codes if model.bottleneck.is_binary else None, path=directory / "reconstructions.png"
        )
        if has_encoder_gradients(model):
            batch, epochs = data.train_images[:GRADIENTS_SHOWN], len(run.history.rows)
            states = {"untrained": self.untrained(model, run.metrics["settings"]["seed"]), f"after epoch {epochs}": model}
            if run.early is not None and epochs > 1:
                states = {"untrained": states["untrained"], "after epoch 1": run.early, **states}
            plots.encoder_gradients(
                [(label, encoder_gradients(state, batch)) for label, state in states.items()],
                path=directory / "gradients.png",
            )

    def untrained(self, model, seed):
        """The model before training, rebuilt from the same arguments and seed; exact except for the last digits of a bias
        that starts at the mean image, which is kept as float32.
        """
        bottleneck = make_bottleneck(model.bottleneck.kind, **model.bottleneck.config())
        return type(model)(bottleneck, **model.constants(), **model.config(), seed=seed, engine=model.engine.name)

    def one_of_each(self, images, labels):
        """The first image of each of the first ten labels, in the order of the labels."""
        return images[[int(np.argmax(labels == label)) for label in np.unique(labels)[:10]]]


class Sentences(Experiment):
    """Runs on sentences."""

    items, test_items, measured = "sentences", "held-out sentences", 1000
    columns = (
        ("levenshtein", "edits", 9, ".2f"),
        ("cosine_distance", "cosine", 9, ".3f"),
        ("jaccard_distance", "Jaccard", 9, ".3f"),
        ("bleu_distance", "1 - BLEU", 10, ".3f"),
        ("exact_match_rate", "exact", 8, ".1%"),
    )
    figures = staticmethod(text.text_metrics)

    def training(self, data):
        """The training sentences."""
        return list(data.train)

    def test(self, data):
        """The held-out sentences."""
        return list(data.test)

    def title(self, data):
        """The name of the data and of their split."""
        return f"{data.name}, split {data.how}"

    def split(self, data):
        """The split's name."""
        return {"split": data.how}

    def rate(self, sentences, bits):
        """The compression ratio, and the bits per character of the code and of compressors, at `bits` per sentence."""
        compression = text.text_compression(sentences, bits)
        return {"cr": compression["compression_ratio"], "bits_per_character": compression["bits_per_character"]}

    def rate_in_words(self, found):
        """The rate as lines of text."""
        per_character = found["bits_per_character"]
        lines = [
            f"{found['bits_per_item']} bits per sentence, compression ratio {found['cr']:.2f}; bits per character: "
            + ", ".join(f"{name} {bits:.1f}" for name, bits in per_character.items())
        ]
        if per_character["code"] > per_character["gzip"]:
            lines.append(
                "this code is larger than gzip's lossless compression of the whole held-out text, but each sentence is "
                "coded on its own"
            )
        return lines

    def write(self, run, data, directory, what, beam=None):
        """Write the run's files: model.npz, metrics.json, history.csv, reconstructions.txt and two plots. Returns the
        lines of reconstructions. what: the model's name, "LSTM 64".
        """
        metrics = run.metrics
        title = (
            f"{self.title(data)}: {what}, {run.model.bottleneck.kind}, {metrics['rate']['bits_per_item']} bits per "
            f"sentence, held-out edits {metrics['test']['levenshtein']:.1f} (fewer is better)"
        )
        write_files(run, directory, title)
        shown = self.spread(data.test)
        width, decoded = max(map(len, shown)), run.model.decode(run.model.encode(shown), beam)
        pairs = "\n".join(f"{a:{width}}  ->  {b}" for a, b in zip(shown, decoded, strict=True))
        write_atomically(directory / "reconstructions.txt", lambda file: file.write(f"{title}\n\n{pairs}\n".encode()))
        return pairs

    def spread(self, sentences, count=10):
        """`count` of the sentences, evenly spread."""
        return [sentences[i * len(sentences) // count] for i in range(min(count, len(sentences)))]

    def said(self, model, sentence, beam):
        """A sentence, its code and its reconstruction as lines of text."""
        cleaned, _ = clean_text(sentence)
        code = model.encode([cleaned])
        written = "".join(map(str, code[0].astype(int))) if model.bottleneck.is_binary else f"{code.shape[1]} numbers"
        return f"sentence        {cleaned}\ncode            {written}\nreconstruction  {model.decode(code, beam)[0]}"


def write_files(run, directory, title):
    """Write model.npz, metrics.json, history.csv and two plots, each atomically."""
    run.model.save(directory / "model.npz")
    content = json.dumps(run.metrics, indent=2) + "\n"
    write_atomically(directory / "metrics.json", lambda file: file.write(content.encode()))
    run.history.save_csv(directory / "history.csv")
    plots.latent_histograms(title, run.history.latents, path=directory / "latents.png")
    unit = LOSS_UNITS[getattr(run.model, "reconstruction", None)]
    plots.training_curves(title, run.history.rows, unit, path=directory / "curves.png")


def settings_of(model, history, seed, **more):
    """The entries of metrics.json on how a model was trained. more: further entries."""
    return {
        **more,
        "seed": seed,
        "model_id": model.model_id(),
        "backend": backend.describe(),
        "engine": model.engine.name,
        "kernels": model.engine.kernels(),
        "versions": versions(),
        "seconds": {"training": round(sum(row["seconds"] for row in history.rows), 2)},
    }


def versions():
    """The versions of Python and of those installed packages that affect the results."""
    found = {"python": platform.python_version()}
    for package in ("tinyqae", "numpy", "numba", "scikit-image"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


images, sentences = Images(), Sentences()
