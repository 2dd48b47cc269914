"""The arguments that all trainings have, and how a program ends when something is wrong."""
import argparse
import os
import sys
from pathlib import Path

from .. import backend
from ..bottlenecks import KINDS
from ..checkpoint import write_atomically
from ..engine import DEFAULT, ENGINES
from ..errors import TinyqaeError
from ..recipes import RECIPES


def positive_int(text):
    """An argparse type: a whole number above 0."""
    return _number(text, int, lambda value: value > 0, "a whole number above 0")


def positive_float(text):
    """An argparse type: a finite number above 0."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def non_negative_int(text):
    """An argparse type: a whole number, 0 or more."""
    return _number(text, int, lambda value: value >= 0, "a whole number, 0 or more")


def non_negative_float(text):
    """An argparse type: a finite number, 0 or more."""
    return _number(text, float, lambda value: 0 <= value < float("inf"), "a number, 0 or more")


def widths(text):
    """An argparse type: "50" or "256,50" -> (50,) or (256, 50)."""
    return tuple(positive_int(part) for part in text.split(","))


def _number(text, kind, accept, wanted):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line instead of the whole usage."""

    def error(self, message):
        """Exit with code 2."""
        self.exit(2, f"error: {message}; --help explains\n")


def add_training_arguments(parser, datasets, items="images", train_items=None):
    """Add the arguments that all trainings have.

    datasets: the choices of --dataset, the first is the default. items: what the data sets hold, "images" or "sentences".
    train_items: how many of them are trained on by default, None for all.
    """
    parser.add_argument("--quant", choices=[*KINDS, "none"], default="commit",
                        help="the bottleneck: vanilla (no quantization; 'none' is another word for it), naive (threshold "
                             "after training), fence (naive, with a loss against values near 1/2), commit (threshold in "
                             "training, straight-through gradient, commit loss); clipped, stochastic, annealed, entropy: "
                             "what the report did not try, for the default recipe only; default: %(default)s")
    parser.add_argument("--recipe", choices=RECIPES, default="default",
                        help="default: the best training found; report: the settings behind the report's tables")
    parser.add_argument("--epochs", type=positive_int, help=f"passes over the training {items} (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive_int, help=f"{items} in a training step (default: the recipe's)")
    parser.add_argument("--lr", type=positive_float, help="learning rate (default: the recipe's)")
    parser.add_argument("--quant-weight", type=non_negative_float,
                        help="factor of the fence, commit or entropy loss (default: the recipe's)")
    parser.add_argument("--seed", type=non_negative_int, default=0,
                        help="of initial weights and order of the data; default: %(default)s")
    add_backend_argument(parser, "auto")
    add_engine_argument(parser)
    parser.add_argument("--dataset", choices=datasets, default=datasets[0],
                        help="synthetic needs no network: made-up data of the same shape; default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR",
                        help="where the data sets are, or will be put (default: $TINYQAE_DATA, else the user's cache)")
    parser.add_argument(f"--train-{items}", type=positive_int, metavar="N", default=train_items, dest="train_items",
                        help=f"train on the first N {items} only (default: {train_items or 'all'})")
    parser.add_argument("--out", metavar="DIR", help="where the results go (default: runs/NAME-OF-THE-RUN)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no table, only errors")
    parser.add_argument("--json", action="store_true", help="print the content of metrics.json, and nothing else")


def add_backend_argument(parser, default):
    """Add --backend."""
    parser.add_argument("--backend", choices=backend.BACKENDS, default=default,
                        help="numpy (CPU), cupy (NVIDIA GPU), or auto: a GPU when there is a working one; "
                             "default: %(default)s")


def add_engine_argument(parser):
    """Add --engine."""
    parser.add_argument("--engine", choices=ENGINES, help="fast: with buffers and fused kernels; reference: the textbook's "
                        f"formulas; default: $TINYQAE_ENGINE, else {DEFAULT}")


def use_backend(which, say=True):
    """backend.use; and where there was a choice, say on standard error what is used."""
    backend.use(which)
    if say and (backend.name == "cupy" or backend.why_not_cupy):
        print(backend.describe(), file=sys.stderr)


def run_main(main, stopped="stopped; the same command with --resume goes on from the last whole epoch"):
    """Call main() as a program and return its result.

    Expected failures are one line on standard error and exit code 1; usage exits with 2; Ctrl-C says `stopped` and exits
    with 130. When nobody reads standard output any more (`| head`), the program ends without a word.
    """
    try:
        result = main()
        # What is still buffered, so that a closed pipe shows here and not when Python ends.
        print(end="", flush=True)
        return result
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes once more at the end, which must not fail again. 141 is what the shell says of other programs.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (TinyqaeError, MemoryError) as error:
        sys.exit(f"error: {error or type(error).__name__}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'file'}: {error.strerror or error}")


def recipe_from(args, recipe):
    """The recipe with what the command line changes in it."""
    return recipe.override(epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, quant_weight=args.quant_weight)


def start(args, name):
    """Choose the backend, and say which where there is a choice; make --out or runs/<name> and try it now, so that a long
    run does not end in front of a closed door. Returns the directory.
    """
    use_backend(args.backend, shows_progress(args))
    directory = Path(args.out or Path("runs") / name)
    require_writable(directory)
    return directory


def require_writable(directory):
    """OSError unless files can be written to the directory, which is made where it does not exist."""
    write_atomically(Path(directory) / ".writable", lambda file: None)
    (Path(directory) / ".writable").unlink()


def shows_progress(args):
    """Whether progress bars are wanted."""
    return not (args.quiet or args.json)
