"""What the examples share: their arguments, evaluation, the results they print and the files they write."""
import argparse
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import backend, fused, plots
from .bottleneck import KINDS
from .checkpoint import write_atomically
from .data import image_folder_patches, load_cifar10, load_mnist, synthetic_digits, synthetic_shapes
from .errors import TinyqaeError
from .metrics import image as image_metrics
from .metrics import rate
from .recipes import RECIPES
from .train import fit

DIGITS_SHOWN = 10


# ---- arguments --------------------------------------------------------------------------------------------------


def positive_int(text):
    """An argparse type: a whole number above 0."""
    return _number(text, int, lambda value: value > 0, "a whole number above 0")


def positive_float(text):
    """An argparse type: a finite number above 0."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def non_negative_int(text):
    """An argparse type: a whole number, 0 or more."""
    return _number(text, int, lambda value: value >= 0, "a whole number, 0 or more")


def non_negative_float(text):
    """An argparse type: a finite number, 0 or more."""
    return _number(text, float, lambda value: 0 <= value < float("inf"), "a number, 0 or more")


def widths(text):
    """An argparse type: "50" or "256,50" -> (50,) or (256, 50)."""
    return tuple(positive_int(part) for part in text.split(","))


def _number(text, kind, accept, wanted):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line instead of the whole usage."""

    def error(self, message):
        """Exit with code 2."""
        self.exit(2, f"error: {message}; --help explains\n")


