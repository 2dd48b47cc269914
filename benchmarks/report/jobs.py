"""One row with one seed as a job: what identifies it, its file, and how to run it on any machine.

A job writes one JSON file, atomically, and the trained model next to it. Their names end with a hash of everything the
figures depend on: the configuration, the data and the version of the code. During training, a checkpoint is kept in a folder
next to them.
"""

import functools
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tinyqae import __version__, backend
from tinyqae.checkpoint import write_atomically
from tinyqae.errors import CheckpointError, DataError

ROWS = "rows"
"""The folder of the rows' files, inside the folder of the results."""


@dataclass(frozen=True, eq=False)
class Job:
    """One row of a table with one seed. folder: of the results. sha256: of the table's data. backend: as in backend.use."""

    table: object
    row: object
    seed: int
    folder: Path
    sha256: str
    data_dir: str | None = None
    allow_modified_data: bool = False
    backend: str = "numpy"

    @property
    def name(self):
        """A readable name."""
        return f"table {self.table.number}, {self.row.recipe.name}, {self.row.label}, seed {self.seed}"

    @functools.cached_property
    def identity(self):
        """What the figures depend on, as plain data."""
        row = self.row
        described = {
            "table": self.table.number,
            "label": row.label,
            "recipe": row.recipe.as_dict(),
            "split": row.split,
            "items": row.items,
            "test_items": row.test_items,
            "seed": self.seed,
            "data_sha256": self.sha256,
            "version": __version__,
        }
        # As read back from the file: with lists instead of tuples.
        return json.loads(json.dumps(described))

    @property
    def key(self):
        """A hash of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def path(self):
        """The file for the figures."""
        return self.folder / ROWS / (re.sub(r"\W+", "-", self.name) + f"-{self.key}.json")

    @property
    def model_path(self):
        """The file for the trained model, which exists whenever the figures do."""
        return self.path.with_suffix(".npz")

    @property
    def seconds(self):
        """Estimated time on one core, to compute the remaining time and to start with the longest."""
        return self.table.seconds(self.row)

    @property
    def is_in_figures(self):
        """Whether Figures 3 to 5 show the row: one of the report's bottlenecks or of the others, at the figures' size."""
        plain = f"{self.row.recipe.quant} {self.row.size}"
        return self.row.size == self.table.figure_size and self.row.label.removesuffix(", random split") == plain

    def result(self):
        """Return the figures, or None if the file is missing, corrupted or of another configuration."""
        try:
            content = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("identity") != self.identity:
            return None
        return content.get("result")

    def carry_out(self, progress=False):
        """Train the row, resuming from its checkpoint if there is one, and write the model and its figures. progress: as in
        train.fit.
        """
        backend.use(self.backend)
        backend.use_threads(1)
        data = load(type(self.table), self.data_dir, self.allow_modified_data)
        if data.sha256 != self.sha256:
            raise DataError(f"{data.name} here has SHA-256 {data.sha256}, but the rows are to be trained on {self.sha256}")
        checkpoints = self.path.with_suffix("")
        try:
            result, model = self.table.train(self.row, self.seed, data, checkpoints, progress)
        except CheckpointError:
            # Corrupted, or of other kernels or another number of threads: train the row from the start.
            shutil.rmtree(checkpoints)
            result, model = self.table.train(self.row, self.seed, data, checkpoints, progress)
        model.save(self.model_path)
        text = json.dumps({"identity": self.identity, "result": result})
        write_atomically(self.path, lambda file: file.write(text.encode()))
        shutil.rmtree(checkpoints, ignore_errors=True)


@functools.cache
def load(table, data_dir, allow_modified_data):
    """The data of a table (its class): once in each process, for all its rows."""
    return table.load(data_dir, allow_modified_data)


def all_jobs(tables, amounts, seeds, **settings):
    """Every job of the tables, a list. tables: {table: its data}. amounts: {recipe's name: FULL, REDUCED or QUICK}."""
    return [
        Job(table, row, seed, sha256=data.sha256, **settings)
        for table, data in tables.items()
        for name, amount in amounts.items()
        for row in table.rows(name, amount)
        for seed in row.seeds(seeds)
    ]
