"""Compress small colour pictures to bits: a convolutional autoencoder on CIFAR-10 or on your own images.

    python examples/cifar_cnn.py --quant commit              256 bits a picture of 32x32 pixels
    python examples/cifar_cnn.py --size large                768 bits
    python examples/cifar_cnn.py --images FOLDER             your own images, cut into 32x32 patches
    python examples/cifar_cnn.py --recipe report --train-images 50000      as in the 2020 report (an hour or so)

Writes model.npz, metrics.json, history.csv and three pictures to --out.
"""
from tinyqae import experiment, recipes
from tinyqae.experiment import images
from tinyqae.models.cnn import SIZES


def main():
    parser = experiment.argument_parser(__doc__, datasets=("cifar10", "synthetic"), train_items=10_000)
    parser.add_argument("--size", choices=SIZES, default="small",
                        help="latent map 4x4x16 (small), 4x4x32 (medium) or 4x4x48 (large); default: %(default)s")
    parser.add_argument("--images", metavar="FOLDER", help="train on the images in this folder instead of CIFAR-10")
    parser.add_argument("--allow-modified-data", action="store_true",
                        help="take files in the data directory that are not CIFAR-10's originals; every output then says "
                             "CIFAR-10 proxy")
    args = parser.parse_args()

    # Settings: a recipe, and what the command line changes in it.
    recipe = experiment.recipe_from(args, recipes.cifar_cnn(args.recipe, args.quant, args.size))
    directory = experiment.start(args, f"cifar-cnn-{recipe.quant}-{args.size}")
    data = images.load_pictures(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen; then draw, write and print.
    run = experiment.train_from(args, images.train_and_measure, recipe, data, directory)
    images.show(args, run, data, directory, f"CNN {args.size}")


if __name__ == "__main__":
    experiment.run_main(main)
