"""Loss functions: for each, its value (a scalar) and its gradient, side by side.

Reconstruction losses take the decoder's logits l, the output before the final sigmoid p = sigma(l) or softmax, where the
gradient is simplest. Means are over all elements. Source: Bishop, Pattern Recognition and Machine Learning, section 4.3.
"""
import numpy as np

from . import backend
from .annotations import Array, Function, Scalar
from .ops.activations import sigmoid_forward, softmax_forward

__all__ = ["RECONSTRUCTION", "Loss", "bce_with_logits", "bce_with_logits_backward", "commitment_loss",
           "commitment_loss_backward", "cross_entropy_with_logits", "cross_entropy_with_logits_backward", "entropy_loss",
           "entropy_loss_backward", "fence_loss", "fence_loss_backward", "log_softmax", "logit", "squared_error_with_logits",
           "squared_error_with_logits_backward"]


def bce_with_logits(l: Array, t: Array) -> Scalar:
    """Binary cross-entropy: the mean of -t log p - (1 - t) log(1 - p), p = sigma(l). l, t (N, ...), t in [0, 1].

    With log p = l - softplus(l), log(1 - p) = -softplus(l) and softplus(l) = max(l, 0) + log(1 + e^-|l|), an element is
    max(l, 0) - t l + log(1 + e^-|l|). As l (1[l > 0] - t), the first two do not cancel: each factor is exact at t = 0 and 1.
    """
    return (l * ((l > 0) - t) + backend.xp.log1p(backend.xp.exp(-backend.xp.abs(l)))).mean()


def bce_with_logits_backward(l: Array, t: Array) -> Array:
    """dl = (sigma(l) - t) / size, since d softplus(l) / dl = sigma(l)."""
    return (sigmoid_forward(l) - t) / l.size


def squared_error_with_logits(l: Array, t: Array) -> Scalar:
    """The mean of (p - t)^2, p = sigma(l). l, t (N, ...)."""
    return ((sigmoid_forward(l) - t) ** 2).mean()


def squared_error_with_logits_backward(l: Array, t: Array) -> Array:
    """dl = 2 (p - t) p (1 - p) / size."""
    p = sigmoid_forward(l)
    return 2 * (p - t) * p * (1 - p) / l.size


def log_softmax(l: Array) -> Array:
    """log p_v = l_v - log sum_u e^l_u along the last axis; the maximum is subtracted first, so that no e^l overflows."""
    shifted = l - l.max(axis=-1, keepdims=True)
    return shifted - backend.xp.log(backend.xp.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy_with_logits(l: Array, labels: Array, weights: Array) -> Scalar:
    """The sum over rows of -weight log p[label], p = softmax(l). l (M, V); labels (M,), integers in [0, V); weights (M,)."""
    return -(weights * log_softmax(l)[backend.xp.arange(len(l)), labels]).sum()


def cross_entropy_with_logits_backward(l: Array, labels: Array, weights: Array) -> Array:
    """dl = weight (p - onehot(label)), row by row."""
    onehot = labels[:, None] == backend.xp.arange(l.shape[1])
    return weights[:, None] * (softmax_forward(l) - onehot)


def fence_loss(z: Array) -> Scalar:
    """The report's section 2.3: the mean of min(z, 1 - z), large for codes that "sit on the fence" at 1/2. z in [0, 1]."""
    return backend.xp.minimum(z, 1 - z).mean()


def fence_loss_backward(z: Array) -> Array:
    """dz = +1/size where z < 1/2, -1/size where z > 1/2, and 0 at the kink z = 1/2."""
    return backend.xp.sign(0.5 - z) / z.size


def commitment_loss(a: Array, b: Array) -> Scalar:
    """The mean of (sg[b] - a)^2: penalizes the distance of the values a before the threshold to the bits b = 1[a > 1/2].

    It pulls each a towards its current bit. This is the counterweight to the straight-through estimator, which leans
    towards flipping every bit (ops/binarize.py). With too small a weight, bits oscillate around the threshold; with too
    large a weight, wrong bits are as stable as right ones and learning freezes.

    The report calls it commit loss (section 2.4). It is VQ-VAE's commitment term (van den Oord, Vinyals and Kavukcuoglu
    2017, arXiv:1711.00937) for the fixed codebook {0, 1}, for which no codebook loss is needed.
    """
    return ((b - a) ** 2).mean()


def commitment_loss_backward(a: Array, b: Array) -> Array:
    """da = 2 (a - b) / size. The stop-gradient keeps b constant."""
    return 2 * (a - b) / a.size


def entropy_loss(a: Array) -> Scalar:
    """How undecided bits are, minus how evenly they are used: the mean over n and k of H(a_nk), minus the mean over k of
    H(m_k), with m_k = (1/N) sum_n a_nk and H(p) = -p log p - (1 - p) log(1 - p) = -log(1 - p) - p logit(p), in nats.

    a (N, K) holds the probability that bit k of example n is on. H is concave, so the loss is at most 0 (Jensen): 0 where a
    bit has one value for all examples, -log 2 where every bit is decided and on for half the batch. Lookup-free quantization
    (Yu et al. 2024, arXiv:2310.05737) has the entropy of whole codes as the second term; K times ours is an upper bound.
    """
    means = [(-backend.xp.log(1 - p) - p * logit(p)).mean() for p in map(_inside, (a, a.mean(axis=0)))]
    return means[0] - means[1]


def entropy_loss_backward(a: Array) -> Array:
    """da_nk = (logit(m_k) - logit(a_nk)) / (N K), from dH/dp = -logit(p) and dm_k/da_nk = 1/N."""
    return (logit(_inside(a.mean(axis=0))) - logit(_inside(a))) / a.size


def logit(p: Array) -> Array:
    """log(p / (1 - p))."""
    return backend.xp.log(p / (1 - p))


def _inside(p: Array) -> Array:
    """p clipped to [eps, 1 - eps], with the dtype's eps, so that logarithms are finite."""
    eps = float(np.finfo(p.dtype).eps)
    return backend.xp.clip(p, eps, 1 - eps)


class Loss:
    """A loss and its gradient as an object with the contract of a layer: value = forward(l, ...), dl = backward()."""

    def __init__(self, function: Function, gradient: Function):
        self.function, self.gradient = function, gradient

    def forward(self, l: Array, *targets: Array) -> Scalar:
        self.arguments = (l, *targets)
        return self.function(*self.arguments)

    def backward(self) -> Array:
        return self.gradient(*self.arguments)


RECONSTRUCTION = {"bce": (bce_with_logits, bce_with_logits_backward),
                  "mse": (squared_error_with_logits, squared_error_with_logits_backward)}
