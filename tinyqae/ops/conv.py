"""Two-dimensional convolution, NHWC, stride 1, 'same' padding. As usual in deep learning, the kernel is not flipped:

    y[n, i, j, f] = b[f] + sum over u, v, c of  pad(x)[n, i + u, j + v, c] w[u, v, c, f]

where pad(x) is x between (KH - 1)/2 rows and (KW - 1)/2 columns of zeros on each side, so that y has the height and
width of x. For one tap (u, v) of the kernel this is a dense layer, C -> F, on every pixel of the image shifted by (u, v): a
convolution is a sum of KH KW matmuls. Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.
"""
from collections.abc import Iterator
from itertools import product

from .. import backend
from ..annotations import Array, Shape


def conv2d_forward(x: Array, w: Array, b: Array | None = None) -> Array:
    """x (N, H, W, C), w (KH, KW, C, F) with KH and KW odd, b (F,) or None -> y (N, H, W, F)."""
    y: Array = 0  # type: ignore[assignment]
    for (u, v), shifted in shifts(x, w.shape):
        y += shifted @ w[u, v]
    return y if b is None else y + b


def conv2d_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """(dx, dw, db) for conv2d_forward with the same x and w. dy (N, H, W, F).

    Each tap is a dense layer, so dw[u, v] = sum over image rows of shifted(x)^T dy, and db sums dy over n, i, j. A pixel
    x[k, l] contributes to the outputs y[k + p - u, l + q - v] with weight w[u, v], where (p, q) is the padding, so

        dx[n, k, l, c] = sum over u, v, f of  dy[n, k + p - u, l + q - v, f] w[u, v, c, f]

    which is itself a convolution of dy, with the kernel rotated by 180 degrees and its channel and filter axes swapped.
    """
    dw = backend.xp.empty_like(w)
    for (u, v), shifted in shifts(x, w.shape):
        dw[u, v] = (shifted.transpose(0, 1, 3, 2) @ dy).sum(axis=(0, 1))
    return conv2d_forward(dy, w[::-1, ::-1].transpose(0, 1, 3, 2)), dw, dy.sum(axis=(0, 1, 2))


def shifts(x: Array, w_shape: Shape) -> Iterator[tuple[Shape, Array]]:
    """Yield ((u, v), pad(x) shifted by (u, v), of shape (N, H, W, C)) for each tap (u, v) of the kernel."""
    (height, width), (kh, kw) = x.shape[1:3], w_shape[:2]
    padded = backend.xp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    for u, v in product(range(kh), range(kw)):
        yield (u, v), padded[:, u:u + height, v:v + width]
