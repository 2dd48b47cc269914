"""Compress images to a file and decompress them with the library, as `tinyqae compress` and `decompress` do.

    python examples/compress.py                                           made-up digits, model mlp-50
    python examples/compress.py --images photos/*.jpg --model cnn-small   your own pictures of any size

Writes compressed.tqae, and there-and-back.png with originals above reconstructions, to --out.
"""

from pathlib import Path

import numpy as np

from tinyqae import codec, synthetic_digits
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.codec.inputs import read_images
from tinyqae.codec.outputs import write_images


def main():
    parser = program.OneLineParser(description=__doc__)
    parser.add_argument("--images", nargs="+", metavar="FILE", help="pictures of any size; default: made-up digits")
    parser.add_argument(
        "--model",
        default="mlp-50",
        help="a model.npz written by an example, or a model that comes with tinyqae: "
        f"{', '.join(codec.shipped_models())}; default: %(default)s",
    )
    parser.add_argument("--out", metavar="DIR", default="runs/compress", help="default: %(default)s")
    program.add_backend_argument(parser, "numpy")
    args = parser.parse_args()
    program.use_backend(args.backend)
    images = read_images(args.images).images if args.images else synthetic_digits(train=100, test=1000).test_images
    model, file = codec.find(args.model), Path(args.out) / "compressed.tqae"

    # Compress: uint8 images -> bytes.
    data = codec.compress(images, model, progress=True)
    write_atomically(file, lambda out: out.write(data))

    # Decompress: needs only the file and the model.
    back = codec.decompress(file.read_bytes(), model, progress=True)

    raw = sum(image.size for image in images)
    print(f"{len(images)} images, {raw} bytes -> {len(data)} bytes, {raw / len(data):.1f} times smaller, in {file}")
    shown = 1 if args.images else 10
    originals = [
        np.broadcast_to(np.atleast_3d(image), result.shape) for image, result in zip(images[:shown], back, strict=False)
    ]
    picture = np.vstack([np.hstack(originals), np.hstack(back[:shown])])
    write_images(Path(args.out) / "there-and-back.png", [picture], None)


if __name__ == "__main__":
    program.run_main(main)