def argument_parser(description, datasets, train_images=None):
    """The parser with the arguments that all examples have.

    datasets: the choices of --dataset, the first is the default. train_images: the default of --train-images, None for
    all of them.
    """
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quant", choices=[*KINDS, "none"], default="commit",
                        help="the bottleneck: vanilla (no quantization; 'none' is another word for it), naive (threshold "
                             "after training), fence (naive, with a loss against values near 1/2), commit (threshold in "
                             "training, straight-through gradient, commit loss); default: %(default)s")
    parser.add_argument("--recipe", choices=RECIPES, default="default",
                        help="default: the best training found; report: the settings behind the report's tables")
    parser.add_argument("--epochs", type=positive_int, help="passes over the training images (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive_int, help="images in a training step (default: the recipe's)")
    parser.add_argument("--lr", type=positive_float, help="learning rate (default: the recipe's)")
    parser.add_argument("--quant-weight", type=non_negative_float,
                        help="factor of the fence or commit loss (default: the recipe's)")
    parser.add_argument("--seed", type=non_negative_int, default=0,
                        help="of initial weights and order of the data; default: %(default)s")
    parser.add_argument("--backend", choices=backend.BACKENDS, default="auto",
                        help="numpy (CPU), cupy (NVIDIA GPU), or auto: a GPU when there is a working one")
    parser.add_argument("--dataset", choices=datasets, default=datasets[0],
                        help="synthetic needs no network: made-up data of the same shape; default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR",
                        help="where the data sets are, or will be put (default: $TINYQAE_DATA, else the user's cache)")
    parser.add_argument("--train-images", type=positive_int, metavar="N", default=train_images,
                        help=f"train on the first N images only (default: {train_images or 'all'})")
    parser.add_argument("--out", metavar="DIR", help="where the results go (default: runs/NAME-OF-THE-RUN)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no table, only errors")
    parser.add_argument("--json", action="store_true", help="print the content of metrics.json, and nothing else")
    return parser


def run_main(main):
    """Call main() as a program: expected failures are one line on standard error and exit code 1; usage exits with 2."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command with --resume goes on from the last whole epoch")
    except (TinyqaeError, MemoryError) as error:
        sys.exit(f"error: {error or type(error).__name__}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'file'}: {error.strerror or error}")


def load_digits(args):
    """MNIST or the synthetic digits, as the arguments say."""
    if args.dataset == "synthetic":
        return synthetic_digits(seed=0)
    return load_mnist(args.data_dir, progress=not (args.quiet or args.json))


def load_pictures(args):
    """CIFAR-10, the images of --images, or the synthetic shapes, as the arguments say."""
    if args.images:
        return image_folder_patches(args.images)
    if args.dataset == "synthetic":
        return synthetic_shapes(seed=0)
    return load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data,
                        progress=not (args.quiet or args.json))


def out_directory(args, name):
    """--out or runs/<name>, created and tried now, so that a long run does not end in front of a closed door."""
    directory = Path(args.out or Path("runs") / name)
    write_atomically(directory / ".writable", lambda file: None)
    (directory / ".writable").unlink()
    return directory


# ---- one run ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A trained model, its history, and its figures (the content of metrics.json)."""

    model: object
    history: object
    metrics: dict


def train_and_measure(recipe, data, *, seed=0, train_images=None, directory=None, resume=False, progress=True,
                      command=None):
    """Train as `recipe` says and measure on the training and the held-out test images; returns a Run.

    train_images: use this many of the training images only. directory: where the checkpoint goes; None writes nothing.
    """
    started = time.perf_counter()
    images = data.train_images[:train_images]
    training, validation = recipe.split(images)
    model = recipe.make_model(training, seed)
    history = fit(model, training, recipe.make_optimizer(), **recipe.fit_arguments(), validation=validation,
                  seed=seed, checkpoint=directory / "checkpoint.npz" if directory else None, resume=resume,
                  progress=progress, description=recipe.quant)
    trained = time.perf_counter()
    metrics = measure(model, training, data.test_images)
    metrics["settings"] = {
        "data": {"name": data.name, "sha256": data.sha256, "source": data.source, "training_images": len(training),
                 "validation_images": 0 if validation is None else len(validation), "test_images": len(data.test_images)},
        "recipe": recipe.as_dict(), "seed": seed, "model_id": model.model_id(), "backend": backend.describe(),
        "kernels": fused.kernels(), "versions": versions(), "command": command,
        "seconds": {"training": round(sum(row["seconds"] for row in history.rows), 2),
                    "all": round(time.perf_counter() - started, 2),
                    "measuring": round(time.perf_counter() - trained, 2)},
    }
    return Run(model, history, metrics)


def measure(model, training_images, test_images):
    """{"test", "train", "rate", "code"} and, where training saw values that storage rounds (naive, fence),
    "test_before_threshold": the same figures as if these values were stored.

    The code's state is that of the test images.
    """
    latent = model.latent(test_images)
    code = model.encode(test_images)
    bits = rate.bits_per_item(model.latent_size, "binary" if model.bottleneck.is_binary else "float32")
    metrics = {
        "test": image_metrics.image_metrics(test_images, model.decode(code)),
        "train": image_metrics.image_metrics(training_images, model.reconstruct(training_images)),
        "rate": {"bits_per_item": bits,
                 "cr": rate.compression_ratio(rate.image_bits(test_images.shape[1:]), bits)},
        "code": rate.code_usage(latent),
    }
    if model.bottleneck.kind in ("naive", "fence"):
        metrics["test_before_threshold"] = image_metrics.image_metrics(test_images, model.decode(latent))
    return metrics


def versions():
    """The versions of Python and of the packages that shape the numbers."""
    packages = {name: _version(name) for name in ("tinyqae", "numpy", "numba", "scikit-image")}
    return {"python": platform.python_version(), **{name: found for name, found in packages.items() if found}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def command_line():
    """The command that started this program, as one would type it."""
    return shlex.join(["python", *sys.argv])


# ---- what a run leaves ------------------------------------------------------------------------------------------


def write_results(run, directory, title, data):
    """model.npz, metrics.json, history.csv, and the three pictures, each whole or not at all."""
    run.model.save(directory / "model.npz")
    text = json.dumps(run.metrics, indent=2) + "\n"
    write_atomically(directory / "metrics.json", lambda file: file.write(text.encode()))
    run.history.save_csv(directory / "history.csv")
    examples = one_of_each(data.test_images, data.test_labels)
    rows = [("original", examples), ("from the code", run.model.reconstruct(examples))]
    if "test_before_threshold" in run.metrics:
        rows.append(("before the\nthreshold", run.model.decode(run.model.latent(examples))))
    plots.reconstructions(directory / "reconstructions.png", title, rows)
    plots.latent_histograms(directory / "latents.png", title, run.history.latents)
    plots.training_curves(directory / "curves.png", title, run.history.rows)


def one_of_each(images, labels):
    """The first image of each label, in the order of the labels."""
    return images[[int(np.argmax(labels == label)) for label in np.unique(labels)[:DIGITS_SHOWN]]]


def full_run_estimate(run, images):
    """A sentence on how long the same epochs on all `images` training images would take, from the time this run took."""
    settings = run.metrics["settings"]
    used = settings["data"]["training_images"]
    minutes = settings["seconds"]["training"] * images / used / 60
    return f"trained on {used} of {images} images; the same epochs on all of them would take about {minutes:.0f} minutes"


def results_table(metrics):
    """The figures of metrics.json as lines of text."""
    columns = ("psnr", "ssim", "mse", "mae")
    rows = [("held-out test images", metrics["test"])]
    if "test_before_threshold" in metrics:
        rows.append(("  before the threshold", metrics["test_before_threshold"]))
    rows.append(("training images", metrics["train"]))
    rate_, code = metrics["rate"], metrics["code"]
    lines = [f"{'':24}{'PSNR dB':>9}{'SSIM':>8}{'MSE':>9}{'MAE':>8}"]
    lines += [f"{name:24}" + "".join(f"{row[c]:>{w}.{d}f}" for c, w, d in zip(columns, (9, 8, 9, 8), (2, 3, 1, 2),
                                                                             strict=True)) for name, row in rows]
    lines.append(f"{rate_['bits_per_item']} bits an image, compression ratio {rate_['cr']:.2f}")
    lines.append(f"code: mean distance to the nearest bit {code['distance_to_bit']:.3f}, bits that never change "
                 f"{code['dead_bits']}, entropy {code['mean_bit_entropy']:.3f} of 1 bit each")
    return "\n".join(lines)
