"""Simple baselines at the same number of bits or fewer: vector quantization of digits, a transform code for photos, the
nearest training sentence.

    python -m benchmarks.report.baselines     ten minutes on one core; writes benchmarks/results/baselines.json and .md

MNIST: the index of the nearest of 2^bits centroids of k-means on the training images, and greedy residual vector
quantization (Gersho and Gray, Vector Quantization and Signal Compression, section 12.11): each stage quantizes the residual
of the stages before it with its own 2^10 centroids. CIFAR-10: principal components with several bits each, the untrained
model of tinyqae/transform_coding.py. Anki: the index of the nearest of 2^15 training sentences.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from tinyqae import Commit, TransformAutoencoder, backend
from tinyqae.checkpoint import write_atomically
from tinyqae.cli.program import OneLineParser, add_data_arguments, run_main
from tinyqae.data import load_anki, load_cifar10, load_mnist, split_sentences
from tinyqae.metrics.image import psnr
from tinyqae.metrics.text import levenshtein

from .rows import plus_minus, summary

RESULTS = Path(__file__).parents[1] / "results"
STAGE_BITS = 10
STAGES = {10: 1, 50: 5, 100: 10}
SENTENCE_BITS = 15
CHUNK = 2000
LEAST_GAIN = 5e-4
"""k-means ends when an iteration reduces the distortion by less than this share."""


def nearest(x, centroids):
    """(index of the nearest centroid (N,), squared distance to it (N,)). x (N, D), centroids (K, D), float32."""
    index, distance = np.empty(len(x), np.intp), np.empty(len(x), np.float32)
    squares = (centroids**2).sum(axis=1)
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, where the first term is the same for all c.
        scores = squares - 2 * (part @ centroids.T)
        best = scores.argmin(axis=1)
        index[start : start + CHUNK] = best
        distance[start : start + CHUNK] = np.take_along_axis(scores, best[:, None], 1)[:, 0] + (part**2).sum(axis=1)
    return index, distance


def k_means(x, k, seed, most_iterations=100, description=""):
    """Lloyd's algorithm from k random rows of x (N, D): centroids (k, D), each the mean of the rows nearest to it. A
    centroid without any rows is moved to one of the rows farthest from their centroids.
    """
    random = np.random.default_rng(seed)
    centroids, distortion = x[random.choice(len(x), k, replace=False)].copy(), math.inf
    for _ in tqdm(range(most_iterations), desc=description, disable=not sys.stderr.isatty(), leave=False):
        index, distances = nearest(x, centroids)
        before, distortion = distortion, float(distances.mean(dtype=np.float64))
        if before - distortion < LEAST_GAIN * distortion:
            break
        order = index.argsort(kind="stable")
        counts = np.bincount(index, minlength=k)
        starts = counts.cumsum() - counts
        used = counts > 0
        centroids[used] = np.add.reduceat(x[order], starts[used], axis=0) / counts[used, None]
        centroids[~used] = x[distances.argsort()[::-1][: k - used.sum()]]
    return centroids


def residual_quantization(train, test, stages, seed):
    """Reconstructions of `test` (N, D) after each of the `stages` fitted to `train`, a list of float32 (N, D)."""
    train, residual, reconstructions = train.copy(), test.copy(), []
    for stage in range(stages):
        centroids = k_means(train, 2**STAGE_BITS, (seed, stage), description=f"stage {stage + 1} of {stages}")
        train -= centroids[nearest(train, centroids)[0]]
        residual = residual - centroids[nearest(residual, centroids)[0]]
        reconstructions.append(test - residual)
    return reconstructions


def mnist_rows(data, seed):
    """A row for each number of bits: the held-out PSNR, and what the decoder has to store."""
    train, test = (images.reshape(len(images), -1).astype(np.float32) for images in (data.train_images, data.test_images))
    stages = residual_quantization(train, test, max(STAGES.values()), seed)
    rows, k = [], 2**STAGE_BITS
    for bits, count in STAGES.items():
        images = np.rint(stages[count - 1].clip(0, 255)).astype(np.uint8).reshape(data.test_images.shape)
        rows.append(
            {
                "data": data.name,
                "bits": bits,
                "unit": "dB",
                "seed": seed,
                "method": f"k-means, {k} centroids" if count == 1 else f"residual VQ, {count} stages of {k} centroids",
                "value": float(psnr(data.test_images, images).mean()),
                "numbers_stored": count * k * train.shape[1],
            }
        )
    return rows


def photo_rows(data, sizes=(256, 512, 768)):
    """A row for each number of bits, as in mnist_rows; there is nothing random in them."""
    rows = []
    for bits in sizes:
        model = TransformAutoencoder.from_images(data.train_images, Commit(signed=True), bits)
        components = model.stages[0]
        rows.append(
            {
                "data": data.name,
                "bits": bits,
                "unit": "dB",
                "seed": 0,
                "method": f"transform code, {components} principal components",
                "value": float(psnr(data.test_images, model.reconstruct(data.test_images)).mean()),
                "numbers_stored": (components + 1) * data.train_images[0].size + bits,
            }
        )
    return rows


def sentence_row(data, split, seed):
    """The mean number of edits from each held-out sentence to the nearest of 2^15 training sentences (fewer if there
    are not as many).
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    sentences = split_sentences(data, split)
    train, test = list(dict.fromkeys(sentences.train)), list(sentences.test)
    if len(train) > 2**SENTENCE_BITS:
        train = [train[i] for i in np.random.default_rng(seed).choice(len(train), 2**SENTENCE_BITS, replace=False)]
    found = []
    for start in tqdm(range(0, len(test), 100), desc=f"split {split}", disable=not sys.stderr.isatty(), leave=False):
        edits = process.cdist(test[start : start + 100], train, scorer=Levenshtein.distance, dtype=np.uint16)
        found += [train[i] for i in edits.argmin(axis=1)]
    return {
        "data": data.name,
        "bits": math.ceil(math.log2(len(train))),
        "unit": "edits",
        "seed": seed,
        "method": f"nearest training sentence, split {split}",
        "value": float(levenshtein(test, found).mean()),
        "numbers_stored": sum(map(len, train)),
    }


