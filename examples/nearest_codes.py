"""Vector quantization with a decoder in place of a codebook: encode by trying every code, and train the decoder for that.

    python examples/nearest_codes.py                                                          three seeds: ten minutes
    python examples/nearest_codes.py --hidden                                                 784-10-784: two minutes
    python examples/nearest_codes.py --seeds 0 --hidden 256 --epochs 5 --decoder-epochs 2     a minute

An encoder guesses from which code the decoder reconstructs an image best. Of 10 bits there are only 1,024 codes, so all can
be tried: their reconstructions are a codebook, which the decoder stores in fewer numbers. Then alternate as k-means does:
assign to each image the nearest reconstruction, and move the reconstructions towards their images, here by an epoch of
training the decoder. Prints the PSNR of both encoders, before and after, and writes results.json and a picture to --out.
"""

import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from tinyqae import Adam, cosine, fit, load_mnist, plots, recipes, synthetic_digits
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.experiment import versions
from tinyqae.metrics.image import psnr

BITS, BATCH, SHOWN = 10, 128, 10
METHODS = (ENCODER, NEAREST, TRAINED) = "encoder's code", "nearest code", "nearest code, decoder trained for it"


def main():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", choices=("mnist", "synthetic"), default="mnist", help="synthetic: made-up digits; default: mnist")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    hidden = "widths of the layers before the bits, possibly none; default: 512 256"
    add("--hidden", type=program.positive_int, nargs="*", default=[512, 256], metavar="UNITS", help=hidden)
    add("--seeds", type=program.non_negative_int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--epochs", type=program.positive_int, help="of the autoencoder; default: the recipe's")
    add("--decoder-epochs", type=program.positive_int, default=10, metavar="N", help="default: %(default)s")
    add("--out", metavar="DIR", type=Path, default=Path("runs/nearest-codes"), help="default: %(default)s")
    args = parser.parse_args()
    program.require_writable(args.out)
    data = synthetic_digits(seed=0) if args.dataset == "synthetic" else load_mnist(args.data_dir)
    recipe = recipes.mnist_mlp("default", "commit", (*args.hidden, BITS)).override(epochs=args.epochs)
    training, _ = recipe.split(data.train_images)

    figures, rows = {method: [] for method in METHODS}, [("original", data.test_images[:SHOWN])]
    for seed in args.seeds:
        model = recipe.make_model(training, seed)
        fit(model, training, recipe.make_optimizer(), seed=seed, description=f"seed {seed}", **recipe.fit_arguments())
        codes = {ENCODER: model.encode(data.test_images), NEAREST: nearest_codes(model, data.test_images)}
        images = {method: model.decode(code) for method, code in codes.items()}
        train_decoder(model, training, args.decoder_epochs, seed)
        images[TRAINED] = model.decode(nearest_codes(model, data.test_images))
        for method in METHODS:
            figures[method].append(float(psnr(data.test_images, images[method]).mean()))
        if seed == args.seeds[0]:
            rows += [(method, images[method][:SHOWN]) for method in METHODS]

    size = sum(array.size for layer in model.decoder.layers for array in layer.params.values())
    network = "-".join(map(str, (data.test_images[0].size, *args.hidden, BITS)))
    title = f"{data.name}: {network}, a decoder of {size:,} numbers; {len(data.test_images)} test digits"
    print(f"\n{title}\n\n| | PSNR, dB |\n| --- | ---: |")
    for method, values in figures.items():
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        print(f"| {method} | {np.mean(values):.2f}{spread} |")
    measured = {
        "command": shlex.join(["python", "examples/nearest_codes.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "data": data.name,
        "sha256": data.sha256,
        "versions": versions(),
        "hidden": [*args.hidden, BITS],
        "epochs": [recipe.epochs, args.decoder_epochs],
        "seeds": args.seeds,
        "numbers_stored": size,
        "psnr": figures,
    }
    write_atomically(args.out / "results.json", lambda file: file.write((json.dumps(measured, indent=1) + "\n").encode()))
    plots.reconstructions(title, rows, path=args.out / "reconstructions.png")
    print(f"\nwritten to {args.out}/")


def all_codes(bits):
    """Every code, bool (2^bits, bits)."""
    return (np.arange(2**bits)[:, np.newaxis] >> np.arange(bits)) % 2 == 1


def nearest_codes(model, images):
    """The codes (N, bits) of which the model's reconstructions have the least squared error. images: bytes (N, H, W, C)."""
    codes = all_codes(model.latent_size)
    codebook = model.decode_floats(codes).reshape(len(codes), -1)
    squares = (codebook**2).sum(axis=1)
    nearest = np.empty(len(images), int)
    for start in range(0, len(images), 1000):
        x = images[start : start + 1000].reshape(-1, codebook.shape[1]) / np.float32(255)
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, where the first term is the same for all c.
        nearest[start : start + 1000] = (squares - 2 * x @ codebook.T).argmin(axis=1)
    return codes[nearest]


def train_decoder(model, images, epochs, seed, lr=1e-3):
    """Train the decoder in place, each epoch on the codes that are nearest at its start. The encoder stays as it is."""
    optimizer, random = Adam(lr), np.random.default_rng(seed)
    names = [(layer, name) for layer in model.decoder.layers for name in layer.params]
    steps = epochs * (len(images) // BATCH)
    schedule, step = cosine(steps), 0
    with tqdm(total=steps, desc="decoder", disable=not sys.stderr.isatty(), leave=False) as progress:
        for _ in range(epochs):
            codes = model.bottleneck.for_decoder(nearest_codes(model, images).astype(model.dtype))
            with model.engine.working(model, BATCH):
                for chosen in random.permutation(len(images))[: steps // epochs * BATCH].reshape(-1, BATCH):
                    x = images[chosen].reshape(BATCH, -1) / np.float32(255)
                    model.criterion.forward(model.decode_logits(codes[chosen], training=True), x)
                    model.decoder.backward(model.criterion.backward())
                    parameters = [layer.params[name] for layer, name in names]
                    optimizer.update_all(parameters, [layer.grads[name] for layer, name in names], lr * schedule(step))
                    step += 1
                    progress.update()


if __name__ == "__main__":
    program.run_main(main, stopped="stopped")
