"""The package as a person installs it: what a wheel and a source distribution contain, and that they work elsewhere."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import tinyqae
from tinyqae.cli import main
from tinyqae.cli.examples import FILES

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INDEX = (ROOT / ".github" / "index.md").read_text(encoding="utf-8")
BUILD = "import sys, setuptools.build_meta as build; print(getattr(build, sys.argv[1])(sys.argv[2]))"


def run(*command, cwd, **environment):
    """What the command prints, without the clone on the path."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_folder_with_modules_is_packaged():
    folders = {
        ".".join(path.relative_to(ROOT).parts)
        for path in (ROOT / "tinyqae").rglob("*")
        if path.is_dir() and any(path.glob("*.py"))
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"tinyqae", "tinyqae.examples"}


def test_the_version_is_in_one_place():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert not re.search("^version:", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"## {tinyqae.__version__}" in (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_page_for_an_index_links_to_no_file_and_its_code_runs():
    assert re.findall(r"\]\((?!https://)[^)]*\)", INDEX) == []
    (snippet,) = re.findall(r"```python\n(.*?)```", INDEX, re.DOTALL)
    names = {}
    exec(snippet, names)
    assert names["bits"].shape == (16, 50) and names["images"].shape == (16, 28, 28, 1)
    assert set(re.findall(r"`(text|sklearn|onnx|cuda1[23])`", INDEX)) <= PROJECT["project"]["optional-dependencies"].keys()


def test_examples_are_copied_and_not_over_files_that_exist(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["examples"]) == 0
    printed = capsys.readouterr().out.split()
    copied = {path.as_posix() for path in Path("examples").rglob("*") if path.is_file()}
    assert copied == {Path(name).as_posix() for name in printed}
    assert {"examples/README.md", "examples/mnist_mlp.py", "examples/lesson/lesson.html"} <= copied
    assert Path("examples/README.md").read_bytes() == (ROOT / "examples" / "README.md").read_bytes()
    Path("examples/exercises.py").write_text("my answers")
    with pytest.raises(SystemExit, match="2"):
        main(["examples"])
    assert capsys.readouterr().err.endswith("exists; --force overwrites it; see --help\n")
    assert Path("examples/exercises.py").read_text() == "my answers"
    assert main(["examples", "--force"]) == 0
    assert Path("examples/exercises.py").read_bytes() == (ROOT / "examples" / "exercises.py").read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(the unpacked source distribution, the wheel built from it)."""
    pytest.importorskip("setuptools", "77", reason="the build needs setuptools 77")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(
        ROOT, folder / "clone", ignore=shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "runs", "__pycache__")
    )
    shutil.copytree(ROOT / ".github", folder / "clone" / ".github")
    sdist = run("-c", BUILD, "build_sdist", folder, cwd=folder / "clone").split()[-1]
    with tarfile.open(folder / sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.removesuffix(".tar.gz")
    return unpacked, folder / run("-c", BUILD, "build_wheel", folder, cwd=unpacked).split()[-1]


@pytest.mark.slow
def test_the_wheel_has_its_metadata_and_every_module(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(next(name for name in names if name.endswith("METADATA"))))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tinyqae").rglob("*.py")}
    examples = {f"tinyqae/{path.relative_to(ROOT).as_posix()}" for files in FILES for path in ROOT.glob(f"examples/{files}")}
    assert {name for name in names if name.startswith("tinyqae/examples/")} == examples
    assert modules | {"tinyqae/py.typed", "tinyqae/codec/shipped/mlp-50.npz"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]
    assert metadata["Version"] == tinyqae.__version__ and metadata["Author"] == "The tinyqae authors"
    assert "Typing :: Typed" in metadata.get_all("Classifier") and metadata["Project-URL"] and metadata["Keywords"]
    assert metadata.get_payload().strip() == INDEX.strip()


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_clone(built, tmp_path):
    pytest.importorskip("pip")
    site = tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, built[1], cwd=tmp_path)
    here = {"cwd": tmp_path, "PYTHONPATH": str(site)}
    assert Path(run("-c", "import tinyqae; print(tinyqae.__file__)", **here).strip()).is_relative_to(site)
    assert run("-m", "tinyqae", "--version", **here) == f"tinyqae {tinyqae.__version__}\n"
    assert "mnist_mlp.py" in run("-m", "tinyqae", "examples", **here)
    printed = run("examples/mnist_mlp.py", "--dataset", "synthetic", "--epochs", "1", "--out", "out", **here)
    assert "50 bits per image" in printed and (tmp_path / "out" / "model.npz").is_file()
    assert "PSNR" in run("-m", "tinyqae", "evaluate", "mlp-50", "--dataset", "synthetic", **here)


@pytest.mark.slow
def test_the_tests_of_the_source_distribution_run_there(built):
    done = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/ops",
        "tests/test_readme.py",
        "tests/benchmarks/report",
        "tests/models/test_golden.py",
        cwd=built[0],
    )
    assert " passed" in done and " failed" not in done
