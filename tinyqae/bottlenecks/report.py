"""The report's four bottlenecks (its section 2). a = sigma(h) is the activation, K the size of the code.

    kind      code in training      stored            added to the loss             gradient of a
    Vanilla   a                     a, as float32     nothing                       dcode
    Naive     a                     b = 1[a > 1/2]    nothing                       dcode
    Fence     a                     b                 weight * mean min(a, 1 - a)   dcode + weight * (+-1/size)
    Commit    b                     b                 weight * mean (sg[b] - a)^2   db passed straight through
                                                                                    + weight * 2 (a - b)/size
"""
from ..annotations import Array, Scalar
from ..losses import commitment_loss, commitment_loss_backward, fence_loss, fence_loss_backward
from ..ops.binarize import binarize, straight_through
from .base import ACTIVATIONS, Bottleneck


class Vanilla(Bottleneck):
    """No quantization: the code is a, stored as 32-bit floats. Report, section 2.1; its LSTM uses "linear"."""

    kind = "vanilla"
    is_binary = False
    activations = ("sigmoid", "relu-sigmoid", "linear")

    @property
    def code_range(self) -> tuple[float, float]:  # type: ignore[override]
        return (-float("inf"), float("inf")) if self.activation == "linear" else (0, 1)

    def stored(self, a: Array) -> Array:
        return a


class Naive(Bottleneck):
    """Train as Vanilla, threshold afterwards. Report, section 2.2."""

    kind = "naive"


class Fence(Bottleneck):
    """Train as Vanilla with the fence loss, which pushes a away from 1/2; threshold afterwards. Section 2.3."""

    kind = "fence"
    loss_name = "fence"
    default_weight = 0.1

    def loss(self) -> Scalar:
        return fence_loss(self.a)

    def gradient(self, dcode: Array) -> Array:
        return dcode + self.weight * fence_loss_backward(self.a)


class Commit(Bottleneck):
    """Threshold in training too, with the straight-through estimator for its gradient, and a commitment loss that pulls a
    towards its bit. Report, section 2.4; after VQ-VAE (arXiv:1711.00937). For the reasons see ops/binarize.py, losses.py.

    Args:
        window: None for the identity STE; a number for the clipped STE: the gradient passes only where |a - 1/2| <= window.
    """

    kind = "commit"
    loss_name = "commit"
    default_weight = 0.1
    activations = tuple(ACTIVATIONS)

    def __init__(self, weight: float | None = None, activation: str = "sigmoid", signed: bool = False, noise: float = 0.0,
                 window: float | None = None):
        super().__init__(weight, activation, signed, noise)
        if window is not None and not window > 0:
            raise ValueError(f"window={window!r} must be None (identity gradient) or a number above 0")
        self.window = window

    def quantize(self, a: Array) -> Array:
        self.b = binarize(self.with_noise(a))
        return self.b

    def loss(self) -> Scalar:
        return commitment_loss(self.a, self.b)

    def gradient(self, db: Array) -> Array:
        da = straight_through(db, self.a, self.window)
        return da + self.weight * commitment_loss_backward(self.a, self.b)
