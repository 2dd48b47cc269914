"""Measure what the lesson claims: the straight-through estimator over training, and the bottlenecks side by side.

    python examples/lesson/measure.py training              STE and flip differences, MLP and CNN, several weights
    python examples/lesson/measure.py comparison            five bottlenecks under one recipe, and under each one's best
    python examples/lesson/measure.py training --model mlp  only this model; two commands can share the work

Every run leaves a file in --runs and is not repeated; when the last one is done, training.json and sweep.png, or
comparison.json and bottlenecks.png, are written next to this script. All of it takes about three hours on one core.
"""

import copy
import functools
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from tqdm import tqdm

from tinyqae import backend, load_anki, load_cifar10, load_mnist, plots, recipes, split_sentences
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.experiment import images, sentences, versions
from tinyqae.gradients import flip_differences
from tinyqae.history import latent_counts
from tinyqae.layers import BatchNorm, Layer, Sequential
from tinyqae.metrics import image as image_metrics
from tinyqae.schedules import cosine
from tinyqae.train import SHUFFLE

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
MLP_WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
CNN_WEIGHTS = (0.0, 0.1, 1.0, 10.0)
STEPS = (0, 10, 30, 100, 300, 1000, 3000)
"""The steps before which the estimator is examined, besides the end of training."""
SHOWN_EPOCHS = (0, 1, 2, 5, 10, 20)
DIGITS = (0, 2, 4, 7)
"""The digits whose reconstructions the page shows: the first test image of each."""
FLIPS_OVER = 5
"""Training steps over which flips are counted, from each of STEPS on."""

MODELS = {
    "mlp": SimpleNamespace(
        title="MLP 784-50-784", examined=200, probed=500, recipe=lambda quant: recipes.mnist_mlp("default", quant, (50,))
    ),
    "cnn": SimpleNamespace(
        title="CNN small, 256 bits",
        examined=32,
        probed=200,
        recipe=lambda quant: recipes.cifar_cnn("default", quant, "small").override(epochs=2),
    ),
    "lstm": SimpleNamespace(title="LSTM 64, 128 bits", recipe=lambda quant: recipes.anki_lstm("default", quant, 64)),
}
"""The CNN trains for 2 of its recipe's 12 epochs, on all training images: the whole study has to fit into an afternoon."""
COMPARED = ("vanilla", "naive", "naive + noise", "fence", "commit")


@functools.cache
def load(model, data_dir):
    if model == "mlp":
        return load_mnist(data_dir)
    if model == "cnn":
        return load_cifar10(data_dir, allow_modified_data=True)
    return split_sentences(load_anki(data_dir), "length")


# The estimator over training ------------------------------------------------------------------------------------------


def train_and_examine(name, weight, seed, data_dir):
    """One training with the bottleneck commit, as plain data. Held-out figures are of the test images."""
    settings, data = MODELS[name], load(name, data_dir)
    recipe = settings.recipe("commit").override(quant_weight=weight)
    training, _ = recipe.split(data.train_images)
    model, optimizer = recipe.make_model(training, seed), recipe.make_optimizer()
    batches = model.batches(training, recipe.batch_size)
    total = recipe.epochs * len(batches)
    factor, step = cosine(total), 0
    examine_at = [step for step in STEPS if step < total - FLIPS_OVER] + [total - FLIPS_OVER]
    digits = images.one_of_each(data.test_images, data.test_labels)[[*DIGITS]]
    points, epochs, drawn, before = [], [], [], None

    def look_at_epoch(epoch):
        if name == "mlp" and epoch in SHOWN_EPOCHS:
            epochs.append(
                {
                    "epoch": epoch,
                    "psnr": psnr(model, data.test_images[:2000]),
                    "latents": latent_counts(model.latent(data.test_images[:1000])),
                }
            )
            drawn.append(model.reconstruct(digits))

    with model.engine.working(model, recipe.batch_size), tqdm(total=total, desc=f"{name} {weight} {seed}") as bar:
        look_at_epoch(0)
        for epoch in range(recipe.epochs):
            for batch in batches.epoch(backend.generator(seed, SHUFFLE, epoch)):
                if step in examine_at:
                    points.append(
                        {
                            "step": step,
                            "epoch": step / len(batches),
                            "flips": 0.0,
                            "psnr": psnr(model, data.test_images[:1000]),
                            **examine(model, recipe, data.test_images[: settings.examined]),
                        }
                    )
                    before = model.encode(training[: settings.probed])
                model.loss(batch)
                model.backward()
                optimizer.step(model, recipe.lr * factor(step))
                step += 1
                if points and step - points[-1]["step"] <= FLIPS_OVER:
                    after = model.encode(training[: settings.probed])
                    points[-1]["flips"] += float((after != before).mean()) / FLIPS_OVER
                    before = after
                bar.update()
            look_at_epoch(epoch + 1)
    return {
        "model": name,
        "weight": weight,
        "seed": seed,
        "recipe": recipe.as_dict(),
        "data": data.name,
        "training_images": len(training),
        "psnr": psnr(model, data.test_images),
        "points": points,
        "epochs": epochs,
        "digits": np.array(drawn).tolist(),
    }


