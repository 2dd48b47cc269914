"""Four bottlenecks that the report did not try. All store the bits 1[a > 1/2]; they differ in training.

    kind        code in training                 added to the loss       the gradient is that of
    Clipped     b = 1[a > 1/2]                   nothing                 a surrogate, clip(a)
    Stochastic  b = 1 with probability a         nothing                 the mean of b
    Annealed    a = sigma(s h), s from 1 up      nothing                 the forward pass itself
    Entropy     b = 1[a > 1/2]                   weight * entropy_loss   a surrogate, a itself, plus that term
"""
from ..annotations import Array, Scalar
from ..losses import entropy_loss, entropy_loss_backward
from ..ops.binarize import binarize, straight_through
from .base import Bottleneck


class Clipped(Bottleneck):
    """The clipped straight-through estimator alone: da = db where |a - 1/2| <= window, else 0.

    It is Commit with a window and without the commitment loss. With the linear activation and window 1/2 it is the
    estimator of binarized networks (Courbariaux, Hubara et al. 2016, arXiv:1602.02830, equation 4), for x = 2a - 1.
    """

    kind = "clipped"
    activations = ("sigmoid", "linear")

    def __init__(self, weight: float | None = None, activation: str = "sigmoid", signed: bool = False, noise: float = 0.0,
                 window: float = 0.4):
        super().__init__(weight, activation, signed, noise)
        if not window > 0:
            raise ValueError(f"window={window!r} must be a number above 0")
        self.window = window

    def quantize(self, a: Array) -> Array:
        return binarize(self.with_noise(a))

    def gradient(self, db: Array) -> Array:
        return straight_through(db, self.a, self.window)


class Stochastic(Bottleneck):
    """In training, each bit is sampled, 1 with probability a: b = 1[u < a], u uniform in [0, 1); da = db.

    Toderici et al. 2016, arXiv:1511.06085. E b = a, so da = db is the gradient of the mean, unbiased for a loss linear in
    the code. The variance a (1 - a) is noise that vanishes only near 0 and 1, so no added loss is needed.
    """

    kind = "stochastic"
    activations = ("sigmoid",)
    draws = True

    def quantize(self, a: Array) -> Array:
        a = self.with_noise(a)
        return (self.draw(self.random.random, a) < a).astype(a.dtype)


class Annealed(Bottleneck):
    """Train as Naive with a sigmoid that grows steeper, a = sigma(s h), s = 1 + (slope - 1) progress; dh = da s a (1 - a).

    This is the derivative of the forward pass. For s = 1 it is Naive; for s -> infinity a becomes the stored bit, and the
    gradient vanishes wherever h is not 0. Slope annealing is from Chung, Ahn and Bengio 2017, arXiv:1609.01704; in
    the forward pass too, it is HashNet's continuation (Cao et al. 2017, arXiv:1702.00758).

    Args:
        slope: s at the end of training, 1 or more; also its value if set_progress is never called.
    """

    kind = "annealed"
    activations = ("sigmoid",)

    def __init__(self, weight: float | None = None, activation: str = "sigmoid", signed: bool = False, noise: float = 0.0,
                 slope: float = 10.0):
        super().__init__(weight, activation, signed, noise)
        if not 1 <= slope < float("inf"):
            raise ValueError(f"slope={slope!r} must be a finite number, 1 or more")
        self.slope = self.current_slope = float(slope)

    def set_progress(self, progress: float) -> None:
        self.current_slope = 1 + (self.slope - 1) * progress

    def latent(self, h: Array) -> Array:
        return super().latent(self.current_slope * h)

    def backward(self, dcode: Array) -> Array:
        return self.current_slope * super().backward(dcode)


class Entropy(Bottleneck):
    """Threshold in training with the straight-through estimator, and the entropy loss, which drives each bit to be
    decided for every example and on for half of them. Lookup-free quantization (Yu et al. 2024, arXiv:2310.05737) trains
    bits this way, with a commitment loss as well. Here the entropy loss replaces that, since half of it does the same work.
    """

    kind = "entropy"
    loss_name = "entropy"
    default_weight = 0.1
    activations = ("sigmoid",)

    def quantize(self, a: Array) -> Array:
        return binarize(self.with_noise(a))

    def loss(self) -> Scalar:
        return entropy_loss(self.a)

    def gradient(self, db: Array) -> Array:
        return straight_through(db) + self.weight * entropy_loss_backward(self.a)
