"""Max-pooling and nearest upsampling; and the fused kernels of what stands between the convolutions."""
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.gradcheck import KinkFound, check_coordinates
from tinyqae.ops.norm import batch_norm_backward, batch_norm_forward
from tinyqae.ops.pool import (
    max_pool_backward,
    max_pool_forward,
    pooled_shape,
    upsample_backward,
    upsample_forward,
)

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))


def pool(x, dout, size):
    """out and dx, in arrays full of NaN before."""
    out, dx = np.full_like(dout, np.nan), np.full_like(x, np.nan)
    max_pool_forward(x, size, out)
    max_pool_backward(dout, x, out, size, np.empty_like(out), np.empty(out.shape, bool), dx)
    return out, dx


def windows(x, size):
    """x (N, H, W, C) as (N, H/k, W/k, C, k k), places of a window in row-major order."""
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // size, size, width // size, size, channels).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(*parts.shape[:4], size * size)


def peak_of_second_call(step):
    """Bytes allocated at most at a time while step() runs once more."""
    step()
    # A ufunc that broadcasts or casts takes a buffer of this many elements for each operand, whatever their size.
    buffer = np.setbufsize(16)
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        np.setbufsize(buffer)


@settings(deadline=None)
@given(sizes=SIZES, size=st.integers(1, 4), seed=st.integers(0, 99), values=st.sampled_from((2, 3, 1000)))
def test_max_pool_takes_the_first_maximum_in_row_major_order(sizes, size, seed, values):
    n, height, width, channels = sizes
    random = np.random.default_rng(seed)
    # Few values make many ties.
    x = random.integers(0, values, (n, height * size, width * size, channels)).astype(np.float32)
    dout = random.standard_normal((n, height, width, channels)).astype(np.float32)
    before = dout.copy()
    out, dx = pool(x, dout, size)
    np.testing.assert_array_equal(out, windows(x, size).max(axis=-1))
    # argmax names the first of equals.
    first = windows(x, size).argmax(axis=-1)[..., None] == np.arange(size * size)
    np.testing.assert_array_equal(windows(dx, size), dout[..., None] * first)
    np.testing.assert_array_equal(dout, before)
    assert out.dtype == dx.dtype == np.float32


def test_a_tie_of_all_four():
    _, dx = pool(np.ones((1, 2, 2, 1)), np.full((1, 1, 1, 1), 5.0), 2)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[5, 0], [0, 0]])