def examine(model, recipe, test_images):
    """What the estimator says about every bit of these images, and what is true: shares of bits.

    right_sign: the slope at the bit has the sign of the flip difference. pushed: the slope asks for the other bit.
    better_flipped: the other bit has the lower loss. near: the activation is in [1/4, 3/4].
    """
    a = model.latent(test_images)
    bits = a > 0.5
    floats = np.multiply(test_images, model.dtype.type(1 / 255))
    reference = recipe.make_model(test_images, 0, engine="reference")
    reference.restore(model.state_arrays())
    slopes = straight_through_slopes(reference, floats, bits)
    differences = flip_differences(model, floats, bits)
    # A positive slope or difference speaks for 0.
    return {
        "right_sign": share(np.sign(slopes) == np.sign(differences)),
        "pushed": share((slopes > 0) == bits),
        "better_flipped": share((differences > 0) == bits),
        "near": share(np.abs(a - 0.5) <= 0.25),
    }


def straight_through_slopes(model, floats, bits):
    """dL/db (N, K) at these bits, which the STE takes for dL/da, through the decoder as it is at inference. The model is of
    the reference engine and is changed.
    """
    model.decoder = at_inference(model.decoder)
    logits = model.decode_logits(model.bottleneck.for_decoder(bits.astype(model.dtype)))
    model.criterion.forward(logits, floats.reshape(len(floats), -1))
    dcode = model.decoder.backward(model.criterion.backward().reshape(-1, *model.decoder.output_shape))
    return dcode.reshape(len(bits), -1) * (2 if model.bottleneck.signed else 1)


class AtInference(Layer):
    """A batch norm with its running statistics, so that one example's gradient has no part in another's."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.scale = norm.params["gamma"] / np.sqrt(norm.state["variance"] + norm.eps)

    def forward(self, x, training=True):
        return self.norm.forward(x, training=False)

    def backward(self, dy):
        return dy * self.scale


def at_inference(layer):
    """The layer with AtInference in place of every batch norm inside it."""
    if isinstance(layer, BatchNorm):
        return AtInference(layer)
    if isinstance(layer, Sequential):
        layer = copy.copy(layer)
        layer.layers = [at_inference(part) for part in layer.layers]
    return layer


def share(condition):
    return float(np.mean(condition))


def psnr(model, test_images):
    return float(image_metrics.psnr(test_images, model.reconstruct(test_images)).mean())


# The bottlenecks side by side -----------------------------------------------------------------------------------------


def compared_recipes(name):
    """{(bottleneck, "same" or "own"): Recipe}. "same": commit's recipe, with nothing changed but the bottleneck; "own":
    what did best for this bottleneck on a validation split (tinyqae/recipes.py).
    """
    make = MODELS[name].recipe
    found = {}
    for kind in COMPARED:
        quant = "naive" if kind == "naive + noise" else kind
        own = recipes.naive_with_noise(make("vanilla")) if kind == "naive + noise" else make(quant)
        found[kind, "own"] = own
        found[kind, "same"] = replace(make("commit"), quant=quant, bottleneck=own.bottleneck)
    return found


def train_and_compare(name, recipe, seed, data_dir):
    """The held-out figures of one training."""
    data = load(name, data_dir)
    module = sentences if name == "lstm" else images
    run = module.train_and_measure(recipe, data, seed=seed)
    test = run.metrics["test"]
    figures = (
        {"edits": test["levenshtein"], "exact": test["exact_match_rate"]}
        if name == "lstm"
        else {"psnr": test["psnr"], "ssim": test["ssim"]}
    )
    if name == "mlp":
        figures["digits"] = run.model.reconstruct(images.one_of_each(data.test_images, data.test_labels)).tolist()
    return {"model": name, "seed": seed, "recipe": recipe.as_dict(), "data": run.metrics["settings"]["data"], **figures}


# Files ----------------------------------------------------------------------------------------------------------------


def once(path, make):
    """What `make` returns, plain data, from the file where an earlier call has left it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(make())
        write_atomically(path, lambda file: file.write(text.encode()))
    return json.loads(path.read_text())


