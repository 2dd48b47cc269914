"""Semantic hashing (Salakhutdinov and Hinton 2009): find similar digits by comparing bits. The k training digits nearest to
a test digit in Hamming distance between 50-bit codes, one XOR and one popcount per pair, vote on its label.

    python examples/hamming_knn.py                           three seeds
    python examples/hamming_knn.py --seeds 0 --epochs 20     one seed, the recipe's full training

The codes are those of commit and naive, and the signs of random projections, compared with raw pixels in Euclidean distance.
Prints a table and writes it to --out as results.md, all figures to results.json, and accuracy against k to neighbors.png.
"""

import json
import shlex
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from tinyqae import fit, load_mnist, plots, recipes, synthetic_digits
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.experiment import versions

BITS = 50
NEIGHBORS, PRINTED = (1, 3, 5, 9, 15, 25), 5
BLOCK = 250


def main():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", choices=("mnist", "synthetic"), default="mnist", help="synthetic: made-up digits; default: mnist")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    add("--seeds", type=program.non_negative_int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--epochs", type=program.positive_int, default=5, help="of each training; default: %(default)s")
    add("--out", metavar="DIR", type=Path, default=Path("runs/hamming-knn"), help="default: %(default)s")
    args = parser.parse_args()
    program.require_writable(args.out)
    data = synthetic_digits(seed=0) if args.dataset == "synthetic" else load_mnist(args.data_dir)
    vectors = [images.reshape(len(images), -1) / np.float32(255) for images in (data.train_images, data.test_images)]

    results = defaultdict(list)  # {method: [(accuracy for each k, bytes per digit, seconds to search) for each seed]}
    results["pixels, Euclidean"].append(search(*vectors, data, nearest_vectors))
    for seed in args.seeds:
        for quant in ("commit", "naive"):
            results[f"{quant}, Hamming"].append(search(*learned_codes(quant, data, seed, args.epochs), data, nearest_codes))
        results["random projections, Hamming"].append(search(*projection_codes(*vectors, seed), data, nearest_codes))

    title = (
        f"{data.name}: {len(data.test_images)} test digits, neighbors among {len(data.train_images)} training digits, "
        f"{BITS} bits, seeds {' '.join(map(str, args.seeds))}, {args.epochs} epochs"
    )
    lines = [
        f"{title}, k = {PRINTED}",
        "",
        "| method | accuracy, % | bytes per digit | search time, s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for method, runs in results.items():
        accuracy, size, seconds = zip(*runs, strict=True)
        percent = 100 * np.array(accuracy)[:, NEIGHBORS.index(PRINTED)]
        spread = f" ± {percent.std(ddof=1):.2f}" if len(percent) > 1 else ""
        lines.append(f"| {method} | {percent.mean():.2f}{spread} | {size[0]} | {np.mean(seconds):.1f} |")
    table = "\n".join(lines) + "\n"
    print(f"\n{table}")
    measured = {
        "command": shlex.join(["python", "examples/hamming_knn.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "data": data.name,
        "sha256": data.sha256,
        "versions": versions(),
        "seeds": args.seeds,
        "epochs": args.epochs,
        "neighbors": NEIGHBORS,
        "methods": {
            method: [dict(zip(("accuracy", "bytes", "seconds"), run, strict=True)) for run in runs]
            for method, runs in results.items()
        },
    }
    write_text(args.out / "results.json", json.dumps(measured, indent=1) + "\n")
    write_text(args.out / "results.md", table)
    draw(results, title, args.out / "neighbors.png")
    print(f"written to {args.out}/")


def learned_codes(quant, data, seed, epochs):
    """Packed bits (N, 7) of the training and test images, from an MLP trained without labels."""
    recipe = recipes.mnist_mlp("default", quant, (BITS,)).override(epochs=epochs)
    model = recipe.make_model(data.train_images, seed)
    fit(model, data.train_images, recipe.make_optimizer(), seed=seed, description=quant, **recipe.fit_arguments())
    return model.encode(data.train_images, packed=True), model.encode(data.test_images, packed=True)


def projection_codes(train, test, seed):
    """Packed signs of projections on random directions (Charikar 2002): only the mean image is learned."""
    directions = np.random.default_rng(seed).standard_normal((train.shape[1], BITS), np.float32)
    return [np.packbits((vectors - train.mean(axis=0)) @ directions > 0, axis=1) for vectors in (train, test)]


def search(train, test, data, nearest):
    """(accuracy for each k of NEIGHBORS, bytes per digit, seconds). nearest: nearest_codes or nearest_vectors."""
    started = time.perf_counter()
    blocks = [nearest(test[start : start + BLOCK], train, max(NEIGHBORS)) for start in range(0, len(test), BLOCK)]
    seconds = time.perf_counter() - started
    labels = data.train_labels[np.concatenate(blocks)]
    # (queries, k, digits): the votes of the first k neighbors. Of digits with equal votes, argmax takes the smallest.
    votes = np.cumsum(labels[:, :, np.newaxis] == np.arange(10), axis=1)
    accuracy = [np.mean(votes[:, k - 1].argmax(axis=1) == data.test_labels) for k in NEIGHBORS]
    return accuracy, train.shape[1], seconds  # Pixels are stored as bytes too.


def nearest_codes(queries, database, k):
    """The k codes nearest to each query in Hamming distance, nearest first: uint8 (Q, 7), (N, 7) -> indices (Q, k)."""
    # Each code as one 64-bit word, padded with zeros.
    queries, database = (np.pad(codes, ((0, 0), (0, 8 - codes.shape[1]))).view(np.uint64) for codes in (queries, database))
    distances = np.bitwise_count(queries ^ database.T)
    found = []
    for row in distances:
        # Distances are small integers, so counting finds the radius that contains at least k codes.
        radius = np.searchsorted(np.bincount(row).cumsum(), k)
        within = np.flatnonzero(row <= radius)
        found.append(within[row[within].argsort(kind="stable")][:k])
    return np.stack(found)


def nearest_vectors(queries, database, k):
    """The k vectors nearest to each query in Euclidean distance, nearest first: (Q, D), (N, D) -> indices (Q, k)."""
    # |query - vector|^2 without |query|^2, which is the same for all of a query's neighbors.
    distances = np.einsum("nd,nd->n", database, database) - 2 * queries @ database.T
    candidates = np.argpartition(distances, k - 1, axis=1)[:, :k]
    order = np.take_along_axis(distances, candidates, axis=1).argsort(axis=1)
    return np.take_along_axis(candidates, order, axis=1)


def write_text(path, text):
    write_atomically(path, lambda file: file.write(text.encode()))


def draw(results, title, path):
    """Plot accuracy against k, a line for each method, with error bars of one standard deviation."""
    figure, ((axes,),) = plots.subplots(1, 1, 7, 4)
    plots.plain(axes)
    for method, runs in results.items():
        percent = 100 * np.array([accuracy for accuracy, *_ in runs])
        spread = percent.std(axis=0, ddof=1) if len(runs) > 1 else None
        axes.errorbar(NEIGHBORS, percent.mean(axis=0), spread, marker="o", markersize=4, capsize=2, label=method)
    axes.set(xlabel="number of neighbors k", ylabel="test digits classified correctly, %", xticks=NEIGHBORS)
    axes.legend(fontsize=8)
    plots.save(figure, path, title)


if __name__ == "__main__":
    program.run_main(main, stopped="stopped")
