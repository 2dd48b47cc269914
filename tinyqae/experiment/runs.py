"""One run from data to files, whatever the data: train, note the settings, write what the run leaves."""
import importlib.metadata
import json
import math
import platform
from dataclasses import dataclass

from .. import backend, plots
from ..checkpoint import write_atomically
from ..train import fit

ROUNDED_AFTERWARDS = ("naive", "fence", "annealed")
"""The bottlenecks whose training sees values that storage rounds: for these it is shown what the threshold costs."""

LOSS_UNITS = {"bce": "nats per pixel", "mse": "mean squared error", None: "nats per character"}


@dataclass
class Run:
    """A trained model, its history, and its figures (the content of metrics.json)."""

    model: object
    history: object
    metrics: dict


def train(recipe, examples, *, seed=0, directory=None, resume=False, progress=True, engine=None):
    """Train as `recipe` says on `examples` but for those that it keeps for validation.

    directory: where the checkpoint goes; None writes nothing. engine: see tinyqae.engine. Returns (model, history, training
    examples, settings).
    """
    training, validation = recipe.split(examples)
    model = recipe.make_model(training, seed, engine)
    history = fit(model, training, recipe.make_optimizer(), **recipe.fit_arguments(), validation=validation, seed=seed,
                  checkpoint=directory / "checkpoint.npz" if directory else None, resume=resume, progress=progress,
                  description=recipe.quant)
    return model, history, training, settings_of(model, history, seed, recipe=recipe.as_dict())


def settings_of(model, history, seed, **more):
    """What metrics.json says of how a model was trained. more: what else there is to say."""
    return {**more, "seed": seed, "model_id": model.model_id(), "backend": backend.describe(), "engine": model.engine.name,
            "kernels": model.engine.kernels(), "versions": versions(),
            "seconds": {"training": round(sum(row["seconds"] for row in history.rows), 2)}}


def write_run(run, directory, title):
    """model.npz, metrics.json, history.csv and two pictures, each whole or not at all."""
    run.model.save(directory / "model.npz")
    text = json.dumps(run.metrics, indent=2) + "\n"
    write_atomically(directory / "metrics.json", lambda file: file.write(text.encode()))
    run.history.save_csv(directory / "history.csv")
    plots.latent_histograms(title, run.history.latents, path=directory / "latents.png")
    unit = LOSS_UNITS[getattr(run.model, "reconstruction", None)]
    plots.training_curves(title, run.history.rows, unit, path=directory / "curves.png")


def full_run_estimate(run, items, name="images"):
    """A sentence on how long the same epochs on all `items` training examples would take, from the time this run took."""
    settings = run.metrics["settings"]
    used = settings["data"][f"training_{name}"]
    minutes = math.ceil(settings["seconds"]["training"] * items / used / 60)
    return (f"trained on {used} of {items} {name}; the same epochs on all of them would take about {minutes} "
            f"minute{'s' * (minutes > 1)}")


def versions():
    """The versions of Python and of the packages that shape the numbers."""
    packages = {name: _version(name) for name in ("tinyqae", "numpy", "numba", "scikit-image")}
    return {"python": platform.python_version(), **{name: found for name, found in packages.items() if found}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