def table(rows, about):
    """The rows as Markdown: means over the seeds, with the standard deviation."""
    methods = {}
    for row in rows:
        methods.setdefault((row["data"], row["method"], row["bits"]), []).append(row)
    lines = [
        "# Simple baselines at the same number of bits or fewer",
        "",
        f"Held-out: mean PSNR, or mean number of edits. `{about['command']}`, {about['date']}, k-means with "
        f"{about['seeds']} seeds. Stored: what the decoder needs, numbers in codebooks or characters of sentences.",
        "",
        "| data | method | bits | held-out | stored, numbers or characters |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for (data, method, bits), same in methods.items():
        value = plus_minus(summary(same, "value"))
        lines.append(f"| {data} | {method} | {bits} | {value} {same[0]['unit']} | {same[0]['numbers_stored']:,} |")
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = OneLineParser(
        prog="python -m benchmarks.report.baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="number of k-means runs, with the seeds 0 to N - 1; default: 3"
    )
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    backend.use("numpy")
    mnist, anki = load_mnist(args.data_dir), load_anki(args.data_dir)
    cifar10 = load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data)
    rows = [row for seed in range(args.seeds) for row in mnist_rows(mnist, seed)] + photo_rows(cifar10)
    rows += [sentence_row(anki, split, seed=0) for split in ("length", "random")]
    about = {"command": "python -m benchmarks.report.baselines", "date": time.strftime("%Y-%m-%d"), "seeds": args.seeds}
    write_atomically(
        RESULTS / "baselines.json", lambda file: file.write((json.dumps({**about, "rows": rows}, indent=1) + "\n").encode())
    )
    text = table(rows, about)
    write_atomically(RESULTS / "baselines.md", lambda file: file.write(text.encode()))
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
