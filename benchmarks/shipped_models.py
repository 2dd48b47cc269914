"""Train the small models that come with the package, and write them to tinyqae/codec/shipped/.

    python benchmarks/shipped_models.py                        three quarters of an hour on one core
    python benchmarks/shipped_models.py --only mlp-50          only one of them

Each is trained with a recipe, and its weights are rounded to fit a small file. models.json records its recipe, data, seed,
metrics on held-out data before and after rounding, and size.
"""

import argparse
import json

from tinyqae import backend, recipes
from tinyqae.checkpoint import write_atomically
from tinyqae.codec import models, shipped_models
from tinyqae.codec.files import code_shape
from tinyqae.codec.parents import choose_parents
from tinyqae.codec.payload import map_shape
from tinyqae.data import load_anki, load_cifar10, load_mnist, split_sentences
from tinyqae.experiment import images, sentences

SEED = 0
MOST_CODES = 20_000  # of training examples, for the codec's context modelling
RECIPES = {
    "mlp-50": ("digits and other grey pictures, 50 bits for 28x28 pixels", recipes.mnist_mlp("default", "commit", (50,))),
    "mlp-100": ("digits and other grey pictures, 100 bits for 28x28 pixels", recipes.mnist_mlp("default", "commit", (100,))),
    "cnn-small": (
        "colour pictures, 256 bits for 32x32 pixels",
        recipes.cifar_cnn("default", "commit", "small").override(epochs=8),
    ),
    "transform-small": (
        "colour pictures, 256 bits for 32x32 pixels: better pictures than cnn-small, larger files",
        recipes.cifar_cnn("default", "commit", "small", transform=True),
    ),
    "lstm-64": ("short English sentences, 128 bits for each", recipes.anki_lstm("default", "commit", 64)),
}


def train(recipe, data_dir):
    """Return (trained and rounded model, training examples, metrics before rounding, metrics after it), see `measure`."""
    if recipe.architecture == "lstm":
        data, kind = split_sentences(load_anki(data_dir), "random"), sentences
        training, test = list(data.train), list(data.test)
    else:
        load = load_mnist if recipe.architecture == "mlp" else load_cifar10
        data, kind = load(data_dir), images
        training, test = data.train_images, data.test_images
    run = kind.train_and_measure(recipe, data, seed=SEED)
    models.round_weights(run.model)
    return run.model, training, run.metrics, kind.measure(run.model, training, test)


def entry(about, file, model, training, before, after):
    """Return a model's entry in models.json."""
    settings = before["settings"]
    parents = choose_parents(model.encode(training[:MOST_CODES]).reshape(-1, *map_shape(code_shape(model))))
    return {
        "about": about,
        "file": file.name,
        "bytes": file.stat().st_size,
        "model_id": model.model_id(),
        "recipe": settings["recipe"],
        "seed": SEED,
        "data": settings["data"],
        "versions": settings["versions"],
        "seconds": settings["seconds"]["training"],
        "parents": parents,
        "test_before_rounding": before["test"],
        "test": after["test"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RECIPES, nargs="+", default=list(RECIPES), help="default: all of them")
    parser.add_argument("--data-dir", metavar="DIR")
    args = parser.parse_args()
    backend.use("numpy")
    for name in args.only:
        about, recipe = RECIPES[name]
        model, training, before, after = train(recipe, args.data_dir)
        file = models.FOLDER / f"{name}.npz"
        models.save_small(model, file)
        entries = shipped_models() | {name: entry(about, file, model, training, before, after)}
        lines = ",\n".join(f"{json.dumps(known)}: {json.dumps(entries[known])}" for known in RECIPES if known in entries)
        text = "{\n" + lines + "\n}\n"
        write_atomically(models.FOLDER / "models.json", lambda file, text=text: file.write(text.encode()))
        shipped_models.cache_clear()
        print(name, file.stat().st_size, "bytes;", before["test"], "rounded:", after["test"])


if __name__ == "__main__":
    main()
