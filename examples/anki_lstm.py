"""Compress sentences to bits: a character LSTM autoencoder on the English half of the Anki sentence pairs.

    python examples/anki_lstm.py --quant commit                       256 bits a sentence
    python examples/anki_lstm.py --say "where is your daughter"       and your own sentence, there and back
    python examples/anki_lstm.py --text FILE                          your own text, one sentence a line
    python examples/anki_lstm.py --recipe report --split length       as in the 2020 report (hours)

Writes model.npz, metrics.json, history.csv, reconstructions.txt and two pictures to --out.
"""
from tinyqae.experiment import ANKI_LSTM, run_main


def main():
    # Which arguments, recipes and data the model has is in tinyqae/experiment/programs.py.
    args = ANKI_LSTM.parse_args(__doc__)

    # Settings: a recipe (tinyqae/recipes.py), and what the command line changes in it.
    recipe = ANKI_LSTM.recipe(args)
    directory = ANKI_LSTM.start(args, recipe)
    data = ANKI_LSTM.load(args)

    # Build the model, train it (tinyqae/train.py), measure it on sentences it has never seen; then write and print.
    run = ANKI_LSTM.train(args, recipe, data, directory)
    ANKI_LSTM.show(args, run, data, directory)


if __name__ == "__main__":
    run_main(main)
