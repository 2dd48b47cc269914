"""The READMEs: their code runs and is right, what they link to exists, nothing generated is empty."""

import re
from pathlib import Path

import numpy as np
import pytest

import tinyqae
from benchmarks.report.readme import hamming_knn, nearest_codes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "benchmarks" / "results" / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
]


@pytest.fixture
def names():
    """What the README's code defines."""
    assert len(SNIPPETS) == 2
    defined = {}
    for snippet in SNIPPETS:
        exec(snippet, defined)
    return defined


def test_the_ten_lines_are_the_gradient_of_the_librarys_bottleneck(names):
    bottleneck = tinyqae.Commit(weight=names["weight"])
    np.testing.assert_array_equal(bottleneck.forward(names["h"]), names["b"])
    assert bottleneck.loss() == pytest.approx(names["commitment_loss"])
    np.testing.assert_allclose(bottleneck.backward(names["db"]), names["dh"])


def test_the_three_lines_lower_the_loss(names):
    assert names["model"].loss(names["batch"]) < names["loss"]
    assert names["bits"].shape == (16, 50) and names["bits"].dtype == bool
    assert names["images"].shape == (16, 28, 28, 1) and names["images"].dtype == np.uint8


def test_it_is_short():
    assert len(README.splitlines()) <= 150
    by_hand = re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->|```.*?```", "", README, flags=re.DOTALL)
    assert len(by_hand.split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_exists(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_no_generated_section_is_empty():
    marked = re.compile(r"<!-- ([\w-]+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)
    sections = {name: text for page in PAGES for name, text in marked.findall(page.read_text(encoding="utf-8"))}
    assert set(sections) == {
        "claims",
        "table1",
        "table2",
        "table3",
        "bottlenecks",
        "rate-distortion",
        "speed-mlp",
        "speed-cnn",
        "speed-lstm",
        "example-output",
        "comparison",
        "baselines",
        "where-baselines-win",
        "hamming-knn",
        "nearest-codes",
    }
    assert [name for name, text in sections.items() if not text.strip()] == []


def test_the_map_names_every_module():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\w+\.py", text.split("## The map")[1].split("\n## ")[0]))
    modules = {path.name for path in (ROOT / "tinyqae").rglob("*.py") if not path.name.startswith("__")}
    assert modules - listed == set()


def test_commands_in_the_readmes_name_files_that_exist():
    for page in PAGES:
        if page.parent.name == "results":
            continue  # The commands there are those of past runs.
        for script in re.findall(r"python ((?:examples|benchmarks)/[\w/]+\.py)", page.read_text(encoding="utf-8")):
            assert (ROOT / script).is_file(), f"{page}: {script}"
        for module in re.findall(r"python -m (benchmarks[\w.]*)", page.read_text(encoding="utf-8")):
            place = ROOT / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), f"{page}: {module}"


def test_the_figures_of_similar_digits_are_those_of_the_committed_runs():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- hamming-knn -->\n{hamming_knn()}\n<!-- /hamming-knn -->" in page


def test_the_figures_of_nearest_codes_are_those_of_the_committed_runs():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- nearest-codes -->\n{nearest_codes()}\n<!-- /nearest-codes -->" in page
