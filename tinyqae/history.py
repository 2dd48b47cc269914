"""What a training run records."""

from dataclasses import dataclass, field

import numpy as np

from .annotations import FilePath
from .checkpoint import write_atomically

__all__ = ["History", "latent_counts", "undecided"]

LATENT_BINS = 40


@dataclass(repr=False)
class History:
    """What a run recorded: `rows`, a dict of numbers per epoch (loss terms, learning rate, seconds, validation); and
    `latents`, pairs (epoch, counts): how many of the values before the threshold fell in each of LATENT_BINS bins over
    [0, 1] (values outside are counted in the end bins). Epoch 0 is before training.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    latents: list[tuple[int, list[int]]] = field(default_factory=list)

    def __repr__(self) -> str:
        last = {name: value for name, value in self.rows[-1].items() if name != "epoch"} if self.rows else {}
        return f"<History of {len(self.rows)} epochs; the last: " + ", ".join(f"{n}={v:.4g}" for n, v in last.items()) + ">"

    def save_csv(self, path: FilePath) -> None:
        """Write `rows` as a CSV table, one line for each epoch."""
        lines = [*self.rows[:1], *(row.values() for row in self.rows)]  # The names of the first row are the header.
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        write_atomically(path, lambda file: file.write(text.encode()))


def latent_counts(latent: np.ndarray) -> list[int]:
    """How many of the values before the threshold (N, K) fall in each of LATENT_BINS bins over [0, 1], a list."""
    return np.histogram(np.clip(latent, 0, 1), bins=LATENT_BINS, range=(0, 1))[0].tolist()


def undecided(latents: list[tuple[int, list[int]]]) -> float:
    """The share of the values before the threshold that lie between 1/4 and 3/4 after training. latents: History.latents."""
    counts = latents[-1][1]
    return sum(counts[LATENT_BINS // 4 : 3 * LATENT_BINS // 4]) / sum(counts)
