"""Transform coding: principal components, several bits for each large one, and convolutions that correct the picture.

One bit tells a number's sign. Several tell it more exactly, by successive approximation, as in an analog-to-digital
converter: the first bit is the sign, the second the sign of what remains, and so on, each worth half as much as the last:

    z ~ b_1 a + b_2 a/2 + b_3 a/4 + ...        b_1 = sign(z), b_2 = sign(z - b_1 a), b_3 = sign(z - b_1 a - b_2 a/2), ...

A photo's principal components differ much in variance, so the bits are worth most on the largest (reverse water-filling;
Cover and Thomas, Elements of Information Theory, section 10.3.3). A network that starts from random weights does not find
such a code. This one starts there: untrained, it is a classical transform code with fixed rate. Training then adapts
everything, and the convolutions learn what no linear decoder can: to correct the picture (Goyal 2001, Theoretical
foundations of transform coding; successive residuals by networks: Toderici et al. 2016, arXiv:1511.06085).

    encoder   z = (x - mean) analysis      the components
              h = z split                  each for each of its bits, over the bit's value
              y = successive(h, f)         minus what the bits of earlier stages say
    bits      b = sign(y), -1 or +1        the bottleneck
    decoder   z = b join                   the components again, rounded
              p = z synthesis + mean       the linear decoder
              p + convolutions(p)          the correction
"""

from typing import NamedTuple

import numpy as np

from . import backend
from .annotations import Array, DType, Shape, Sizes
from .arguments import positive_integers
from .bottlenecks import Bottleneck
from .errors import require_positive
from .initializers import filled
from .layers import ConvBlock, Dense, Layer, Sequential
from .models.images import ImageAutoencoder

__all__ = ["AddBranch", "Branch", "Logit", "Picture", "SuccessiveApproximation", "TransformAutoencoder", "transform_code"]

EPS = 1e-3  # How near a pixel may come to 0 or 1, where its logit is infinite.
SCALE = 32
MOST_BITS = 8  # Of a component.


def successive_forward(x: Array, f: Array, stages: Shape) -> tuple[Array, Array]:
    """(y, b) with y_k = x_k - sum_j b_j f_jk over all j of earlier stages than k's, b = -1 where y <= 0, else +1.

    x, y, b (N, K); f (K, K); stages: how many of the K values each stage has, in order.
    """
    y, b = x.copy(), backend.xp.empty_like(x)
    for earlier, now in slices(stages):
        y[:, now] -= b[:, earlier] @ f[earlier, now]
        b[:, now] = 2 * (y[:, now] > 0) - 1
    return y, b


def successive_backward(dy: Array, b: Array, stages: Shape) -> tuple[Array, Array]:
    """(dx, df). The bits are constant wherever they have a derivative: dx = dy, and df_jk = -sum_n b_nj dy_nk."""
    df = backend.xp.zeros((b.shape[1], b.shape[1]), b.dtype)
    for earlier, now in slices(stages):
        df[earlier, now] = -b[:, earlier].T @ dy[:, now]
    return dy, df


def slices(stages: Shape) -> list[tuple[slice, slice]]:
    """For each stage (the bits of all earlier ones, its own)."""
    ends = np.cumsum(stages)
    return [(slice(0, end - n), slice(end - n, end)) for n, end in zip(stages, ends.tolist(), strict=True)]


def logit_forward(x: Array) -> Array:
    """y = log(p / (1 - p)), the inverse of the sigmoid, with p = x clipped to [EPS, 1 - EPS]. Any shape."""
    p = backend.xp.clip(x, EPS, 1 - EPS)
    return backend.xp.log(p / (1 - p))


def logit_backward(dy: Array, x: Array) -> Array:
    """dx = dy / (p (1 - p)) where x is not clipped, else 0."""
    p = backend.xp.clip(x, EPS, 1 - EPS)
    return dy * (p == x) / (p * (1 - p))


class SuccessiveApproximation(Layer):
    """successive_forward with learned f, initially 0: (N, K) -> (N, K). stages: their sizes, with the sum K."""

    def __init__(self, stages: Sizes):
        super().__init__()
        self.stages = positive_integers("stages", stages)

    def draw(self, random: np.random.Generator) -> Shape:
        (values,) = self.input_shape
        if sum(self.stages) != values:
            raise ValueError(f"stages={self.stages!r} must have the sum {values}, the number of inputs")
        self._parameter("f", filled(random, 0, values**2).reshape(values, values))
        return self.input_shape

    def forward(self, x: Array, training: bool = True) -> Array:
        y, self.b = successive_forward(x, self.params["f"], self.stages)
        return y

    def backward(self, dy: Array) -> Array:
        dx, self.grads["f"] = successive_backward(dy, self.b, self.stages)
        return dx


