"""How fast files are written and read: the 10,000 MNIST test images, stage by stage, compared with PyTorch.

    python benchmarks/speed/codec_speed.py --threads 1

Stages of compression: the model (images to bits), the entropy coder (bits to payload; for a model that does not come with
the package it also chooses contexts) and the file (container and disk); decompression runs them in reverse. For comparison,
the same network in PyTorch with np.packbits, as one would write it without this package. All stages take turns in one
process, round after round; each time is the median over the rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tinyqae import backend, codec, load_mnist
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.codec import container
from tinyqae.codec.files import code_shape, model_id
from tinyqae.codec.models import parents_of
from tinyqae.codec.payload import PACKED, decode_bits, encode_bits
from tinyqae.experiment import versions

RESULTS = Path(__file__).resolve().parents[1] / "results"
MODEL = "mlp-50"


def stages(model, images, file):
    """Return {stage: a function without arguments}; each continues from the results of the ones before it."""
    state, parents = {}, parents_of(model_id(model))

    def keep(name, value):
        state[name] = value

    def written(method, payload):
        return container.to_bytes(
            container.Container(model_id(model), container.IMAGES, method, len(images), code_shape(model), b"", payload)
        )

    def read():
        found = container.from_bytes(file.read_bytes())
        keep("read", (found.payload, found.method, found.count, found.shape))

    return {
        "compress: model": lambda: keep("bits", model.encode(images)),
        "compress: coder": lambda: keep("coded", encode_bits(state["bits"], code_shape(model), parents)),
        "compress: coder, for a model of one's own": lambda: encode_bits(state["bits"], code_shape(model)),
        "compress: packed bits in its place": lambda: np.packbits(state["bits"]).tobytes(),
        "compress: file": lambda: write_atomically(file, lambda out: out.write(written(*state["coded"]))),
        "decompress: file": read,
        "decompress: coder": lambda: keep("decoded", decode_bits(*state["read"])),
        "decompress: packed bits in its place": lambda: decode_bits(
            np.packbits(state["bits"]).tobytes(), PACKED, len(images), code_shape(model)
        ),
        "decompress: model": lambda: model.decode(state["decoded"]),
        "compress: all": lambda: write_atomically(file, lambda out: out.write(codec.compress(images, model))),
        "decompress: all": lambda: codec.decompress(file.read_bytes(), model),
    }


def torch_stages(model, images, file):
    """The same network in PyTorch, bits packed by NumPy; {} where PyTorch is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return {}
    torch.set_num_threads(backend.threads)
    network = nn.Sequential(nn.Linear(784, 50), nn.BatchNorm1d(50), nn.Linear(50, 784)).eval()
    weights = model.layers
    with torch.no_grad():
        for layer, dense in ((network[0], weights[0]), (network[2], weights[-1])):
            layer.weight.copy_(torch.from_numpy(dense.params["w"].T))
            layer.bias.copy_(torch.from_numpy(dense.params["b"]))
        norm = weights[1]
        for name, array in {**norm.params, **norm.state}.items():
            target = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}[name]
            getattr(network[1], target).copy_(torch.from_numpy(np.asarray(array)))
    mean = torch.from_numpy(model.mean_image)

    def compress():
        with torch.no_grad():
            x = (torch.from_numpy(images) / 255 - mean).reshape(len(images), -1)
            bits = (network[1](network[0](x)) > 0).numpy()
        file.write_bytes(np.packbits(bits).tobytes())

    def decompress():
        bits = np.unpackbits(np.frombuffer(file.read_bytes(), np.uint8))[: len(images) * 50].reshape(-1, 50)
        with torch.no_grad():
            pixels = torch.sigmoid(network[2](torch.from_numpy(bits.astype(np.float32)) * 2 - 1))
            return (pixels * 255).round().to(torch.uint8).numpy().reshape(images.shape)

    return {"PyTorch and packed bits: compress": compress, "PyTorch and packed bits: decompress": decompress}


def measure(images, rounds, directory):
    """Return (seconds by stage, bytes of the file, share of pixel values that are the same in PyTorch)."""
    model = codec.shipped(MODEL)
    ours = stages(model, images, Path(directory) / "digits.tqae")
    theirs = torch_stages(model, images, Path(directory) / "digits.bits")
    for run in (*ours.values(), *theirs.values()):
        run()
    times = {name: [] for name in (*ours, *theirs)}
    for _ in range(rounds):
        for name, run in (ours | theirs).items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    same = None
    if theirs:
        same = float((theirs["PyTorch and packed bits: decompress"]() == ours["decompress: all"]()).mean())
    size = (Path(directory) / "digits.tqae").stat().st_size
    return {name: statistics.median(seconds) for name, seconds in times.items()}, size, same


def as_markdown(result):
    """Return the results as Markdown."""
    lines = [
        "# Speed of writing and reading files",
        "",
        f"{result['images']} images of {result['data']}, model `{MODEL}`, {result['threads']} thread(s), median of "
        f"{result['rounds']} rounds. `{result['command']}` on {result['machine']}, kernels "
        f"{result['kernels']}, {result['date']}. MB/s: of raw pixels. The file has {result['bytes']} bytes.",
        "",
        "| stage | ms | images/s | MB/s |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {1e3 * seconds:.1f} | {result['images'] / seconds:,.0f} | {result['raw'] / seconds / 1e6:.0f} |"
        for name, seconds in result["seconds"].items()
    ]
    if result["same_as_torch"] is not None:
        lines += ["", f"PyTorch reconstructs {result['same_as_torch']:.4%} of all pixels to the same value."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=program.positive_int, default=1)
    parser.add_argument("--rounds", type=program.positive_int, default=15)
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--no-write", action="store_true", help="only print, do not write to benchmarks/results/")
    args = parser.parse_args()
    from tinyqae.fast import kernels

    backend.use("numpy")
    backend.use_threads(args.threads)
    data = load_mnist(args.data_dir, progress=False)
    images = data.test_images
    with tempfile.TemporaryDirectory() as directory:
        seconds, size, same = measure(images, args.rounds, directory)
    result = {
        "data": data.name,
        "images": len(images),
        "raw": images.nbytes,
        "threads": args.threads,
        "rounds": args.rounds,
        "seconds": seconds,
        "bytes": size,
        "same_as_torch": same,
        "kernels": kernels.kernels(),
        "command": " ".join(["python", "benchmarks/speed/codec_speed.py", "--threads", str(args.threads)]),
        "machine": backend.describe(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    text = as_markdown(result)
    print(text)
    if not args.no_write:
        write_atomically(RESULTS / "codec_speed.json", lambda out: out.write((json.dumps(result, indent=1) + "\n").encode()))
        write_atomically(RESULTS / "codec_speed.md", lambda out: out.write(text.encode()))


if __name__ == "__main__":
    sys.exit(main())
