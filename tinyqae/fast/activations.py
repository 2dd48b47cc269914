"""Elementwise activations, written to preallocated arrays of one shape and dtype; see ops/activations.py.

Each backward takes the forward's output rather than its input, since the derivative is simpler in terms of it.
"""
from .. import backend


def relu_forward(x, out):
    """out = max(x, 0)."""
    return backend.xp.maximum(x, 0, out=out)


def relu_backward(dout, out, dx):
    """dx = dout where out > 0, else 0. At x = 0 the derivative is taken as 0."""
    xp = backend.xp
    xp.greater(out, 0, out=dx)
    return xp.multiply(dx, dout, out=dx)


def sigmoid_forward(x, out):
    """out = 1 / (1 + e^-x), computed as (1 + tanh(x/2)) / 2, which is equal and never overflows."""
    xp = backend.xp
    xp.multiply(x, 0.5, out=out)
    xp.tanh(out, out=out)
    xp.multiply(out, 0.5, out=out)
    return xp.add(out, 0.5, out=out)


def sigmoid_backward(dout, out, dx):
    """dx = dout * out * (1 - out). dx must not share memory with dout."""
    xp = backend.xp
    xp.subtract(1, out, out=dx)
    xp.multiply(dx, out, out=dx)
    return xp.multiply(dx, dout, out=dx)