def test_a_nan_is_the_maximum_of_its_window():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    x[0, 1, 0, 0] = np.nan
    out = max_pool_forward(x, 2, np.empty((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(out[0, :, :, 0], [[np.nan, 7], [13, 15]])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_max_pool_gradient_is_the_numeric_one(size):
    random = np.random.default_rng(size)
    shape = (2, 2 * size, 3 * size, 2)
    # A permutation: values a whole unit apart, far from any tie.
    x = random.permutation(np.prod(shape)).reshape(shape).astype(np.float64)
    dout = random.standard_normal(pooled_shape(shape, size))
    out, dx = pool(x, dout, size)
    check_coordinates(lambda: np.vdot(max_pool_forward(x, size, out), dout), x, dx)


def test_a_tie_is_a_kink():
    x, dout = np.ones((1, 2, 2, 1)), np.ones((1, 1, 1, 1))
    out, dx = pool(x, dout, 2)
    with pytest.raises(KinkFound):
        check_coordinates(lambda: np.vdot(max_pool_forward(x, 2, out), dout), x, dx)


@settings(deadline=None)
@given(sizes=SIZES, factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_upsampling_repeats_and_its_backward_is_the_adjoint(sizes, factor, seed):
    n, height, width, channels = sizes
    random = np.random.default_rng(seed)
    x, dout = random.standard_normal(sizes), random.standard_normal((n, height * factor, width * factor, channels))
    out = upsample_forward(x, factor, np.full_like(dout, np.nan))
    np.testing.assert_array_equal(out, x.repeat(factor, axis=1).repeat(factor, axis=2))
    dx = upsample_backward(dout, factor, np.full_like(x, np.nan))
    assert np.vdot(out, dout) == pytest.approx(np.vdot(x, dx), rel=1e-12, abs=1e-12)


def test_upsampling_gradient_is_the_numeric_one():
    random = np.random.default_rng(0)
    x, dout = random.standard_normal((2, 2, 3, 2)), random.standard_normal((2, 6, 9, 2))
    out, dx = np.empty_like(dout), upsample_backward(dout, 3, np.empty_like(x))
    check_coordinates(lambda: np.vdot(upsample_forward(x, 3, out), dout), x, dx)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_agrees_with_pytorch(size, ties):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 4 * size, 4 * size, 8)).astype(np.float32)
    if ties:
        x = x.round()
    dout = random.standard_normal((4, 4, 4, 8)).astype(np.float32)
    out, dx = pool(x, dout, size)
    tx = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    tout = torch.nn.functional.max_pool2d(tx, size)
    tout.backward(torch.tensor(dout.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(out, tout.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(dx, tx.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling_agrees_with_pytorch(factor):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 5, 6, 8)).astype(np.float32)
    dout = random.standard_normal((4, 5 * factor, 6 * factor, 8)).astype(np.float32)
    tx = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    tout = torch.nn.functional.interpolate(tx, scale_factor=factor, mode="nearest")
    tout.backward(torch.tensor(dout.transpose(0, 3, 1, 2)))
    out, dx = upsample_forward(x, factor, np.empty_like(dout)), upsample_backward(dout, factor, np.empty_like(x))
    np.testing.assert_array_equal(out, tout.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(dx, tx.grad.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-5)


def test_no_array_is_allocated():
    random = np.random.default_rng(0)
    x, dout = (random.standard_normal(shape).astype(np.float32) for shape in ((8, 16, 16, 32), (8, 8, 8, 32)))
    out, remaining, is_maximum, dx = np.empty_like(dout), np.empty_like(dout), np.empty(dout.shape, bool), x.copy()

    def step():
        max_pool_forward(x, 2, out)
        max_pool_backward(dout, x, out, 2, remaining, is_maximum, dx)
        upsample_forward(dout, 2, dx)
        upsample_backward(dx, 2, out)

    assert peak_of_second_call(step) < 8000


def test_what_does_not_fit_is_refused():
    x, out = np.zeros((2, 4, 6, 3)), np.zeros((2, 2, 3, 3))
    with pytest.raises(ValueError, match="4x6 does not divide into windows of 4x4"):
        max_pool_forward(x, 4, out)
    for size in (0, 1.5):
        with pytest.raises(ValueError, match=f"size={size}"):
            max_pool_forward(x, size, out)
    with pytest.raises(ValueError, match="^out has shape"):
        max_pool_forward(x, 2, out[:1])
    with pytest.raises(ValueError, match="^x has shape"):
        upsample_forward(out[:1], 2, x)
    with pytest.raises(ValueError, match="^dx has shape"):
        upsample_backward(x, 2, out[:1])


@pytest.fixture
def kernels():
    """{plain function: Numba kernel}."""
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    from tinyqae.fused import norm_kernels, pool_kernels
    return {**pool_kernels.REPLACEMENTS, **norm_kernels.REPLACEMENTS}


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 4, 5, 3), (2, 3, 3, 64)])
@pytest.mark.parametrize("size", [2, 3])
def test_the_max_pool_kernels_give_the_same_numbers(shape, size, kernels):
    n, height, width, channels = shape
    random = np.random.default_rng(0)
    # Few values make many ties; some windows hold NaN.
    x = random.integers(0, 4, (n, size * height, size * width, channels)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    dout = random.standard_normal(shape).astype(np.float32)
    scratch = np.empty_like(dout), np.empty(shape, bool)
    expected, dexpected = pool(x, dout, size)
    out, dx = np.full_like(dout, 7), np.full_like(x, 7)
    assert kernels[max_pool_forward](x, size, out) is out
    assert kernels[max_pool_backward](dout, x, out, size, *scratch, dx) is dx
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(dx, dexpected)


def test_the_max_pool_kernels_refuse_what_does_not_fit(kernels):
    x, out = np.zeros((2, 4, 6, 3), np.float32), np.zeros((2, 2, 3, 3), np.float32)
    scratch = np.empty_like(out), np.empty(out.shape, bool)
    with pytest.raises(ValueError, match="^out has shape"):
        kernels[max_pool_forward](x, 2, out[:1])
    with pytest.raises(ValueError, match="does not divide"):
        kernels[max_pool_forward](x[:, 1:], 2, out)
    with pytest.raises(ValueError, match="^dout has shape"):
        kernels[max_pool_backward](out[:1], x, out, 2, *scratch, x.copy())


@pytest.mark.parametrize("rows, channels", [(5, 1), (7, 3), (64, 16), (1001, 24)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_batch_norm_kernels_give_the_same_numbers(rows, channels, affine, kernels):
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    # A mean far from 0 would show a variance computed as the difference of two large sums.
    x, dout = 100 + normal(rows, channels), normal(rows, channels)
    gamma, beta = (normal(channels), normal(channels)) if affine else (None, None)

    def run(functions, dtype):
        arrays = [None if a is None else a.astype(dtype) for a in (x, gamma, beta)]
        mean, variance, rstd, dgamma, dbeta = (np.empty(channels, dtype) for _ in range(5))
        xhat, out, dx = (np.empty(x.shape, dtype) for _ in range(3))
        forward, backward = (functions.get(f, f) for f in (batch_norm_forward, batch_norm_backward))
        forward(*arrays, 1e-5, mean, variance, rstd, xhat, out)
        backward(dout.astype(dtype), xhat, arrays[1], rstd, dx, dgamma, dbeta)
        return mean, variance, rstd, xhat, out, dx, dgamma, dbeta

    for result, right in zip(run(kernels, np.float32), run({}, np.float64), strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, right, rtol=0, atol=1e-4 * np.abs(right).max())
