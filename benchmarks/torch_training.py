"""The same three training runs with hand-written gradients and with PyTorch's autograd: nothing is lost, nothing is gained.

    python benchmarks/torch_training.py            ten minutes on one core; needs torch; --only mlp cnn lstm

Both start from the same weights (one seed), see the same batches in the same order, and use Adam with the same learning
rates. PyTorch computes the loss with its own operations from our parameters, in our layout, so that its trained weights can
be copied back into our model, which evaluates both. The objective is that of commit in the default recipe; CNN and LSTM
train as long as in a reduced run of the report. Writes benchmarks/results/torch_training.json and .md.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from tinyqae import backend, fit, load_anki, load_cifar10, load_mnist, recipes, split_sentences
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.experiment import images, sentences
from tinyqae.layers import BatchNorm, ConvBlock, Dense, ReLU
from tinyqae.models import ImageAutoencoder
from tinyqae.schedules import SCHEDULES
from tinyqae.train import SHUFFLE

RESULTS = Path(__file__).parent / "results"
FIGURES = {"mlp": ("psnr", "dB"), "cnn": ("psnr", "dB"), "lstm": ("levenshtein", "edits")}


class TorchModel:
    """The loss of `model`, built by the reference engine, as a function of PyTorch tensors with the same content."""

    def __init__(self, model):
        self.model = model
        self.params = {
            layer: {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in layer.params.items()}
            for layer in model.layers
        }
        self.state = {
            layer: {name: torch.from_numpy(array.copy()) for name, array in layer.state.items()} for layer in model.layers
        }

    def parameters(self):
        """Return a list of all trained tensors."""
        return [tensor for params in self.params.values() for tensor in params.values()]

    def copy_back(self):
        """Copy the trained tensors into the model."""
        for layer in self.model.layers:
            for ours, theirs in ((layer.params, self.params[layer]), (layer.state, self.state[layer])):
                for name, tensor in theirs.items():
                    ours[name][...] = tensor.detach().numpy()

    def apply(self, layer, x):
        """Apply one layer to x (N, D) or (N, H, W, C)."""
        p, state = self.params.get(layer, {}), self.state.get(layer, {})
        if isinstance(layer, Dense):
            return x @ p["w"] + p["b"]
        if isinstance(layer, ReLU):
            return x.relu()
        if isinstance(layer, BatchNorm):
            return self.normalize(layer, p, state, x.moveaxis(-1, 1)).moveaxis(1, -1)
        if not isinstance(layer, ConvBlock):
            raise TypeError(f"{type(layer).__name__} has no counterpart here")
        x = x.moveaxis(-1, 1)
        x = F.interpolate(x, scale_factor=2) if layer.upsample else x
        x = F.conv2d(x, p["w"].permute(3, 2, 0, 1).contiguous(), p.get("b"), padding="same")
        x = self.normalize(layer, p, state, x) if layer.norm else x
        x = x.relu() if layer.relu else x
        return (F.max_pool2d(x, 2) if layer.pool else x).moveaxis(1, -1)

    @staticmethod
    def normalize(layer, p, state, x):
        """Batch normalization in training; channels are axis 1. PyTorch's momentum weights the new value, ours the old."""
        return F.batch_norm(
            x,
            state["mean"],
            state["variance"],
            p["gamma"],
            p["beta"],
            training=True,
            momentum=1 - layer.momentum,
            eps=layer.eps,
        )

    def quantize(self, h):
        """(the code for the decoder, the weighted commitment loss) of h (N, K), by the straight-through estimator."""
        bottleneck = self.model.bottleneck
        a = h.sigmoid()
        b = (a > 0.5).to(a.dtype)
        code = a + (b - a).detach()
        return 2 * code - 1 if bottleneck.signed else code, bottleneck.weight * F.mse_loss(a, b)

    def loss(self, batch):
        """The objective of a batch from the model's `batches`."""
        return self.images(batch) if isinstance(self.model, ImageAutoencoder) else self.sentences(batch)

    def images(self, batch):
        """The objective of images (N, H, W, C), floats."""
        model, target = self.model, torch.from_numpy(batch)
        x = target - torch.from_numpy(model.mean_image)
        x = x.reshape(-1, *model.encoder.input_shape)
        for layer in model.encoder.layers:
            x = self.apply(layer, x)
        code, commit = self.quantize(x.reshape(len(x), -1))
        x = code.reshape(-1, *model.decoder.input_shape)
        for layer in model.decoder.layers:
            x = self.apply(layer, x)
        logits, target = x.reshape(len(x), -1), target.reshape(len(x), -1)
        if model.reconstruction == "mse":
            return F.mse_loss(logits.sigmoid(), target) + commit
        return F.binary_cross_entropy_with_logits(logits, target) + commit

    def sentences(self, batch):
        """The objective of a SentenceBatch."""
        model, units = self.model, self.model.units
        zeros = torch.zeros(len(batch), units, dtype=self.parameters()[0].dtype)
        _, h, c = self.lstm(model.encoder.lstm, batch.tokens, zeros, zeros, lengths=torch.from_numpy(batch.lengths))
        joined = torch.cat([self.apply(model.dense_h, h), self.apply(model.dense_c, c)], dim=1)
        code, commit = self.quantize(self.apply(model.norm, joined))
        start, context = self.apply(model.to_state, code), self.apply(model.to_context, code)
        hs, _, _ = self.lstm(model.decoder.lstm, batch.inputs, start[:, :units], start[:, units:], context)
        logits = self.apply(model.decoder.output, torch.stack(hs).reshape(-1, units))
        errors = F.cross_entropy(logits, torch.from_numpy(batch.targets.reshape(-1)), reduction="none")
        return (errors * torch.from_numpy(batch.weights.reshape(-1))).sum() + commit

    def lstm(self, layer, tokens, h, c, context=0.0, lengths=None):
        """Run an LSTM on tokens (T, N); return (list of outputs, last h, last c)."""
        p, hs = self.params[layer], []
        for t, token in enumerate(torch.from_numpy(tokens)):
            i, f, g, o = (p["wx"][token] + h @ p["wh"] + p["b"] + context).chunk(4, dim=1)
            c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h_new = o.sigmoid() * c_new.tanh()
            if lengths is not None:
                running = (t < lengths)[:, None]
                h_new, c_new = torch.where(running, h_new, h), torch.where(running, c_new, c)
            h, c = h_new, c_new
            hs.append(h)
        return hs, h, c


