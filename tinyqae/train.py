"""The training loop: batches, progress, validation, checkpoints, resume.

One step is two lines, and this file is what goes around them:

    terms = model.loss_and_gradients(batch)               # forward, losses, backward
    optimizer.step(model.parameters, model.gradients)     # update

graphs.py has them, and makes one CUDA graph of them on a GPU. A run is a function of its arguments and seed. The order of
the data (and any noise) in an epoch comes from a generator seeded with (seed, epoch), so a run taken up at an epoch's start
goes on exactly as if it had never stopped.
"""
import csv
import io
import json
import math
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from . import backend, fused
from .checkpoint import CheckpointError, read_arrays, write_arrays, write_atomically
from .errors import TrainingDiverged
from .graphs import TrainingStep
from .optim import constant, cosine

SCHEDULES = ("constant", "cosine")
SHUFFLE, NOISE = 1, 2
LATENT_BINS = 40
LATENT_SAMPLE = 1000
# Reading the loss makes a GPU wait, so it is looked at now and then only.
SECONDS_PER_LOOK = 0.25


@dataclass
class History:
    """What a run recorded: `rows`, one dict of numbers an epoch (loss terms, rate, seconds, validation); and
    `latents`, pairs (epoch, counts), where counts[i] of LATENT_BINS bins over [0, 1] tells how many of the values before
    the threshold fell there (values outside are counted in the end bins). Epoch 0 is before training.
    """

    rows: list = field(default_factory=list)
    latents: list = field(default_factory=list)

    def save_csv(self, path):
        """Write `rows` as a CSV table, one line an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]) if self.rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def fit(model, examples, optimizer, *, epochs=10, batch_size=128, schedule="constant", clip_norm=None, validation=None,
        seed=0, checkpoint=None, resume=False, progress=True, description=""):
    """Train `model` on `examples` in place and return the History.

    examples: images (N, H, W, C), bytes 0..255 or floats in [0, 1], a NumPy array; or a list of sentences, for a model
    of sentences. Moved to the device once.
    schedule: "constant", "cosine" (down to 0 at the end), or a function from the step to a factor of the rate.
    clip_norm: the largest norm of a step's gradients, to which longer ones are shortened; None for no limit.
    validation: examples to measure after each epoch, as read from storage; None for no validation.
    checkpoint: a path, written whole after each epoch. resume: go on from it when it is there.
    progress: show a bar with every loss term; or a function, which a few times a second is told the steps done, all steps
    and the mean loss terms of the epoch.

    Raises TrainingDiverged when the loss is no longer finite; CheckpointError when the checkpoint to resume from is
    corrupt or belongs to another run; ValueError for arguments out of range.
    """
    for argument, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not (isinstance(value, int | np.integer) and value > 0):
            raise ValueError(f"{argument}={value!r} must be a whole number above 0")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm!r} must be None or a number above 0")
    if len(examples) == 0:
        raise ValueError("examples is empty: there is nothing to train on")
    batches = model.batches(examples, batch_size)
    steps_per_epoch = len(batches)
    total_steps = epochs * steps_per_epoch
    factor = _schedule(schedule, total_steps)
    run = {"model": type(model).__name__, "config": model.config(), "bottleneck": repr(model.bottleneck),
           "lr": optimizer.lr, "optimizer": repr(optimizer), "schedule": _schedule_name(schedule), "epochs": epochs,
           "batch_size": batch_size, "clip_norm": clip_norm, "seed": seed, "examples": len(examples),
           "backend": backend.name, "kernels": fused.kernels(), "threads": backend.threads,
           "checksum of the examples": batches.checksum()}
    sample = (examples if validation is None else validation)[:LATENT_SAMPLE]
    history, first_epoch = History(), 0
    if resume and checkpoint is not None and _exists(checkpoint):
        history, first_epoch = _read_checkpoint(checkpoint, model, optimizer, run)
    model.bottleneck.at(first_epoch / epochs)
    if not history.latents:
        history.latents.append((0, _latent_counts(model, sample)))

    # An overflow ends in TrainingDiverged, which says more than NumPy's warning.
    with model.working(batch_size), np.errstate(over="ignore", invalid="ignore"), \
         TrainingStep(model, optimizer, batch_size, clip_norm) as training_step, \
         tqdm(total=total_steps, initial=first_epoch * steps_per_epoch, disable=callable(progress) or not progress,
              unit="step", desc=description or None, dynamic_ncols=True, mininterval=0.2) as bar:
        for epoch in range(first_epoch, epochs):
            started = time.perf_counter()
            model.use_random(backend.generator(seed, NOISE, epoch))
            training_step.restart()
            seen, looked = 0, -math.inf
            for i, batch in enumerate(batches.epoch(backend.generator(seed, SHUFFLE, epoch))):
                step = epoch * steps_per_epoch + i
                lr = optimizer.lr * factor(step)
                training_step(batch, lr)
                model.bottleneck.at((step + 1) / total_steps)
                seen += len(batch)
                if time.perf_counter() - looked > SECONDS_PER_LOOK or i == steps_per_epoch - 1:
                    looked = time.perf_counter()
                    means = {name: float(backend.to_host(value)) / seen for name, value in training_step.sums.items()}
                    _stop_if_diverged({f"{name} loss": v for name, v in means.items()}, epoch, lr, checkpoint)
                    bar.set_postfix({"epoch": f"{epoch + 1}/{epochs}", **{k: f"{v:.4f}" for k, v in means.items()}},
                                    refresh=False)
                    if callable(progress):
                        progress(step + 1, total_steps, means)
                bar.update()
            # The last step's weights have not met a loss yet.
            squares = float(backend.to_host(backend.xp.vdot(model.parameters, model.parameters)))
            _stop_if_diverged({"sum of the squared weights": squares}, epoch, lr, checkpoint)
            row = {"epoch": epoch + 1, "lr": lr, **means, "seconds": time.perf_counter() - started}
            if validation is not None:
                row |= model.validate(validation)
            history.rows.append(row)
            history.latents.append((epoch + 1, _latent_counts(model, sample)))
            if checkpoint is not None:
                _write_checkpoint(checkpoint, model, optimizer, run, history)
    return history


def _schedule(schedule, total_steps):
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}, or give a function")
    return cosine(total_steps) if schedule == "cosine" else constant()


def _schedule_name(schedule):
    """What tells schedules apart across processes: a function's str() holds its address."""
    if isinstance(schedule, str):
        return schedule
    return getattr(schedule, "__qualname__", type(schedule).__qualname__)


