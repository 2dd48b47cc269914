"""Compress handwritten digits to a few bits each: an MLP autoencoder on MNIST.

    python examples/mnist_mlp.py --quant commit              50 bits an image
    python examples/mnist_mlp.py --quant naive               the same, thresholded only after training
    python examples/mnist_mlp.py --hidden 256,50             with a hidden layer of 256 on each side
    python examples/mnist_mlp.py --recipe report             as in the 2020 report

Writes model.npz, metrics.json, history.csv and three pictures to --out; with commit a fourth, gradients.png: what the
encoder learns from, with and without the straight-through estimator.
"""
from tinyqae.experiment import MNIST_MLP, run_main


def main():
    # Which arguments, recipes and data the model has is in tinyqae/experiment/programs.py.
    args = MNIST_MLP.parse_args(__doc__)

    # Settings: a recipe (tinyqae/recipes.py), and what the command line changes in it.
    recipe = MNIST_MLP.recipe(args)
    directory = MNIST_MLP.start(args, recipe)
    data = MNIST_MLP.load(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen; then draw, write and print.
    run = MNIST_MLP.train(args, recipe, data, directory)
    MNIST_MLP.show(args, run, data, directory)


if __name__ == "__main__":
    run_main(main)
