"""A table of bad values for every option of every command and example, by its type."""

import argparse
import contextlib
import importlib.util
import io
import sys
from pathlib import Path

import pytest

from tinyqae.cli import COMMANDS, make_parser, program
from tinyqae.cli.program import OneLineParser

ROOT = Path(__file__).parents[2]
EXAMPLES = ("anki_lstm", "cifar_cnn", "commit_weight", "compress", "hamming_knn", "mnist_mlp", "ste_by_hand", "lesson/build")
NUMBERS = ("", "x", "-1", "nan", "inf", "-inf", "1e400", "0x10", "1,,2", "½", "9" * 5000, " ", "\udcff")
WHOLE_NUMBERS = ("1.5", "1e3")
CHOICES = ("", "nonsense", "-1", "COMMIT ", "\udcff")


class Caught(Exception):
    """A parser that is about to be used."""


def parsers(monkeypatch):
    """{how to call it: its parser}, those of the subcommands included."""
    found = {f"tinyqae {name}": make_parser(name) for name in COMMANDS}
    found = {name: _subparser(parser, name.split()[1]) for name, parser in found.items()}
    found |= {
        f"tinyqae train {name}": _subparser(found["tinyqae train"], name) for name in ("mnist-mlp", "cifar-cnn", "anki-lstm")
    }

    def caught(self, *args, **options):
        raise Caught(self)

    for name in EXAMPLES:
        spec = importlib.util.spec_from_file_location(f"example_{Path(name).name}", ROOT / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.syspath_prepend(str((ROOT / "examples" / name).parent))
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        with monkeypatch.context() as patch, pytest.raises(Caught) as stopped:
            patch.setattr(argparse.ArgumentParser, "parse_args", caught)
            module.main()
        found[f"python examples/{name}.py"] = stopped.value.args[0]
    return found


def _subparser(parser, name):
    [choices] = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return choices[name]


def needed(action):
    """What has to be given of an argument in order to ask for something else."""
    if isinstance(action, argparse._SubParsersAction) or not action.required or action.nargs == "*":
        return []
    word = next(iter(action.choices)) if action.choices else "given"
    return [f"{action.option_strings[-1]}={word}"] if action.option_strings else [word]


def bad_values(action):
    """Values that this option must refuse."""
    if action.nargs == 0 or isinstance(action, argparse._SubParsersAction):
        return ()
    if action.choices is not None:
        return CHOICES
    if action.type in (None, str, Path):
        return ("",)
    if action.dest == "language":
        return (*WHOLE_NUMBERS, "", "fr", "french", "f-a", "\udcff")
    floats = action.type in (program.positive_float, program.non_negative_float)
    return NUMBERS + (() if floats else WHOLE_NUMBERS) + (("--",) if action.option_strings else ())


def try_all_options(monkeypatch):
    """(how many values were tried, those that were not refused in one line with exit code 2)."""
    tried, wrong = 0, []
    for name, parser in parsers(monkeypatch).items():
        if not isinstance(parser, OneLineParser):
            wrong.append((name, "has another kind of parser"))
        for action in parser._actions:
            others = [word for other in parser._actions if other is not action for word in needed(other)]
            for value in bad_values(action):
                given = [*others, f"{action.option_strings[-1]}={value}" if action.option_strings else value]
                tried += 1
                with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                    try:
                        parser.parse_args(given)
                        code = 0
                    except SystemExit as stopped:
                        code = stopped.code
                said = err.getvalue()
                if code != 2 or out.getvalue() or not said.startswith("error: ") or said.count("\n") != 1:
                    wrong.append((name, given, code, said))
    return tried, wrong
