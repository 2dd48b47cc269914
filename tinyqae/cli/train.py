"""`tinyqae train`: train the report's three models with named recipes, also on your own images and text; resumable."""

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import recipes
from ..bottlenecks import KINDS, REPORT_KINDS, VARIANTS
from ..data import (
    ImageData,
    SentenceSplit,
    clean_text,
    image_folder_patches,
    load_anki,
    load_cifar10,
    load_mnist,
    load_text,
    split_sentences,
    synthetic_digits,
    synthetic_sentences,
    synthetic_shapes,
)
from ..experiment import Images, Sentences, images, sentences
from ..metrics.text import require_text_packages
from . import program as shared

CNN_BITS = {256: "small", 512: "medium", 768: "large"}
"""{bits of the CNN's code: --size}."""
RUN_FILES = ("model.npz", "checkpoint.npz")


@dataclass(frozen=True)
class Program:
    """A model and the data it is trained on.

    Attributes:
        name: of the program and its runs.
        model: its short name, such as "CNN".
        size, default_size: the option that sets the code size, and its default.
        kind: images or sentences; trains and measures the model and writes the results.
        datasets: choices of --dataset; the first is the default.
        add_arguments: a function that adds the program's own options to a parser.
        recipe: a function of (name, quant, size) that returns the settings.
        load: a function of args that returns the data.
        summary, example: for the help text.
        train_items: the number of items used for training by default, None for all.
    """

    name: str
    model: str
    size: str
    default_size: Any
    kind: Images | Sentences
    datasets: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    recipe: Callable[..., recipes.Recipe]
    load: Callable[[argparse.Namespace], Any]
    summary: str
    example: str
    train_items: int | None = None


def load_digits(args: argparse.Namespace) -> ImageData:
    """MNIST or the synthetic digits."""
    if args.dataset == "synthetic":
        return synthetic_digits(seed=0)
    return load_mnist(args.data_dir, progress=shows_progress(args))


def load_pictures(args: argparse.Namespace) -> ImageData:
    """CIFAR-10, the images of --images, or the synthetic shapes."""
    if args.images is not None:
        with shared.without_messages_of_c_libraries():
            return image_folder_patches(args.images)
    if args.dataset == "synthetic":
        return synthetic_shapes(seed=0)
    return load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data, progress=shows_progress(args))


def load_sentences(args: argparse.Namespace) -> SentenceSplit:
    """The sentences and their split; MissingPackage if the packages to measure them later are missing."""
    require_text_packages()
    if args.text is not None:
        data = load_text(args.text)
    elif args.dataset == "synthetic":
        data = synthetic_sentences(seed=0)
    else:
        data = load_anki(args.data_dir, language=args.language, progress=shows_progress(args))
    return split_sentences(data, "report" if args.split == "length" and args.recipe == "report" else args.split)


def _add_mlp_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hidden",
        type=shared.widths,
        default=(50,),
        metavar="N[,N...]",
        help="widths of the encoder's layers; the last one is the number of bits; default: 50",
    )
    parser.add_argument(
        "--bits",
        dest="hidden",
        type=lambda text: (shared.positive_int(text),),
        metavar="N",
        help="the code size; the same as --hidden N, without a hidden layer",
    )


def _add_cnn_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        choices=recipes.SIZES,
        default="small",
        help="latent map 4x4x16 (small), 4x4x32 (medium) or 4x4x48 (large); default: %(default)s",
    )
    parser.add_argument(
        "--bits",
        dest="size",
        type=_one_of(CNN_BITS),
        metavar="N",
        help="the code size, instead of --size: 256, 512 or 768",
    )
    transform = recipes.cifar_cnn("default", "commit", "small", transform=True)
    parser.add_argument(
        "--transform",
        action="store_true",
        help="start from principal components with several bits each, corrected by convolutions, instead of from random "
        f"weights: a much better picture; with --quant {' or '.join(recipes.TRANSFORM_KINDS)}. Then the defaults are "
        f"--epochs {transform.epochs}, --batch-size {transform.batch_size}, --lr {transform.lr:g} and --quant-weight "
        f"{transform.bottleneck['weight']:g}",
    )
    parser.add_argument("--images", metavar="FOLDER", help="train on the images in this folder instead of CIFAR-10")


def _add_lstm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hidden",
        type=int,
        choices=recipes.HIDDEN_SIZES,
        default=128,
        help="half the bits of a sentence's code, and with --recipe report the units of each LSTM; default: %(default)s",
    )
    parser.add_argument(
        "--bits",
        dest="hidden",
        type=_one_of({2 * units: units for units in recipes.HIDDEN_SIZES}),
        metavar="N",
        help="the code size, instead of --hidden: 64, 128, 256 or 512",
    )
    parser.add_argument(
        "--units",
        type=shared.positive_int,
        metavar="N",
        help="units of each LSTM; 256 units make a third to a half fewer errors and take five times as long; "
        f"default: as many as --hidden, but {recipes.LEAST_UNITS} at least",
    )
    parser.add_argument(
        "--split",
        choices=("random", "length"),
        default="random",
        help="hold out a tenth of the sentences at random, or, as the report does, the longest fifth; default: %(default)s",
    )
    parser.add_argument(
        "--language",
        type=_language,
        default="fra",
        metavar="CODE",
        help="the language paired with English, three letters as on manythings.org; default: %(default)s",
    )
    parser.add_argument("--text", metavar="FILE", help="train on the lines of this text file instead of the Anki pairs")
    parser.add_argument(
        "--beam",
        type=shared.positive_int,
        metavar="N",
        help="beam width of decoding, 1 for greedy; default: 8, with --recipe report 1",
    )
    parser.add_argument(
        "--say",
        action="append",
        metavar="SENTENCE",
        help="a sentence of your own to encode and decode after training; may be given several times",
    )