def _latent_counts(model, images):
    latent = np.clip(model.latent(images), 0, 1)
    return np.histogram(latent, bins=LATENT_BINS, range=(0, 1))[0].tolist()


def _stop_if_diverged(values, epoch, lr, checkpoint):
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if not bad:
        return
    if checkpoint is not None and epoch > 0:
        kept = f"The weights after epoch {epoch} are kept in {checkpoint}."
    else:
        kept = "No checkpoint had been written yet."
    raise TrainingDiverged(f"the {bad[0]} became {values[bad[0]]} in epoch {epoch + 1} at learning rate {lr:.3g}. "
                           f"{kept} Try a smaller learning rate or weight of the added loss.")


def _exists(path):
    try:
        with open(path, "rb"):
            return True
    except FileNotFoundError:
        return False


def _write_checkpoint(path, model, optimizer, run, history):
    arrays = {f"model.{name}": array for name, array in model.state_arrays().items()}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state_arrays().items()}
    write_arrays(path, arrays, {"format": "tinyqae checkpoint", "version": 1, "run": run,
                                "rows": history.rows, "latents": history.latents})


def _read_checkpoint(path, model, optimizer, run):
    """Take up model and optimizer from the file; returns (history, epochs done)."""
    arrays, meta = read_arrays(path)
    if meta.get("format") != "tinyqae checkpoint":
        raise CheckpointError(f"{path} is not a training checkpoint: its format is {meta.get('format')!r}")
    run = json.loads(json.dumps(run))
    for name, value in run.items():
        if meta["run"].get(name) != value:
            raise CheckpointError(f"{path} belongs to another run: its {name} is {meta['run'].get(name)!r}, this run's "
                                  f"is {value!r}. Give the same settings, another directory, or start anew")
    model.restore(_with_prefix("model.", arrays))
    optimizer.restore(_with_prefix("optimizer.", arrays))
    return History(meta["rows"], [tuple(pair) for pair in meta["latents"]]), len(meta["rows"])


def _with_prefix(prefix, arrays):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
