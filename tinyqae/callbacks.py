"""Callbacks for train.fit: functions callback(model, history), called before each epoch and after the last one. The training
ends when one returns True. These depend only on the History, so that a resumed run continues as if it had never stopped.
"""

from collections.abc import Callable

import numpy as np

from .annotations import FilePath
from .errors import require_positive
from .history import History
from .models import Autoencoder

__all__ = ["Callback", "best_epoch", "save_best", "stop_early"]

Callback = Callable[[Autoencoder, History], object]


def stop_early(patience: int = 5, figure: str = "val_psnr", largest: bool = True) -> Callback:
    """A callback that ends the training when `figure`, a column of the History, was best more than `patience` epochs ago.

    Args:
        largest: whether the best is the largest (a PSNR) or the smallest (a loss).
    """
    require_positive("patience", patience)
    return lambda model, history: bool(history.rows) and len(history.rows) - best_epoch(history, figure, largest) > patience


def save_best(path: FilePath, figure: str = "val_psnr", largest: bool = True) -> Callback:
    """A callback that saves the model to `path` after each epoch that is better than all before. Arguments as in stop_early.

    After the training, tinyqae.load(path) is the best model.
    """

    def callback(model: Autoencoder, history: History) -> None:
        if history.rows and best_epoch(history, figure, largest) == len(history.rows):
            model.save(path)

    return callback


def best_epoch(history: History, figure: str = "val_psnr", largest: bool = True) -> int:
    """The first epoch, counted from 1, in which a column of the History is best. ValueError if it has no such column."""
    if figure not in history.rows[0]:
        raise ValueError(
            f"figure={figure!r} is not recorded in this training; choose one of {', '.join(history.rows[0])}, "
            "or pass examples as `validation` to fit"
        )
    values = np.array([row[figure] for row in history.rows])
    return int(values.argmax() if largest else values.argmin()) + 1
