"""The encoder's gradient with the threshold's true derivative, with the straight-through estimator, and without a threshold.

One batch, one set of weights, and the gradient of the reconstruction loss L with respect to the encoder's weights in four
ways. They differ in what they use as dL/da, the derivative with respect to the activations a, whose bits are
b = 1[a > 1/2]:

    threshold           0                               the true derivative, wherever it exists
    straight-through    dL/db, at the bits b            as if the threshold were the identity
    flips               L(bit on) - L(bit off)          the exact effect of each bit, with the others held fixed
    no threshold        dL/da of L(decoder(a))          the vanilla model with the same weights

`flips`, the exact flip differences, are the reference for straight-through: a bit can only jump, and straight-through
approximates the height of that jump by the slope of L at the bit. They are also the derivative of an expectation: if bit nf
alone were sampled, on with probability a_nf, the expected loss would be a_nf L(on) + (1 - a_nf) L(off), with the derivative
L(on) - L(off) (local expectation gradients, Titsias and Lazaro-Gredilla 2015). Nobody trains with them: they cost two passes
through the decoder for every bit.
"""

from dataclasses import dataclass, field

import numpy as np

from . import Autoencoder, backend
from .annotations import Array
from .bottlenecks import Commit
from .models import MLPAutoencoder

__all__ = ["EncoderGradients", "encoder_gradients", "flip_differences", "has_encoder_gradients"]

WAYS = ("threshold", "straight-through", "flips", "no threshold")
STEPS = tuple(np.geomspace(1e-6, 1, 25).tolist())
"""How far the encoder's weights are moved along a gradient, as a fraction of their norm."""

MOST_BITS = 512


@dataclass(frozen=True)
class EncoderGradients:
    """A comparison of the gradients of one batch; dicts are keyed by the names in WAYS.

    Attributes:
        layers: names of the encoder's layers that have weights, starting at the input.
        norms: {way: the norm of each layer's part}.
        cosines: {way: {way: cosine between the whole gradients, None where one of them is 0}}.
        loss: with the threshold, of `images` images of `bits` bits each, at the current weights.
        steps: STEPS.
        changes, turned: {way: list of the change of the loss, and of the share of all bits that flip, for each of the steps
            downhill along the gradient}; no entry for a gradient of 0.
        wrong_signs: {way: share of all bits for which dL/da and the flip difference have opposite signs}, for the two that
            have signs; empty in older results, which lack it.
    """

    layers: list[str]
    norms: dict[str, list[float]]
    cosines: dict[str, dict[str, float | None]]
    loss: float
    images: int
    bits: int
    steps: list[float]
    changes: dict[str, list[float]]
    turned: dict[str, list[float]]
    wrong_signs: dict[str, float] = field(default_factory=dict)


def has_encoder_gradients(model: Autoencoder) -> bool:
    """Whether encoder_gradients supports the model: an MLP whose decoder sees straight-through bits in training, few enough
    of them that flipping each one does not take minutes.
    """
    return isinstance(model, MLPAutoencoder) and isinstance(model.bottleneck, Commit) and model.latent_size <= MOST_BITS


def encoder_gradients(model: MLPAutoencoder, images: np.ndarray) -> EncoderGradients:
    """EncoderGradients of an MLP with the bottleneck Commit, at its current weights, for one batch.

    The commit loss is left out: it reaches the encoder without passing the threshold. The model is unchanged afterwards.
    images (N, H, W, C), bytes, N at least 2. TypeError for other models: through a decoder with batch norm,
    for example, a bit would also change the loss of other examples.
    """
    if not has_encoder_gradients(model):
        raise TypeError(
            f"{type(model).__name__} with {model.bottleneck!r}: gradients are compared only for an MLPAutoencoder "
            "with the bottleneck Commit"
        )
    x = backend.to_device(np.multiply(images, model.dtype.type(1 / 255)))
    bottleneck, state = model.bottleneck, model.state_arrays()
    try:
        # One thread: the matmuls are small, so more threads would only add overhead.
        with backend.one_blas_thread():
            return _compared(model, x)
    finally:
        model.bottleneck = bottleneck
        model.restore(state)


def flip_differences(model: MLPAutoencoder, x: Array, bits: Array | None = None) -> Array:
    """L(bit on) - L(bit off) for each bit of each example, with the others held fixed: (N, K), on the device.

    x (N, H, W, C), floats on the device; bits (N, K) bool, or None for the bits of the training forward pass. L is the mean
    over the batch, to which each example contributes 1/N; the decoder runs as at inference.
    """
    code = (_bits(model, x) if bits is None else bits).astype(model.dtype)
    differences = backend.xp.empty_like(code)
    for f in range(code.shape[1]):
        losses = []
        for value in (1, 0):
            flipped = code.copy()
            flipped[:, f] = value
            logits = model.decode_logits(model.bottleneck.for_decoder(flipped))
            losses.append(_losses(logits, x.reshape(len(x), -1), model.reconstruction))
        differences[:, f] = (losses[0] - losses[1]) / len(x)
    return differences


