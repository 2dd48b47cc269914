"""From settings to files: train missing rows, and once all rows are trained, write the results."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tinyqae.checkpoint import write_atomically
from tinyqae.recipes import RECIPES

from . import bars, outputs, page, workers
from .image_tables import Table1, Table2
from .jobs import all_jobs, load
from .rows import FULL
from .text_table import Table3

TABLES = {table.number: table for table in (Table1(), Table2(), Table3())}
ALL_OF_IT = dict.fromkeys(RECIPES[::-1], FULL)
"""The whole study: how much of each recipe is trained, in the order of the results."""


@dataclass
class Outcome:
    """The outcome of a call: the jobs that are done, those that are still missing, and why some failed; `beyond`, finished
    jobs of the whole study with these seeds that were not requested; `results`, an outputs.Results, and the names of the
    files `written`, None and empty while rows are missing.
    """

    done: list
    missing: list
    failures: dict
    beyond: list
    results: outputs.Results | None = None
    written: tuple = ()


def reproduce(
    tables,
    out,
    *,
    amounts=ALL_OF_IT,
    seeds=(0, 1, 2),
    figures_only=False,
    processes=1,
    shard=(1, 1),
    dask=None,
    data_dir=None,
    allow_modified_data=False,
    backend="numpy",
    command="",
):
    """Train the rows of these tables that are not yet in the folder `out`; once all are there, write the report.

    tables: list of tables (see TABLES). amounts: {recipe's name: rows.FULL, REDUCED or QUICK}, QUICK for all or none.
    figures_only: train the rows that Figures 3 to 5 show, and draw the figures from these and any other rows that are
    there. shard: (i, n), train only the i-th of n parts. dask: the address of a cluster that trains them, instead of local
    processes. backend: as in backend.use, where the rows are trained. command: how to repeat this run.
    Returns an Outcome. MissingPackage if the page could not be made at the end.
    """
    if not figures_only:
        page.templates()
    out = Path(out).resolve()  # So that the workers of a cluster can find it.
    write_atomically(out / ".writable", lambda file: None)
    (out / ".writable").unlink(missing_ok=True)  # Another process may be trying the same.
    data = {table: load(type(table), data_dir, allow_modified_data) for table in tables}
    settings = {"folder": out, "data_dir": data_dir, "allow_modified_data": allow_modified_data, "backend": backend}
    every_job = all_jobs(data, amounts, seeds, **settings)
    jobs = [job for job in every_job if job.is_in_figures] if figures_only else every_job
    failures = _train([job for job in jobs[shard[0] - 1 :: shard[1]] if job.result() is None], processes, dask)
    found = {job: result for job in every_job if (result := job.result()) is not None}
    done, missing = [job for job in jobs if job in found], [job for job in jobs if job not in found]
    asked = {job.path for job in every_job}
    beyond = [
        job
        for job in all_jobs(data, dict.fromkeys(amounts, FULL), seeds, **settings)
        if job.path not in asked and job.result() is not None
    ]
    if missing:
        return Outcome(done, missing, failures, beyond)
    print(f"all rows are there: {'drawing the figures' if figures_only else 'writing the report'}", file=sys.stderr)
    about = {"command": command, "amounts": dict(amounts), "seeds": list(seeds), "date": time.strftime("%Y-%m-%d")}
    results = outputs.collect(data, found, about)
    written = outputs.write_figures(results, out) if figures_only else outputs.write(results, out)
    return Outcome(done, [], {}, beyond, results, tuple(written))


def _train(jobs, processes, dask):
    """Run the jobs, the longest first, so that no long one is left for the end."""
    if not jobs:
        return {}
    jobs = sorted(jobs, key=lambda job: -job.seconds)
    watch = bars.watch(jobs)
    try:
        return workers.run_on_dask(jobs, dask, watch) if dask else workers.run_here(jobs, processes, watch)
    finally:
        watch.close()
