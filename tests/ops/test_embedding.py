"""Rows of a table chosen by tokens, and the scatter-add that is its derivative, against products with one-hot rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.dense import dense_backward, dense_forward
from tinyqae.ops.embedding import embedding_backward, embedding_forward


def draw(shape, vocabulary, width, dtype=np.float64):
    """tokens, w, dy."""
    tokens = np.random.default_rng((*shape, vocabulary)).integers(0, vocabulary, shape)
    return tokens, normal(vocabulary, width, dtype=dtype), normal(*shape, width, seed=1, dtype=dtype)


@pytest.mark.parametrize(
    ("check", "shape", "vocabulary", "width"),
    [(check_coordinates, (3, 4), 5, 2), (check_coordinates, (6,), 9, 3), (check_directions, (22, 16), 39, 128)],
)
def test_gradient(check, shape, vocabulary, width):
    tokens, w, dy = draw(shape, vocabulary, width)
    check(lambda: np.vdot(embedding_forward(tokens, w), dy), w, embedding_backward(dy, tokens, vocabulary))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("shape", [(7,), (22, 16)])
def test_agrees_with_torch(torch, shape, dtype, tolerance):
    tokens, w, dy = draw(shape, 39, 20, dtype)
    leaf = torch.tensor(w, requires_grad=True)
    theirs = torch.nn.functional.embedding(torch.tensor(tokens), leaf)
    theirs.backward(torch.tensor(dy))
    np.testing.assert_array_equal(embedding_forward(tokens, w), theirs.detach().numpy())
    assert_close([embedding_backward(dy, tokens, 39)], [leaf.grad.numpy()], tolerance)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_dense_op_on_one_hot_rows_at_any_shape(shape, vocabulary, width, dtype):
    tokens, w, dy = arguments = draw(shape, vocabulary, width, dtype)
    before = [array.copy() for array in arguments]
    onehot = np.eye(vocabulary, dtype=dtype)[tokens.reshape(-1)]
    y, dw = embedding_forward(tokens, w), embedding_backward(dy, tokens, vocabulary)
    expected = dense_forward(onehot, w, np.zeros(width, dtype)).reshape(dy.shape)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    _, right, _ = dense_backward(dy.reshape(-1, width), onehot, w)
    assert_close([dw], [right], {np.float32: 1e-5, np.float64: 1e-13}[dtype])
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_token_that_recurs_collects_all_its_gradients_and_an_absent_one_none():
    dy = np.array([[1.0, 10], [2, 20], [4, 40]])
    np.testing.assert_array_equal(embedding_backward(dy, np.array([2, 0, 2]), 4), [[2, 20], [0, 0], [5, 50], [0, 0]])


@pytest.mark.parametrize("integers", [np.uint8, np.int32, np.int64])
def test_any_integer_dtype_and_layout_of_tokens(integers):
    tokens, w, dy = draw((7, 3), 200, 6, np.float32)
    expected = embedding_forward(tokens, w), embedding_backward(dy, tokens, 200)
    for other in (tokens.astype(integers), np.asfortranarray(tokens.astype(integers))):
        np.testing.assert_array_equal(embedding_forward(other, w), expected[0])
        np.testing.assert_array_equal(embedding_backward(dy, other, 200), expected[1])


def test_large_and_tiny_values_stay_finite_in_float32():
    tokens, w, dy = draw((5, 4), 3, 2, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        arrays = [
            embedding_forward(tokens, 1e37 * w),
            embedding_backward(np.float32(1e36) * dy, tokens, 3),
            embedding_backward(np.float32(1e-38) * dy, tokens, 3),
        ]
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays)
