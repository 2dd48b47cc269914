"""The embedding, written to preallocated arrays; see ops/embedding.py.

The gradient of the table is computed as the matmul dw = onehot^T dout, which on the CPU is faster than a scatter-add for
vocabularies of up to a few hundred tokens. Its scratch space is V by M values for M tokens.
"""
from .. import backend
from ..backend import gemm


def require_tokens(tokens, vocabulary):
    """ValueError unless tokens are integers in [0, vocabulary). On a GPU, where it would synchronize, only the dtype is
    checked.
    """
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens have dtype {tokens.dtype}; they must be integers")
    if backend.name == "numpy" and tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        raise ValueError(f"tokens from {tokens.min()} to {tokens.max()} are out of range for a vocabulary of {vocabulary}; "
                         f"they must be 0 to {vocabulary - 1}")


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
    onehot, index = scratch.onehot[:len(dtable) * m], scratch.index[:m]
    # Token v at position m sets row v, column m. A Python scalar 1 would be copied to the GPU every time.
    xp.multiply(tokens.reshape(-1), m, out=index, dtype=index.dtype)
    xp.add(index, scratch.positions[:m], out=index)
    onehot.fill(0)
    xp.put(onehot, index, scratch.one)
    return gemm(onehot.reshape(-1, m), dout.reshape(m, -1), dtable)
