"""Your own autoencoder: an encoder and a decoder made of layers, one of them new. Check it, train it, save it, load it.

    python examples/own_autoencoder.py                       MNIST: a minute
    python examples/own_autoencoder.py --dataset synthetic   made-up digits, no download

The encoder is a convolution and a dense layer to 32 bits, the decoder the reverse. Prints the PSNR and writes model.npz to
--out. To load such a file, another program has to import the class first: from own_autoencoder import ConvDense.
"""

from math import prod
from pathlib import Path

import numpy as np

from tinyqae import Adam, Commit, ImageAutoencoder, Naive, fit, load, load_mnist, synthetic_digits
from tinyqae.cli import program
from tinyqae.gradcheck import check_directions
from tinyqae.layers import BatchNorm, ConvBlock, Dense, Layer, ReLU, Sequential


class Reshape(Layer):
    """Reshape (N, ...) to (N, *shape)."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def draw(self, random):  # A layer with parameters calls self._parameter here, as Dense does.
        return self.shape

    def forward(self, x, training=True):
        return x.reshape(len(x), *self.shape)

    def backward(self, dy):
        return dy.reshape(len(dy), *self.input_shape)


class ConvDense(ImageAutoencoder):
    """`save` writes the constructor's arguments, so each is kept as an attribute of the same name (`build` keeps input_shape
    and dtype). `load` passes `bottleneck` and `engine`.
    """

    def __init__(self, bottleneck, filters=8, bits=32, input_shape=(28, 28, 1), *, seed=0, dtype=np.float32, engine=None):
        self.filters, self.bits = filters, bits
        height, width, channels = input_shape
        small = (height // 2, width // 2, filters)
        encoder = Sequential(ConvBlock(filters, pool=True), Reshape(prod(small)), Dense(bits), BatchNorm())
        decoder = Sequential(
            Dense(prod(small)),
            BatchNorm(),
            ReLU(),
            Reshape(*small),
            ConvBlock(channels, upsample=True, norm=False, relu=False),
        )
        self.build(encoder, bottleneck, decoder, input_shape=input_shape, seed=seed, dtype=dtype, engine=engine)


def check_gradients():
    """Check the backward pass against finite differences in float64, with naive, since those of a threshold are 0. Returns
    the largest relative error; raises AssertionError above 1e-6.
    """
    model = ConvDense(Naive(), filters=2, bits=5, input_shape=(6, 6, 1), dtype=np.float64, engine="reference")
    images = np.random.default_rng(0).random((16, 6, 6, 1))
    model.loss(images)
    model.backward()
    return check_directions(lambda: model.loss(images), model.parameters(), model.gradients())


def main():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", choices=("mnist", "synthetic"), default="mnist", help="default: %(default)s")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    add("--epochs", type=program.positive_int, default=2, help="default: %(default)s")
    add("--out", metavar="DIR", type=Path, default=Path("runs/own-autoencoder"), help="default: %(default)s")
    args = parser.parse_args()
    data = synthetic_digits(seed=0) if args.dataset == "synthetic" else load_mnist(args.data_dir)
    print(f"gradient check: relative error {check_gradients():.1e}")

    model = ConvDense(Commit(weight=0.1))
    print(model)
    fit(model, data.train_images, Adam(4e-3), epochs=args.epochs, batch_size=100)
    model.save(args.out / "model.npz")

    same = load(args.out / "model.npz")
    assert np.array_equal(same.encode(data.test_images), model.encode(data.test_images))
    print(f"{data.name}: PSNR {same.validate(data.test_images)['val_psnr']:.2f} dB, {same.latent_size} bits per image")
    print(f"written to {args.out}/")


if __name__ == "__main__":
    program.run_main(main, stopped="stopped")
