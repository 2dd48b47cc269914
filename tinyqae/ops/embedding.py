"""Embedding lookup: rows of a table selected by integers, a matmul with a one-hot input that skips the zeros."""
from .. import backend
from ..annotations import Array


def embedding_forward(tokens: Array, w: Array) -> Array:
    """y = w[tokens], which is onehot(tokens) w. tokens: integers in [0, V), any shape S; w (V, M) -> y (*S, M)."""
    return w[tokens]


def embedding_backward(dy: Array, tokens: Array, vocabulary: int) -> Array:
    """dw = onehot(tokens)^T dy: dw_v sums dy where the token is v. dy (*S, M), tokens (*S), vocabulary V -> dw (V, M)."""
    onehot = tokens.reshape(-1, 1) == backend.xp.arange(vocabulary)
    return onehot.astype(dy.dtype).T @ dy.reshape(tokens.size, dy.shape[-1])
