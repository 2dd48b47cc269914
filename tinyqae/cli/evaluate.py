"""`tinyqae evaluate`: measure a model on held-out examples."""

import argparse
import json
import sys
from typing import Any

from .. import backend, codec
from ..data.anki import FROZEN_LANGUAGE
from ..errors import DataError
from ..experiment import sentences
from ..models import Seq2SeqAutoencoder
from .files import describe_shipped_models
from .program import OneLineParser, add_backend_argument, add_data_arguments, add_engine_argument, use_backend
from .train import PROGRAMS, Program


def configure_evaluate(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += f"""

The data set is the one that the model is for: the test images of MNIST or CIFAR-10, or Anki sentences.

{describe_shipped_models()}

  tinyqae evaluate mlp-50
  tinyqae evaluate runs/anki-lstm-commit-64/model.npz --split length --json"""
    parser.add_argument("model", metavar="MODEL", help="a model.npz that training wrote, or one of the names above")
    parser.add_argument(
        "--dataset",
        choices=("mnist", "cifar10", "anki", "synthetic"),
        help="synthetic needs no download; default: the data set that the model is for",
    )
    parser.add_argument(
        "--split",
        choices=("random", "length"),
        default="random",
        help="which sentences are held out, as in training; default: %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    add_backend_argument(parser, "auto")
    add_engine_argument(parser)
    add_data_arguments(parser)
    # Training options that the loaders read.
    parser.set_defaults(run=run, images=None, text=None, language=FROZEN_LANGUAGE, recipe="default", quiet=False)


def run(args: argparse.Namespace) -> int:
    """Load, measure, print; returns the exit code."""
    use_backend(args.backend, not args.json)
    model = codec.find(args.model, args.engine)
    program = _program_of(args.model, model)
    own_data = program.datasets[0]
    args.dataset = args.dataset or own_data
    if args.dataset not in (own_data, "synthetic"):
        args.parser.error(f"argument --dataset: {args.model} is for {own_data} or synthetic, not for {args.dataset}")
    data = program.load(args)
    test = program.kind.test(data)
    metrics = program.kind.measure(model, None, test)
    if model.bottleneck.is_binary:
        content = "".join(f"{sentence}\n" for sentence in test) if program.kind is sentences else test
        raw_bytes = len(content) if isinstance(content, str) else content.nbytes
        size = len(codec.compress(content, model, progress=sys.stderr.isatty()))
        metrics["file"] = {"bytes": size, "cr": raw_bytes / size}
    metrics["settings"] = {
        "command": args.command,
        "model_id": model.model_id(),
        "backend": backend.describe(),
        "data": {"name": data.name, "sha256": data.sha256, "source": data.source, "test": len(test)},
    }
    if args.json:
        print(json.dumps(metrics, indent=2))
        return 0
    print(f"{program.kind.title(data)}\n{program.kind.results_table(metrics)}")
    if "file" in metrics:
        print(f"all of them in one .tqae file: {size:,} bytes, compression ratio {raw_bytes / size:.2f}")
    return 0


def _program_of(name: str, model: Any) -> Program:
    """The program that trains models of this kind."""
    if isinstance(model, Seq2SeqAutoencoder):
        return PROGRAMS["anki-lstm"]
    by_shape = {(28, 28, 1): "mnist-mlp", (32, 32, 3): "cifar-cnn"}
    if model.input_shape not in by_shape:
        raise DataError(
            f"{name} takes images of {'x'.join(map(str, model.input_shape))}, which no data set here has; "
            "choose a model for MNIST (28x28x1) or CIFAR-10 (32x32x3)"
        )
    return PROGRAMS[by_shape[model.input_shape]]