def _language(text: str) -> str:
    """An argparse type: a code of three letters, case-insensitive."""
    if not re.fullmatch("[a-z]{3}", text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a three-letter code such as fra or deu")
    return text.lower()


def _one_of(values: Mapping[int, Any]) -> Callable[[str], Any]:
    """An argparse type: a key of `values`, converted to its value."""

    def convert(text: str) -> Any:
        if not text.isdecimal() or int(text) not in values:
            raise ValueError
        return values[int(text)]

    convert.__name__ = f"number of bits ({', '.join(map(str, values))})"  # For argparse's error message.
    return convert


PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "mnist-mlp",
            "MLP",
            "hidden",
            (50,),
            images,
            ("mnist", "synthetic"),
            _add_mlp_arguments,
            recipes.mnist_mlp,
            load_digits,
            "an MLP on MNIST's digits",
            "--quant commit --hidden 256,50",
        ),
        Program(
            "cifar-cnn",
            "CNN",
            "size",
            "small",
            images,
            ("cifar10", "synthetic"),
            _add_cnn_arguments,
            recipes.cifar_cnn,
            load_pictures,
            "a CNN on CIFAR-10's photographs or your own",
            "--size large",
            train_items=10_000,
        ),
        Program(
            "anki-lstm",
            "LSTM",
            "hidden",
            128,
            sentences,
            ("anki", "synthetic"),
            _add_lstm_arguments,
            recipes.anki_lstm,
            load_sentences,
            "an LSTM on the Anki sentences or your own text",
            "--text FILE",
        ),
    )
}


def configure_train(parser: shared.OneLineParser) -> None:
    """Add a subcommand for each model."""
    parser.description += """

  tinyqae train mnist-mlp --quant commit
  tinyqae train cifar-cnn --images holiday/
  tinyqae train anki-lstm --help"""
    programs = parser.add_subparsers(metavar="MODEL", required=True)
    for program in PROGRAMS.values():
        trained = programs.add_parser(
            program.name,
            help=program.summary,
            description=f"""Train {program.summary}.

Writes model.npz, metrics.json, history.csv, pictures and reconstructions of held-out examples to --out.

  tinyqae train {program.name} {program.example}""",
        )
        add_training_arguments(trained, program)
        trained.set_defaults(run=run, program=program, parser=trained)


