"""Compress small colour pictures to bits: a convolutional autoencoder on CIFAR-10 or on your own images.

    python examples/cifar_cnn.py --quant commit              256 bits a picture of 32x32 pixels
    python examples/cifar_cnn.py --size large                768 bits
    python examples/cifar_cnn.py --images FOLDER             your own images, cut into 32x32 patches
    python examples/cifar_cnn.py --recipe report --train-images 50000      as in the 2020 report (an hour or so)

Writes model.npz, metrics.json, history.csv and three pictures to --out.
"""
import json

from tinyqae import backend, experiment, recipes
from tinyqae.models.cnn import SIZES

TRAIN_IMAGES = 10_000


def main():
    parser = experiment.argument_parser(__doc__, datasets=("cifar10", "synthetic"), train_images=TRAIN_IMAGES)
    parser.add_argument("--size", choices=SIZES, default="small",
                        help="latent map 4x4x16 (small), 4x4x32 (medium) or 4x4x48 (large); default: %(default)s")
    parser.add_argument("--images", metavar="FOLDER", help="train on the images in this folder instead of CIFAR-10")
    parser.add_argument("--allow-modified-data", action="store_true",
                        help="take files in the data directory that are not CIFAR-10's originals; every output then says "
                             "CIFAR-10 proxy")
    args = parser.parse_args()

    # Settings: a recipe, and what the command line changes in it.
    recipe = recipes.cifar_cnn(args.recipe, args.quant, args.size).override(
        epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, quant_weight=args.quant_weight)
    backend.use(args.backend)
    directory = experiment.out_directory(args, f"cifar-cnn-{recipe.quant}-{args.size}")
    data = experiment.load_pictures(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen.
    run = experiment.train_and_measure(
        recipe, data, seed=args.seed, train_images=args.train_images, directory=directory, resume=args.resume,
        progress=not (args.quiet or args.json), command=experiment.command_line())

    # Draw and write.
    title = (f"{data.name}: CNN {args.size}, {recipe.quant}, {run.metrics['rate']['bits_per_item']} bits an image, "
             f"held-out PSNR {run.metrics['test']['psnr']:.2f} dB")
    experiment.write_results(run, directory, title, data)
    if args.json:
        print(json.dumps(run.metrics, indent=2))
    elif not args.quiet:
        print(f"\n{data.name}\n{experiment.results_table(run.metrics)}\n"
              f"{experiment.full_run_estimate(run, len(data.train_images))}\nwritten to {directory}/")


if __name__ == "__main__":
    experiment.run_main(main)
