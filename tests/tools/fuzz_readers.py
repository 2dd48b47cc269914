"""Coverage-guided fuzzing (atheris) of the readers of files that somebody else wrote.

    pip install atheris
    python tests/tools/fuzz_readers.py container -max_total_time=600      or images, text, model, pickle

All errors must be TinyqaeError of one line; anything else, and more than 1 GiB of memory or 20 seconds for one input, is a
finding, which atheris keeps as a file. The options are those of libFuzzer.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tinyqae.codec", "tinyqae.tokens", "tinyqae.model_files", "tinyqae.data.images"]):
    from tinyqae.codec import blocks, container, files, inputs, lines, payload, pictures  # noqa: F401
    from tinyqae.data import cifar10, images  # noqa: F401
import numpy as np
from PIL import Image

from tinyqae import CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, load
from tinyqae.checkpoint import write_arrays
from tinyqae.errors import TinyqaeError

MODELS = [
    MLPAutoencoder(Commit(), hidden=(12,), input_shape=(8, 8, 1)),
    CNNAutoencoder(Commit(), widths=(2, 2, 2), latent_channels=2, input_shape=(8, 8, 3)),
    Seq2SeqAutoencoder(Commit(), 4, max_length=6),
]
FOLDER = Path(tempfile.mkdtemp())


def resealed(data):
    """The file with both checksums made to fit, where its lengths can be read at all."""
    reader = blocks.Reader(data, "the file")
    try:
        reader.take("head", 6 + container.MODEL_ID_BYTES)
        reader.varint("count")
        for _ in range(3 if data[5] & 4 else 1):
            reader.varint("shape")
        lengths = [reader.varint("extra"), reader.varint("payload")]
        end = reader.offset
        reader.take("checksum", 4)
        body = [reader.take(name, length) for name, length in zip(("extra", "payload"), lengths, strict=True)]
    except TinyqaeError:
        return data
    return data[:end] + blocks.checksum(data[:end]) + b"".join(body) + blocks.checksum(*body)


def read_container(data):
    """A byte that says which model is used and whether the checksums are made to fit, and a .tqae file."""
    what, rest = data[0] if data else 0, data[1:]
    model = MODELS[what % 3]
    if what % 2:
        rest = resealed(rest[:6] + files.model_id(model) + rest[14:])
    files.contents(rest)
    files.unpack(rest, model)


def read_images(data):
    """A picture, an array or an IDX file."""
    inputs.read_images(["-"], stdin=io.BytesIO(data))


def read_text(data):
    """A text, which is the same after it was taken apart."""
    text = inputs.read_text(["-"], stdin=io.BytesIO(data)).text
    parts = lines.take_apart(text, 6)
    assert lines.put_together(parts, parts.coded) == text


def read_model(data):
    """A byte that says whether a model file follows, or the JSON of one whose arrays are a small model's."""
    what, rest, path = data[0] if data else 0, data[1:], FOLDER / "model.npz"
    if what % 2:
        try:
            description = json.loads(rest)
        except (ValueError, RecursionError):
            return
        if not isinstance(description, dict):
            return
        write_arrays(path, MODELS[what // 2 % 3].as_file()[0], description)
    else:
        path.write_bytes(rest)
    load(path)


def read_pickle(data):
    """One of the files of CIFAR-10 in Python's form."""
    cifar10.records_of_pickle(data)


READERS = {
    "container": read_container,
    "images": read_images,
    "text": read_text,
    "model": read_model,
    "pickle": read_pickle,
}


def seeds(name):
    """Valid inputs to start from."""
    random = np.random.default_rng(0)
    grey, colour = random.integers(0, 256, (40, 8, 8), np.uint8), random.integers(0, 256, (9, 7, 3), np.uint8)
    buffer = io.BytesIO()
    if name == "container":
        for i, content in ((0, grey), (0, list(grey[:2])), (1, [colour, colour[:3]]), (2, "ab\nAB\nabc d\r\n" * 5)):
            data = files.compress(
                content, MODELS[i], names=["a", "b"][: len(content)] if isinstance(content, list) else None
            )
            yield from (bytes([tag]) + data for tag in (6 + i, 9 + i))
    elif name == "images":
        np.save(buffer, grey)
        yield buffer.getvalue()
        yield b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in grey.shape) + grey.tobytes()
        for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
            buffer = io.BytesIO()
            Image.fromarray(colour).save(buffer, form)
            yield buffer.getvalue()
    elif name == "text":
        yield "ab\r\nä\n".encode()
    elif name == "model":
        for i, model in enumerate(MODELS):
            model.save(FOLDER / "seed.npz")
            yield b"\x00" + (FOLDER / "seed.npz").read_bytes()
            yield bytes([2 * i + 1]) + json.dumps(model.as_file()[1]).encode()
    else:
        import pickle  # Only written here.

        batch = {"data": random.integers(0, 256, (2, 3072), np.uint8), "labels": [3, 4]}
        yield from (pickle.dumps(batch, protocol) for protocol in (2, 4))


def one_input(read, data):
    """Read `data`; an error must be one line."""
    try:
        read(data)
    except TinyqaeError as error:
        assert "\n" not in str(error), str(error)


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"error: name a reader: {', '.join(READERS)}")
    name = sys.argv.pop(1)
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds(name)):
        (corpus / f"seed-{i}").write_bytes(seed)
    # inputs.py bounds memory and time by these; small ones let the fuzzer go on.
    inputs.pictures.MAX_PIXELS, inputs.MAX_STACK_BYTES, pictures.MAX_VALUES = 1 << 20, 1 << 22, 1 << 22
    atheris.Setup(
        [sys.argv[0], str(corpus), "-rss_limit_mb=1024", "-timeout=20", *sys.argv[1:]],
        lambda data: one_input(READERS[name], data),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