class Picture(Layer):
    """(N, D) -> (N, *shape), divided by SCALE: a step of Adam's changes every weight by as much, and those of a linear
    decoder to pixels are small.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = tuple(shape)

    def draw(self, random: np.random.Generator) -> Shape:
        return self.shape

    def forward(self, x: Array, training: bool = True) -> Array:
        return (x / SCALE).reshape(-1, *self.output_shape)

    def backward(self, dy: Array) -> Array:
        return (dy / SCALE).reshape(-1, *self.input_shape)


class Branch(Layer):
    """y = x, which AddBranch adds again further on: its gradient is the sum of both paths'. Any shape."""

    dx: Array  # The gradient of the other path.

    def forward(self, x: Array, training: bool = True) -> Array:
        self.x = x
        return x

    def backward(self, dy: Array) -> Array:
        return dy + self.dx


class AddBranch(Layer):
    """y = x + the output of `branch`: a residual connection (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, branch: Branch):
        super().__init__()
        self.branch = branch

    def forward(self, x: Array, training: bool = True) -> Array:
        return x + self.branch.x

    def backward(self, dy: Array) -> Array:
        self.branch.dx = dy
        return dy


class Logit(Layer):
    """logit_forward: from pixels in [0, 1] to the logits that an image autoencoder's decoder returns. Any shape."""

    def forward(self, x: Array, training: bool = True) -> Array:
        self.x = x
        return logit_forward(x)

    def backward(self, dy: Array) -> Array:
        return logit_backward(dy, self.x)


class TransformCode(NamedTuple):
    """A transform code as weights, for M components and K bits. A component's unit is the value of its last bit."""

    analysis: np.ndarray  # (pixels, M): the components in their units.
    split: np.ndarray  # (M, K): each component for each of its bits, over the bit's value.
    join: np.ndarray  # (K, M): the values of the bits in units.
    synthesis: np.ndarray  # (M, pixels): the components times their units.
    stages: tuple[int, ...]  # How many components have one bit or more, two or more, and so on.


def transform_code(images: np.ndarray, bits: int, multiple: bool = True) -> TransformCode:
    """The transform code with so many bits for such images, bytes (N, H, W, C).

    multiple: several bits for one component; otherwise one for each, as for a code of numbers. ValueError if that is too
    many bits for images of this size.
    """
    most = images[0].size * (MOST_BITS if multiple else 1)
    if require_positive("bits", bits) > most:
        raise ValueError(f"bits={bits!r} must be at most {most} for images of {images[0].size} values")
    mean, u = principal_components(images, bits)
    z = np.concatenate([(part - mean) @ u for part in _parts(images[:10_000])])
    counts, values = allocate_bits(z, bits) if multiple else (np.ones(bits, int), _deviation(z))
    u, counts, values = u[:, counts > 0], counts[counts > 0], values[counts > 0]
    stages = [np.flatnonzero(counts > stage) for stage in range(counts.max())]
    join = np.zeros((bits, len(counts)))
    join[np.arange(bits), np.concatenate(stages)] = np.concatenate(
        [2.0 ** (counts[chosen] - 1 - stage) for stage, chosen in enumerate(stages)]
    )
    units, split = values / 2 ** (counts - 1), ((join > 0) / np.maximum(join, 1)).T
    return TransformCode(u / units, split, join, (u * units).T, tuple(map(len, stages)))


def principal_components(images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean image (pixels,), the first components (pixels, count), orthonormal), in [0, 1], of bytes (N, H, W, C)."""
    mean = (images.reshape(len(images), -1).mean(axis=0) / 255).astype(np.float32)
    covariance = sum((part - mean).T @ (part - mean) for part in _parts(images))
    _, u = np.linalg.eigh(covariance)
    return mean, u[:, ::-1][:, :count]


def _parts(images):
    return (images[i : i + 2000].reshape(-1, images[0].size) / np.float32(255) for i in range(0, len(images), 2000))


def allocate_bits(z: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(number of bits, value of the first bit) of each of the components z (N, M); each further bit goes to the component
    in which it removes the largest squared error.
    """
    z = z[:5000]
    deviation, factors = _deviation(z), np.linspace(0.6, 2.4, 19)
    errors, amplitudes = [(z**2).mean(axis=0)], [deviation]
    for count in range(1, MOST_BITS + 1):
        tried = np.array([(remainder(z, factor * deviation, count) ** 2).mean(axis=0) for factor in factors])
        errors.append(tried.min(axis=0))
        amplitudes.append(factors[tried.argmin(axis=0)] * deviation)
    gains = np.array([*-np.diff(errors, axis=0), np.full(z.shape[1], -np.inf)])
    counts, everything = np.zeros(z.shape[1], int), np.arange(z.shape[1])
    for _ in range(bits):
        counts[gains[counts, everything].argmax()] += 1
    return counts, np.array(amplitudes)[counts, everything]


