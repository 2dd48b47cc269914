"""`tinyqae data`: download, find and verify the data sets."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import anki, cifar10, load_anki, load_cifar10, load_mnist, mnist
from ..data.cache import data_directory
from ..errors import DataError
from .program import OneLineParser, add_data_arguments


@dataclass(frozen=True)
class DataSet:
    """A data set on disk: its folder in the data directory, a function that lists missing files, and its loader."""

    folder: str
    missing: Callable[[Path], list[str]]
    load: Callable[..., Any]


DATA_SETS = {
    "mnist": DataSet("mnist", mnist.missing, load_mnist),
    "cifar10": DataSet(cifar10.DIRECTORY, cifar10.missing, load_cifar10),
    "anki": DataSet(f"{anki.FROZEN_LANGUAGE}-eng", anki.missing, load_anki),
}


def configure_data(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += """

  fetch    download missing files
  where    print the folder of each data set and the files missing there
  verify   check the files; exit code 1 if any check fails

  tinyqae data fetch mnist
  tinyqae data verify --data-dir DIR"""
    parser.add_argument("action", choices=("fetch", "where", "verify"))
    parser.add_argument(
        "names", nargs="*", type=_data_set, metavar="DATASET", help=f"any of {', '.join(DATA_SETS)}; default: all"
    )
    add_data_arguments(parser)
    parser.set_defaults(run=run)


def _data_set(text: str) -> str:
    """An argparse type. (With choices, argparse would require at least one name.)"""
    if text not in DATA_SETS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(DATA_SETS)}")
    return text


def run(args: argparse.Namespace) -> int:
    """Perform the action on each data set; returns the exit code."""
    report = {"fetch": _fetch, "where": _where, "verify": _verify}[args.action]
    all_fine = True
    for name in args.names or DATA_SETS:
        try:
            fine, line = report(name, args)
        except DataError as error:
            fine, line = False, str(error)
        print(f"{name}: {line}", file=sys.stdout if fine or args.action != "fetch" else sys.stderr, flush=True)
        all_fine &= fine
    return 0 if all_fine else 1


def _fetch(name: str, args: argparse.Namespace) -> tuple[bool, str]:
    """Download missing files. Like the two functions below, returns (success, message). DataError on failure."""
    data = _load(name, args, download=True, progress=sys.stderr.isatty())
    return True, f"{data.name}, from {data.source}: {data_directory(args.data_dir) / DATA_SETS[name].folder}"


def _where(name: str, args: argparse.Namespace) -> tuple[bool, str]:
    directory = data_directory(args.data_dir)
    missing = DATA_SETS[name].missing(directory)
    return True, f"{directory / DATA_SETS[name].folder}: " + (f"missing {', '.join(missing)}" if missing else "complete")


def _verify(name: str, args: argparse.Namespace) -> tuple[bool, str]:
    missing = DATA_SETS[name].missing(data_directory(args.data_dir))
    if missing:
        return False, f"missing {', '.join(missing)}; tinyqae data fetch {name} downloads them"
    data = _load(name, args, download=False, progress=False)
    if name == "anki":
        return True, f"{len(data.sentences):,} sentences, SHA-256 {data.sha256}; no reference hash, since the pairs change"
    return True, f"{data.name}, SHA-256 {data.sha256}"


def _load(name: str, args: argparse.Namespace, **options: Any) -> Any:
    if name == "cifar10":
        options["allow_modified_data"] = args.allow_modified_data
    return DATA_SETS[name].load(args.data_dir, **options)
