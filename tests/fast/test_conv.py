"""The fast engine's convolution against the reference one, numeric derivatives and PyTorch."""

import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close

from tinyqae.fast import conv, windows
from tinyqae.fast.conv import Conv2dPlan, conv2d_backward, conv2d_forward
from tinyqae.fast.windows import Im2col, WinogradWindows
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops import conv as reference_op

# (input, weights): few channels and many, every layout of the window matrix.
SMALL_CASES = [
    ((2, 5, 4, 2), (3, 3, 2, 3)),
    ((2, 7, 6, 2), (3, 5, 2, 2)),
    ((1, 6, 6, 2), (5, 5, 2, 2)),
    ((3, 3, 4, 3), (1, 1, 3, 2)),
    ((1, 4, 3, 12), (3, 3, 12, 2)),
    ((1, 4, 4, 2), (3, 3, 2, 12)),
]
WINOGRAD_CASES = [
    ((2, 4, 5, 2), (3, 3, 2, 3)),
    ((2, 6, 4, 3), (3, 3, 3, 2)),
]
REPORT_CASES = [
    ((16, 32, 32, 3), (3, 3, 3, 64)),
    ((16, 16, 16, 64), (3, 3, 64, 32)),
    ((16, 8, 8, 32), (3, 3, 32, 16)),
    ((16, 4, 4, 16), (1, 1, 16, 16)),
    ((16, 4, 4, 16), (3, 3, 16, 16)),
    ((16, 16, 16, 24), (5, 5, 24, 16)),
]


def draw(input_shape, w_shape, dtype=np.float64, seed=0):
    """x, w, b and dout."""
    random = np.random.default_rng(seed)
    shapes = input_shape, w_shape, w_shape[3:], (*input_shape[:3], w_shape[3])
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def fast(x, w, b, dout, needs_dx=True, plan=None):
    """out, dx, dw, db of the fast engine, in arrays full of NaN before."""
    plan = plan or Conv2dPlan(x.shape, w.shape, x.dtype, needs_dx)
    out, dw, db = (np.full_like(a, np.nan) for a in (dout, w, b))
    dx = np.full_like(x, np.nan) if needs_dx else None
    conv2d_forward(x, w, b, plan, out)
    conv2d_backward(dout, x, w, plan, dx, dw, db)
    return out, dx, dw, db


def reference(x, w, b, dout):
    """out, dx, dw, db of the reference op."""
    return reference_op.conv2d_forward(x, w, b), *reference_op.conv2d_backward(dout, x, w)


def test_the_formula_written_out():
    x, w, b, dout = draw((1, 4, 5, 2), (3, 3, 2, 2))
    i, j, f = 1, 2, 1
    by_hand = b[f] + sum(x[0, i + u - 1, j + v - 1, c] * w[u, v, c, f] for u in range(3) for v in range(3) for c in range(2))
    for function in (fast, reference):
        assert function(x, w, b, dout)[0][0, i, j, f] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    "case, winograd_from", [(case, conv.WINOGRAD_FROM) for case in SMALL_CASES] + [(case, 1) for case in WINOGRAD_CASES]
)
def test_gradients_coordinate_by_coordinate(case, winograd_from, monkeypatch):
    monkeypatch.setattr(conv, "WINOGRAD_FROM", winograd_from)
    x, w, b, dout = draw(*case)
    plan = Conv2dPlan(*case, np.float64)
    assert isinstance(plan.x_windows, WinogradWindows if winograd_from == 1 else Im2col)
    _, dx, dw, db = fast(x, w, b, dout, plan=plan)
    out = np.empty_like(dout)

    def value():
        return np.vdot(conv2d_forward(x, w, b, plan, out), dout)

    for array, gradient in ((x, dx), (w, dw), (b, db)):
        check_coordinates(value, array, gradient)


@pytest.mark.parametrize("case", REPORT_CASES[:5])
def test_gradients_along_directions_at_the_reports_shapes(case):
    x, w, b, dout = draw((2, *case[0][1:]), case[1])
    plan = Conv2dPlan(x.shape, w.shape, np.float64)
    _, dx, dw, db = fast(x, w, b, dout, plan=plan)
    out = np.empty_like(dout)

    def value():
        return np.vdot(conv2d_forward(x, w, b, plan, out), dout)

    for array, gradient in ((x, dx), (w, dw), (b, db)):
        check_directions(value, array, gradient, directions=3)


def test_winograd_is_chosen_for_wide_layers_only():
    assert isinstance(Conv2dPlan((2, 16, 16, 64), (3, 3, 64, 32)).x_windows, WinogradWindows)
    for input_shape, w_shape, needs_dx in (
        ((2, 8, 8, 32), (3, 3, 32, 32), True),
        ((2, 15, 16, 64), (3, 3, 64, 32), True),
        ((2, 16, 16, 64), (5, 5, 64, 32), True),
        ((2, 16, 16, 64), (3, 3, 64, 32), False),
    ):
        assert isinstance(Conv2dPlan(input_shape, w_shape, needs_dx=needs_dx).x_windows, Im2col)


