"""The command `tinyqae`: files in, files out, and the way to training, evaluation and the data sets.

One function for each subcommand takes the parsed arguments and returns the exit code; what it calls is the library's.
"""
import argparse
import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import __version__, backend, codec, experiment
from .codec import lines, outputs
from .codec.inputs import read_images, read_text
from .data import anki, cifar10, clean_sentence, load_anki, load_cifar10, load_mnist, mnist
from .data.cache import data_directory
from .errors import CodecError, DataError
from .models import Seq2SeqAutoencoder
from .reproduce import command as reproduction

OTHER_TEXT = 3
"""Exit code of `decompress` when this machine decodes a text otherwise than the writer's did."""

STANDARD = "-"
SHOWN_BYTES = 16


def main(argv=None):
    """Run the command with these arguments (None: those it was started with); returns the exit code, 0 for success.

    Expected failures end it with SystemExit, after one line on standard error: 1, or 2 for wrong usage.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    if not argv:
        parser.print_help()
        return 0
    # Only trainings can be taken up again, one of them by itself.
    again = {"train": {}, "reproduce": {"stopped": "stopped; the same command goes on from the last whole epochs"}}
    advice = again.get(argv[0], {"stopped": "stopped"})

    def run():
        args = parser.parse_args(argv)
        args.command = shlex.join(["tinyqae", *argv])
        return args.run(args)

    return experiment.run_main(run, **advice)


# ---- compress, decompress, info ----------------------------------------------------------------------------------------


def _compress(args):
    if args.json and args.output == STANDARD:
        args.parser.error("--json and -o - would both write to standard output")
    experiment.use_backend(args.backend)
    model = codec.find(args.model)
    if args.clean and not _is_of_text(model):
        args.parser.error(f"--clean is for texts, and {args.model} is a model of images")
    compress = _compress_text if _is_of_text(model) else _compress_images
    with _one_line_errors():
        data, report = compress(args, model)
    outputs.write_parts(args.output, [data])
    report |= {"bytes_out": len(data), "ratio": report["bytes_in"] / len(data), "output": args.output,
               "model": args.model, "model_id": model.model_id()}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(_summary(report), file=sys.stderr)
    return 0


def _compress_images(args, model):
    """(bytes of the file, what to report)."""
    given = read_images(args.inputs)
    # A single picture gets its name from where it is decompressed to.
    names = given.names if len(given.images) > 1 else None
    data = codec.compress(given.images, model, names=names, progress=_progress())
    return data, {"kind": "images", "pictures": len(given.images), "bytes_in": given.bytes, "notes": list(given.notes)}


def _compress_text(args, model):
    """(bytes of the file, what to report)."""
    given = read_text(args.inputs)
    text, changed = _cleaned(given.text) if args.clean else (given.text, 0)
    data = codec.compress(text, model, progress=_progress())
    found = codec.contents(data)
    report = {"kind": "text", "lines": found["lines"], "bytes_in": given.bytes, "verbatim_lines": found["verbatim_lines"],
              "verbatim_because": _why_verbatim(text, model), "cleaned_lines": changed}
    return data, report


def _cleaned(text):
    """(the text with every line in the models' alphabet, how many lines that changed)."""
    parts = re.split("(\r?\n)", text)  # every other part is a line, and what ends it comes after it
    before, parts[::2] = parts[::2], [clean_sentence(line) for line in parts[::2]]
    return "".join(parts), sum(a != b for a, b in zip(before, parts[::2], strict=True))


def _why_verbatim(text, model):
    """How many lines are kept as they are for which reason."""
    longest = model.pad_to or model.max_length
    kept = [line for _, line in lines.take_apart(text, longest).verbatim]
    foreign = sum(clean_sentence(line) != line for line in kept)
    empty = kept.count("")
    return {"other_characters": foreign, "too_long": len(kept) - foreign - empty, "empty": empty, "longest": longest}


def _summary(report):
    """What `compress` did, in one line."""
    said = [f"{report['bytes_in']:,} bytes -> {report['bytes_out']:,} bytes, ratio {report['ratio']:.2f}"]
    if report["kind"] == "images":
        return "; ".join([f"{_count(report['pictures'], 'picture')}: {said[0]}", *report["notes"]])
    why = report["verbatim_because"]
    reasons = [(why["other_characters"], "with characters other than a to z, 0 to 9 and the space"),
               (why["too_long"], f"of more than {why['longest']} characters"), (why["empty"], "empty")]
    if report["verbatim_lines"]:
        said.append(f"{report['verbatim_lines']:,} of {_count(report['lines'], 'line')} kept verbatim (" +
                    ", ".join(f"{count:,} {reason}" for count, reason in reasons if count) + ")")
    if why["other_characters"]:
        said.append("--clean would write such lines in the model's alphabet")
    if report["cleaned_lines"]:
        said.append(f"--clean changed {_count(report['cleaned_lines'], 'line')}")
    return "; ".join([f"{_count(report['lines'], 'line')}: {said[0]}", *said[1:]])


def _decompress(args):
    experiment.use_backend(args.backend)
    data = _read(args.file)
    model = codec.find(args.model) if args.model else _shipped_model(data)
    if model is None:
        raise CodecError(f"{args.file} needs the model {codec.contents(data)['model_id']}, which does not come with "
                         "tinyqae; name its file with --model")
    with _one_line_errors():
        unpacked = codec.unpack(data, model, progress=_progress())
        if _is_of_text(model):
            outputs.write_text(args.output, unpacked.content)
        else:
            outputs.write_images(args.output, unpacked.content, unpacked.names)
    if unpacked.matches:
        return 0
    print("warning: some of the text is not what the machine that wrote the file decoded: another version or processor "
          "rounds otherwise", file=sys.stderr)
    return OTHER_TEXT


def _info(args):
    data = _read(args.file)
    found, fields = codec.contents(data), codec.describe(data)
    model = _shipped_model(data)
    ratios = _image_ratios(len(data), found, model) if found["kind"] == "images" else _text_ratios(data, found, model)
    if args.json:
        described = [{"name": field.name, "offset": field.offset, "length": field.length, "value": _plain(field)}
                     for field in fields]
        print(json.dumps({"file": args.file, "bytes": len(data), **found, **ratios, "fields": described}, indent=2))
        return 0
    print(f"{args.file}: {len(data):,} bytes, {_in_words(found)}\n")
    print(f"{'offset':>10}{'length':>10}  {'what':16}  value")
    for field in fields:
        value = _plain(field)
        print(f"{field.offset:10}{field.length:10}  {field.name:16}  {'' if value is None else value}".rstrip())
    print("\n" + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in ratios.items()))
    return 0


