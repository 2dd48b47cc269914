"""The search behind recipe `default` for MLPs with hidden layers: trials on the validation split of MNIST.

    python benchmarks/recipe_search.py          twenty minutes on one core; goes on where it was stopped

Each trial trains commit for ten epochs on the first 55,000 training images, with one seed, and measures the last 5,000; the
test images are not looked at. Writes benchmarks/results/recipe_search.json and .md.
"""
import argparse
import json
import sys
import time
from pathlib import Path

from tinyqae import Adam, Commit, MLPAutoencoder, backend, fit, load_mnist
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.metrics.image import psnr
from tinyqae.metrics.rate import code_usage

RESULTS = Path(__file__).parent / "results"
EPOCHS, BATCH_SIZE, HELD_BACK = 10, 128, 5000
BEFORE = (False, 4e-3, 1.0)
"""Batch norm in hidden layers, learning rate and weight of the commitment loss, as the recipe had them."""
NORMALIZED = (True, 4e-3, 1.0)
TRIALS = [((*middle, bits), *settings) for middle, bits, tried in (
    ((16,), 10, (BEFORE, NORMALIZED, (True, 1e-2, 0.5))),
    ((256,), 10, (BEFORE, NORMALIZED, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
    ((256,), 50, (BEFORE, NORMALIZED, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
    ((256,), 100, (BEFORE, NORMALIZED, (True, 1e-2, 1.0), (True, 1e-2, 0.5), (True, 1e-2, 0.25))),
    ((512, 256), 10, (BEFORE, NORMALIZED, (True, 2e-3, 1.0), (True, 5e-3, 0.5), (True, 5e-3, 0.25))),
    ((1024, 512, 256), 10, (BEFORE, (True, 2.5e-3, 0.125))),
    ((64, 32, 16), 10, (BEFORE, NORMALIZED, (True, 3e-3, 1.0), (True, 2.5e-3, 0.125))),
) for settings in tried]


def trial(data, hidden, normalized, lr, weight):
    """The figures of one training, as plain data."""
    training, validation = data.train_images[:-HELD_BACK], data.train_images[-HELD_BACK:]
    model = MLPAutoencoder(Commit(weight=weight, signed=True), hidden, normalize_hidden=normalized, normalize_latent=True,
                           mean_image=training.mean(axis=0) / 255)
    fit(model, training, Adam(lr), epochs=EPOCHS, batch_size=BATCH_SIZE, schedule="cosine", progress=sys.stderr.isatty(),
        description="-".join(map(str, hidden)))
    usage = code_usage(model.latent(validation))
    return {"psnr": round(float(psnr(validation, model.decode(model.encode(validation))).mean()), 3),
            "dead_bits": usage["dead_bits"], "mean_bit_entropy": round(usage["mean_bit_entropy"], 3)}


def table(results):
    """The trials as Markdown."""
    lines = ["# The search behind recipe `default` for MLPs with hidden layers", "",
             f"`python benchmarks/recipe_search.py`, {results['date']}: commit on {results['data']}, {EPOCHS} epochs, one "
             f"seed, measured on the last {HELD_BACK:,} training images, which were not trained on. The first line of each "
             "network is the recipe as it was.", "",
             "| network | batch norm in hidden layers | learning rate | weight of the commitment loss | PSNR, dB | "
             "dead bits | entropy of a bit |", "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [f"| 784-{'-'.join(map(str, one['hidden']))} | {'yes' if one['normalized'] else 'no'} | {one['lr']:g} | "
              f"{one['weight']:g} | {one['psnr']:.2f} | {one['dead_bits']} | {one['mean_bit_entropy']:.2f} |"
              for one in results["trials"]]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Run the trials that are not there yet; returns the exit code."""
    parser = program.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_data_arguments(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    args = parser.parse_args(argv)
    backend.use("numpy")
    backend.use_threads(1)
    data, path = load_mnist(args.data_dir), args.out / "recipe_search.json"
    results = json.loads(path.read_text()) if path.exists() else {"trials": []}
    for hidden, normalized, lr, weight in TRIALS:
        settings = {"hidden": list(hidden), "normalized": normalized, "lr": lr, "weight": weight}
        if any({name: one[name] for name in settings} == settings for one in results["trials"]):
            continue
        results["trials"].append({**settings, **trial(data, hidden, normalized, lr, weight)})
        results |= {"data": data.name, "date": time.strftime("%Y-%m-%d")}
        text = json.dumps(results, indent=1) + "\n"
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    markdown = table(results)
    write_atomically(args.out / "recipe_search.md", lambda file: file.write(markdown.encode()))
    print(markdown, end="")
    return 0


if __name__ == "__main__":
    sys.exit(program.run_main(main, stopped="stopped; the same command goes on"))
