"""Shared by the rows of all tables: what a row is, how much of it is trained, and means over seeds."""

import base64
import io
import statistics
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tinyqae.bottlenecks import REPORT_KINDS

QUANTS = tuple(REPORT_KINDS)
"""The report's four bottlenecks, in the order of its text."""

FULL, REDUCED, QUICK = "full", "reduced", "quick"
"""How much is trained: all; fewer examples, epochs and seeds where a row would take hours; a smoke test of every row."""

QUICK_MARK = "QUICK RUN: every row on a small part of the data, as a smoke test. Its figures are meaningless."


ALL_IMAGES = ", all images"
"""Ends the label of a row that a reduced run lists a second time, trained on all images."""

IN_FULL = ", in full"
"""The same for a row trained on all images for all epochs of the recipe `default`."""

TRANSFORM = ", transform"
"""Ends the label of a transform code (tinyqae/transform_coding.py), which has the same recipe's name."""

TRANSFORM_IN_WORDS = (
    " Rows called transform start from principal components with several bits each, not from random weights "
    "(tinyqae/transform_coding.py)."
)


@dataclass(frozen=True)
class Row:
    """One row, trained by its recipe on the first `items` training examples (None: all) of `split` (None: the data's own),
    with at most `most_seeds` of the seeds. test_items: the number of held-out examples to measure it on (None: all).
    """

    label: str
    size: object
    recipe: object
    items: int | None = None
    most_seeds: int | None = None
    split: str | None = None
    test_items: int | None = None

    def seeds(self, seeds):
        """Return those of the seeds that this row is trained with."""
        return seeds[: self.most_seeds]

    @property
    def is_plain(self):
        """Whether this is a bottleneck at a size and nothing else: no noise, no hidden layer, no other split."""
        return self.label == f"{self.recipe.quant} {self.size}"


def summary(results, *path):
    """(mean, standard deviation, or None for one seed) of a figure over the seeds' results; path: its keys in a result."""
    values = []
    for value in results:
        for key in path:
            value = value[key]
        values.append(value)
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def plus_minus(pair, digits=2):
    """A mean and a standard deviation, if there is one, as text."""
    return f"{pair[0]:.{digits}f}" + (f" ± {pair[1]:.{digits}f}" if pair[1] is not None else "")


def effort(row, items):
    """What a row was trained on, as text; items: the key of its number of training examples."""
    return f"{row[items]} x {row['epochs']} x {row['seeds']}"


def to_png(images):
    """Images (K, H, W, C), bytes, side by side as one PNG in base64, as a row's file stores its reconstructions."""
    picture, sheet = io.BytesIO(), np.concatenate(images, axis=1)
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(picture, "PNG", optimize=True)
    return base64.b64encode(picture.getvalue()).decode()


def from_png(text):
    """The images (K, H, W, C) of `to_png`; they are square."""
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    sheet = sheet.reshape(*sheet.shape[:2], -1)
    return np.stack(np.split(sheet, sheet.shape[1] // sheet.shape[0], axis=1))
