"""The threshold b = 1[a > 1/2], and the gradient that training uses in its place.

The threshold is flat: db/da = 0 wherever it exists, so backpropagation through it would teach the encoder nothing. The
straight-through estimator (STE; Hinton's lectures of 2012; Bengio, Leonard and Courville 2013, arXiv:1308.3432) uses the
gradient of another function, a + sg[b - a] with the stop-gradient sg: its value is b, its derivative with respect to a
is 1. In PyTorch: `b = a + ((a > 0.5).float() - a).detach()`. The clipped form uses clip(a, 1/2 - window, 1/2 + window)
as the surrogate (Courbariaux et al. 2016, arXiv:1602.02830): values far from the threshold get no gradient.

The STE is biased, and no gradient check can validate it: the true derivative is 0. What the encoder needs to know about a
bit is the flip difference D = L(b=1) - L(b=0), everything else held fixed. The STE passes on the slope dL/db at the
current bit, and helps where the two have the same sign. Where L is convex in the bit, as with cross-entropy behind a linear
decoder,

    dL/db at b=0  <=  D  <=  dL/db at b=1

so at b=1 the STE overstates the case for 0, and at b=0 the case for 1: it always leans towards flipping the bit, and bits
oscillate around the threshold. The commitment loss (`losses.commitment_loss`) is the counterweight.
"""
from .. import backend
from ..annotations import Array


def binarize(a: Array) -> Array:
    """b = 1[a > 1/2]: 1 where a > 1/2, else 0 (at exactly 1/2 as well), in the dtype of a. Any shape."""
    return (a > 0.5).astype(a.dtype)


def straight_through(db: Array, a: Array | None = None, window: float | None = None) -> Array:
    """The surrogate's gradient: da = db, of any shape; with a window, db where |a - 1/2| <= window and 0 elsewhere."""
    return db if a is None or window is None else db * (backend.xp.abs(a - 0.5) <= window)
