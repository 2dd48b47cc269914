"""The command `tinyqae`. Each subcommand only parses its arguments and calls the library.

    train       train.py       train a model on MNIST, CIFAR-10, Anki sentences, or your own data
    evaluate    evaluate.py    measure a model on held-out examples
    compress, decompress, info                  files.py
    export      export.py      write a model as ONNX files
    data        data.py        download, find and verify the data sets
    examples    examples.py    copy the example programs

Exit codes: 0 on success; 1 for an error, reported in one line; 2 for a usage error; 3 if decompressed text differs from what
the machine that wrote the file decoded; 130 after Ctrl-C and 143 after SIGTERM.
"""

import importlib
import shlex
import sys
import warnings

from .. import __version__
from .program import OneLineParser, run_main

COMMANDS = {
    "train": ("train", "train a model"),
    "evaluate": ("evaluate", "measure a model on held-out examples"),
    "compress": ("files", "compress pictures, a stack of images or a text to one file"),
    "decompress": ("files", "reconstruct the contents of a file"),
    "info": ("files", "show the contents of a file, byte by byte"),
    "export": ("export", "write a model as ONNX files"),
    "data": ("data", "download, find or verify the data sets"),
    "examples": ("examples", "copy the lesson and the example programs"),
}
"""{name: (module, summary)}. Only the module of the given command is imported, so that every command starts fast."""


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process. Returns the exit code.

    Expected errors raise SystemExit after one line on standard error.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser(argv[0] if argv else None)
    if not argv:
        parser.print_help()
        return 0

    def run() -> int:
        args = parser.parse_args(argv)
        if getattr(args, "quiet", False) or getattr(args, "json", False):
            warnings.simplefilter("ignore")
        args.command = shlex.join(["tinyqae", *argv])
        return args.run(args)

    resume = "; the same command with --resume continues from the last completed epoch"
    return run_main(run, "stopped" + resume * (argv[0] == "train"))


def make_parser(command: str | None = None) -> OneLineParser:
    """Return the parser for all commands; only `command` gets its arguments."""
    parser = OneLineParser(
        prog="tinyqae",
        description="Quantized autoencoders: images and sentences to a few bits, and back.",
        epilog="tinyqae COMMAND --help explains a command and shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"tinyqae {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        if name == command:
            configure = getattr(importlib.import_module(f".{module}", __name__), f"configure_{name}")
            subparser.description = f"{summary[0].upper()}{summary[1:]}."
            configure(subparser)
            subparser.set_defaults(parser=subparser)
    return parser
