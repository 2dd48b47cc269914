"""The fully connected (affine) map. Source: Goodfellow, Bengio, Courville, Deep Learning, section 6.5.6."""
from .. import backend
from ..backend import gemm


def dense_forward(x, w, b, out):
    """out = x w + b.

    x (N, D), w (D, M), b (M,), out (N, M), all of one floating dtype. Returns out.
    """
    gemm(x, w, out)
    return backend.xp.add(out, b, out=out)


def dense_backward(dout, x, w, dx, dw, db):
    """The three derivatives of dense_forward.

    With out_nm = sum_d x_nd w_dm + b_m and L the loss, the chain rule gives

        dL/dx_nd = sum_m dout_nm w_dm    dx = dout w^T
        dL/dw_dm = sum_n x_nd dout_nm    dw = x^T dout
        dL/db_m  = sum_n dout_nm         db = column sums of dout

    dout (N, M), x (N, D), w (D, M); dx (N, D), or None where nobody needs it (a first layer); dw (D, M), db (M,).
    """
    gemm(x.T, dout, dw)
    backend.xp.sum(dout, axis=0, out=db)
    if dx is not None:
        gemm(dout, w.T, dx)
    return dx