def _losses(logits: Array, target: Array, reconstruction: str) -> Array:
    """The reconstruction loss of each example, (N,), as in losses.py."""
    xp = backend.xp
    if reconstruction == "mse":
        return xp.square(1 / (1 + xp.exp(-logits)) - target).mean(axis=1)
    return (xp.maximum(logits, 0) - target * logits + xp.log1p(xp.exp(-xp.abs(logits)))).mean(axis=1)


class _OneWay(Commit):
    """Commit with the dL/da of one of WAYS, kept in `da`. differences (N, F): for `flips`."""

    way: str
    differences: Array

    def quantize(self, a: Array) -> Array:
        return a if self.way == "no threshold" else super().quantize(a)

    def gradient(self, db: Array) -> Array:
        if self.way == "threshold":
            self.da = 0 * db
        elif self.way == "flips":
            self.da = self.differences
        else:
            self.da = super().gradient(db) if self.way == "straight-through" else db
        return self.da


def _compared(model: MLPAutoencoder, x: Array) -> EncoderGradients:
    bottleneck = model.bottleneck = _OneWay(**{**model.bottleneck.config(), "weight": 0.0, "noise": 0.0})
    bottleneck.way = "straight-through"
    loss, bits = _loss(model, x), _bits(model, x)
    bottleneck.differences = flip_differences(model, x)
    gradients, wrong_signs = {}, {}
    for way in WAYS:
        bottleneck.way = way
        model.reconstruction_loss(x)
        model.backward()
        gradients[way] = np.concatenate([backend.to_host(grad).ravel() for grad in _encoder_arrays(model, "grads")])
        if way in ("straight-through", "no threshold"):
            wrong_signs[way] = float(backend.to_host((bottleneck.da * bottleneck.differences < 0).mean()))
    bottleneck.way = "straight-through"
    moves = {way: _downhill(model, x, gradient, loss, bits) for way, gradient in gradients.items() if gradient.any()}
    layers = _encoder_layers(model)
    return EncoderGradients(
        layers=list(layers),
        loss=loss,
        images=len(x),
        bits=bits.shape[1],
        steps=list(STEPS),
        wrong_signs=wrong_signs,
        norms={way: [float(np.linalg.norm(g[part])) for part in layers.values()] for way, g in gradients.items()},
        cosines={a: {b: _cosine(gradients[a], gradients[b]) for b in WAYS} for a in WAYS},
        changes={way: [change for change, _ in pairs] for way, pairs in moves.items()},
        turned={way: [turned for _, turned in pairs] for way, pairs in moves.items()},
    )


def _loss(model: MLPAutoencoder, x: Array) -> float:
    return float(backend.to_host(model.reconstruction_loss(x)))


def _bits(model: MLPAutoencoder, x: Array) -> Array:
    """Bool (N, F), with the batch's own statistics, as in training."""
    return model.bottleneck.latent(model.encoder_output(x, training=True)) > 0.5


def _encoder_arrays(model: MLPAutoencoder, kind: str) -> list[Array]:
    return [getattr(layer, kind)[name] for layer in model.encoder.layers for name in layer.params]


def _encoder_layers(model: MLPAutoencoder) -> dict[str, slice]:
    """{name: slice of the encoder's weights}."""
    found, start = {}, 0
    for layer in model.encoder.layers:
        size = sum(array.size for array in layer.params.values())
        if size:
            shape = " x ".join(map(str, layer.params["w"].shape)) if "w" in layer.params else ""
            found[f"{type(layer).__name__} {shape}".strip()] = slice(start, start + size)
        start += size
    return found


def _downhill(model: MLPAutoencoder, x: Array, gradient: np.ndarray, loss: float, bits: Array) -> list[tuple[float, float]]:
    """(change of the loss, share of the bits flipped) at each of STEPS down a gradient."""
    weights = _encoder_arrays(model, "params")
    starts = [array.copy() for array in weights]
    norm = np.sqrt(sum(float(backend.to_host(backend.xp.vdot(array, array))) for array in starts))
    parts = np.split(gradient * model.dtype.type(norm / np.linalg.norm(gradient)), np.cumsum([a.size for a in weights])[:-1])
    directions = [backend.to_device(part.reshape(array.shape)) for part, array in zip(parts, weights, strict=True)]
    found = []
    for step in STEPS:
        for array, start, direction in zip(weights, starts, directions, strict=True):
            array[...] = start - step * direction
        found.append((_loss(model, x) - loss, float(backend.to_host((_bits(model, x) != bits).mean()))))
    for array, start in zip(weights, starts, strict=True):
        array[...] = start
    return found


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else None
