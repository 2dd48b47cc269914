"""What is shown and checked during training: the mean losses of the epoch so far, a bar, whether they are finite."""

import sys
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # In a notebook without ipywidgets, where the bar is text.
    from tqdm.auto import tqdm

from . import backend
from .annotations import FilePath, Progress
from .errors import stop_if_diverged

if TYPE_CHECKING:
    from .train import TrainingStep

SECONDS_BETWEEN_READS = 0.25
"""Reading the loss stalls a GPU, so it is not read more often."""


class _Lines:
    """Standard error, with a new line for each update of a bar."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class Monitor:
    """Follows the steps of a training; its bar is closed at the end of a `with` block.

    Args:
        training_step: has the sums of the loss terms, and the model.
        steps: per epoch. epochs: in all. finished: epochs that were done before.
        progress, description, checkpoint: as in train.fit.
    """

    def __init__(
        self,
        training_step: "TrainingStep",
        steps: int,
        epochs: int,
        finished: int,
        progress: bool | Progress = True,
        description: str = "",
        checkpoint: FilePath | None = None,
    ):
        self.training_step, self.steps, self.epochs, self.checkpoint = training_step, steps, epochs, checkpoint
        self.report = progress if callable(progress) else None
        # A log file gets a line now and then. In notebooks tqdm.auto draws by other means.
        in_log = not (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self.bar = tqdm(
            total=epochs * steps,
            initial=finished * steps,
            disable=callable(progress) or not progress,
            unit="step",
            desc=description or None,
            dynamic_ncols=True,
            mininterval=30 if in_log else 0.2,
            miniters=1,
            file=_Lines() if in_log else None,
        )

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def start(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.training_step.restart()
        self.epoch, self.done, self.seen, self.last_read, self.started = epoch, 0, 0, -np.inf, time.perf_counter()

    def after_step(self, examples: int, lr: float) -> None:
        """Count a step on this many examples at this learning rate. TrainingDiverged if a loss is no longer finite."""
        self.done, self.seen, self.lr = self.done + 1, self.seen + examples, lr
        if time.perf_counter() - self.last_read > SECONDS_BETWEEN_READS or self.done == self.steps:
            self.last_read = time.perf_counter()
            self._read()
        self.bar.update()

    def _read(self) -> None:
        sums = self.training_step.sums
        self.means = {name: float(backend.to_host(value)) / self.seen for name, value in sums.items()}
        self._require_finite({f"{name} loss": mean for name, mean in self.means.items()})
        shown = {"epoch": f"{self.epoch + 1}/{self.epochs}", **{name: f"{mean:.4f}" for name, mean in self.means.items()}}
        self.bar.set_postfix(shown, refresh=False)
        if self.report:
            self.report(self.epoch * self.steps + self.done, self.epochs * self.steps, self.means)

    def finish(self) -> dict[str, float]:
        """The finished epoch's row of the History. TrainingDiverged if its last step left infinite weights."""
        # No loss has been computed with the last step's weights yet.
        squares = sum(backend.xp.vdot(p, p) for p in self.training_step.model.parameters())
        self._require_finite({"sum of the squared weights": float(backend.to_host(squares))})
        return {"epoch": self.epoch + 1, "lr": self.lr, **self.means, "seconds": time.perf_counter() - self.started}

    def _require_finite(self, values):
        stop_if_diverged(values, self.epoch, self.lr, self.checkpoint)
