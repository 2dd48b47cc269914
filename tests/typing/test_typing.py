"""A type checker accepts a user's program, knows the types of its values and finds its mistakes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinyqae

api = pytest.importorskip("mypy.api", reason="mypy, of the extra `lint`, is not installed")

ARRAY = "ndarray[tuple[Any, ...], dtype[Any]]"
PROGRAM = """
from tinyqae import Adam, Commit, MLPAutoencoder, Seq2SeqAutoencoder, fit, load, load_mnist

data = load_mnist()
model = MLPAutoencoder(Commit(weight=1.0), hidden=(50,))
history = fit(model, data.train_images, Adam(1e-3), epochs=1)
bits = model.encode(data.test_images)
images = model.decode(bits)
model.save("x.npz")
same = load("x.npz")
again = same.decode(same.encode(data.test_images))

class Tensor:
    def __dlpack__(self, *, stream: object = None) -> object: ...

model.encode(Tensor())

reveal_type(data.test_images)
reveal_type(history.rows)
reveal_type(bits)
reveal_type(images)
reveal_type(same)
reveal_type(same.encode(data.test_images))
reveal_type(model.loss(data.test_images))
reveal_type(model.parameters())
reveal_type(model.bottleneck)
reveal_type(Seq2SeqAutoencoder(Commit()).decode(bits))
"""
TYPES = [
    ARRAY,
    "list[dict[str, float]]",
    ARRAY,
    ARRAY,
    "Autoencoder",
    ARRAY,
    "float | floating[Any]",
    f"list[{ARRAY}]",
    "Bottleneck",
    "list[str]",
]


MISTAKES = {
    "MLPAutoencoder('commit')": "arg-type",
    "MLPAutoencoder(Commit(), hiden=(50,))": "call-arg",
    "Commit(weight='1')": "arg-type",
    "fit(model, data.train_images, 1e-3)": "arg-type",
    "model.encode(data)": "arg-type",
    "model.bits": "attr-defined",
}
"""{line: the kind of its error}."""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What mypy --strict says of the program, and of one with the mistakes, in a directory that has no settings of ours."""
    directory = tmp_path_factory.mktemp("user")
    (directory / "program.py").write_text(PROGRAM)
    (directory / "mistakes.py").write_text(PROGRAM.partition("reveal_type")[0] + "\n".join(MISTAKES))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("MYPYPATH", str(Path(tinyqae.__file__).parents[1]))
        said, failure, _ = api.run(["--strict", "--follow-imports=silent", "program.py", "mistakes.py"])
    assert not failure
    return [line for line in said.splitlines() if line.startswith(("program.py", "mistakes.py"))]


def test_a_program_of_a_user(output):
    lines = [line for line in output if line.startswith("program.py")]
    revealed = [re.search('note: Revealed type is "(.*)"', line) for line in lines]
    assert all(revealed), lines
    assert [re.sub(r"[a-z_0-9]+\.(?=\w)", "", match[1]) for match in revealed] == TYPES


def test_pyright_agrees(tmp_path):
    pytest.importorskip("pyright")
    (tmp_path / "program.py").write_text(PROGRAM.partition("reveal_type")[0])
    (tmp_path / "mistakes.py").write_text(PROGRAM.partition("reveal_type")[0] + "\n".join(MISTAKES))
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(Path(tinyqae.__file__).parents[1])]}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not start: {done.stderr[-200:]}")
    found = [
        (Path(one["file"]).name, one["range"]["start"]["line"])
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    first = PROGRAM.partition("reveal_type")[0].count("\n")
    assert found == [("mistakes.py", first + i) for i in range(len(MISTAKES))], done.stdout


def test_mistakes_are_found(output):
    errors = [line for line in output if line.startswith("mistakes.py") and ": error: " in line]
    assert [line[line.rindex("[") :] for line in errors] == [f"[{kind}]" for kind in MISTAKES.values()]