def _image_ratios(size, found, model):
    """What a file of `size` bytes takes, by the measures for which its model need not be known, or is."""
    ratios = {"bits_per_picture": 8 * size / found["pictures"]} if found["pictures"] else {}
    pixels = found["pixels"]
    if pixels is None and model:
        pixels = found["pictures"] * model.input_shape[0] * model.input_shape[1]
    if pixels:
        ratios["bits_per_pixel"] = 8 * size / pixels
    if pixels and model:
        ratios["ratio_to_raw_pixels"] = pixels * model.input_shape[2] / size
    return ratios


def _text_ratios(data, found, model):
    """The same for a text; how long it is only decoding tells."""
    ratios = {"bits_per_line": 8 * len(data) / found["lines"]} if found["lines"] else {}
    text = codec.unpack(data, model, progress=_progress()).content if model else ""
    if text:
        ratios |= {"bits_per_character": 8 * len(data) / len(text), "ratio_to_raw_text": len(text.encode()) / len(data)}
    return ratios


def _in_words(found):
    """What codec.contents says, in a line."""
    if found["kind"] == "images":
        what = _count(found["pictures"], "picture")
        if found["sizes"]:
            what += " (height x width " + ", ".join(f"{h}x{w}" for h, w in found["sizes"])
            what += ", ...)" if len(found["sizes"]) < found["pictures"] else ")"
    else:
        what = f"{_count(found['lines'], 'line')} of text, {found['verbatim_lines']:,} of them verbatim"
    how = {"packed": "packed", "coded": "entropy-coded"}[found["method"]]
    whose = f"{found['model']}, which comes with tinyqae" if found["model"] else "not one that comes with tinyqae"
    return (f"{what}\n{_count(found['count'], 'code')} of {found['bits']} bits, {how}\n"
            f"model {found['model_id']}, {whose}")


