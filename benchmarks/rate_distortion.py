"""Our codes against the classical codecs: bits per pixel against PSNR and SSIM, bits per character against exact matches.

    python benchmarks/rate_distortion.py --reduced              an hour and a half of one core
    python benchmarks/rate_distortion.py --reduced --limit 1000 --sets mnist

On held-out images of MNIST and CIFAR-10: the MLP and the CNN at every size with every bottleneck (recipe default) beside
JPEG, JPEG 2000, WebP, AVIF and PNG, each as whole files, as payload (classical_codecs.py says what that is) and as one file
of all images on a sheet. On held-out sentences: the LSTM with commit beside gzip, bz2, xz and zstd. Our rates are those of
real bytes too: packed and entropy-coded payload and the .tqae file of all held-out examples, and the .tqae file of a single
one.

Each model and each codec is measured in a process with one thread. Trained models and figures are kept in --work, and what
is there already is not made again, so an interrupted run goes on. Writes benchmarks/results/rate_distortion.md, .json and
.png; readme.py puts the short form into README.md.
"""
import argparse
import hashlib
import importlib.metadata
import json
import math
import re
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from classical_codecs import CODECS, decode, text_compressors
from image_tables import Table1, Table2
from PIL import features
from rate_distortion_page import as_markdown, draw
from rows import RESULTS, Row
from text_table import Table3
from tqdm import tqdm

from tinyqae import __version__, backend, experiment, fused, load
from tinyqae.checkpoint import write_atomically
from tinyqae.codec import IMAGES, MODEL_ID_BYTES, PACKED, TEXTS, Container, encode_bits, to_bytes
from tinyqae.data import split_sentences
from tinyqae.experiment import runs
from tinyqae.metrics.image import image_metrics
from tinyqae.metrics.text import levenshtein, require_text_packages

SETS = {"mnist": Table1(), "cifar": Table2(), "text": Table3()}
LARGEST_HIDDEN = 128  # the code of a larger LSTM has more bits than the sentences
COMPRESSORS = "text compressors"
PACKAGES = ("tinyqae", "numpy", "pillow", "scikit-image", "constriction", "zstandard")


# ---- measuring --------------------------------------------------------------------------------------------------------

def measure_image_model(model, images):
    """Rates in bits per pixel, PSNR and SSIM, and what the decoder weighs. images: uint8 (N, H, W, C)."""
    code, pixels = model.encode(images), images[..., 0].size
    shape = model.decoder.input_shape
    figures = {"bits": 8 * code[:1].nbytes if code.dtype != bool else code.shape[1],
               "rates": {name: 8 * size / pixels for name, size in sizes(model, code, shape, IMAGES).items()},
               **image_metrics(images, model.decode(code)), "decoder": weight(model.decoder.layers)}
    round_to_float16(model.decoder.layers)
    return {**figures, "psnr_of_mean_mse_float16": image_metrics(images, model.decode(code))["psnr_of_mean_mse"]}


def measure_text_model(model, sentences):
    """Rates in bits per character, exact matches and edits, and what the decoder weighs. sentences: a list of str."""
    code, characters = model.encode(sentences), sum(map(len, sentences))
    decoded = model.decode(code)
    decoder = [layer for layer in (model.decoder, model.output, model.to_context) if layer]
    return {"bits": code.shape[1],
            "rates": {name: 8 * size / characters for name, size in sizes(model, code, (code.shape[1],), TEXTS).items()},
            "exact": sum(a == b for a, b in zip(sentences, decoded, strict=True)) / len(sentences),
            "edits": float(levenshtein(sentences, decoded).mean()), "decoder": weight(decoder)}


def sizes(model, code, shape, kind):
    """Bytes of all codes: "packed" and "coded" payload, "file" with both kinds of overhead, "single" if each is a file of
    its own. Floats (vanilla) are stored as they are, and there is no file format for them.
    """
    if code.dtype != bool:
        return {"packed": code.nbytes}
    model_id = bytes.fromhex(model.model_id())[:MODEL_ID_BYTES]
    method, payload = encode_bits(code, shape)
    file = to_bytes(Container(model_id, kind, method, len(code), shape, b"", payload))
    single = to_bytes(Container(model_id, kind, PACKED, 1, shape, b"", np.packbits(code[0]).tobytes()))
    return {"packed": np.packbits(code).nbytes, "coded": len(payload), "file": len(file), "single": len(single) * len(code)}


def weight(layers):
    """How many numbers the layers hold, and their bytes as float32 and float16."""
    numbers = sum(array.size for layer in layers for array in (*layer.params.values(), *layer.state.values()))
    return {"numbers": numbers, "float32": 4 * numbers, "float16": 2 * numbers}