def _deviation(z):
    return np.maximum(z.std(axis=0), 1e-3)  # Few images have fewer components that vary.


def remainder(z: np.ndarray, amplitude: np.ndarray, count: int) -> np.ndarray:
    """What is left of z (N, M) after `count` bits of successive approximation, the first one worth `amplitude` (M,)."""
    for stage in range(count):
        z = z - np.where(z > 0, amplitude, -amplitude) / 2**stage
    return z


class TransformAutoencoder(ImageAutoencoder):
    """pixels -> components -> bits of successive approximation -> linear decoder -> convolutional correction -> pixels.

    Args:
        bottleneck: with signed=True, or the linear Vanilla; another code than -1 and +1 has no such initial weights.
        stages: how many components have one bit or more, two or more, and so on; the sum is the code's size.
        input_shape: (H, W, C) of the images, H and W even.
        correction: channels of the convolutions that correct the picture; the first halves the image, a last one doubles it.
        reconstruction, mean_image, seed, dtype, engine: as in MLPAutoencoder.
    """

    inference_batch = 100

    def __init__(
        self,
        bottleneck: Bottleneck,
        stages: Sizes = (16,),
        input_shape: Shape = (32, 32, 3),
        *,
        correction: Sizes = (32, 64),
        reconstruction: str = "mse",
        mean_image: np.ndarray | None = None,
        seed: int = 0,
        dtype: DType = np.float32,
        engine: str | None = None,
    ):
        self.stages = positive_integers("stages", stages)
        self.correction = positive_integers("correction", correction)
        first, *middle = self.correction
        branch = Branch()
        components, *_ = self.stages
        encoder = Sequential(Dense(components), Dense(sum(self.stages)), SuccessiveApproximation(self.stages))
        decoder = Sequential(
            Dense(components),
            Dense(int(np.prod(input_shape))),
            Picture(input_shape),
            branch,
            ConvBlock(first, pool=True),
            *(ConvBlock(channels) for channels in middle),
            ConvBlock(input_shape[-1], upsample=True, norm=False, relu=False),
            AddBranch(branch),
            Logit(),
        )
        self.build(
            encoder,
            bottleneck,
            decoder,
            input_shape=input_shape,
            flatten=True,
            reconstruction=reconstruction,
            mean_image=mean_image,
            seed=seed,
            dtype=dtype,
            engine=engine,
        )

    def start_output_at(self, mean_image: np.ndarray) -> None:
        self._set(self.decoder.layers[1], b=SCALE * mean_image.reshape(-1))

    @classmethod
    def from_images(cls, images: np.ndarray, bottleneck: Bottleneck, bits: int, **arguments) -> "TransformAutoencoder":
        """The untrained model whose initial weights are the transform code of these images, bytes (N, H, W, C).

        Args:
            bits: of a code; for Vanilla, its numbers.
            arguments: of the constructor, but for those that the images determine: stages, input_shape, mean_image.

        Raises:
            ValueError: bits is out of range, or the bottleneck's codes are neither -1 and +1 nor numbers.
        """
        if bottleneck.is_binary != bottleneck.signed:
            raise ValueError(f"bottleneck={bottleneck!r} must be binary with signed=True, or Vanilla without")
        code = transform_code(images, bits, multiple=bottleneck.is_binary)
        model = cls(bottleneck, code.stages, images.shape[1:], mean_image=images.mean(axis=0) / 255, **arguments)
        (analysis, split, successive), (join, synthesis, *_, last, _, _) = model.encoder.layers, model.decoder.layers
        model._set(analysis, w=code.analysis)
        model._set(split, w=code.split)
        model._set(successive, f=code.join @ code.split if bottleneck.is_binary else 0)
        model._set(join, w=code.join)
        model._set(synthesis, w=SCALE * code.synthesis)
        model._set(last, w=0)
        return model

    def _set(self, layer, **values):
        for name, value in values.items():
            layer.params[name][...] = backend.to_device(np.asarray(value, self.dtype))
