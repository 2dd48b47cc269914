"""Compress small colour pictures to bits: a convolutional autoencoder on CIFAR-10 or on your own images.

    python examples/cifar_cnn.py --quant commit              256 bits a picture of 32x32 pixels
    python examples/cifar_cnn.py --size large                768 bits
    python examples/cifar_cnn.py --images FOLDER             your own images, cut into 32x32 patches
    python examples/cifar_cnn.py --recipe report --train-images 50000      as in the 2020 report (an hour or so)

Writes model.npz, metrics.json, history.csv and three pictures to --out.
"""
from tinyqae.experiment import CIFAR_CNN, run_main


def main():
    # Which arguments, recipes and data the model has is in tinyqae/experiment/programs.py.
    args = CIFAR_CNN.parse_args(__doc__)

    # Settings: a recipe (tinyqae/recipes.py), and what the command line changes in it.
    recipe = CIFAR_CNN.recipe(args)
    directory = CIFAR_CNN.start(args, recipe)
    data = CIFAR_CNN.load(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen; then draw, write and print.
    run = CIFAR_CNN.train(args, recipe, data, directory)
    CIFAR_CNN.show(args, run, data, directory)


if __name__ == "__main__":
    run_main(main)
