"""The threshold and the straight-through estimator, written to preallocated arrays; see ops/binarize.py."""
from .. import backend


def binarize_forward(a, out):
    """out = 1[a > 1/2], in the dtype of out. At exactly 1/2 it is 0. Any shape."""
    return backend.xp.greater(a, 0.5, out=out)


def straight_through_backward(dout, a, window, da):
    """The gradient of the surrogate: da = dout, or, with a window, dout where |a - 1/2| <= window and 0 elsewhere.

    dout, a and da have one shape. With a window, da must not share memory with dout.
    """
    xp = backend.xp
    if window is None:
        xp.copyto(da, dout)
        return da
    xp.subtract(a, 0.5, out=da)
    xp.absolute(da, out=da)
    xp.less_equal(da, window, out=da)
    return xp.multiply(da, dout, out=da)
