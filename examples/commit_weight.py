"""The effect of the commitment loss's weight: the same autoencoder of digits, trained once with each weight and, for
comparison, with naive, which applies the threshold only after training.

    python examples/commit_weight.py                          0 (the STE alone) to 10: eight runs, a few minutes
    python examples/commit_weight.py --weights 0 1 10 --epochs 5

Writes weights.png (quality and state of the bits against the weight) and latents.png (the activations over the epochs for
naive and each weight) to --out.
"""

from pathlib import Path

from tinyqae import load_mnist, plots, recipes, synthetic_digits
from tinyqae.cli import program
from tinyqae.experiment import images
from tinyqae.history import undecided


def main():
    parser = program.OneLineParser(description=__doc__)
    parser.add_argument(
        "--weights",
        type=program.non_negative_float,
        nargs="+",
        default=[0, 0.01, 0.1, 0.3, 1, 3, 10],
        metavar="W",
        help="at least one above 0",
    )
    parser.add_argument("--bits", type=program.positive_int, default=50, help="per code; default: %(default)s")
    parser.add_argument("--epochs", type=program.positive_int, help="default: the recipe's, 20")
    parser.add_argument("--dataset", choices=("mnist", "synthetic"), default="mnist")
    parser.add_argument("--train-images", type=program.positive_int, metavar="N", help="the first N only; default: all")
    parser.add_argument("--seed", type=program.non_negative_int, default=0)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/commit-weight"), help="default: %(default)s")
    args = parser.parse_args()
    if not any(args.weights):
        parser.error("--weights: at least one must be above 0")
    data = load_mnist() if args.dataset == "mnist" else synthetic_digits(seed=0)

    # One recipe (tinyqae/recipes.py), in which only the bottleneck changes. Naive does better with its own settings.
    recipe = recipes.mnist_mlp("default", "commit", (args.bits,)).override(epochs=args.epochs)
    trainings = {"naive": recipe.override(quant="naive", bottleneck={"signed": True})}
    trainings |= {weight: recipe.override(quant_weight=weight) for weight in sorted(set(args.weights))}
    figures, strips = {}, []
    for weight, changed in trainings.items():
        run = images.train_and_measure(changed, data, seed=args.seed, train_items=args.train_images)
        name, code = "naive" if weight == "naive" else f"weight {weight:g}", run.metrics["code"]
        figures[weight] = (
            run.metrics["test"]["psnr"],
            code["distance_to_bit"],
            undecided(run.history.latents),
            code["dead_bits"],
        )
        strips.append((f"{name}: {figures[weight][0]:.2f} dB held-out", run.history.latents))
        print(f"{name}: held-out PSNR {figures[weight][0]:.2f} dB, {code['dead_bits']} bits never change")

    naive = figures.pop("naive")
    titles = (
        "held-out PSNR, dB (higher is better)",
        "mean distance to the nearest bit",
        "share of activations in ¼ to ¾",
        f"bits that never change, of {args.bits}",
    )
    panels = [
        (title, values, [None] * len(values))  # One seed has no standard deviation.
        for title, values in zip(titles, zip(*figures.values(), strict=True), strict=True)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    plots.commit_weights(list(figures), panels, naive, path=args.out / "weights.png")
    plots.latent_strips(strips, path=args.out / "latents.png")
    print(f"\n{data.name}, one seed. {in_words(figures, args.bits)}\nwritten to {args.out}/")


def in_words(figures, bits):
    """Summarize the effect. figures: {weight: PSNR, distance to the nearest bit, undecided activations, dead bits}."""
    best = max(figures, key=lambda weight: figures[weight][0])
    collapsed = ", ".join(f"{weight:g}" for weight, (*_, dead) in figures.items() if dead > bits / 2)
    first, last = min(figures), max(figures)
    (_, far, many, _), (_, near, few, _) = figures[first], figures[last]
    return (
        f"Best on held-out images: weight {best:g} with {figures[best][0]:.2f} dB. One seed each: small differences "
        f"may be due to chance. More than half of the bits never change with weight: {collapsed or 'none'}. From weight "
        f"{first:g} to {last:g} the mean distance to the nearest bit goes from {far:.3f} to {near:.3f}, the share of "
        f"activations between ¼ and ¾ from {many:.1%} to {few:.1%}."
    )


if __name__ == "__main__":
    program.run_main(main)