def add_training_arguments(parser: argparse.ArgumentParser, program: Program) -> None:
    """Add the options common to all models, and the program's own."""
    items = program.kind.items
    settings = {
        name: {quant: program.recipe(name, quant, program.default_size) for quant in kinds}
        for name, kinds in (("default", KINDS), ("report", REPORT_KINDS))
    }

    def defaults(value: Callable[[recipes.Recipe], Any]) -> str:
        """The value of the default recipe for --quant commit, and of other quantizers and recipes where it differs."""
        usual = value(settings["default"]["commit"])
        others = {quant: value(recipe) for quant, recipe in settings["default"].items()}
        notes = [f"{quant} {other:g}" for quant, other in others.items() if other is not None and other != usual]
        report = {value(recipe) for recipe in settings["report"].values()} - {None, usual}
        if report:
            notes.append("--recipe report " + " to ".join(f"{one:.3g}" for one in sorted({min(report), max(report)})))
        return f"default: {usual:g}" + f" ({', '.join(notes)})" * bool(notes)

    parser.add_argument(
        "--quant",
        choices=[*KINDS, "none"],
        default="commit",
        help="the bottleneck. vanilla, or none: no quantization; naive: threshold after training; fence: "
        "naive with a loss against values near 1/2; commit: threshold in training, straight-through "
        "estimator, commitment loss; clipped, stochastic, annealed, entropy: variants that the report "
        "did not try, only with the default recipe; default: %(default)s",
    )
    parser.add_argument(
        "--recipe",
        choices=recipes.RECIPES,
        default="default",
        help="default: what trained best on a validation split; report: the settings behind the report's "
        "tables; default: %(default)s",
    )
    parser.add_argument(
        "--epochs", type=shared.positive_int, help=f"passes over the training {items}; {defaults(lambda r: r.epochs)}"
    )
    parser.add_argument(
        "--batch-size", type=shared.positive_int, help=f"{items} per training step; {defaults(lambda r: r.batch_size)}"
    )
    parser.add_argument("--lr", type=shared.positive_float, help=f"learning rate; {defaults(lambda r: r.lr)}")
    parser.add_argument(
        "--quant-weight",
        type=shared.non_negative_float,
        help="weight of the commitment, fence or entropy loss; " + defaults(lambda r: r.bottleneck.get("weight")),
    )
    parser.add_argument(
        "--seed",
        type=shared.non_negative_int,
        default=0,
        help="random seed of the initial weights and the order of the data; default: %(default)s",
    )
    program.add_arguments(parser)
    shared.add_backend_argument(parser, "auto")
    shared.add_engine_argument(parser)
    parser.add_argument(
        "--dataset",
        choices=program.datasets,
        default=program.datasets[0],
        help="synthetic: made-up data of the same shape, which needs no download; default: %(default)s",
    )
    shared.add_data_arguments(parser)
    parser.add_argument(
        f"--train-{items}",
        type=shared.positive_int,
        metavar="N",
        default=program.train_items,
        dest="train_items",
        help=f"train on the first N {items} only; default: {program.train_items or 'all'}",
    )
    parser.add_argument("-o", "--out", metavar="DIR", help=f"where the results go; default: runs/{program.name}-QUANT-SIZE")
    parser.add_argument("-f", "--force", action="store_true", help="replace an earlier run in --out")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out, if there is one")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars and no table, only errors")
    parser.add_argument("--json", action="store_true", help="print the contents of metrics.json, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Train, measure, write, print; returns the exit code."""
    program, kind, progress = args.program, args.program.kind, shows_progress(args)
    size = getattr(args, program.size)
    size_in_words = "-".join(map(str, size)) if isinstance(size, tuple) else str(size)
    if args.recipe == "report" and args.quant in VARIANTS:
        args.parser.error(f"argument --quant: the report did not try {args.quant}; omit --recipe report")
    own = {name: value for name in ("units", "transform") if (value := getattr(args, name, None))}
    if "units" in own and args.recipe == "report":
        args.parser.error("argument --units: with --recipe report, it equals --hidden; omit it")
    if "transform" in own and (args.recipe == "report" or args.quant not in ("none", *recipes.TRANSFORM_KINDS)):
        args.parser.error(
            f"argument --transform: needs --recipe default and --quant {' or '.join(recipes.TRANSFORM_KINDS)}, "
            f"not --recipe {args.recipe} --quant {args.quant}"
        )
    recipe = program.recipe(args.recipe, args.quant, size, **own).override(
        epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, quant_weight=args.quant_weight
    )
    said, longest = getattr(args, "say", None) or (), recipe.model.get("pad_to")
    for sentence in said:
        if longest and len(clean_text(sentence)[0]) > longest:
            args.parser.error(f"argument --say: {sentence!r} is longer than the {longest} characters that this recipe takes")
    shared.use_backend(args.backend, progress)
    model, suffix = ("transform code", "-transform") if "transform" in own else (program.model, "")
    directory = Path(args.out or Path("runs") / f"{program.name}-{recipe.quant}-{size_in_words}{suffix}")
    require_new_run(directory, args)
    with shared.only_run_in(directory):
        data = program.load(args)
        if not args.resume:  # An earlier run's model must not remain next to this run's checkpoint.
            for name in RUN_FILES:
                (directory / name).unlink(missing_ok=True)
        started = time.perf_counter()
        done = kind.train_and_measure(
            recipe,
            data,
            seed=args.seed,
            train_items=args.train_items,
            directory=directory,
            resume=args.resume,
            progress=progress,
            engine=args.engine,
        )
        settings = done.metrics["settings"]
        settings["command"] = args.command
        settings["seconds"]["all"] = round(time.perf_counter() - started, 2)
        options = {"beam": args.beam} if kind is sentences else {}
        shown = kind.write(done, data, directory, f"{model} {size_in_words}", **options)
    if args.json:
        print(json.dumps(done.metrics, indent=2))
    elif not args.quiet:
        print(f"\n{kind.title(data)}\n{kind.results_table(done.metrics)}")
        if shown:
            print(f"\n{shown}\n")
        used, available = settings["data"][f"training_{kind.items}"], len(kind.training(data))
        if args.train_items and args.train_items < available:
            minutes = math.ceil(settings["seconds"]["training"] * available / used / 60)
            print(
                f"trained on {used} of {available} {kind.items}; the same number of epochs on all of them would take "
                f"about {minutes} minute{'s' * (minutes > 1)}"
            )
        print(f"written to {directory}/")
        for sentence in said:
            print("\n" + sentences.said(done.model, sentence, args.beam))
    return 0


def require_new_run(directory: Path, args: argparse.Namespace) -> None:
    """Raise a usage error if --out holds an earlier run and neither --resume nor --force is given."""
    earlier = [name for name in RUN_FILES if (directory / name).exists()]
    if earlier and not args.resume and not args.force:
        args.parser.error(
            f"argument --out: {directory} holds an earlier run ({earlier[0]}); --resume continues it, --force "
            "replaces it, --out DIR writes elsewhere"
        )


def shows_progress(args: argparse.Namespace) -> bool:
    """Whether progress bars are wanted."""
    return not (args.quiet or args.json)
