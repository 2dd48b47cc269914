"""`tinyqae compress`, `decompress` and `info`. They follow the conventions of zstd and cwebp."""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import Autoencoder, codec
from ..codec import lines, outputs
from ..codec.container import MAGIC
from ..codec.inputs import read_images, read_text
from ..data import clean_sentence, clean_text
from ..errors import CodecError
from ..models import Seq2SeqAutoencoder
from .program import OneLineParser, add_backend_argument, use_backend, without_messages_of_c_libraries

ENDING = ".tqae"
OTHER_TEXT = 3
"""Exit code of `decompress` if this machine decodes a text differently from the one that wrote the file."""
STANDARD = "-"
SHOWN_BYTES = 16


def describe_shipped_models() -> str:
    """The models that come with the package, for help texts."""
    listed = "\n".join(f"  {name:12}{entry['about']}" for name, entry in codec.shipped_models().items())
    return f"Models that come with tinyqae:\n{listed}"


def configure_compress(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += f"""

Any number of pictures, folders of pictures, one .npy or IDX file of images, or one text with a sentence per line. Pictures
are cut into tiles of the model's size; lines that the model cannot encode are stored verbatim. Compression is lossy.

{describe_shipped_models()}

  tinyqae compress digits.npy --model mlp-50                       writes digits.npy{ENDING}
  tinyqae compress holiday/ --model runs/cifar-cnn-commit-small/model.npz
  cat sentences.txt | tinyqae compress - --model lstm-64 > sentences{ENDING}"""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders; - is standard input")
    parser.add_argument("-m", "--model", required=True, help="a model.npz that training wrote, or one of the names above")
    _add_output_arguments(parser, f"default: INPUT{ENDING} for one input, standard output for -")
    parser.add_argument(
        "--clean",
        action="store_true",
        help="for a text: first convert every line to a to z, 0 to 9 and the space (accents are removed), "
        "so that a model can encode it",
    )
    parser.add_argument("--json", action="store_true", help="print a report as JSON")
    add_backend_argument(parser, "numpy")
    parser.set_defaults(run=compress)


def configure_decompress(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += f"""

OUT is a .png, .bmp or .tif file for one picture, a .npy or .idx file for a stack, a folder for any pictures, and a file
for a text. Exit code {OTHER_TEXT}: the text was written, but differs from what the machine that compressed it had decoded.

  tinyqae decompress digits.npy{ENDING}                                 writes digits.npy
  tinyqae decompress holiday{ENDING} -o holiday/ --model runs/cifar-cnn-commit-small/model.npz
  tinyqae decompress sentences{ENDING} -o -"""
    parser.add_argument("file", metavar=f"FILE{ENDING}", help="- is standard input")
    parser.add_argument(
        "-m", "--model", help="the model.npz that compressed the file; not needed for a model that comes with tinyqae"
    )
    _add_output_arguments(parser, f"default: FILE without {ENDING}, standard output for -", "OUT")
    add_backend_argument(parser, "numpy")
    parser.set_defaults(run=decompress)


def configure_info(parser: OneLineParser) -> None:
    """Add the arguments."""
    parser.description += f"""

Ratios are for the whole file. The ratio to raw pixels is known only for models that come with tinyqae.

  tinyqae info digits{ENDING}"""
    parser.add_argument("file", metavar=f"FILE{ENDING}", help="- is standard input")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.set_defaults(run=info)


def _add_output_arguments(parser: argparse.ArgumentParser, default: str, metavar: str = "FILE") -> None:
    parser.add_argument("-o", "--output", metavar=metavar, help=f"- is standard output; {default}")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite an existing output")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more details")


@contextlib.contextmanager
def _without_numba() -> Iterator[None]:
    """Use NumPy kernels unless the user asks otherwise: importing Numba takes longer than encoding a few hundred images."""
    asked = "TINYQAE_KERNELS" in os.environ
    os.environ.setdefault("TINYQAE_KERNELS", "numpy")
    try:
        yield
    finally:
        if not asked:
            del os.environ["TINYQAE_KERNELS"]


# ---- compress ----------------------------------------------------------------------------------------------------------


@_without_numba()
def compress(args: argparse.Namespace) -> int:
    """Read, compress, write, report; returns the exit code."""
    output = args.output or _default_output(args)
    if args.json and output == STANDARD:
        args.parser.error("argument --json: the report and the file would both go to standard output; give -o FILE")
    _require_free(args, output, [*args.inputs, args.model])
    use_backend(args.backend, not args.quiet)
    model = codec.find(args.model)
    is_of_text = isinstance(model, Seq2SeqAutoencoder)
    if args.clean and not is_of_text:
        args.parser.error(f"argument --clean: it applies to text, but {args.model} is an image model")
    with _one_line_errors():
        data, report = (_compress_text if is_of_text else _compress_images)(args, model)
    outputs.write_parts(output, [data])
    report |= {
        "bytes_out": len(data),
        "ratio": report["bytes_in"] / len(data),
        "output": output,
        "model": args.model,
        "model_id": model.model_id(),
    }
    if args.json:
        print(json.dumps(report, indent=2))
    elif not args.quiet:
        print(_summary(report), file=sys.stderr)
        if args.verbose:
            print(f"{output}: {_in_words(codec.contents(data))}", file=sys.stderr)
    return 0


def _default_output(args: argparse.Namespace) -> str:
    if len(args.inputs) > 1:
        args.parser.error(f"argument -o/--output: required for {len(args.inputs)} inputs, which are written to one file")
    name = args.inputs[0]
    return STANDARD if name == STANDARD else os.path.normpath(name) + ENDING


def _compress_images(args: argparse.Namespace, model: Autoencoder) -> tuple[bytes, dict[str, Any]]:
    """(bytes of the file, what to report)."""
    with without_messages_of_c_libraries():
        given = read_images(args.inputs)
    # A single picture is named by the output path when it is decompressed.
    names = given.names if len(given.images) > 1 else None
    try:
        data = codec.compress(given.images, model, names=names, progress=_progress(args))
    except (TypeError, ValueError) as error:
        raise CodecError(str(error) if names else f"{args.inputs[0]}: {error}") from error
    return data, {"kind": "images", "pictures": len(given.images), "bytes_in": given.bytes, "notes": list(given.notes)}


def _compress_text(args: argparse.Namespace, model: Any) -> tuple[bytes, dict[str, Any]]:
    """(bytes of the file, what to report)."""
    given = read_text(args.inputs)
    text, changed, lost = _cleaned(given.text) if args.clean else (given.text, 0, 0)
    longest = model.pad_to or model.max_length
    verbatim = [line for _, line in lines.take_apart(text, longest).verbatim]
    foreign, empty = sum(clean_sentence(line) != line for line in verbatim), verbatim.count("")
    because = {"other_characters": foreign, "too_long": len(verbatim) - foreign - empty, "empty": empty, "longest": longest}
    data = codec.compress(text, model, progress=_progress(args))
    found = codec.contents(data)
    return data, {
        "kind": "text",
        "lines": found["lines"],
        "bytes_in": given.bytes,
        "verbatim_lines": found["verbatim_lines"],
        "verbatim_because": because,
        "cleaned_lines": changed,
        "lost_characters": lost,
    }


def _cleaned(text: str) -> tuple[str, int, int]:
    """(the text with every line in the models' alphabet, number of lines changed, number of characters lost)."""
    parts = re.split("(\r?\n)", text)  # Lines and their line endings alternate.
    before, (parts[::2], lost) = parts[::2], zip(*map(clean_text, parts[::2]), strict=True)
    return "".join(parts), sum(a != b for a, b in zip(before, parts[::2], strict=True)), sum(lost)


def _summary(report: dict[str, Any]) -> str:
    """A one-line summary of what `compress` did."""
    said = f"{report['bytes_in']:,} bytes -> {report['bytes_out']:,} bytes, ratio {report['ratio']:.2f}"
    if report["kind"] == "images":
        return "; ".join([f"{_count(report['pictures'], 'picture')}: {said}", *report["notes"]])
    lines, why = _count(report["lines"], "line"), report["verbatim_because"]
    notes = [f"{lines}: {said}"]
    if report["verbatim_lines"]:
        reasons = [
            (why["other_characters"], "with characters other than a to z, 0 to 9 and the space"),
            (why["too_long"], f"of more than {why['longest']} characters"),
            (why["empty"], "empty"),
        ]
        because = ", ".join(f"{count:,} {reason}" for count, reason in reasons if count)
        notes.append(f"{report['verbatim_lines']:,} of {lines} stored verbatim ({because})")
    if why["other_characters"]:
        notes.append("--clean would convert such lines to the model's alphabet")
    if report["cleaned_lines"]:
        notes.append(
            f"--clean changed {_count(report['cleaned_lines'], 'line')}, "
            f"{_count(report['lost_characters'], 'character')} lost"
        )
    return "; ".join(notes)


# ---- decompress --------------------------------------------------------------------------------------------------------


@_without_numba()
def decompress(args: argparse.Namespace) -> int:
    """Read, decode, write; returns the exit code."""
    output = args.output
    if output is None:
        if args.file != STANDARD and not args.file.endswith(ENDING):
            args.parser.error(f"argument -o/--output: required, since {args.file} does not end in {ENDING}")
        output = STANDARD if args.file == STANDARD else args.file.removesuffix(ENDING)
    _require_free(args, output, [args.file, *([args.model] if args.model else [])])
    use_backend(args.backend, not args.quiet)
    data = _read(args.file)
    model = codec.find(args.model) if args.model else _shipped_model(data)
    if model is None:
        raise CodecError(
            f"{args.file} needs the model {codec.contents(data)['model_id']}, which does not come with "
            "tinyqae; give its file with --model"
        )
    with _one_line_errors():
        unpacked = codec.unpack(data, model, progress=_progress(args))
        if isinstance(model, Seq2SeqAutoencoder):
            outputs.write_text(output, unpacked.content)
        else:
            outputs.write_images(output, unpacked.content, unpacked.names)
    if args.verbose:
        print(f"{output}: {_in_words(codec.contents(data))}", file=sys.stderr)
    if unpacked.matches:
        return 0
    print(
        "warning: some of the text differs from what the compressing machine decoded: another version or "
        "processor rounds differently",
        file=sys.stderr,
    )
    return OTHER_TEXT


# ---- info --------------------------------------------------------------------------------------------------------------


def info(args: argparse.Namespace) -> int:
    """Print a description of the file; returns the exit code."""
    data = _read(args.file)
    found, fields = codec.contents(data), codec.describe(data)
    ratios = _ratios(data, found)
    if args.json:
        described = [
            {"name": field.name, "offset": field.offset, "length": field.length, "value": _plain(field)} for field in fields
        ]
        print(json.dumps({"file": args.file, "bytes": len(data), **found, **ratios, "fields": described}, indent=2))
        return 0
    print(f"{args.file}: {len(data):,} bytes, {_in_words(found)}\n")
    print(f"{'offset':>10}{'length':>10}  {'what':16}  value")
    for field in fields:
        value = _plain(field)
        print(f"{field.offset:10}{field.length:10}  {field.name:16}  {'' if value is None else value}".rstrip())
    print("\n" + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in ratios.items()))
    return 0


