"""The fast engine's embedding, plain and by its Numba kernel, against the reference op."""

import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.fast.kernels import choose
from tinyqae.fast.ops import OneHotScratch, embedding_backward, embedding_forward
from tinyqae.gradcheck import check_coordinates
from tinyqae.ops import embedding as reference


def draw(shape, vocabulary, features, seed=0, dtype=np.float64):
    """tokens, table, dout."""
    tokens = np.random.default_rng((seed, vocabulary, features)).integers(0, vocabulary, shape)
    return tokens, normal(vocabulary, features, seed=seed, dtype=dtype), normal(*shape, features, seed=seed, dtype=dtype)


def forward(tokens, table):
    """The rows, in an array full of NaN before."""
    out = np.full((*tokens.shape, table.shape[1]), np.nan, table.dtype)
    assert embedding_forward(table, tokens, out) is out
    return out


def backward(dout, tokens, vocabulary, spare=0):
    """The gradient of the table, in an array full of NaN before, by the form in use for dout's dtype. spare: for how many
    tokens more the scratch space is.
    """
    dtable = np.full((vocabulary, dout.shape[-1]), np.nan, dout.dtype)
    scratch = OneHotScratch(vocabulary, tokens.size + spare, dout.dtype)
    assert choose(embedding_backward, dout.dtype)(dout, tokens, scratch, dtable) is dtable
    return dtable


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    vocabulary=st.integers(1, 9),
    features=st.integers(1, 5),
    spare=st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
def test_equals_the_reference(shape, vocabulary, features, spare, seed):
    tokens, table, dout = draw(shape, vocabulary, features, seed)
    np.testing.assert_array_equal(forward(tokens, table), reference.embedding_forward(tokens, table))
    np.testing.assert_allclose(
        backward(dout, tokens, vocabulary, spare),
        reference.embedding_backward(dout, tokens, vocabulary),
        rtol=1e-12,
        atol=1e-12,
    )


def test_gradient_coordinate_by_coordinate():
    tokens, table, dout = draw((3, 4), 5, 2)
    check_coordinates(lambda: np.vdot(forward(tokens, table), dout), table, backward(dout, tokens, 5))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_integer_dtype_and_layout_in_float32(dtype, kernels):
    tokens, table, dout = draw((7, 3), 200, 6, dtype=np.float32)
    assert (choose(embedding_backward, np.dtype(np.float32)) is embedding_backward) == (kernels == "numpy")
    tokens = tokens.astype(dtype)
    for t in (tokens, np.asfortranarray(tokens)):
        np.testing.assert_array_equal(forward(t, table), reference.embedding_forward(tokens, table))
        dtable = backward(dout, t, 200)
        assert dtable.dtype == np.float32
        expected = reference.embedding_backward(dout.astype(np.float64), tokens, 200)
        np.testing.assert_allclose(dtable, expected, rtol=1e-5, atol=1e-5)


def test_no_array_is_allocated(kernels):
    tokens, table, dout = draw((64, 50), 39, 32, dtype=np.float32)
    out, dtable, scratch = np.empty_like(dout), np.empty_like(table), OneHotScratch(39, tokens.size, np.float32)
    function = choose(embedding_backward, np.dtype(np.float32))

    def both():
        embedding_forward(table, tokens, out)
        function(dout, tokens, scratch, dtable)

    assert peak_of_second_call(both) < 4000  # The smallest array, the table, has 4,992 bytes.


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        ([0, 5], "tokens from 0 to 5 are out of range for a vocabulary of 5; they must be 0 to 4"),
        ([-1, 2], "tokens from -1 to 2"),
        ([0.0, 1.0], "tokens have dtype float64; they must be integers"),
        ([True, False], "tokens have dtype bool"),
    ],
)
def test_what_are_not_tokens_of_the_table_is_refused(tokens, named, kernels):
    tokens, table, dout = np.array(tokens), np.zeros((5, 3), np.float32), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=named):
        embedding_forward(table, tokens, dout)
    with pytest.raises(ValueError, match=named):
        backward(dout, tokens, 5)
