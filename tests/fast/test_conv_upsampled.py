"""The convolution of an upsampled image, against the two reference ops that it replaces, and against PyTorch."""

import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close

from tinyqae.fast import windows
from tinyqae.fast.conv_upsampled import UpsampledConv2dPlan, conv2d_upsampled_backward, conv2d_upsampled_forward
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.conv import conv2d_backward, conv2d_forward
from tinyqae.ops.pool import upsample_backward, upsample_forward

REPORT_CASES = [((16, 4, 4, 16), 32), ((16, 8, 8, 32), 64), ((16, 16, 16, 64), 3)]


def draw(input_shape, filters, dtype=np.float64, seed=0):
    """x, w, b and dout."""
    random = np.random.default_rng(seed)
    images, height, width, channels = input_shape
    shapes = input_shape, (3, 3, channels, filters), (filters,), (images, 2 * height, 2 * width, filters)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def fused(x, w, b, dout, plan=None):
    """out, dx, dw, db, in arrays full of NaN before."""
    plan = plan or UpsampledConv2dPlan(x.shape, w.shape, x.dtype)
    out, dx, dw, db = (np.full_like(a, np.nan) for a in (dout, x, w, b))
    conv2d_upsampled_forward(x, w, b, plan, out)
    conv2d_upsampled_backward(dout, x, w, plan, dx, dw, db)
    return out, dx, dw, db


def two_steps(x, w, b, dout):
    """out, dx, dw, db of the reference ops: upsampling, then convolution."""
    big = upsample_forward(x)
    dbig, dw, db = conv2d_backward(dout, big, w)
    return conv2d_forward(big, w, b), upsample_backward(dbig), dw, db


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(1, 5),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    spare=st.integers(0, 2),
    channels=st.sampled_from((1, 2, 3, 20)),
    filters=st.sampled_from((1, 2, 3, 20)),
    chunk_bytes=st.sampled_from((1, 5000, 2**20)),
    seed=st.integers(0, 99),
)
def test_equals_upsampling_then_convolution(images, height, width, spare, channels, filters, chunk_bytes, seed):
    arrays = draw((images, height, width, channels), filters, seed=seed)
    x, w = arrays[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(windows.CHUNK_BYTES, "numpy", chunk_bytes)
        plan = UpsampledConv2dPlan((images + spare, *x.shape[1:]), w.shape, x.dtype)
    expected = two_steps(*arrays)
    # Twice: the first call must leave the plan as it was.
    for _ in range(2):
        assert_close(fused(*arrays, plan), expected, 1e-12)


def test_gradients_coordinate_by_coordinate():
    x, w, b, dout = draw((2, 3, 2, 3), 2)
    plan = UpsampledConv2dPlan(x.shape, w.shape, np.float64)
    _, dx, dw, db = fused(x, w, b, dout, plan)
    out = np.empty_like(dout)

    def value():
        return np.vdot(conv2d_upsampled_forward(x, w, b, plan, out), dout)

    for array, gradient in ((x, dx), (w, dw), (b, db)):
        check_coordinates(value, array, gradient)


@pytest.mark.parametrize("input_shape, filters", REPORT_CASES)
def test_gradients_along_directions_and_adjoint_at_the_reports_shapes(input_shape, filters):
    x, w, b, dout = draw((2, *input_shape[1:]), filters)
    b[:] = 0
    plan = UpsampledConv2dPlan(x.shape, w.shape, np.float64)
    out, dx, dw, _ = fused(x, w, b, dout, plan)
    expected = np.vdot(out, dout)
    assert np.vdot(x, dx) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert np.vdot(w, dw) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def value():
        return np.vdot(conv2d_upsampled_forward(x, w, b, plan, out), dout)

    for array, gradient in ((x, dx), (w, dw)):
        check_directions(value, array, gradient, directions=3)


@pytest.mark.parametrize("input_shape, filters", REPORT_CASES)
def test_agrees_with_torch(input_shape, filters, torch):
    x, w, b, dout = draw(input_shape, filters, np.float32)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), b))
    big = torch.nn.functional.interpolate(tx, scale_factor=2, mode="nearest")
    tout = torch.nn.functional.conv2d(big, tw, tb, padding=1)
    tout.backward(torch.tensor(dout.transpose(0, 3, 1, 2)))
    expected = (
        tout.detach().numpy().transpose(0, 2, 3, 1),
        tx.grad.numpy().transpose(0, 2, 3, 1),
        tw.grad.numpy().transpose(2, 3, 1, 0),
        tb.grad.numpy(),
    )
    assert_close(fused(x, w, b, dout), expected, 1e-5)


def test_without_bias_and_without_dx():
    x, w, b, dout = draw((2, 3, 4, 2), 3)
    plan = UpsampledConv2dPlan(x.shape, w.shape, np.float64)
    expected, _, expected_dw, _ = two_steps(x, w, np.zeros_like(b), dout)
    out = conv2d_upsampled_forward(x, w, None, plan, np.empty_like(dout))
    dw = np.empty_like(w)
    assert conv2d_upsampled_backward(dout, x, w, plan, None, dw, None) is None
    assert_close((out, dw), (expected, expected_dw), 1e-12)


@pytest.mark.parametrize("input_shape, filters", REPORT_CASES)
def test_no_array_is_allocated(input_shape, filters):
    x, w, b, dout = draw(input_shape, filters, np.float32)
    plan = UpsampledConv2dPlan(x.shape, w.shape)
    out, dx, dw, db = (np.empty_like(a) for a in (dout, x, w, b))

    def step():
        conv2d_upsampled_forward(x, w, b, plan, out)
        conv2d_upsampled_backward(dout, x, w, plan, dx, dw, db)

    assert peak_of_second_call(step) < 8000
