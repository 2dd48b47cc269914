"""examples/lesson.ipynb: stored without outputs, and executed from the first cell to the last on the synthetic digits."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "lesson.ipynb"
FIGURES = {"staircase": 1, "oscillation-code": 1, "bias-code": 1, "pictures": 5, "flips-code": 1}
"""Cells by their ids, and how many figures each displays."""


def stored():
    return json.loads(NOTEBOOK.read_text())


def test_it_is_stored_as_jupyter_writes_it_and_without_outputs():
    notebook = stored()
    assert NOTEBOOK.read_text() == json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]


def test_every_cell_is_named_once_and_the_cells_with_figures_are_there():
    ids = [cell["id"] for cell in stored()["cells"]]
    assert len(set(ids)) == len(ids) <= 18
    assert all(re.fullmatch("[a-z-]+", name) for name in ids)  # A random id would change whenever a cell is written again.
    assert FIGURES.keys() <= set(ids)


def test_it_runs_on_synthetic_digits_unless_told_otherwise():
    (setup,) = (cell for cell in stored()["cells"] if cell["id"] == "setup")
    assert re.findall('^DATA = "(.*?)"', "".join(setup["source"]), re.MULTILINE) == ["synthetic"]


@pytest.mark.notebook
def test_it_executes_with_figures_and_the_numbers_of_the_worked_example(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="executing a notebook needs the extra `notebook`")
    pytest.importorskip("ipykernel", reason="executing a notebook needs the extra `notebook`")
    import nbformat  # comes with nbclient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nobody's own settings of IPython
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute()  # raises CellExecutionError, which shows the cell and its traceback

    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    assert all(cell.execution_count for cell in cells.values())
    assert not [
        output
        for cell in cells.values()
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    shown = {name: sum("image/png" in output.get("data", {}) for output in cell.outputs) for name, cell in cells.items()}
    assert {name: count for name, count in shown.items() if count} == FIGURES

    printed = {
        name: "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for name, cell in cells.items()
    }
    assert "derivatives of the threshold: [0.]" in printed["staircase"]
    assert "at a = 1/2: coordinate (0,)" in printed["staircase"]
    assert "against the threshold: gradient of coordinate" in printed["surrogate"]
    assert float(re.search("surrogate: relative error (.*)", printed["surrogate"])[1]) < 1e-6
    assert "L(0) = 0.927   L(1) = 1.327   D = +0.400: the bit should be off" in printed["one-bit-code"]
    assert "STE at b = 0: -1.123, the wrong sign; it pushes the bit on" in printed["one-bit-code"]
    assert "STE at b = 1: +1.923, the right sign; it pushes the bit off" in printed["one-bit-code"]
    assert "stable for 1.123 < w < 1.923" in printed["oscillation-code"]
    endings = re.findall(
        r"^w = (\S+), from a = (\S+): .*, (oscillates|off, which is right|on, which is wrong)$",
        printed["oscillation-code"],
        re.MULTILINE,
    )
    assert endings == [(w, start, "oscillates") for w in ("0", "0.5") for start in ("0.2", "0.9")] + [
        ("1.5", "0.2", "off, which is right"),
        ("1.5", "0.9", "off, which is right"),
        ("3", "0.2", "off, which is right"),
        ("3", "0.9", "on, which is wrong"),
    ]
    assert "-1.123 <= +0.400 <= +1.923: True" in printed["bias-code"]
    quality = dict(re.findall(r"^(\S.*?) +([\d.]+) dB", printed["train"], re.MULTILINE))
    assert "SYNTHETIC, NOT MNIST" in printed["train"] and len(quality) == 6
    assert float(quality["commit, weight 0.3"]) > float(quality["commit, weight 10"]) + 1
    assert float(quality["commit, weight 0"]) > float(quality["naive"]) + 1
    assert len(re.findall(r" 100\.0%$", printed["flips-code"], re.MULTILINE)) == 3  # convexity, for each bit of each model
