"""Batch normalization over every axis but the last. Source: Ioffe and Szegedy 2015, arXiv:1502.03167.

With mean mu and (biased) variance v of a channel over its M values in the batch,

    xhat = (x - mu) / sqrt(v + eps)        y = gamma xhat + beta
"""
from .. import backend
from ..annotations import Array


def batch_norm_forward(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """(y, xhat, mean, variance), normalized with the statistics of this batch. x, y, xhat (..., C); the rest (C,)."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes)
    centred = x - mean
    variance = (centred * centred).mean(axis=axes)
    xhat = centred / backend.xp.sqrt(variance + eps)
    return gamma * xhat + beta, xhat, mean, variance


def batch_norm_backward(dy: Array, xhat: Array, gamma: Array, variance: Array, eps: float) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta) for batch_norm_forward, including the gradient through the batch statistics.

    mu and v depend on every x of the channel. With g = dy gamma, dmu/dx = 1/M, dv/dx = 2 (x - mu)/M and the chain rule,

        dx     = (g - mean(g) - xhat mean(g xhat)) / sqrt(v + eps)
        dgamma = sum(dy xhat)        dbeta = sum(dy)
    """
    axes = tuple(range(dy.ndim - 1))
    dgamma, dbeta = (dy * xhat).sum(axis=axes), dy.sum(axis=axes)
    m = dy.size / dgamma.size
    return gamma * (dy - dbeta / m - xhat * (dgamma / m)) / backend.xp.sqrt(variance + eps), dgamma, dbeta


def batch_norm_inference(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float) -> Array:
    """y with the running statistics of training: an affine map per channel."""
    return gamma * (x - mean) / backend.xp.sqrt(variance + eps) + beta
