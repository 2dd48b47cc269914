"""What is measured, and how: models, settings of codecs and text compressors, each a task in its own process."""

import hashlib
import importlib.metadata
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import features

from benchmarks.report import TABLES, bars, workers
from benchmarks.report.jobs import Job, all_jobs
from benchmarks.report.jobs import load as load_data
from benchmarks.report.rows import ALL_IMAGES, QUANTS
from benchmarks.report.text_table import WIDE
from tinyqae import backend, load
from tinyqae.checkpoint import write_atomically
from tinyqae.codec import IMAGES, MODEL_ID_BYTES, PACKED, TEXTS, Container, encode_bits, to_bytes
from tinyqae.data import split_sentences
from tinyqae.metrics.image import image_metrics
from tinyqae.metrics.text import levenshtein

from .codecs import CODECS, decode, text_compressors

SETS = {"mnist": TABLES[1], "cifar": TABLES[2], "text": TABLES[3]}
LARGEST_HIDDEN = 128  # the code of a larger LSTM has more bits than the sentences
PACKAGES = ("tinyqae", "numpy", "pillow", "scikit-image", "constriction", "zstandard")


# ---- measuring --------------------------------------------------------------------------------------------------------


def measure_image_model(model, images):
    """Rates in bits per pixel, PSNR and SSIM, and the size of the decoder. images: uint8 (N, H, W, C)."""
    code, pixels = model.encode(images), images[..., 0].size
    shape = model.decoder.input_shape
    figures = {
        "bits": 8 * code[:1].nbytes if code.dtype != bool else code.shape[1],
        "rates": {name: 8 * size / pixels for name, size in sizes(model, code, shape, IMAGES).items()},
        **image_metrics(images, model.decode(code)),
        "decoder": weight(model.decoder.layers),
    }
    round_to_float16(model.decoder.layers)
    return {**figures, "psnr_of_mean_mse_float16": image_metrics(images, model.decode(code))["psnr_of_mean_mse"]}


def measure_text_model(model, sentences):
    """Rates in bits per character, exact matches and edits, and the size of the decoder. sentences: a list of str."""
    code, characters = model.encode(sentences), sum(map(len, sentences))
    decoded = model.decode(code)
    decoder = [layer for layer in (model.to_state, model.to_context, *model.decoder.layers) if layer]
    return {
        "bits": code.shape[1],
        "rates": {name: 8 * size / characters for name, size in sizes(model, code, (code.shape[1],), TEXTS).items()},
        "exact": sum(a == b for a, b in zip(sentences, decoded, strict=True)) / len(sentences),
        "edits": float(levenshtein(sentences, decoded).mean()),
        "decoder": weight(decoder),
    }


def sizes(model, code, shape, kind):
    """Bytes of all codes: "packed" and "coded" payload, "file" with both kinds of overhead, "single" with one file for each.
    Floats (vanilla) are stored as they are, and there is no file format for them.
    """
    if code.dtype != bool:
        return {"packed": code.nbytes}
    model_id = bytes.fromhex(model.model_id())[:MODEL_ID_BYTES]
    method, payload = encode_bits(code, shape)
    file = to_bytes(Container(model_id, kind, method, len(code), shape, b"", payload))
    single = to_bytes(Container(model_id, kind, PACKED, 1, shape, b"", np.packbits(code[0]).tobytes()))
    return {"packed": np.packbits(code).nbytes, "coded": len(payload), "file": len(file), "single": len(single) * len(code)}


def weight(layers):
    """The number of values that the layers hold, and their bytes as float32 and float16."""
    numbers = sum(array.size for layer in layers for array in (*layer.params.values(), *layer.state.values()))
    return {"numbers": numbers, "float32": 4 * numbers, "float16": 2 * numbers}


def round_to_float16(layers):
    """Round all values of the layers in place."""
    for layer in layers:
        for array in (*layer.params.values(), *layer.state.values()):
            array[...] = array.astype(np.float16)