def train_with_torch(model, examples, recipe, seed, description=""):
    """Train `model`, built by the reference engine, with PyTorch, as `fit` does with this recipe and seed."""
    torch_model, batches = TorchModel(model), model.batches(examples, recipe.batch_size)
    optimizer = torch.optim.Adam(torch_model.parameters(), lr=recipe.lr)
    steps = len(batches)
    factor = SCHEDULES[recipe.schedule](recipe.epochs * steps)
    for epoch in tqdm(range(recipe.epochs), desc=description, disable=not sys.stderr.isatty(), leave=False):
        for step, batch in enumerate(batches.epoch(backend.generator(seed, SHUFFLE, epoch)), start=epoch * steps):
            optimizer.param_groups[0]["lr"] = recipe.lr * factor(step)
            optimizer.zero_grad()
            torch_model.loss(batch).backward()
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(torch_model.parameters(), recipe.clip_norm)
            optimizer.step()
    torch_model.copy_back()


def cases(data_dir, only):
    """{name: (recipe, training examples, held-out examples, module that measures them, name of the data)}."""
    found = {}
    if "mlp" in only:
        mnist = load_mnist(data_dir)
        recipe = recipes.mnist_mlp("default", "commit", (50,))
        found["mlp"] = recipe, mnist.train_images, mnist.test_images, images, mnist.name
    if "cnn" in only:
        cifar = load_cifar10(data_dir, allow_modified_data=True)
        recipe = replace(recipes.cifar_cnn("default", "commit", "small"), epochs=4)
        found["cnn"] = recipe, cifar.train_images[:10_000], cifar.test_images, images, cifar.name
    if "lstm" in only:
        anki = load_anki(data_dir)
        split = split_sentences(anki, "length")
        recipe = replace(recipes.anki_lstm("default", "commit", 64), epochs=12)
        found["lstm"] = recipe, split.train, split.test, sentences, anki.name
    return found


def race(name, recipe, examples, test, experiment, data, seed=0):
    """Train both ways and return the held-out figures as plain data."""
    figure, unit = FIGURES[name]
    training, _ = recipe.split(examples)
    found = {"model": name, "data": data, "examples": len(training), "epochs": recipe.epochs, "unit": unit}
    for who in ("tinyqae", "PyTorch"):
        model = recipe.make_model(training, seed, None if who == "tinyqae" else "reference")
        if who == "tinyqae":
            fit(
                model,
                training,
                recipe.make_optimizer(),
                **recipe.fit_arguments(),
                seed=seed,
                progress=sys.stderr.isatty(),
                description=f"{name}, tinyqae",
            )
        else:
            train_with_torch(model, training, recipe, seed, f"{name}, PyTorch")
        found[who] = float(experiment.figures(test, model.reconstruct(test))[figure])
    return found


def table(results):
    """Return the results as Markdown."""
    lines = [
        "# The same training runs with hand-written gradients and with autograd",
        "",
        f"`python benchmarks/torch_training.py`, {results['date']}, {results['versions']}, one thread, seed 0: commit "
        "with recipe `default`, from the same weights, on the same batches. Held-out: mean PSNR, or mean edits. "
        "Rounding differs, and a bit that falls on the other side of the threshold makes the runs diverge, so they "
        "agree only as two seeds do; in float64 they take the same steps to 1e-7, which is tested.",
        "",
        "| model | data | examples x epochs | tinyqae | PyTorch |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['model']} | {row['data']} | {row['examples']:,} x {row['epochs']} | {row['tinyqae']:.2f} "
        f"{row['unit']} | {row['PyTorch']:.2f} {row['unit']} |"
        for row in results["rows"]
    ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = program.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_data_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="default: all three")
    parser.add_argument("--epochs", type=program.positive_int, metavar="N", help="default: 20, 4 and 12")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    args = parser.parse_args(argv)
    backend.use("numpy")
    backend.use_threads(1)
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torch"))
    results = {"date": time.strftime("%Y-%m-%d"), "versions": versions, "rows": []}
    for name, (recipe, *case) in cases(args.data_dir, args.only).items():
        results["rows"].append(race(name, recipe.override(epochs=args.epochs), *case))
        print(json.dumps(results["rows"][-1]), flush=True)
    for ending, text in (("json", json.dumps(results, indent=1) + "\n"), ("md", table(results))):
        write_atomically(args.out / f"torch_training.{ending}", lambda file, text=text: file.write(text.encode()))
    return 0


if __name__ == "__main__":
    sys.exit(program.run_main(main))
