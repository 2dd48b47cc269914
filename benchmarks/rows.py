"""What the rows of all tables share."""
import statistics
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
QUANTS = ("vanilla", "naive", "fence", "commit")


@dataclass(frozen=True)
class Row:
    """One row: how it is trained, on the first `items` training examples (None: all) of which split (None: the data's
    own), and with how many of the seeds.
    """

    label: str
    size: object
    recipe: object
    items: int | None = None
    most_seeds: int | None = None
    split: str | None = None

    def seeds(self, seeds):
        """Those of the seeds that this row is trained with."""
        return seeds[:self.most_seeds]


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
