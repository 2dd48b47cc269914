"""Batch normalization over every axis but the last. Source: Ioffe and Szegedy 2015, arXiv:1502.03167.

With mean mu and (biased) variance v of a channel over the batch,

    xhat = (x - mu) / sqrt(v + eps)        out = gamma xhat + beta

At inference mu and v are the running statistics of training: running = momentum running + (1 - momentum) batch, where
the running variance takes the unbiased estimate v M / (M - 1) of the M values a channel has (PyTorch does so as well).
"""
from .. import backend


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    """Normalize with the statistics of this batch, and leave them in `mean` and `variance`.

    x, xhat, out (M, C); gamma, beta (C,), or None for no affine map after it; eps > 0;
    mean, variance, rstd = 1 / sqrt(variance + eps): (C,), written. xhat may be out when there is no affine map.
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
    return _affine(xhat, gamma, beta, out)


def batch_norm_inference(x, gamma, beta, eps, running_mean, running_variance, scale, out):
    """Normalize with the running statistics. Shapes as above; scale (C,) is scratch space."""
    xp = backend.xp
    xp.add(running_variance, eps, out=scale)
    xp.sqrt(scale, out=scale)
    xp.subtract(x, running_mean, out=out)
    xp.divide(out, scale, out=out)
    return _affine(out, gamma, beta, out)


def _affine(xhat, gamma, beta, out):
    xp = backend.xp
    if gamma is None:
        if out is not xhat:
            xp.copyto(out, xhat)
        return out
    xp.multiply(xhat, gamma, out=out)
    return xp.add(out, beta, out=out)


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    """The derivatives of batch_norm_forward, through the batch statistics as well.

    mu and v depend on every x of the channel. With g = dout * gamma, carrying d mu/dx = 1/M and
    d v/dx = 2 (x - mu)/M through the chain rule and collecting terms,

        dx     = rstd * (g - mean(g) - xhat * mean(g * xhat))
        dgamma = sum(dout * xhat)        dbeta = sum(dout)

    The means and sums run over the M rows. dout, xhat, dx (M, C); dgamma, dbeta (C,) are always written (they carry
    the two sums), also when gamma is None. dx must not share memory with dout or xhat.
    """
    xp = backend.xp
    rows = dout.shape[0]
    xp.multiply(dout, xhat, out=dx)
    xp.sum(dx, axis=0, out=dgamma)
    xp.sum(dout, axis=0, out=dbeta)
    xp.multiply(xhat, dgamma, out=dx)
    xp.add(dx, dbeta, out=dx)
    xp.multiply(dx, -1 / rows, out=dx)
    xp.add(dx, dout, out=dx)
    xp.multiply(dx, rstd, out=dx)
    if gamma is not None:
        xp.multiply(dx, gamma, out=dx)
    return dx


def update_running(running, batch, momentum, scratch):
    """running = momentum * running + (1 - momentum) * batch, in place. All (C,)."""
    xp = backend.xp
    xp.multiply(running, momentum, out=running)
    xp.multiply(batch, 1 - momentum, out=scratch)
    return xp.add(running, scratch, out=running)
