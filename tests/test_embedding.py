"""Rows chosen by integers, and the scatter-add that is its derivative, against products with one-hot rows."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import fused
from tinyqae.gradcheck import check_coordinates
from tinyqae.ops.dense import dense_backward, dense_forward
from tinyqae.ops.embedding import OneHotScratch, embedding_backward, embedding_backward_textbook, embedding_forward


def example(shape, rows, features, seed=0, dtype=np.float64):
    random = np.random.default_rng((seed, rows, features))
    symbols = random.integers(0, rows, shape)
    table, dout = random.standard_normal((rows, features)), random.standard_normal((*shape, features))
    return table.astype(dtype), symbols, dout.astype(dtype)


def backward(dout, symbols, rows):
    """dtable by the form that is installed for dout's dtype."""
    dtable = np.full((rows, dout.shape[-1]), np.nan, dout.dtype)
    scratch = OneHotScratch(rows, symbols.size, dout.dtype)
    assert fused.choose(embedding_backward, dout.dtype)(dout, symbols, scratch, dtable) is dtable
    return dtable


@settings(deadline=None, max_examples=40)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), rows=st.integers(1, 9),
       features=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_equals_the_dense_op_on_one_hot_rows(shape, rows, features, seed):
    table, symbols, dout = example(shape, rows, features, seed)
    onehot = np.eye(rows)[symbols.reshape(-1)]
    expected = dense_forward(onehot, table, np.zeros(features), np.empty((symbols.size, features)))
    dexpected = np.empty_like(table)
    dense_backward(dout.reshape(-1, features), onehot, table, None, dexpected, np.empty(features))
    out = np.empty_like(dout)
    assert embedding_forward(table, symbols, out) is out
    np.testing.assert_array_equal(out.reshape(-1, features), expected)
    np.testing.assert_allclose(backward(dout, symbols, rows), dexpected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(embedding_backward_textbook(dout, symbols, np.full_like(table, np.nan)), dexpected,
                               rtol=1e-12, atol=1e-12)


def test_gradient():
    table, symbols, dout = example((3, 4), 5, 2)
    check_coordinates(lambda: np.vdot(embedding_forward(table, symbols, np.empty_like(dout)), dout), table,
                      backward(dout, symbols, 5))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_integer_dtype_and_layout_in_float32(dtype, kernels):
    table, symbols, dout = example((7, 3), 200, 6, dtype=np.float32)
    symbols = symbols.astype(dtype)
    for s in (symbols, np.asfortranarray(symbols)):
        assert embedding_forward(table, s, np.empty_like(dout)).dtype == np.float32
        np.testing.assert_array_equal(embedding_forward(table, s, np.empty_like(dout)), table[symbols])
        dtable = backward(dout, s, 200)
        assert dtable.dtype == np.float32
        expected = embedding_backward_textbook(dout.astype(np.float64), symbols, np.empty((200, 6)))
        np.testing.assert_allclose(dtable, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("symbols, named", [
    ([0, 5], "symbols from 0 to 5 do not fit a table of 5 rows; they must be 0 to 4"),
    ([-1, 2], "symbols from -1 to 2"),
    ([0.0, 1.0], "symbols have dtype float64; they must be integers"),
    ([True, False], "symbols have dtype bool"),
])
def test_what_are_not_symbols_of_the_table_is_refused(symbols, named, kernels):
    symbols, table, dout = np.array(symbols), np.zeros((5, 3), np.float32), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=named):
        embedding_forward(table, symbols, dout)
    with pytest.raises(ValueError, match=named):
        backward(dout, symbols, 5)
    with pytest.raises(ValueError, match=named):
        embedding_backward_textbook(dout, symbols, table)
