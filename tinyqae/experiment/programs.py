"""The report's three models, each on its data, as programs: what `tinyqae train` and `tinyqae evaluate` run."""
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from .. import recipes
from ..bottlenecks import VARIANTS
from ..recipes import SIZES
from . import images, sentences
from .arguments import OneLineParser, add_training_arguments, positive_int, recipe_from, start, widths
from .runs import train_from


@dataclass(frozen=True)
class Program:
    """A model and the data it learns from: what is its own, and the steps of a run, each told the arguments.

    name: of the program and its runs. model: the model in a word. size: which argument says how large its code is.
    add_arguments(parser): the arguments. named_recipe(name, quant, size): the settings. load(args): the data.
    kind: the module that measures and shows a run, images or sentences.
    """

    name: str
    model: str
    size: str
    add_arguments: Callable
    named_recipe: Callable
    load: Callable
    kind: ModuleType

    def recipe(self, args):
        """The settings, and what the command line changes in them."""
        if args.recipe == "report" and args.quant in VARIANTS:
            OneLineParser(prog=self.name).error(f"the report did not try --quant {args.quant}; leave --recipe report out")
        return recipe_from(args, self.named_recipe(args.recipe, args.quant, getattr(args, self.size)))

    def start(self, args, recipe):
        """Choose the backend; return the directory for the results, which can be written to."""
        return start(args, f"{self.name}-{recipe.quant}-{self._size_in_words(args)}")

    def train(self, args, recipe, data, directory):
        """Build the model, train it, measure it on held-out examples; returns a Run."""
        return train_from(args, self.kind.train_and_measure, recipe, data, directory)

    def show(self, args, run, data, directory):
        """Write the run's files and pictures and print its figures."""
        self.kind.show(args, run, data, directory, f"{self.model} {self._size_in_words(args)}")

    def _size_in_words(self, args):
        size = getattr(args, self.size)
        return "-".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _add_mnist_mlp_arguments(parser):
    add_training_arguments(parser, datasets=("mnist", "synthetic"))
    parser.add_argument("--hidden", type=widths, default=(50,), metavar="N[,N...]",
                        help="widths of the encoder's layers; the last one is the number of bits; default: 50")


def _add_cifar_cnn_arguments(parser):
    add_training_arguments(parser, datasets=("cifar10", "synthetic"), train_items=10_000)
    parser.add_argument("--size", choices=SIZES, default="small",
                        help="latent map 4x4x16 (small), 4x4x32 (medium) or 4x4x48 (large); default: %(default)s")
    parser.add_argument("--images", metavar="FOLDER", help="train on the images in this folder instead of CIFAR-10")
    parser.add_argument("--allow-modified-data", action="store_true",
                        help="take files in the data directory that are not CIFAR-10's originals; every output then says "
                             "CIFAR-10 proxy")


def _add_anki_lstm_arguments(parser):
    add_training_arguments(parser, datasets=("anki", "synthetic"), items="sentences")
    parser.add_argument("--hidden", type=int, choices=recipes.HIDDEN_SIZES, default=128,
                        help="half the bits of a sentence's code, and in the recipe report the units of each LSTM; "
                             "default: %(default)s")
    parser.add_argument("--split", choices=("random", "length"), default="random",
                        help="hold out a tenth of the sentences at random, or, as the report, the longest fifth; "
                             "default: %(default)s")
    parser.add_argument("--language", default="fra", metavar="CODE",
                        help="whose pairs with English to take, three letters as on manythings.org; default: %(default)s")
    parser.add_argument("--text", metavar="FILE", help="train on the lines of this text file instead of the Anki pairs")
    parser.add_argument("--beam", type=positive_int, metavar="N",
                        help="how many sentences a reconstruction keeps in the running; 1 is greedy; default: the recipe's")
    parser.add_argument("--say", action="append", metavar="SENTENCE",
                        help="a sentence of your own to send through the code; may be given several times")


MNIST_MLP = Program("mnist-mlp", "MLP", "hidden", _add_mnist_mlp_arguments, recipes.mnist_mlp, images.load_digits, images)
CIFAR_CNN = Program("cifar-cnn", "CNN", "size", _add_cifar_cnn_arguments, recipes.cifar_cnn, images.load_pictures, images)
ANKI_LSTM = Program("anki-lstm", "LSTM", "hidden", _add_anki_lstm_arguments, recipes.anki_lstm, sentences.load, sentences)
