"""Batch normalization of arrays (M, C), written to preallocated arrays; see ops/norm.py."""
from .. import backend


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    """xhat = (x - mean) rstd, out = gamma xhat + beta, with the mean and the (biased) variance of this batch.

    Args:
        x: (M, C).
        gamma, beta: (C,).
        eps: positive.
        mean, variance, rstd: (C,), written; rstd = 1 / sqrt(variance + eps).
        xhat, out: (M, C), written.
    """
    xp = backend.xp
    xp.mean(x, axis=0, out=mean)
    xp.subtract(x, mean, out=out)
    xp.multiply(out, out, out=xhat)
    xp.mean(xhat, axis=0, out=variance)
    xp.add(variance, eps, out=rstd)
    xp.sqrt(rstd, out=rstd)
    xp.divide(1, rstd, out=rstd)
    xp.multiply(out, rstd, out=xhat)
    xp.multiply(xhat, gamma, out=out)
    return xp.add(out, beta, out=out)


def batch_norm_inference(x, gamma, beta, eps, running_mean, running_variance, scale, out):
    """Normalize with the running statistics. Shapes as in batch_norm_forward; scale (C,) is scratch space."""
    xp = backend.xp
    xp.add(running_variance, eps, out=scale)
    xp.sqrt(scale, out=scale)
    xp.subtract(x, running_mean, out=out)
    xp.divide(out, scale, out=out)
    xp.multiply(out, gamma, out=out)
    return xp.add(out, beta, out=out)


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    """dgamma = sum(dout xhat), dbeta = sum(dout), dx = gamma rstd (dout - dbeta / M - xhat dgamma / M).

    Args:
        dout, xhat, dx: (M, C). dx must not share memory with the others.
        gamma, rstd, dgamma, dbeta: (C,).
    """
    xp = backend.xp
    xp.multiply(dout, xhat, out=dx)
    xp.sum(dx, axis=0, out=dgamma)
    xp.sum(dout, axis=0, out=dbeta)
    xp.multiply(xhat, dgamma, out=dx)
    xp.add(dx, dbeta, out=dx)
    xp.multiply(dx, -1 / len(dout), out=dx)
    xp.add(dx, dout, out=dx)
    xp.multiply(dx, rstd, out=dx)
    return xp.multiply(dx, gamma, out=dx)


def update_running(running, batch, momentum, scratch):
    """running = momentum * running + (1 - momentum) * batch, in place. All (C,)."""
    xp = backend.xp
    xp.multiply(running, momentum, out=running)
    xp.multiply(batch, 1 - momentum, out=scratch)
    return xp.add(running, scratch, out=running)