@st.composite
def cases(draw_from):
    """Any small convolution, the largest batch of its plan, and the bytes of a chunk."""
    whole = st.integers
    kernel = tuple(draw_from(st.sampled_from((1, 3, 5))) for _ in range(2))
    height, width = (draw_from(whole(1, 9)) for _ in range(2))
    channels, filters = draw_from(st.sampled_from((1, 2, 3, 11, 34))), draw_from(st.sampled_from((1, 2, 3, 11, 34)))
    images = draw_from(whole(1, 5))
    case = (images, height, width, channels), (*kernel, channels, filters)
    return case, images + draw_from(whole(0, 3)), draw_from(st.sampled_from((1, 5000, 2**20)))


@settings(deadline=None, max_examples=300)
@given(
    drawn=cases(), needs_dx=st.booleans(), winograd_from=st.sampled_from((1, conv.WINOGRAD_FROM)), seed=st.integers(0, 99)
)
def test_equals_the_reference(drawn, needs_dx, winograd_from, seed):
    (input_shape, w_shape), capacity, chunk_bytes = drawn
    x, w, b, dout = draw(input_shape, w_shape, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(windows.CHUNK_BYTES, "numpy", chunk_bytes)
        patch.setattr(conv, "WINOGRAD_FROM", winograd_from)
        plan = Conv2dPlan((capacity, *x.shape[1:]), w_shape, x.dtype, needs_dx)
    expected = reference(x, w, b, dout)
    # Twice: the first call must leave the plan as it was.
    for _ in range(2):
        assert_close(fast(x, w, b, dout, needs_dx, plan), expected, 1e-12)


def test_a_smaller_batch_after_a_larger_one():
    for input_shape, w_shape in (REPORT_CASES[1], REPORT_CASES[5]):
        plan = Conv2dPlan(input_shape, w_shape, np.float64)
        for images in (16, 3):
            x, w, b, dout = draw((images, *input_shape[1:]), w_shape)
            assert_close(fast(x, w, b, dout, plan=plan), reference(x, w, b, dout), 1e-12)


@pytest.mark.parametrize("case", SMALL_CASES + REPORT_CASES)
def test_backward_is_the_adjoint(case):
    x, w, b, dout = draw(*case)
    b[:] = 0
    out, dx, dw, _ = fast(x, w, b, dout)
    expected = np.vdot(out, dout)
    assert np.vdot(x, dx) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert np.vdot(w, dw) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", SMALL_CASES + REPORT_CASES)
@pytest.mark.parametrize("function", [reference, fast])
def test_agrees_with_torch(case, function, torch):
    x, w, b, dout = draw(*case, dtype=np.float32)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), b))
    tout = torch.nn.functional.conv2d(tx, tw, tb, padding=(w.shape[0] // 2, w.shape[1] // 2))
    tout.backward(torch.tensor(dout.transpose(0, 3, 1, 2)))
    expected = (
        tout.detach().numpy().transpose(0, 2, 3, 1),
        tx.grad.numpy().transpose(0, 2, 3, 1),
        tw.grad.numpy().transpose(2, 3, 1, 0),
        tb.grad.numpy(),
    )
    assert_close(function(x, w, b, dout), expected, 1e-5)


@pytest.mark.parametrize("case", [SMALL_CASES[0], SMALL_CASES[3], SMALL_CASES[1], REPORT_CASES[1]])
@pytest.mark.parametrize("needs_dx", [True, False])
def test_without_bias(case, needs_dx):
    x, w, b, dout = draw(*case)
    plan = Conv2dPlan(*case, np.float64, needs_dx)
    expected, expected_dx, expected_dw, _ = reference(x, w, np.zeros_like(b), dout)
    # A call with a bias before must leave no trace.
    fast(x, w, b, dout, needs_dx, plan)
    out = conv2d_forward(x, w, None, plan, np.empty_like(dout))
    dw, dx = np.empty_like(w), np.empty_like(x) if needs_dx else None
    assert conv2d_backward(dout, x, w, plan, dx, dw, None) is dx
    assert_close((out, dx, dw), (expected, expected_dx, expected_dw), 1e-12)


@pytest.mark.parametrize("needs_dx", [True, False])
@pytest.mark.parametrize("case", [REPORT_CASES[0], REPORT_CASES[1], REPORT_CASES[3], REPORT_CASES[5]])
def test_no_array_is_allocated(case, needs_dx):
    x, w, b, dout = draw(*case, dtype=np.float32)
    plan = Conv2dPlan(*case, needs_dx=needs_dx)
    out, dw, db, dx = np.empty_like(dout), np.empty_like(w), np.empty_like(b), np.empty_like(x) if needs_dx else None

    def step():
        conv2d_forward(x, w, b, plan, out)
        conv2d_backward(dout, x, w, plan, dx, dw, db)

    assert peak_of_second_call(step) < 8000
