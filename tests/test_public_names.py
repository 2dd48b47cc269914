"""What is public: each module that tinyqae's docstring lists says in `__all__` what of it, and documents that."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import tinyqae

LISTED = re.findall(r"[a-z_.]+", tinyqae.__doc__.split("without notice.\n")[1])


@pytest.mark.parametrize("name", ["tinyqae", *(f"tinyqae.{module}" for module in LISTED)])
def test_every_public_name_exists_and_is_documented(name):
    try:
        module = importlib.import_module(name)
    except tinyqae.errors.MissingPackage as error:
        pytest.skip(str(error))
    assert module.__doc__ and module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        value = getattr(module, public)
        # An alias, such as Array for np.ndarray, has a comment where it is defined.
        if inspect.isfunction(value) or inspect.isclass(value) and value.__module__.startswith("tinyqae"):
            assert value.__doc__, f"{name}.{public} has no docstring"


def test_what_the_examples_take_from_a_public_module_is_public():
    for path in (Path(__file__).parents[1] / "examples").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for module, names in re.findall(r"^from tinyqae\.([\w.]+) import (.+)$", text, re.MULTILINE):
            if module in LISTED:
                missing = set(names.split(", ")) - set(importlib.import_module(f"tinyqae.{module}").__all__)
                assert not missing, f"{path.name}: {module}"
