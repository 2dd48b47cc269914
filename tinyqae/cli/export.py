"""`tinyqae export`: write a model as ONNX files."""

import argparse
from pathlib import Path

from .. import codec
from ..onnx_export import FILES, export_onnx
from .files import describe_shipped_models
from .program import OneLineParser


def configure_export(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += f"""

Writes DIR/encoder.onnx and DIR/decoder.onnx, from images to bits and back, which other runtimes execute without tinyqae. For
sentences, the decoder is two files, decoder_start.onnx and decoder_step.onnx. Needs pip install 'tinyqae[onnx]'.

{describe_shipped_models()}

  tinyqae export mlp-50 --onnx digits/
  tinyqae export runs/cifar-cnn-commit-small/model.npz --onnx pictures/"""
    parser.add_argument("model", metavar="MODEL", help="a model.npz that training wrote, or one of the names above")
    parser.add_argument("--onnx", metavar="DIR", required=True, help="where the files go")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the model, write the files and print their paths; returns the exit code."""
    existing = [path for path in (Path(args.onnx) / name for name in FILES) if path.exists()]
    if existing and not args.force:
        args.parser.error(f"argument --onnx: {existing[0]} exists; --force overwrites it")
    for path in export_onnx(codec.find(args.model, "reference"), args.onnx):
        print(path)
    return 0
