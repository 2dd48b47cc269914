"""Runs on images: where they come from, what is measured, what is printed and drawn."""
import numpy as np

from .. import plots
from ..bottlenecks import make_bottleneck
from ..gradients import encoder_gradients, has_encoder_gradients
from ..metrics import image as image_metrics
from ..metrics import rate
from .runs import ROUNDED_AFTERWARDS, Run, train, write_run

DIGITS_SHOWN = 10
GRADIENTS_SHOWN = 128
"""Training images whose gradients are compared."""


def train_and_measure(recipe, data, *, seed=0, train_items=None, directory=None, resume=False, progress=True,
                      engine=None):
    """Train as `recipe` says on the first `train_items` training images and measure on them and on the test images.

    data: ImageData. directory: where the checkpoint goes; None writes nothing. engine: see tinyqae.engine. Returns a
    Run.
    """
    images = data.train_images[:train_items]
    model, history, training, settings = train(recipe, images, seed=seed, directory=directory, resume=resume,
                                               progress=progress, engine=engine)
    metrics = measure(model, training, data.test_images)
    metrics["settings"] = {"data": describe(data, len(training), len(images) - len(training)), **settings}
    return Run(model, history, metrics)


def describe(data, training, validation):
    """What metrics.json says of the data, of which so many images were trained and validated on."""
    return {"name": data.name, "sha256": data.sha256, "source": data.source, "training_images": training,
            "validation_images": validation, "test_images": len(data.test_images)}


def measure(model, training_images, test_images):
    """{"test", "train", "rate", "code"} and, where training saw values that storage rounds,
    "test_before_threshold": the same figures as if these values were stored.

    The code's state is that of the test images. training_images: None leaves "train" out.
    """
    latent = model.latent(test_images)
    code = model.encode(test_images)
    bits = rate.bits_per_item(model.latent_size, "binary" if model.bottleneck.is_binary else "float32")
    metrics = {
        "test": image_metrics.image_metrics(test_images, model.decode(code)),
        "rate": {"bits_per_item": bits,
                 "cr": rate.compression_ratio(rate.image_bits(test_images.shape[1:]), bits)},
        "code": rate.code_usage(latent),
    }
    if training_images is not None:
        metrics["train"] = image_metrics.image_metrics(training_images, model.reconstruct(training_images))
    if model.bottleneck.kind in ROUNDED_AFTERWARDS:
        metrics["test_before_threshold"] = image_metrics.image_metrics(test_images, model.decode(latent))
    return metrics


def write(run, data, directory, what):
    """Write the run's files: model.npz, metrics.json, history.csv and the pictures. what: the model in words, "MLP"."""
    title = (f"{data.name}: {what}, {run.model.bottleneck.kind}, {run.metrics['rate']['bits_per_item']} bits per image, "
             f"held-out PSNR {run.metrics['test']['psnr']:.2f} dB")
    write_run(run, directory, title)
    draw_reconstructions(run, data, directory / "reconstructions.png", title)
    if has_encoder_gradients(run.model):
        batch, epochs = data.train_images[:GRADIENTS_SHOWN], len(run.history.rows)
        states = {"untrained": untrained(run.model, run.metrics["settings"]["seed"]), f"after epoch {epochs}": run.model}
        plots.encoder_gradients([(label, encoder_gradients(model, batch)) for label, model in states.items()],
                                path=directory / "gradients.png")


def untrained(model, seed):
    """The model as it was before training, built again from the same arguments and seed: but for the last digits of a bias
    that starts at the mean image, which is kept as float32.
    """
    bottleneck = make_bottleneck(model.bottleneck.kind, **model.bottleneck.config())
    return type(model)(bottleneck, **model.constants(), **model.config(), seed=seed, engine=model.engine.name)


def draw_reconstructions(run, data, path, title):
    """One test image of each label, its code, and its reconstruction."""
    examples = one_of_each(data.test_images, data.test_labels)
    codes = run.model.encode(examples)
    rows = [("original", examples), ("decoded from\nthe code", run.model.decode(codes))]
    if "test_before_threshold" in run.metrics:
        rows.append(("decoded from\nthe activations", run.model.decode(run.model.latent(examples))))
    plots.reconstructions(title, rows, codes if run.model.bottleneck.is_binary else None, path=path)


def one_of_each(images, labels):
    """The first image of each label, in the order of the labels."""
    return images[[int(np.argmax(labels == label)) for label in np.unique(labels)[:DIGITS_SHOWN]]]


def title(data):
    """The data in words."""
    return data.name


def results_table(metrics):
    """The figures of metrics.json as lines of text."""
    columns = ("psnr", "ssim", "mse", "mae")
    rows = [("held-out test images", metrics["test"])]
    if "test_before_threshold" in metrics:
        rows.append(("  before the threshold", metrics["test_before_threshold"]))
    if "train" in metrics:
        rows.append(("training images", metrics["train"]))
    rate_, code = metrics["rate"], metrics["code"]
    lines = [f"{'':24}{'PSNR dB':>9}{'SSIM':>8}{'MSE':>9}{'MAE':>8}"]
    lines += [f"{name:24}" + "".join(f"{row[c]:>{w}.{d}f}" for c, w, d in zip(columns, (9, 8, 9, 8), (2, 3, 1, 2),
                                                                             strict=True)) for name, row in rows]
    lines.append(f"{rate_['bits_per_item']} bits per image, compression ratio {rate_['cr']:.2f}")
    lines.append(f"code: mean distance to the nearest bit {code['distance_to_bit']:.3f}, bits that never change "
                 f"{code['dead_bits']}, entropy {code['mean_bit_entropy']:.3f} of 1 bit each")
    return "\n".join(lines)