def _ratios(data: bytes, found: dict[str, Any]) -> dict[str, float]:
    """Bits per line of text, or the ratios for pictures, without those that need a model that is not known."""
    bits = 8 * len(data)
    if found["kind"] == "text":  # Its length is known only after decoding.
        return {"bits_per_line": bits / found["lines"]} if found["lines"] else {}
    model: Any = _shipped_model(data)
    ratios = {"bits_per_picture": bits / found["pictures"]} if found["pictures"] else {}
    pixels = found["pixels"]
    if pixels is None and model:
        pixels = found["pictures"] * model.input_shape[0] * model.input_shape[1]
    if pixels:
        ratios["bits_per_pixel"] = bits / pixels
    if pixels and model:
        ratios["ratio_to_raw_pixels"] = pixels * model.input_shape[2] / len(data)
    return ratios


def _in_words(found: dict[str, Any]) -> str:
    """The result of codec.contents as three lines of text."""
    if found["kind"] == "images":
        what = _count(found["pictures"], "picture")
        if found["sizes"]:
            what += " (height x width " + ", ".join(f"{h}x{w}" for h, w in found["sizes"])
            what += ", ...)" if len(found["sizes"]) < found["pictures"] else ")"
    else:
        what = f"{_count(found['lines'], 'line')} of text, {found['verbatim_lines']:,} of them verbatim"
    how = {"packed": "packed", "coded": "entropy-coded"}[found["method"]]
    whose = f"{found['model']}, which comes with tinyqae" if found["model"] else "not one that comes with tinyqae"
    return f"{what}\n{_count(found['count'], 'code')} of {found['bits']} bits, {how}\nmodel {found['model_id']}, {whose}"


