"""Compress sentences to bits: a character LSTM autoencoder on the English half of the Anki sentence pairs.

    python examples/anki_lstm.py --quant commit                       256 bits a sentence
    python examples/anki_lstm.py --say "where is your daughter"       and your own sentence, there and back
    python examples/anki_lstm.py --text FILE                          your own text, one sentence a line
    python examples/anki_lstm.py --recipe report --split length       as in the 2020 report (hours)

Writes model.npz, metrics.json, history.csv, reconstructions.txt and two pictures to --out.
"""
from tinyqae import experiment, recipes
from tinyqae.experiment import sentences


def main():
    parser = experiment.argument_parser(__doc__, datasets=("anki", "synthetic"), items="sentences")
    parser.add_argument("--hidden", type=int, choices=recipes.HIDDEN_SIZES, default=128,
                        help="units of each LSTM; the code of a sentence has twice as many bits; default: %(default)s")
    parser.add_argument("--split", choices=("random", "length"), default="random",
                        help="hold out a tenth of the sentences at random, or, as the report, the longest fifth; "
                             "default: %(default)s")
    parser.add_argument("--language", default="fra", metavar="CODE",
                        help="whose pairs with English to take, three letters as on manythings.org; default: %(default)s")
    parser.add_argument("--text", metavar="FILE", help="train on the lines of this text file instead of the Anki pairs")
    parser.add_argument("--beam", type=experiment.positive_int, metavar="N",
                        help="how many sentences a reconstruction keeps in the running; 1 is greedy; default: the recipe's")
    parser.add_argument("--say", action="append", metavar="SENTENCE",
                        help="a sentence of your own to send through the code; may be given several times")
    args = parser.parse_args()

    # Settings: a recipe, and what the command line changes in it.
    recipe = experiment.recipe_from(args, recipes.anki_lstm(args.recipe, args.quant, args.hidden))
    directory = experiment.start(args, f"anki-lstm-{recipe.quant}-{args.hidden}")
    data = sentences.load(args)

    # Build the model, train it (tinyqae/train.py), measure it on sentences it has never seen; then write and print.
    run = experiment.train_from(args, sentences.train_and_measure, recipe, data, directory)
    sentences.show(args, run, data, directory, f"LSTM {args.hidden}")


if __name__ == "__main__":
    experiment.run_main(main)
