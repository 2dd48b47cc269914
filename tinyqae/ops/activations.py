"""Elementwise activations, and softmax over the last axis.

Each backward function takes the forward output y, since the derivative is simplest in terms of y.
Source: Goodfellow, Bengio and Courville, Deep Learning, sections 3.10 and 6.3.
"""
from .. import backend
from ..annotations import Array


def relu_forward(x: Array) -> Array:
    """y = max(x, 0), any shape."""
    return backend.xp.maximum(x, 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where the unit was active (y > 0), else 0. At the kink x = 0 the derivative is taken as 0."""
    return dy * (y > 0)


def sigmoid_forward(x: Array) -> Array:
    """y = sigma(x) = 1 / (1 + e^-x), computed as (1 + tanh(x/2)) / 2: the same function, without overflow."""
    return 0.5 * backend.xp.tanh(0.5 * x) + 0.5


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy sigma'(x) with sigma' = sigma (1 - sigma), since d/dx (1 + e^-x)^-1 = e^-x (1 + e^-x)^-2."""
    return dy * y * (1 - y)


def tanh_forward(x: Array) -> Array:
    """y = tanh(x)."""
    return backend.xp.tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy (1 - tanh(x)^2)."""
    return dy * (1 - y * y)


def softmax_forward(x: Array) -> Array:
    """y_v = e^(x_v) / sum_u e^(x_u), x (..., V). Subtracting the maximum leaves y unchanged and keeps every e^x <= 1."""
    e = backend.xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
