"""Coverage-guided fuzzing of everything that reads a file that somebody else wrote.

    pip install atheris && python tests/codec/fuzz_codec.py -max_total_time=600

Each input begins with a byte that says what reads the rest: a .tqae file of one of three small models, with checksums made
to fit half of the time, or an input file of images or text. All errors must be TinyqaeError of one line; anything else, and
more than 1 GiB of memory or 20 seconds for one input, is a finding, which atheris keeps as a file.
"""

import io
import sys

import atheris

with atheris.instrument_imports(include=["tinyqae.codec", "tinyqae.tokens"]):
    from tinyqae.codec import blocks, container, files, inputs, lines, payload, pictures  # noqa: F401
import numpy as np

from tinyqae import CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder
from tinyqae.errors import TinyqaeError

MODELS = [
    MLPAutoencoder(Commit(), hidden=(12,), input_shape=(8, 8, 1)),
    CNNAutoencoder(Commit(), widths=(2, 2, 2), latent_channels=2, input_shape=(8, 8, 3)),
    Seq2SeqAutoencoder(Commit(), 4, max_length=6),
]


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


def one_input(data):
    """Read `data` as its first byte says."""
    what, rest = data[:1], data[1:]
    try:
        if what < b"\x60":
            model = MODELS[what[0] % 3] if what else MODELS[0]
            if what and what[0] % 2:
                rest = rest[:6] + files.model_id(model) + rest[14:]
                rest = resealed(rest)
            files.contents(rest)
            files.unpack(rest, model)
        elif what < b"\xc0":
            inputs.read_images(["-"], stdin=io.BytesIO(rest))
        else:
            text = inputs.read_text(["-"], stdin=io.BytesIO(rest)).text
            parts = lines.take_apart(text, 6)
            assert lines.put_together(parts, parts.coded) == text
    except TinyqaeError as error:
        assert "\n" not in str(error), str(error)


def seeds():
    """Valid inputs to start from."""
    random = np.random.default_rng(0)
    grey, colour = random.integers(0, 256, (40, 8, 8), np.uint8), random.integers(0, 256, (9, 7, 3), np.uint8)
    for i, content in ((0, grey), (0, list(grey[:2])), (1, [colour, colour[:3]]), (2, "ab\nAB\nabc d\r\n" * 5)):
        data = files.compress(content, MODELS[i], names=["a", "b"][: len(content)] if isinstance(content, list) else None)
        for tag in (2 * 3 + i, 3 + 6 + i):
            yield bytes([tag]) + data
    buffer = io.BytesIO()
    np.save(buffer, grey)
    yield b"\x61" + buffer.getvalue()
    yield b"\x61\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in grey.shape) + grey.tobytes()
    from PIL import Image

    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(colour).save(buffer, form)
        yield b"\x61" + buffer.getvalue()
    yield b"\xc1" + "ab\r\nä\n".encode()


def main():
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as corpus:
        for i, seed in enumerate(seeds()):
            (Path(corpus) / f"seed-{i}").write_bytes(seed)
        # inputs.py bounds memory and time by these; small ones let the fuzzer go on.
        inputs.pictures.MAX_PIXELS, inputs.MAX_STACK_BYTES, pictures.MAX_VALUES = 1 << 20, 1 << 22, 1 << 22
        atheris.Setup([sys.argv[0], corpus, "-rss_limit_mb=1024", "-timeout=20", *sys.argv[1:]], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
