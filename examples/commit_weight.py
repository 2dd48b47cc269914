"""What the weight of the commit loss does: the same autoencoder of digits, trained with one weight after the other.

    python examples/commit_weight.py                          0 (straight-through alone) to 10: seven trainings, some minutes
    python examples/commit_weight.py --weights 0 1 10 --epochs 5

Writes weights.png, quality and state of the bits against the weight, and latents.png, the values before the threshold over
the epochs for each weight, to --out.
"""
import argparse
from pathlib import Path

from tinyqae import experiment, load_mnist, plots, recipes, synthetic_digits
from tinyqae.experiment.images import train_and_measure
from tinyqae.reproduce import weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=experiment.non_negative_float, nargs="+", default=[0, 0.01, 0.1, 0.3, 1, 3, 10],
                        metavar="W", help="at least one above 0")
    parser.add_argument("--bits", type=experiment.positive_int, default=50, help="of a code; default: %(default)s")
    parser.add_argument("--epochs", type=experiment.positive_int, help="default: the recipe's, 20")
    parser.add_argument("--dataset", choices=("mnist", "synthetic"), default="mnist")
    parser.add_argument("--train-images", type=experiment.positive_int, metavar="N", help="the first N only; default: all")
    parser.add_argument("--seed", type=experiment.non_negative_int, default=0)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/commit-weight"), help="default: %(default)s")
    args = parser.parse_args()
    if not any(args.weights):
        parser.error("--weights: at least one must be above 0")
    data = load_mnist() if args.dataset == "mnist" else synthetic_digits(seed=0)

    # One recipe (tinyqae/recipes.py), in which nothing but the weight changes.
    recipe = recipes.mnist_mlp("default", "commit", (args.bits,)).override(epochs=args.epochs)
    found, strips = [], []
    for weight in sorted(set(args.weights)):
        run = train_and_measure(recipe.override(quant_weight=weight), data, seed=args.seed, train_items=args.train_images)
        found.append(weights.of_run(weight, run))
        strips.append((f"weight {weight:g}", run.history.latents))
        print(f"weight {weight:g}: held-out PSNR {found[-1].psnr[0]:.2f} dB, {found[-1].dead[0]} bits never change")

    args.out.mkdir(parents=True, exist_ok=True)
    plots.commit_weights(args.out / "weights.png", [one.weight for one in found], weights.panels(found))
    plots.latent_strips(args.out / "latents.png", strips)
    print(f"\n{data.name}, one seed. {weights.words(found)}\nwritten to {args.out}/")


if __name__ == "__main__":
    experiment.run_main(main, stopped="stopped")