def _plain(field):
    """A field's value for people and JSON: a number, a few bytes in hexadecimal, or None for many."""
    if isinstance(field.value, int):
        return field.value
    return field.value.hex() if len(field.value) <= SHOWN_BYTES and field.name not in ("extra", "payload") else None


def _shipped_model(data):
    """The model that a file needs if it comes with the package, or None."""
    name = codec.contents(data)["model"]
    return codec.shipped(name) if name else None


def _read(file):
    return sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()


def _is_of_text(model):
    return isinstance(model, Seq2SeqAutoencoder)


def _progress():
    return sys.stderr.isatty()


def _count(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"


@contextlib.contextmanager
def _one_line_errors():
    """What is a wrong argument to the codec is a wrong file here, and a person gets one line about it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise CodecError(str(error)) from error


# ---- train, evaluate ---------------------------------------------------------------------------------------------------


def _train(args):
    # The same steps as in examples/.
    program = args.program
    recipe = program.recipe(args)
    directory = program.start(args, recipe)
    data = program.load(args)
    run = program.train(args, recipe, data, directory)
    program.show(args, run, data, directory)
    return 0


def _evaluate(args):
    experiment.use_backend(args.backend, not args.json)
    model = codec.find(args.model, args.engine)
    program, own_data = _made_for(args, model)
    args.dataset = args.dataset or own_data
    if args.dataset not in (own_data, "synthetic"):
        args.parser.error(f"argument --dataset: {args.model} is for {own_data} or synthetic, not for {args.dataset}")
    data = program.load(args)
    if _is_of_text(model):
        title, test = f"{data.name}, split {data.how}", list(data.test)
        content, raw_bytes = "\n".join(test) + "\n", sum(map(len, test)) + len(test)
    else:
        title, test = data.name, data.test_images
        content, raw_bytes = test, test.nbytes
    metrics = program.kind.measure(model, None, test)
    if model.bottleneck.is_binary:
        size = len(codec.compress(content, model, progress=_progress()))
        metrics["file"] = {"bytes": size, "cr": raw_bytes / size}
    metrics["settings"] = {"command": args.command, "model_id": model.model_id(), "backend": backend.describe(),
                           "data": {"name": data.name, "sha256": data.sha256, "source": data.source, "test": len(test)}}
    if args.json:
        print(json.dumps(metrics, indent=2))
        return 0
    print(f"{title}\n{program.kind.results_table(metrics)}")
    if "file" in metrics:
        print(f"all of them as one .tqae file: {size:,} bytes, compression ratio {raw_bytes / size:.2f}")
    return 0


def _made_for(args, model):
    """(the program that trains such models, the name of its data set)."""
    if _is_of_text(model):
        return experiment.ANKI_LSTM, "anki"
    if model.input_shape == (28, 28, 1):
        return experiment.MNIST_MLP, "mnist"
    if model.input_shape == (32, 32, 3):
        return experiment.CIFAR_CNN, "cifar10"
    raise DataError(f"{args.model} is for images of {'x'.join(map(str, model.input_shape))}, and no data set here has such; "
                    "there are MNIST (28x28x1) and CIFAR-10 (32x32x3)")


# ---- data --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSet:
    """A data set on the disk: its folder in the data directory, its files, each under one of several names, and what loads
    and checks it.
    """

    folder: str
    files: list
    load: Callable

    def missing(self, directory):
        """The names of files that are not there."""
        return [names[0] for names in self.files if not any((directory / self.folder / name).is_file() for name in names)]


DATA_SETS = {
    "mnist": DataSet("mnist", [(file.name, f"{file.name}.gz") for file in mnist.FILES], load_mnist),
    "cifar10": DataSet(cifar10.DIRECTORY, [(file.name,) for file in cifar10.FILES], load_cifar10),
    "anki": DataSet(f"{anki.FROZEN_LANGUAGE}-eng", [(f"{anki.FROZEN_LANGUAGE}.txt",)], load_anki),
}


def _data(args):
    report = {"fetch": _fetched, "where": _where, "verify": _verified}[args.action]
    as_it_should_be = True
    for name in args.names or DATA_SETS:
        fine, line = report(name, args)
        failed_to_fetch = args.action == "fetch" and not fine
        print(f"{name}: {line}", file=sys.stderr if failed_to_fetch else sys.stdout, flush=True)
        as_it_should_be &= fine
    return 0 if as_it_should_be else 1


def _fetched(name, args):
    """Download what is missing; as the two below, (whether all is well, what to say)."""
    try:
        data = _loaded(name, args, download=True, progress=True)
    except DataError as error:
        return False, " ".join(str(error).split())
    return True, f"{data.name}, from {data.source}: {data_directory(args.data_dir) / DATA_SETS[name].folder}"


def _where(name, args):
    directory = data_directory(args.data_dir)
    missing = DATA_SETS[name].missing(directory)
    return True, f"{directory / DATA_SETS[name].folder}: " + (f"missing {', '.join(missing)}" if missing else "there")


def _verified(name, args):
    missing = DATA_SETS[name].missing(data_directory(args.data_dir))
    if missing:
        return False, f"missing {', '.join(missing)}; tinyqae data fetch {name} downloads them"
    try:
        data = _loaded(name, args, download=False, progress=False)
    except DataError as error:
        # What is wrong, and with CIFAR-10 the first of the files in question.
        return False, " ".join(line.strip() for line in str(error).splitlines()[:2])
    if name == "anki":
        return True, f"{len(data.sentences):,} sentences, SHA-256 {data.sha256}, no certain one expected: the pairs change"
    return True, f"{data.name}, SHA-256 {data.sha256}"


def _loaded(name, args, **options):
    if name == "cifar10":
        options["allow_modified_data"] = args.allow_modified_data
    return DATA_SETS[name].load(args.data_dir, **options)


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _parser():
    parser = experiment.OneLineParser(
        prog="tinyqae", description="Quantized autoencoders: images and sentences to a few bits each, and back.",
        epilog="tinyqae COMMAND --help explains a command and shows an example.")
    parser.add_argument("--version", action="version", version=f"tinyqae {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shipped = "\n".join(f"  {name:12}{entry['about']}" for name, entry in codec.shipped_models().items())
    a_model = f"Models that come with tinyqae:\n{shipped}"

    compress = _command(commands, "compress", _compress, "compress pictures, a stack of images or a text to one file", f"""
Any number of pictures, folders of pictures, one .npy or IDX file of images, or one text, a sentence a line. Pictures are
cut into tiles of the model's size; lines that the model cannot hold are kept as they are. What is compressed is not what
comes back: this is lossy.

{a_model}

  tinyqae compress digits.npy -o digits.tqae --model mlp-50
  tinyqae compress holiday/*.jpg -o holiday.tqae --model runs/cifar-cnn-commit-small/model.npz
  cat sentences.txt | tinyqae compress - -o - --model lstm-64 > sentences.tqae""")
    compress.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders; - is standard input")
    compress.add_argument("-o", "--output", required=True, metavar="FILE.tqae", help="- is standard output")
    compress.add_argument("--model", required=True, help="a model.npz that training wrote, or one of the names above")
    compress.add_argument("--clean", action="store_true",
                          help="of a text: write every line in lower case without everything but a to z, 0 to 9 and the "
                               "space before it is compressed, so that a model can hold it")
    compress.add_argument("--json", action="store_true", help="print what was done as JSON")
    experiment.add_backend_argument(compress, "numpy")

    decompress = _command(commands, "decompress", _decompress, "get back what a file holds", f"""
OUT is, for pictures, a .png, .bmp or .tif for one, a .npy or .idx file for a stack, or a folder; for a text, a file. Exit
code {OTHER_TEXT} says that a text was written, but is not what the machine that compressed it had decoded.

  tinyqae decompress digits.tqae -o digits.npy
  tinyqae decompress holiday.tqae -o holiday/ --model runs/cifar-cnn-commit-small/model.npz
  tinyqae decompress sentences.tqae -o -""")
    decompress.add_argument("file", metavar="FILE.tqae", help="- is standard input")
    decompress.add_argument("-o", "--output", required=True, metavar="OUT", help="- is standard output")
    decompress.add_argument("--model", help="the model.npz that compressed the file; not needed for a model that comes with "
                                            "tinyqae")
    experiment.add_backend_argument(decompress, "numpy")

    info = _command(commands, "info", _info, "say what is in a file, byte by byte", """
Ratios are those of the whole file. Those to raw pixels and to raw text need the model, which is at hand if it is one of
those that come with tinyqae.

  tinyqae info digits.tqae""")
    info.add_argument("file", metavar="FILE.tqae", help="- is standard input")
    info.add_argument("--json", action="store_true", help="print the same as JSON")

    _add_train(_command(commands, "train", None, "train a model as the examples do", """
  tinyqae train mnist-mlp --quant commit
  tinyqae train cifar-cnn --images holiday/
  tinyqae train anki-lstm --help"""))

    evaluate = _command(commands, "evaluate", _evaluate, "measure a model on held-out examples", f"""
Which data it is measured on follows from what the model takes: MNIST's test images, CIFAR-10's, or Anki sentences.

{a_model}

  tinyqae evaluate mlp-50
  tinyqae evaluate runs/anki-lstm-commit-64/model.npz --split length --json""")
    evaluate.add_argument("model", metavar="MODEL", help="a model.npz that training wrote, or one of the names above")
    evaluate.add_argument("--dataset", choices=(*DATA_SETS, "synthetic"),
                          help="synthetic needs no network; default: the model's data")
    evaluate.add_argument("--split", choices=("random", "length"), default="random",
                          help="of sentences: which are held out, as in training; default: %(default)s")
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    experiment.add_backend_argument(evaluate, "auto")
    experiment.add_engine_argument(evaluate)
    _add_data_arguments(evaluate)
    # What training can be told besides, and the loaders look at.
    evaluate.set_defaults(images=None, text=None, language=anki.FROZEN_LANGUAGE, recipe="default", quiet=False)

    reproduce = _command(commands, "reproduce", reproduction.run, "train and check the tables and figures of the report",
                         reproduction.DETAILS)
    reproduction.add_arguments(reproduce)
    _add_data_arguments(reproduce)

    data = _command(commands, "data", _data, "fetch, find or verify the data sets", """
  fetch    download what is missing
  where    print the folder of each data set, and whether it is there
  verify   check the files; exit code 1 when one is not as it should be

  tinyqae data fetch mnist
  tinyqae data verify --data-dir DIR""")
    data.add_argument("action", choices=("fetch", "where", "verify"))
    data.add_argument("names", nargs="*", type=_data_set, metavar="DATASET",
                      help=f"any of {', '.join(DATA_SETS)}; default: all")
    _add_data_arguments(data)
    return parser


def _data_set(text):
    """An argparse type. (With choices, argparse would want one of them where none is given.)"""
    if text not in DATA_SETS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(DATA_SETS)}")
    return text


def _command(commands, name, run, summary, details):
    """A parser for a subcommand, which `run` carries out."""
    parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.\n{details}",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_train(parser):
    programs = parser.add_subparsers(metavar="MODEL", required=True)
    for program, summary, options in (
        (experiment.MNIST_MLP, "an MLP on MNIST's digits", "--quant commit --hidden 256,50"),
        (experiment.CIFAR_CNN, "a CNN on CIFAR-10's photographs or your own", "--size large"),
        (experiment.ANKI_LSTM, "an LSTM on the Anki sentences or your own text", "--text FILE"),
    ):
        trained = _command(programs, program.name, _train, summary, f"""
Writes model.npz, metrics.json, history.csv, and what it makes of held-out examples, to --out.

  tinyqae train {program.name} {options}""")
        program.add_arguments(trained)
        trained.set_defaults(program=program)


def _add_data_arguments(parser):
    parser.add_argument("--data-dir", metavar="DIR",
                        help="where the data sets are, or will be put (default: $TINYQAE_DATA, else the user's cache)")
    parser.add_argument("--allow-modified-data", action="store_true",
                        help="take files that are not CIFAR-10's originals; every output then says CIFAR-10 proxy")