def measure_setting(codec, setting, images):
    """One classical codec at one setting on images, uint8 (N, H, W, C): rates in bits per pixel, PSNR and SSIM.

    "point": each image separately. "sheet": as many of them as fill a square, side by side as one large picture in one file,
    which shares headers and lets the codec learn from one image for the next, as our entropy coder does.
    """
    name = f"{codec.word} {setting}".strip()
    decoded, file_bytes, payload_bytes = np.empty_like(images), 0, 0
    for i, image in enumerate(images):
        file, payload = codec.encode(image, setting)
        decoded[i] = decode(file, image.shape)
        file_bytes, payload_bytes = file_bytes + len(file), payload_bytes + len(payload)
    pixels = images[..., 0].size
    point = {
        "setting": name,
        "rates": {"file": 8 * file_bytes / pixels, "payload": 8 * payload_bytes / pixels},
        **finite(image_metrics(images, decoded)),
    }
    side, (height, width, channels) = math.isqrt(len(images)), images.shape[1:]
    images = images[: side * side]
    sheet = images.reshape(side, side, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(side * height, side * width, channels)
    file, _ = codec.encode(sheet, setting)
    decoded = decode(file, sheet.shape).reshape(side, height, side, width, channels).swapaxes(1, 2).reshape(images.shape)
    return {
        "point": point,
        "sheet": {
            "setting": name,
            "rates": {"file": 8 * len(file) / sheet[..., 0].size},
            **finite(image_metrics(images, decoded)),
        },
    }


def finite(figures):
    """Replace the infinite PSNR of exact images with None: JSON has no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def measure_compressors(training, sentences):
    """Bits per character of each text compressor: the text as a whole, and each sentence alone; lists of str."""
    compressors, dictionary_bytes = text_compressors(training)
    characters = sum(map(len, sentences))
    alone = [sentence.encode() for sentence in sentences]
    # The line feeds between sentences add to the size, but are not counted as characters.
    whole = b"".join(sentence + b"\n" for sentence in alone)
    measured = {
        c.name: {
            "whole": {"file": 8 * len(c.file(whole)) / characters, "payload": 8 * c.payload(whole) / characters},
            "alone": {
                "file": 8 * sum(len(c.file(sentence)) for sentence in alone) / characters,
                "payload": 8 * sum(map(c.payload, alone)) / characters,
            },
        }
        for c in compressors
    }
    return {
        "compressors": measured,
        "dictionary_bytes": dictionary_bytes,
        "sentences": len(sentences),
        "characters": characters,
        "text": 8 * len(whole) / characters,
    }


# ---- tasks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A measurement on the first `limit` held-out images of one of SETS; the figures are saved in `work`."""

    set: str
    limit: int | None
    work: Path

    def path(self, data):
        """The file for the figures, whose name changes with everything they depend on."""
        digest = hashlib.sha256(json.dumps([self.identity(), self.limit, data.sha256, versions()]).encode()).hexdigest()
        return self.work / (re.sub(r"\W+", "-", f"{self.set} {self.label}") + f"-{digest[:10]}.json")

    def held_out(self, data):
        """The images or sentences to measure on."""
        return list(split_sentences(data, "random").test) if self.set == "text" else data.test_images[: self.limit]


@dataclass(frozen=True)
class ModelTask(Task):
    """A trained model. job: the finished job of its row, which saved it."""

    job: Job

    @property
    def label(self):
        return self.job.row.label.replace(", random split", "")

    def identity(self):
        # Retrained, for example after a change of the code, a row has different weights under the same name.
        return [self.job.identity, hashlib.sha256(self.job.model_path.read_bytes()).hexdigest()]

    def measure(self, data):
        """Return the figures as plain data."""
        row, model = self.job.row, load(self.job.model_path)
        measure = measure_text_model if self.set == "text" else measure_image_model
        return {
            "label": self.label,
            "quant": row.recipe.quant,
            "epochs": row.recipe.epochs,
            "trained_on": self.job.result()["settings"]["data"][self.job.table.items],
            **measure(model, self.held_out(data)),
        }


@dataclass(frozen=True)
class CodecTask(Task):
    """A classical codec at one of its settings."""

    codec: str
    setting: object

    @property
    def label(self):
        return f"{self.codec} {self.setting}".strip()

    def identity(self):
        return self.label

    def measure(self, data):
        """Return the figures as plain data."""
        return measure_setting(CODECS[self.codec], self.setting, self.held_out(data))


@dataclass(frozen=True)
class CompressorsTask(Task):
    """All text compressors."""

    label = "text compressors"

    def identity(self):
        return self.label

    def measure(self, data):
        """Return the figures as plain data."""
        return measure_compressors(list(split_sentences(data, "random").train), self.held_out(data))


def is_compared(table, row):
    """Whether a row of the tables is measured: each of the report's bottlenecks at each size of the MLP, and commit's rows
    except those with other loss weights and those trained on all images for less than the recipe's epochs. For sentences:
    commit with the random split, with the LSTMs of the recipe, without codes that have more bits than the sentences.
    """
    if table is SETS["text"]:
        return (
            row.split == "random"
            and row.size <= LARGEST_HIDDEN
            and row.recipe.quant == "commit"
            and not row.label.endswith(WIDE)
        )
    return (
        table is SETS["mnist"]
        and row.is_plain
        and row.recipe.quant in QUANTS
        or row.recipe.quant == "commit"
        and "weight" not in row.label
        and not row.label.endswith(ALL_IMAGES)
    )


def tasks(data, limit, work, *, amount, seed, rows, data_dir):
    """Return all tasks, codecs first. data: {name of a set: its data}; amount: of the rows, FULL, REDUCED or
    QUICK; the others as the command's arguments.
    """
    found = []
    for name, content in data.items():
        table = SETS[name]
        if name == "text":
            found.append(CompressorsTask(name, limit, work))
        else:
            found += [
                CodecTask(name, limit, work, codec.name, setting)
                for codec in CODECS.values()
                if not codec.missing()
                for setting in codec.settings
            ]
        jobs = all_jobs(
            {table: content}, {"default": amount}, (seed,), folder=rows, data_dir=data_dir, allow_modified_data=True
        )
        found += [ModelTask(name, limit, work, job) for job in jobs if is_compared(table, job.row)]
    return found


def train_missing(jobs, processes):
    """Train the rows whose models are missing, as `python -m benchmarks.report` does, which can then use them."""
    jobs = [job for job in jobs if job.result() is None or not job.model_path.exists()]
    if not jobs:
        return
    watch = bars.watch(jobs)
    try:
        failures = workers.run_here(jobs, processes, watch)
    finally:
        watch.close()
    if failures:
        sys.exit("\n".join(f"error: {name}: {why}" for name, why in failures.items()))


def carry_out(task, data_dir):
    """Run one task in its own process and write its figures."""
    backend.use("numpy")
    backend.use_threads(1)
    data = load_data(type(SETS[task.set]), data_dir, True)
    text = json.dumps(task.measure(data))
    write_atomically(task.path(data), lambda file: file.write(text.encode()))


def collect(set_name, data, done, limit):
    """One set's part of the results. done: {task: figures}."""
    about = {
        "name": data.name,
        "sha256": data.sha256,
        "models": [figures for task, figures in done.items() if isinstance(task, ModelTask)],
    }
    if set_name == "text":
        return about | next(figures for task, figures in done.items() if isinstance(task, CompressorsTask))
    images = data.test_images[:limit]
    codecs = {name: {"missing": codec.missing(), "points": [], "sheet": []} for name, codec in CODECS.items()}
    for task, figures in done.items():
        if isinstance(task, CodecTask):
            codecs[task.codec]["points"].append(figures["point"])
            codecs[task.codec]["sheet"].append(figures["sheet"])
    return about | {"held_out": len(images), "shape": list(images.shape[1:]), "codecs": codecs}


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