def round_to_float16(layers):
    """Round everything that the layers hold, in place."""
    for layer in layers:
        for array in (*layer.params.values(), *layer.state.values()):
            array[...] = array.astype(np.float16)


def measure_codec(codec, images):
    """The points of one classical codec on images, uint8 (N, H, W, C): rates in bits per pixel, PSNR and SSIM.

    "points": every image by itself. "sheet": all of them side by side as one large picture in one file, which shares
    headers and lets the codec learn from one image for the next, as our entropy coder does.
    """
    if codec.missing():
        return {"missing": codec.missing(), "points": [], "sheet": []}
    points, pixels = [], images[..., 0].size
    for setting in codec.settings:
        decoded, file_bytes, payload_bytes = np.empty_like(images), 0, 0
        for i, image in enumerate(images):
            file, payload = codec.encode(image, setting)
            decoded[i] = decode(file, image.shape)
            file_bytes, payload_bytes = file_bytes + len(file), payload_bytes + len(payload)
        points.append({"setting": f"{codec.word} {setting}".strip(),
                       "rates": {"file": 8 * file_bytes / pixels, "payload": 8 * payload_bytes / pixels},
                       **finite(image_metrics(images, decoded))})
    return {"missing": None, "points": points, "sheet": measure_on_a_sheet(codec, images)}


def measure_on_a_sheet(codec, images):
    """The points of a codec on one picture of as many of the images as fill a square."""
    side, (height, width, channels) = math.isqrt(len(images)), images.shape[1:]
    images = images[:side * side]
    grid = (side, side, height, width, channels)
    sheet = images.reshape(grid).swapaxes(1, 2).reshape(side * height, side * width, channels)
    points = []
    for setting in codec.settings:
        file, _ = codec.encode(sheet, setting)
        decoded = decode(file, sheet.shape).reshape(side, height, side, width, channels).swapaxes(1, 2)
        points.append({"setting": f"{codec.word} {setting}".strip(), "rates": {"file": 8 * len(file) / sheet[..., 0].size},
                       **finite(image_metrics(images, decoded.reshape(images.shape)))})
    return points


