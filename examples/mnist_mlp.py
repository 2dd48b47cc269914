"""Compress handwritten digits to a few bits each: an MLP autoencoder on MNIST.

    python examples/mnist_mlp.py --quant commit              50 bits an image
    python examples/mnist_mlp.py --quant naive               the same, thresholded only after training
    python examples/mnist_mlp.py --hidden 256,50             with a hidden layer of 256 on each side
    python examples/mnist_mlp.py --recipe report             as in the 2020 report

Writes model.npz, metrics.json, history.csv and three pictures to --out.
"""
import json

from tinyqae import backend, experiment, recipes


def main():
    parser = experiment.argument_parser(__doc__, datasets=("mnist", "synthetic"))
    parser.add_argument("--hidden", type=experiment.widths, default=(50,), metavar="N[,N...]",
                        help="widths of the encoder's layers; the last one is the number of bits; default: 50")
    args = parser.parse_args()

    # Settings: a recipe, and what the command line changes in it.
    recipe = recipes.mnist_mlp(args.recipe, args.quant, args.hidden).override(
        epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, quant_weight=args.quant_weight)
    backend.use(args.backend)
    directory = experiment.out_directory(args, f"mnist-mlp-{recipe.quant}-{'-'.join(map(str, args.hidden))}")
    data = experiment.load_digits(args)

    # Build the model, train it (tinyqae/train.py), measure it on images it has never seen.
    run = experiment.train_and_measure(
        recipe, data, seed=args.seed, train_images=args.train_images, directory=directory, resume=args.resume,
        progress=not (args.quiet or args.json), command=experiment.command_line())

    # Draw and write.
    title = (f"{data.name}: MLP, {recipe.quant}, {run.metrics['rate']['bits_per_item']} bits an image, "
             f"held-out PSNR {run.metrics['test']['psnr']:.2f} dB")
    experiment.write_results(run, directory, title, data)
    if args.json:
        print(json.dumps(run.metrics, indent=2))
    elif not args.quiet:
        print(f"\n{data.name}\n{experiment.results_table(run.metrics)}\nwritten to {directory}/")


if __name__ == "__main__":
    experiment.run_main(main)