def write_training(runs, path, data_dir):
    """training.json; digits.png, a test image of each digit; and sweep.png: DIGITS, below them their reconstructions by the
    runs of seed 0, a row for each weight and epoch.
    """
    data = load("mlp", data_dir)
    originals = images.one_of_each(data.test_images, data.test_labels)
    rows = [row for run in runs if run["model"] == "mlp" and run["seed"] == 0 for row in run["digits"]]
    write_sheet(path / "digits.png", originals[None])
    write_sheet(path / "sweep.png", np.concatenate([originals[None, [*DIGITS]], np.array(rows, np.uint8)]))
    kept = [{key: value for key, value in run.items() if key != "digits"} for run in runs]
    write_json(
        path / "training.json",
        {"command": "python examples/lesson/measure.py training", "digits": DIGITS, "environment": versions(), "runs": kept},
    )


def write_comparison(runs, path, data_dir):
    """comparison.json; and bottlenecks.png, test digits and their reconstructions, each bottleneck with its best recipe."""
    data = load("mlp", data_dir)
    rows = [("original", images.one_of_each(data.test_images, data.test_labels))]
    for run in runs:
        if (run["model"], run["settings"], run["seed"]) == ("mlp", "own", 0):
            bits = "50 floats" if run["bottleneck"] == "vanilla" else "50 bits"
            rows.append((f"{run['bottleneck']}\n{bits}, {run['psnr']:.1f} dB", np.array(run["digits"], np.uint8)))
    plots.reconstructions(
        "MNIST test digits, reconstructed; mean PSNR of the test images (higher is better)",
        rows,
        path=path / "bottlenecks.png",
    )
    kept = [{key: value for key, value in run.items() if key != "digits"} for run in runs]
    write_json(
        path / "comparison.json",
        {"command": "python examples/lesson/measure.py comparison", "environment": versions(), "runs": kept},
    )


def write_sheet(path, digits):
    """A PNG file of digits (rows, columns, 28, 28, 1)."""
    rows, columns = digits.shape[:2]
    picture = io.BytesIO()
    sheet = digits[..., 0].transpose(0, 2, 1, 3).reshape(rows * 28, columns * 28)
    Image.fromarray(sheet).save(picture, "PNG", optimize=True)
    write_atomically(path, lambda file: file.write(picture.getvalue()))


def write_json(path, content):
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def main():
    parser = program.OneLineParser(description=__doc__)
    parser.add_argument("study", choices=("training", "comparison"))
    parser.add_argument("--model", choices=tuple(MODELS), help="train this model only, and write no results yet")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/lesson"),
        metavar="DIR",
        help="where finished runs are kept; default: runs/lesson",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where the data is; default: $TINYQAE_DATA, else the user's cache")
    args = parser.parse_args()
    backend.use("numpy")
    if args.study == "training":
        names = [args.model] if args.model else ["mlp", "cnn"]
        runs = [
            once(
                args.runs / f"training-{name}-{weight:g}-{seed}.json",
                lambda n=name, w=weight, s=seed: train_and_examine(n, w, s, args.data_dir),
            )
            for seed in SEEDS
            for name in names
            for weight in (MLP_WEIGHTS if name == "mlp" else CNN_WEIGHTS)
        ]
        if not args.model:
            write_training(runs, HERE, args.data_dir)
        return
    names, runs = [args.model] if args.model else list(MODELS), []
    for name in names:
        for seed in SEEDS:
            for (kind, which), recipe in compared_recipes(name).items():
                # Where both recipes are the same, so is the run.
                which_file = "own" if compared_recipes(name)[kind, "own"] == recipe else which
                path = args.runs / f"comparison-{name}-{kind.replace(' + ', '-')}-{which_file}-{seed}.json"
                run = once(path, lambda n=name, r=recipe, s=seed: train_and_compare(n, r, s, args.data_dir))
                runs.append({**run, "bottleneck": kind, "settings": which})
    if not args.model:
        write_comparison(runs, HERE, args.data_dir)


if __name__ == "__main__":
    program.run_main(main, stopped="stopped; the same command continues where it was")
