"""The threshold at 1/2, and the gradient that training uses in its place.

The threshold b = 1[a > 1/2] is flat almost everywhere: its derivative is 0 wherever it exists, so plain
back-propagation would teach the encoder nothing. The straight-through estimator (Hinton's 2012 lectures; Bengio,
Leonard and Courville 2013, arXiv:1308.3432) sends the gradient through as if the op were another one:

    identity          b ~ a                        da = db
    clipped identity  b ~ clip(a, 1/2 -+ window)   da = db where |a - 1/2| <= window, else 0

This is *not* the derivative of what the forward pass computes, but of that surrogate. It is biased, and it works since
for a bit near its threshold the surrogate has the right sign. The clipped form (Courbariaux et al. 2016,
arXiv:1602.02830) stops pushing values that are far beyond the threshold already.
"""
from .. import backend


def binarize_forward(a, out):
    """out = 1 where a > 1/2, else 0, as floating numbers. A value of exactly 1/2 gives 0. a and out: any one shape."""
    return backend.xp.greater(a, 0.5, out=out)


def straight_through_backward(dout, a, window, da):
    """The surrogate's gradient: da = dout, or with a window, dout where |a - 1/2| <= window and 0 elsewhere.

    dout, a, da: any one shape; window: None for the identity, or a positive number. da must not share memory with
    dout when there is a window.
    """
    xp = backend.xp
    if window is None:
        xp.copyto(da, dout)
        return da
    xp.subtract(a, 0.5, out=da)
    xp.absolute(da, out=da)
    xp.less_equal(da, window, out=da)
    return xp.multiply(da, dout, out=da)
