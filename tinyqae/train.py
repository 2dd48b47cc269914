"""The training loop. One step is forward, backward and update (TrainingStep.__call__); the rest is what goes around it:
batches, progress, validation, checkpoints, resume.

A run is a function of its arguments and seed. The order of the data (and any noise) in an epoch comes from a generator
seeded with (seed, epoch), so a run that is resumed at an epoch's start goes on exactly as if it had never stopped.
"""
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import backend
from .annotations import Batch, Examples, FilePath, Progress, Scalar
from .arguments import require_training
from .checkpoint import read_training, write_training
from .engine import environment
from .errors import stop_if_diverged
from .history import History, latent_counts
from .models import Autoencoder
from .optim import Optimizer, clip_by_norm
from .schedules import SCHEDULES, Schedule

SHUFFLE, NOISE = 1, 2
LATENT_SAMPLE = 1000
SECONDS_BETWEEN_READS = 0.25  # Reading the loss makes a GPU wait, so it is read now and then only.


class TrainingStep:
    """Training steps, in a `with` block. clip_norm: as in fit. sums: of each loss term over the examples since `restart`."""

    def __init__(self, model: Autoencoder, optimizer: Optimizer, batch_size: int, clip_norm: float | None = None):
        self.model, self.optimizer, self.batch_size, self.clip_norm = model, optimizer, batch_size, clip_norm
        self.sums: dict[str, Scalar] = defaultdict(float)

    def __enter__(self) -> "TrainingStep":
        return self

    def __exit__(self, *exception: object) -> None: ...

    def restart(self) -> None:
        """Begin new sums."""
        self.sums.clear()

    def __call__(self, batch: Batch, lr: float) -> None:
        """Train on one batch at this learning rate."""
        self.compute_gradients(batch)
        self.optimizer.step(self.model, lr)

    def compute_gradients(self, batch: Batch) -> None:
        """Forward and backward."""
        self.model.loss(batch)
        self.model.backward()
        if self.clip_norm is not None:
            clip_by_norm(self.model.gradients(), self.clip_norm)
        for name, value in self.model.terms.items():
            self.sums[name] += value * len(batch)


def fit(model: Autoencoder, examples: Examples, optimizer: Optimizer, *, epochs: int = 10, batch_size: int = 128,
        schedule: str | Schedule = "constant", clip_norm: float | None = None, validation: Examples | None = None,
        seed: int = 0, checkpoint: FilePath | None = None, resume: bool = False,
        progress: bool | Progress = True, description: str = "") -> History:
    """Train `model` on `examples` in place and return the History.

    examples: images (N, H, W, C), bytes 0..255 or floats in [0, 1], a NumPy array; or a list of sentences.
    schedule: "constant", "cosine" (down to 0 at the end), or a function from the step to a factor of the rate.
    clip_norm: the largest norm of a step's gradients; longer ones are scaled down to it. None for no limit.
    validation: examples to measure after each epoch, by their stored codes, or None.
    checkpoint: a path, written whole after each epoch. resume: go on from it if it exists.
    progress: show a bar with the loss terms; or a function, called at times with (steps done, all steps, {term: mean}).

    Raises TrainingDiverged when the loss is no longer finite; CheckpointError for a checkpoint that is corrupt or belongs to
    another run; ValueError for arguments out of range.
    """
    require_training(examples, epochs, batch_size, schedule, clip_norm)
    batches = model.batches(examples, batch_size)
    total_steps = epochs * len(batches)
    factor = schedule if callable(schedule) else SCHEDULES[schedule](total_steps)
    # A function's str() holds its address, which no other process has.
    name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", type(schedule).__qualname__)
    run = {"model": type(model).__name__, "config": model.config(), "bottleneck": repr(model.bottleneck),
           "lr": optimizer.lr, "optimizer": repr(optimizer), "schedule": name, "epochs": epochs, "batch_size": batch_size,
           "clip_norm": clip_norm, "seed": seed, "examples": len(examples), **environment(model.engine),
           "checksum of the examples": batches.checksum()}
    sample, history = (examples if validation is None else validation)[:LATENT_SAMPLE], History()
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        history = History(*read_training(checkpoint, model, optimizer, run))
    first_epoch = len(history.rows)
    model.bottleneck.set_progress(first_epoch / epochs)
    if not history.latents:
        history.latents.append((0, latent_counts(model.latent(sample))))

    # An overflow ends in TrainingDiverged, which says more than NumPy's warning.
    with model.engine.working(model, batch_size), np.errstate(over="ignore", invalid="ignore"), \
         model.engine.build(TrainingStep(model, optimizer, batch_size, clip_norm)) as training_step, \
         tqdm(total=total_steps, initial=first_epoch * len(batches), disable=callable(progress) or not progress,
              unit="step", desc=description or None, dynamic_ncols=True, mininterval=0.2) as bar:
        for epoch in range(first_epoch, epochs):
            started, read, seen = time.perf_counter(), -np.inf, 0
            model.bottleneck.random = backend.generator(seed, NOISE, epoch)
            training_step.restart()
            for i, batch in enumerate(batches.epoch(backend.generator(seed, SHUFFLE, epoch))):
                step = epoch * len(batches) + i
                lr = optimizer.lr * factor(step)
                training_step(batch, lr)
                model.bottleneck.set_progress((step + 1) / total_steps)
                seen += len(batch)
                if time.perf_counter() - read > SECONDS_BETWEEN_READS or i == len(batches) - 1:
                    read = time.perf_counter()
                    means = {name: float(backend.to_host(value)) / seen for name, value in training_step.sums.items()}
                    stop_if_diverged({f"{name} loss": v for name, v in means.items()}, epoch, lr, checkpoint)
                    bar.set_postfix({"epoch": f"{epoch + 1}/{epochs}", **{k: f"{v:.4f}" for k, v in means.items()}},
                                    refresh=False)
                    if callable(progress):
                        progress(step + 1, total_steps, means)
                bar.update()
            # The last step's weights have not met a loss yet.
            squares = float(backend.to_host(sum(backend.xp.vdot(p, p) for p in model.parameters())))
            stop_if_diverged({"sum of the squared weights": squares}, epoch, lr, checkpoint)
            row = {"epoch": epoch + 1, "lr": lr, **means, "seconds": time.perf_counter() - started}
            history.rows.append(row if validation is None else row | model.validate(validation))
            history.latents.append((epoch + 1, latent_counts(model.latent(sample))))
            if checkpoint is not None:
                write_training(checkpoint, model, optimizer, run, history)
    return history