def _plain(field: codec.Field) -> int | str | None:
    """A field's value for display and JSON: a number, a few bytes in hexadecimal, or None for many."""
    if isinstance(field.value, int):
        return field.value
    return field.value.hex() if len(field.value) <= SHOWN_BYTES and field.name not in ("extra", "payload") else None


# ---- shared helpers ----------------------------------------------------------------------------------------------------


def _require_free(args: argparse.Namespace, output: str, inputs: list[str]) -> None:
    """Raise a usage error if the output is an input or lies in one, or if it exists and --force is not given."""
    if output == STANDARD:
        return
    for name in inputs:
        if name != STANDARD and os.path.exists(name):
            same = os.path.exists(output) and os.path.samefile(output, name)
            if same or Path(name).is_dir() and Path(name).resolve() in Path(output).resolve().parents:
                args.parser.error(f"argument -o/--output: {output} {'is' if same else 'lies in'} the input {name}")
    if os.path.isfile(output) and not args.force:  # A nonempty directory is never written to.
        args.parser.error(f"argument -o/--output: {output} exists; --force overwrites it")


def _shipped_model(data: bytes) -> Autoencoder | None:
    """The model that a file needs if it comes with the package, or None."""
    name = codec.contents(data)["model"]
    return codec.shipped(name) if name else None


def _read(file: str) -> bytes:
    """Read a .tqae file; of any other file, which may be endless, only the first bytes."""
    with contextlib.nullcontext(sys.stdin.buffer) if file == STANDARD else open(file, "rb") as stream:
        start = stream.read(len(MAGIC))
        return start + stream.read() if start == MAGIC else start


def _progress(args: argparse.Namespace) -> bool:
    return sys.stderr.isatty() and not args.quiet


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Convert errors about the codec's arguments, which here come from files, to CodecError, shown in one line."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise CodecError(str(error)) from error
