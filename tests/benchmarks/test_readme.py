"""The README's code runs, and what it says of the tree is true."""
import re
from pathlib import Path

import numpy as np
import pytest
from engines import flat

import tinyqae

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_one_step_by_hand_lowers_the_loss_and_equals_the_library_s_own_step(plain_engine):
    names = {}
    exec(SNIPPETS[0], names)
    model, images = names["model"], names["images"]

    other = tinyqae.MLPAutoencoder(tinyqae.Commit(weight=1.0), hidden=(50,), seed=0)
    optimizer = tinyqae.Adam(lr=1e-3)
    loss = other.loss(images)
    other.backward()
    optimizer.step(other)
    assert names["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert names["reconstruction"] == pytest.approx(float(other.terms["reconstruction"]), rel=1e-5)
    assert names["commit"] == pytest.approx(float(other.terms["commit"]), rel=1e-5)
    np.testing.assert_allclose(flat(model.gradients()), flat(other.gradients()), rtol=1e-4, atol=1e-8)

    assert model.loss(images) < loss
    assert model.terms["reconstruction"] < names["reconstruction"]


def test_the_library_snippet_trains_encodes_decodes_saves_and_loads(tmp_path, monkeypatch):
    digits = tinyqae.synthetic_digits(train=512, test=64)
    monkeypatch.setattr(tinyqae, "load_mnist", lambda: digits)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(SNIPPETS[1], names)
    assert names["bits"].shape == (64, 50) and names["bits"].dtype == bool
    assert names["images"].shape == (64, 28, 28, 1)
    np.testing.assert_array_equal(names["same"].encode(digits.test_images), names["bits"])


def test_every_snippet_is_tested_here():
    assert len(SNIPPETS) == 2


def test_the_file_map_names_every_module():
    listed = set(re.findall(r"[\w/]+\.py", README.split("## Where things are")[1].split("\n## ")[0]))
    modules = [path for path in (ROOT / "tinyqae").rglob("*.py") if path.name != "__init__.py"]
    folders = {"data", "fast"}  # described as a whole
    unnamed = [str(path.relative_to(ROOT)) for path in modules
               if path.name not in listed and path.relative_to(ROOT / "tinyqae").parts[0] not in folders]
    assert not unnamed


def test_what_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_no_generated_section_is_empty():
    sections = re.findall(r"<!-- ([\w-]+) -->\n(.*?)<!-- /\1 -->", README, re.DOTALL)
    assert {name for name, _ in sections} >= {"table1", "speed-mlp", "example-output"}
    assert [name for name, text in sections if not text.strip()] == []
