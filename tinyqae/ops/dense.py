"""The fully connected (affine) map. Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.5.6."""
from ..annotations import Array


def dense_forward(x: Array, w: Array, b: Array) -> Array:
    """y = x w + b. x (N, D), w (D, M), b (M,) -> y (N, M)."""
    return x @ w + b


def dense_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """(dx, dw, db) for dense_forward. With y_nm = sum_d x_nd w_dm + b_m, the chain rule gives

        dL/dx_nd = sum_m dy_nm w_dm    dx = dy w^T
        dL/dw_dm = sum_n x_nd dy_nm    dw = x^T dy
        dL/db_m  = sum_n dy_nm         db = column sums of dy

    dy (N, M), x (N, D), w (D, M).
    """
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)
