"""The training loop. One step is forward, backward and update (TrainingStep.__call__); the rest is the loop around it:
batches, progress, validation, checkpoints, resume.

A run is a function of its arguments and seed. The order of the data (and any noise) in an epoch comes from a generator
seeded with (seed, epoch), so a run that is resumed at the start of an epoch continues as if it had never stopped.
"""
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from . import backend
from .annotations import Batch, Examples, FilePath, Progress, Scalar
from .arguments import require_training
from .checkpoint import describe, read_training, write_training
from .history import History, latent_counts
from .models import Autoencoder
from .optim import Optimizer, clip_by_norm
from .progress import Monitor
from .schedules import SCHEDULES, Schedule

SHUFFLE, NOISE = 1, 2
LATENT_SAMPLE = 1000


class TrainingStep:
    """Runs training steps in a `with` block. clip_norm: as in fit. sums: of each loss term over examples since `restart`."""

    def __init__(self, model: Autoencoder, optimizer: Optimizer, batch_size: int, clip_norm: float | None = None):
        self.model, self.optimizer, self.batch_size, self.clip_norm = model, optimizer, batch_size, clip_norm
        self.sums: dict[str, Scalar] = defaultdict(float)

    def __enter__(self) -> "TrainingStep":
        return self

    def __exit__(self, *exception: object) -> None: ...

    def restart(self) -> None:
        """Reset the sums."""
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
        progress: bool | Progress = True, description: str = "",
        callbacks: Sequence[Callable[[Autoencoder, History], object]] = ()) -> History:
    """Train `model` on `examples` in place and return the History, which is also model.history, even after an interrupt.

    Args:
        examples: images (N, H, W, C), bytes 0..255 or floats in [0, 1], a NumPy array; or a list of sentences.
        schedule: "constant", "cosine" (down to 0 at the end), or a function from the step to a factor of the learning rate.
        clip_norm: the maximum norm of a step's gradients; larger ones are scaled down to it. None for no clipping.
        validation: examples to evaluate after each epoch, from their stored codes, or None.
        checkpoint: a path, written atomically after each epoch.
        resume: resume from the checkpoint if it exists.
        progress: show a bar with the loss terms; or a function, called regularly with (steps done, all steps, {term: mean}).
        callbacks: functions of (model, history), called before each epoch and after the last one; True ends the training.

    Raises:
        TrainingDiverged: the loss is no longer finite.
        CheckpointError: the checkpoint is corrupt or belongs to another run.
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """
    require_training(examples, validation, optimizer, epochs, batch_size, schedule, clip_norm)
    batches = model.batches(examples, batch_size)
    steps = len(batches)
    factor = schedule if callable(schedule) else SCHEDULES[schedule](epochs * steps)
    run = describe(model, optimizer, epochs=epochs, batch_size=batch_size, schedule=schedule, clip_norm=clip_norm, seed=seed,
                   examples=len(examples), checksum=batches.checksum())
    sample, model.history = (examples if validation is None else validation)[:LATENT_SAMPLE], History()
    history = model.history
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        history.rows, history.latents = read_training(checkpoint, model, optimizer, run)
    model.bottleneck.set_progress(len(history.rows) / epochs)
    if not history.latents:
        history.latents.append((0, latent_counts(model.latent(sample))))

    # An overflow ends in TrainingDiverged, which says more than NumPy's warning.
    with model.engine.working(model, batch_size), np.errstate(over="ignore", invalid="ignore"), \
         model.engine.build(TrainingStep(model, optimizer, batch_size, clip_norm)) as training_step, \
         Monitor(training_step, steps, epochs, len(history.rows), progress, description, checkpoint) as monitor:
        while not any([callback(model, history) is True for callback in callbacks]) and len(history.rows) < epochs:
            epoch = len(history.rows)
            model.bottleneck.random = backend.generator(seed, NOISE, epoch)
            monitor.start(epoch)
            for step, batch in enumerate(batches.epoch(backend.generator(seed, SHUFFLE, epoch)), start=epoch * steps):
                lr = optimizer.lr * factor(step)
                training_step(batch, lr)
                model.bottleneck.set_progress((step + 1) / (epochs * steps))
                monitor.after_step(len(batch), lr)
            row = monitor.finish()
            history.rows.append(row if validation is None else row | model.validate(validation))
            history.latents.append((epoch + 1, latent_counts(model.latent(sample))))
            if checkpoint is not None:
                write_training(checkpoint, model, optimizer, run, history)
    return history
