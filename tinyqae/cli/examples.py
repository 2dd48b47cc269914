"""`tinyqae examples`: copy the lesson and the example programs out of the installed package."""

import argparse
import shutil
from functools import partial
from pathlib import Path

from ..checkpoint import write_atomically
from .program import OneLineParser

FILES = ("*.py", "README.md", "lesson.ipynb", "lesson/lesson.html")


def configure_examples(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += """

DIR/README.md is the learning path.

  tinyqae examples
  python examples/mnist_mlp.py --quant commit"""
    parser.add_argument(
        "directory",
        nargs="?",
        default=Path("examples"),
        type=Path,
        metavar="DIR",
        help="where the files go; default: %(default)s",
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Copy the files and print their paths; returns the exit code."""
    package = Path(__file__).parents[1]
    # In an installation they are inside the package, in a clone next to it.
    source = next(path for path in (package / "examples", package.parent / "examples") if path.is_dir())
    copies = {args.directory / path.relative_to(source): path for pattern in FILES for path in sorted(source.glob(pattern))}
    existing = [copy for copy in copies if copy.exists()]
    if existing and not args.force:
        args.parser.error(f"argument DIR: {existing[0]} exists; --force overwrites it")
    for copy, path in copies.items():
        with open(path, "rb") as content:
            write_atomically(copy, partial(shutil.copyfileobj, content))
        print(copy)
    return 0
