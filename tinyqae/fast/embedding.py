"""Rows of a table chosen by integers: a linear map whose input is one-hot, without the zeros.

With e(s) the one-hot row of symbol s (1 at place s, 0 elsewhere) and a table w (V, F),

    e(s) w = sum over v of 1[v = s] w_v = w_s

so the product of M one-hot rows with w is w's rows at M places: no multiplication is left. Its derivative, the general
one of a product (dense_backward), becomes a sum over the places where a symbol stands:

    dw_v = sum over m of 1[v = s_m] dout_m,   that is   dw = onehot^T dout

This is computed as the product, which BLAS does faster on the CPU than a scatter-add for the alphabets of text (up to some
hundred symbols); its scratch space is V by M values.
"""
from .. import backend
from ..backend import gemm


def require_symbols(symbols, rows):
    """ValueError unless symbols are integers in [0, rows). On a GPU their values are not looked at: it would wait."""
    if symbols.dtype.kind not in "iu":
        raise ValueError(f"symbols have dtype {symbols.dtype}; they must be integers")
    if backend.name == "numpy" and symbols.size and not (symbols.min() >= 0 and symbols.max() < rows):
        raise ValueError(f"symbols from {symbols.min()} to {symbols.max()} do not fit a table of {rows} rows; "
                         f"they must be 0 to {rows - 1}")


def embedding_forward(table, symbols, out):
    """out[m] = table[symbols[m]].

    table (V, F), of a floating dtype; symbols of any shape S, integers in [0, V), else ValueError (intp and contiguous
    they are not copied); out (*S, F), of the table's dtype. Returns out.
    """
    require_symbols(symbols, len(table))
    return backend.gather(table, symbols, out)


class OneHotScratch:
    """What embedding_backward needs for up to `symbols` symbols out of `rows` different ones."""

    def __init__(self, rows, symbols, dtype):
        xp = backend.xp
        self.onehot = xp.empty(rows * symbols, dtype)
        self.places = xp.arange(symbols)
        self.index = xp.empty_like(self.places)
        self.one = xp.ones(1, dtype)


def embedding_backward(dout, symbols, scratch, dtable):
    """The derivative of embedding_forward with respect to its table, as the product onehot^T dout.

    dout (*S, F), symbols (*S), dtable (V, F); scratch: a OneHotScratch for V and at least as many symbols, of dtable's
    dtype. Returns dtable.
    """
    xp, m = backend.xp, symbols.size
    require_symbols(symbols, len(dtable))
    onehot, index = scratch.onehot[:len(dtable) * m], scratch.index[:m]
    # Symbol s at place m is the 1 in row s and column m. The plain 1 would have to be sent to a GPU each time.
    xp.multiply(symbols.reshape(-1), m, out=index, dtype=index.dtype)
    xp.add(index, scratch.places[:m], out=index)
    onehot.fill(0)
    xp.put(onehot, index, scratch.one)
    return gemm(onehot.reshape(-1, m), dout.reshape(m, -1), dtable)