def finite(figures):
    """None in place of the infinite PSNR of exact images: JSON has no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def measure_compressors(training, sentences):
    """Bits per character of each text compressor: the text as a whole, and each sentence alone; lists of str."""
    compressors, dictionary_bytes = text_compressors(training)
    characters = sum(map(len, sentences))
    alone = [sentence.encode() for sentence in sentences]
    # The line feeds between sentences are charged, and not counted as characters.
    whole = b"".join(sentence + b"\n" for sentence in alone)
    measured = {c.name: {
        "whole": {"file": 8 * len(c.file(whole)) / characters, "payload": 8 * c.payload(whole) / characters},
        "alone": {"file": 8 * sum(len(c.file(sentence)) for sentence in alone) / characters,
                  "payload": 8 * sum(map(c.payload, alone)) / characters}} for c in compressors}
    return {"compressors": measured, "dictionary_bytes": dictionary_bytes, "sentences": len(sentences),
            "characters": characters, "text": 8 * len(whole) / characters}


# ---- tasks ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Task:
    """One model (a Row) or classical codec (its name) on one of SETS, on the first `limit` held-out images."""

    set: str
    what: Row | str
    limit: int | None
    seed: int
    work: Path

    @property
    def label(self):
        return self.what if isinstance(self.what, str) else self.what.label

    def path(self, ending, *identity):
        """A file in the work directory whose name changes with what identifies its content."""
        digest = hashlib.sha256(json.dumps([*identity, __version__], sort_keys=True).encode()).hexdigest()
        return self.work / (re.sub(r"\W+", "-", f"{self.set} {self.label}") + f"-{digest[:10]}{ending}")

    def figures_path(self, data):
        """Where the measured figures go."""
        if isinstance(self.what, str):
            setting = CODECS[self.what].settings if self.what in CODECS else ()
            return self.path(".json", data.sha256, self.limit, setting, versions())
        return self.path(".json", *self.training(data), self.limit)

    def training(self, data):
        """What identifies the trained model."""
        return [self.what.recipe.as_dict(), self.what.items, self.what.split, self.seed, data.sha256]

    def measure(self, data):
        """Train the model, if it is one that is not there yet, and measure; returns the figures as plain data."""
        if self.set == "text":
            split = split_sentences(data, "random")
            training, held_out = list(split.train), list(split.test)
        else:
            training, held_out = data.train_images, data.test_images[:self.limit]
        if self.what == COMPRESSORS:
            return measure_compressors(training, held_out)
        if isinstance(self.what, str):
            return measure_codec(CODECS[self.what], held_out)
        model, trained_on = self.model(data, training[:self.what.items])
        measured = measure_text_model(model, held_out) if self.set == "text" else measure_image_model(model, held_out)
        return {"label": self.what.label.replace(", random split", ""), "quant": self.what.recipe.quant,
                "trained_on": trained_on, "epochs": self.what.recipe.epochs, **measured}

    def model(self, data, examples):
        """(the trained model, how many examples it was trained on), from the work directory where it is there."""
        path = self.path(".npz", *self.training(data))
        if not path.exists():
            model, *_ = runs.train(self.what.recipe, examples, seed=self.seed, progress=False)
            model.save(path)
        return load(path), len(self.what.recipe.split(examples)[0])


def tasks(sets, reduced, **settings):
    """All that is to be measured. The rows are those of the tables: every size and bottleneck, and what else commit has."""
    found = []
    for name in sets:
        rows = [row for row in SETS[name].rows("default", reduced)
                if row.recipe.quant == "commit" or row.label == f"{row.recipe.quant} {row.size}"]
        rivals = list(CODECS)
        if name == "cifar" and reduced:
            rows = [row for row in rows if row.recipe.quant == "commit" or row.size == "small"]
        if name == "text":
            rows = [row for row in rows if row.recipe.quant == "commit" and row.split == "random"
                    and row.size <= LARGEST_HIDDEN]
            rivals = [COMPRESSORS]
        found += [Task(name, what, **settings) for what in (*rivals, *rows)]
    return found


def carry_out(task, data_dir):
    """Measure one task in a process of its own and write its figures."""
    backend.use("numpy")
    backend.use_threads(1)
    data = SETS[task.set].load(data_dir)
    text = json.dumps(task.measure(data))
    write_atomically(task.figures_path(data), lambda file: file.write(text.encode()))


def collect(set_name, data, done, limit):
    """One set's part of the results. done: {task's label: figures}."""
    about = {"name": data.name, "sha256": data.sha256}
    if set_name == "text":
        return {**about, "models": [f for label, f in done.items() if label != COMPRESSORS], **done[COMPRESSORS]}
    images = data.test_images[:limit]
    return {**about, "held_out": len(images), "shape": list(images.shape[1:]),
            "models": [figures for label, figures in done.items() if label not in CODECS],
            "codecs": {label: done[label] for label in CODECS}}


def versions():
    """The versions of the packages, and of the libraries in Pillow."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    libraries = {"libjpeg-turbo": "libjpeg_turbo", "OpenJPEG": "jpg_2000", "libwebp": "webp", "libavif": "avif"}
    return {**found, **{name: features.version(feature) or "not there" for name, feature in libraries.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", choices=SETS, nargs="+", default=list(SETS), help="what to measure (default: everything)")
    parser.add_argument("--reduced", action="store_true",
                        help="train the CNN and the LSTM less, as tables.py does, and of the larger CNNs commit alone; the "
                             "page says on how much")
    parser.add_argument("--limit", type=experiment.positive_int, metavar="N",
                        help="measure on the first N held-out images only (default: all)")
    parser.add_argument("--seed", type=experiment.non_negative_int, default=0, help="of the training; default: %(default)s")
    parser.add_argument("--jobs", type=experiment.positive_int, default=2, help="processes at the same time")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("runs/rate-distortion"), metavar="DIR",
                        help="trained models and figures; default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the page goes; default: results/")
    args = parser.parse_args()
    if "text" in args.sets:
        require_text_packages()
    data = {name: SETS[name].load(args.data_dir) for name in args.sets}
    todo = tasks(args.sets, args.reduced, limit=args.limit, seed=args.seed, work=args.work)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(carry_out, task, args.data_dir) for task in todo
                if not task.figures_path(data[task.set]).exists()]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="models and codecs", unit="task"):
            job.result()
    done = {name: {task.label: json.loads(task.figures_path(data[name]).read_text()) for task in todo if task.set == name}
            for name in args.sets}
    command = (f"python benchmarks/rate_distortion.py --sets {' '.join(args.sets)}" + " --reduced" * args.reduced +
               (f" --limit {args.limit}" if args.limit else "") + f" --seed {args.seed}")
    backend.use("numpy")
    results = {"command": command, "machine": backend.describe(), "kernels": fused.kernels(), "versions": versions(),
               "seed": args.seed, "date": time.strftime("%Y-%m-%d"),
               "sets": {name: collect(name, data[name], done[name], args.limit) for name in args.sets}}
    text = as_markdown(results)
    print(text)
    write_atomically(args.out / "rate_distortion.md", lambda file: file.write(text.encode()))
    write_atomically(args.out / "rate_distortion.json",
                     lambda file: file.write((json.dumps(results, indent=1) + "\n").encode()))
    if set(args.sets) - {"text"}:
        draw(args.out / "rate_distortion.png", results)


if __name__ == "__main__":
    main()
