"""The small operations, written to preallocated arrays: dense layer, embedding, activations, threshold and straight-through
estimator, batch norm of arrays (M, C), max-pooling at inference. The functions of the same names in tinyqae/ops have the
formulas. The backward of an activation takes the forward's output, in terms of which the derivative is simpler.
"""

from .. import backend
from ..backend import gemm


def dense_forward(x, w, b, out):
    """out = x w + b. x (N, D), w (D, M), b (M,), out (N, M)."""
    gemm(x, w, out)
    return backend.xp.add(out, b, out=out)


def dense_backward(dout, x, w, dx, dw, db):
    """dx = dout w^T, dw = x^T dout, db = sum of dout over the rows. dx None: not needed (a first layer). Returns dx."""
    gemm(x.T, dout, dw)
    backend.xp.sum(dout, axis=0, out=db)
    if dx is not None:
        gemm(dout, w.T, dx)
    return dx


def require_tokens(tokens, vocabulary):
    """ValueError unless tokens are integers in [0, vocabulary). On a GPU only dtypes are checked, which avoids a sync."""
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens have dtype {tokens.dtype}; they must be integers")
    if backend.name == "numpy" and tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        raise ValueError(
            f"tokens from {tokens.min()} to {tokens.max()} are out of range for a vocabulary of {vocabulary}; "
            f"they must be 0 to {vocabulary - 1}"
        )


def embedding_forward(table, tokens, out):
    """out = table[tokens]. table (V, F), tokens (*S), out (*S, F). ValueError for tokens outside [0, V)."""
    require_tokens(tokens, len(table))
    return backend.gather(table, tokens, out)


class OneHotScratch:
    """Scratch space of embedding_backward for up to `tokens` tokens."""

    def __init__(self, vocabulary, tokens, dtype):
        xp = backend.xp
        self.onehot = xp.empty(vocabulary * tokens, dtype)
        self.positions = xp.arange(tokens)
        self.index = xp.empty_like(self.positions)
        self.one = xp.ones(1, dtype)


def embedding_backward(dout, tokens, scratch, dtable):
    """dtable = onehot(tokens)^T dout. dout (*S, F), tokens (*S), scratch a OneHotScratch, dtable (V, F)."""
    xp, m = backend.xp, tokens.size
    require_tokens(tokens, len(dtable))
    onehot, index = scratch.onehot[: len(dtable) * m], scratch.index[:m]
    # Token v at position m sets row v, column m. A Python scalar 1 would be copied to the GPU every time.
    xp.multiply(tokens.reshape(-1), m, out=index, dtype=index.dtype)
    index += scratch.positions[:m]
    onehot.fill(0)
    xp.put(onehot, index, scratch.one)
    return gemm(onehot.reshape(-1, m), dout.reshape(m, -1), dtable)


def relu_forward(x, out):
    """out = max(x, 0)."""
    return backend.xp.maximum(x, 0, out=out)


def relu_backward(dout, out, dx):
    """dx = dout where out > 0, else 0. At x = 0 the derivative is taken as 0."""
    return backend.xp.multiply(backend.xp.greater(out, 0, out=dx), dout, out=dx)


def sigmoid_forward(x, out):
    """out = 1 / (1 + e^-x), computed as (1 + tanh(x/2)) / 2, which is equal and never overflows."""
    backend.xp.tanh(backend.xp.multiply(x, 0.5, out=out), out=out)
    out *= 0.5
    out += 0.5
    return out


def sigmoid_backward(dout, out, dx):
    """dx = dout * out * (1 - out). dx must not share memory with dout."""
    backend.xp.subtract(1, out, out=dx)
    dx *= out
    dx *= dout
    return dx


def binarize_forward(a, out):
    """out = 1[a > 1/2], in the dtype of out. Any shape."""
    return backend.xp.greater(a, 0.5, out=out)


def straight_through_backward(dout, a, window, da):
    """da = dout, or, with a window, dout where |a - 1/2| <= window, else 0; da must not then share memory with dout."""
    xp = backend.xp
    if window is None:
        xp.copyto(da, dout)
        return da
    xp.absolute(xp.subtract(a, 0.5, out=da), out=da)
    return xp.multiply(xp.less_equal(da, window, out=da), dout, out=da)


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    """xhat = (x - mean) rstd, out = gamma xhat + beta, with the mean and the (biased) variance of this batch and
    rstd = 1 / sqrt(variance + eps). The arguments from mean on are written.
    """
    xp = backend.xp
    xp.mean(x, axis=0, out=mean)
    centred = xp.subtract(x, mean, out=out)
    xp.mean(xp.multiply(centred, centred, out=xhat), axis=0, out=variance)
    reciprocal_root(variance, eps, rstd)
    xp.multiply(centred, rstd, out=xhat)
    xp.multiply(xhat, gamma, out=out)
    return xp.add(out, beta, out=out)


def batch_norm_inference(x, gamma, beta, eps, running_mean, running_variance, scale, out):
    """Normalize with the running statistics. Shapes as in batch_norm_forward; scale (C,) is scratch space."""
    xp = backend.xp
    xp.sqrt(xp.add(running_variance, eps, out=scale), out=scale)
    xp.subtract(x, running_mean, out=out)
    out /= scale
    out *= gamma
    out += beta
    return out


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    """dgamma = sum(dout xhat), dbeta = sum(dout), dx = gamma rstd (dout - dbeta / M - xhat dgamma / M). dx must not share
    memory with the other arrays (M, C).
    """
    xp = backend.xp
    xp.sum(xp.multiply(dout, xhat, out=dx), axis=0, out=dgamma)
    xp.sum(dout, axis=0, out=dbeta)
    xp.multiply(xhat, dgamma, out=dx)
    dx += dbeta
    dx *= -1 / len(dout)
    dx += dout
    dx *= rstd
    dx *= gamma
    return dx


def reciprocal_root(variance, eps, out):
    """out = 1 / sqrt(variance + eps)."""
    xp = backend.xp
    xp.sqrt(xp.add(variance, eps, out=out), out=out)
    return xp.divide(1, out, out=out)


def update_running(running, batch, momentum, scratch):
    """running = momentum * running + (1 - momentum) * batch, in place."""
    running *= momentum
    running += backend.xp.multiply(batch, 1 - momentum, out=scratch)
    return running


def update_running_statistics(state, mean, variance, count, momentum, scratch):
    """Update state["mean"] and state["variance"] from the statistics of `count` values. variance becomes unbiased."""
    variance *= count / (count - 1)
    update_running(state["mean"], mean, momentum, scratch)
    update_running(state["variance"], variance, momentum, scratch)


def max_pool_forward(x, out):
    """The maximum of every 2x2 window; NaN if the window has one. x (N, 2H, 2W, C), out (N, H, W, C)."""
    return window_extrema(backend.xp.maximum, x, out)


def window_extrema(extremum, x, out):
    """max_pool_forward with another function, such as xp.minimum, in place of the maximum."""
    first, *others = window_views(x)
    backend.xp.copyto(out, first)
    for view in others:
        extremum(out, view, out=out)
    return out


def window_views(x):
    """The four views (N, H, W, C) of x (N, 2H, 2W, C), one per position in a 2x2 window, in row-major order."""
    return [x[:, u::2, v::2] for u in range(2) for v in range(2)]
