"""Compress handwritten digits to a few bits each: an MLP autoencoder on MNIST.

    python examples/mnist_mlp.py --quant commit              50 bits an image
    python examples/mnist_mlp.py --quant naive               the same, thresholded only after training
    python examples/mnist_mlp.py --hidden 256,50             with a hidden layer of 256 on each side
    python examples/mnist_mlp.py --recipe report             as in the 2020 report

Writes model.npz, metrics.json, history.csv and three pictures to --out.
"""
from tinyqae import experiment, recipes
from tinyqae.experiment import images


def main():
    parser = experiment.argument_parser(__doc__, datasets=("mnist", "synthetic"))
    parser.add_argument("--hidden", type=experiment.widths, default=(50,), metavar="N[,N...]",
                        help="widths of the encoder's layers; the last one is the number of bits; default: 50")
    args = parser.parse_args()

    # Settings: a recipe, and what the command line changes in it.
    recipe = experiment.recipe_from(args, recipes.mnist_mlp(args.recipe, args.quant, args.hidden))
    directory = experiment.start(args, f"mnist-mlp-{recipe.quant}-{'-'.join(map(str, args.hidden))}")
    data = images.load_digits(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen; then draw, write and print.
    run = experiment.train_from(args, images.train_and_measure, recipe, data, directory)
    images.show(args, run, data, directory, "MLP")


if __name__ == "__main__":
    experiment.run_main(main)
