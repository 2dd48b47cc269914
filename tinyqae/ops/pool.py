"""Max-pooling over k x k windows with stride k, and nearest-neighbour upsampling by k; NHWC. Deep Learning, section 9.3."""
import numpy as np

from .. import backend
from ..annotations import Array


def max_pool_forward(x: Array, k: int = 2) -> Array:
    """y[n, i, j, c] = max over u, v in 0..k-1 of x[n, k i + u, k j + v, c]. x (N, H, W, C) -> y (N, H/k, W/k, C)."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // k, k, width // k, k, channels).max(axis=(2, 4))


def max_pool_backward(dy: Array, x: Array, y: Array, k: int = 2) -> Array:
    """dx for y = max_pool_forward(x): dy at the position of each window's maximum, 0 elsewhere.

    The maximum has derivative 1 with respect to the value that attains it and 0 with respect to the others. In a tie, all
    of dy goes to the first maximum in row-major order, as in PyTorch. dy, y (N, H/k, W/k, C), x (N, H, W, C).
    """
    dx = backend.xp.zeros_like(x)
    for u, v in np.ndindex(k, k):
        dx[:, u::k, v::k] = dy * (x[:, u::k, v::k] == y)
        dy = dy - dx[:, u::k, v::k]
    return dx


def upsample_forward(x: Array, k: int = 2) -> Array:
    """y[n, i, j, c] = x[n, i // k, j // k, c]: each pixel becomes a k x k block. x (N, H, W, C) -> y (N, kH, kW, C)."""
    return x.repeat(k, axis=1).repeat(k, axis=2)


def upsample_backward(dy: Array, k: int = 2) -> Array:
    """dx[n, i, j, c] = sum over u, v of dy[n, k i + u, k j + v, c], the adjoint of upsample_forward."""
    n, height, width, channels = dy.shape
    return dy.reshape(n, height // k, k, width // k, k, channels).sum(axis=(2, 4))
