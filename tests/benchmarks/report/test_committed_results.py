"""The committed tables are what the code makes of the committed rows, to the last digit."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.report import TABLES, outputs, row_archive
from benchmarks.report.jobs import ROWS, all_jobs

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "report"
CONTENT = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
EXTRAS = ("limits", "demonstration", "originals", "gradients", "held_out")
"""What is computed from the data, of which the tests may have none: taken as committed."""


def dataset(number):
    """Data with the name, the hash and the number of examples of the committed run."""
    committed = CONTENT["tables"][str(number)]
    name = committed["data"].split(";")[0].split(",")[0]
    if number == 3:
        return SimpleNamespace(name=name, sha256=committed["data_sha256"], sentences=[min(i, 31_569) for i in range(50_000)])
    train, test = (np.broadcast_to(np.uint8(0), (count, 1)) for count in ({1: 60_000, 2: 50_000}[number], 10_000))
    return SimpleNamespace(name=name, sha256=committed["data_sha256"], train_images=train, test_images=test)


def committed_table(number):
    """A table whose `extras` are those of the committed run."""

    class Committed(type(TABLES[number])):
        def extras(self, data):
            committed = CONTENT["tables"][str(number)]
            return {name: committed[name] for name in EXTRAS if name in committed}

    return Committed()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    for package in ("rapidfuzz", "nltk", "simplemma"):
        pytest.importorskip(package, reason="the errata of Table 3 need the extra `text`")
    folder = tmp_path_factory.mktemp("committed")
    row_archive.unpack(RESULTS / "rows.zip", folder / ROWS)
    data = {committed_table(number): dataset(number) for number in TABLES}
    found = {job: job.result() for job in all_jobs(data, CONTENT["amounts"], CONTENT["seeds"], folder=folder)}
    assert found and None not in found.values(), "a row's identity is another one than when it was trained"
    about = {name: CONTENT[name] for name in ("command", "amounts", "seeds", "date")}
    return outputs.collect(data, found, about)


def test_csv(results):
    assert outputs.as_csv(results) == (RESULTS / "results.csv").read_text(encoding="utf-8")


def test_json(results):
    assert outputs.as_json(results) == (RESULTS / "results.json").read_text(encoding="utf-8")


def test_markdown(results):
    made = "\n".join(outputs.as_markdown(results, number) for number in results.tables)
    assert made == (RESULTS / "tables.md").read_text(encoding="utf-8")
