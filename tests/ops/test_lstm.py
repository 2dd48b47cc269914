"""The LSTM, one step and a whole sequence: numeric derivatives, the formula, lengths, PyTorch, extreme inputs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_case import Case
from lstm_case import assert_close as assert_same_solution
from random_arrays import EXTREMES, assert_close, normal

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.lstm import lstm_backward, lstm_forward, lstm_step_backward, lstm_step_forward

LENGTHS = {"all": None, "some": np.array([3, 0, 5, 1])}
GIVEN = {"all": ("dhs", "dh", "dc"), "outputs": ("dhs",), "last h": ("dh",), "last c": ("dc",), "last state": ("dh", "dc")}


class Sequence:
    """Random inputs, weights, an initial state and gradients of the results, of which those not in `given` are zero."""

    def __init__(self, steps, examples, units, lengths=None, given=GIVEN["all"], dtype=np.float64):
        def draw(*shape, seed, scale=1.0):
            return (scale * normal(*shape, seed=seed)).astype(dtype)

        self.inputs, self.wh = draw(steps, examples, 4 * units, seed=0), draw(units, 4 * units, seed=1, scale=units**-0.5)
        self.h, self.c = draw(examples, units, seed=2), draw(examples, units, seed=3)
        self.lengths = lengths
        self.dhs = draw(steps, examples, units, seed=4) if "dhs" in given else None
        self.dh, self.dc = (draw(examples, units, seed=seed) * dtype(name in given) for seed, name in ((5, "dh"), (6, "dc")))

    def forward(self):
        """(h, c), of every step."""
        hs, cs, _ = lstm_forward(self.inputs, self.wh, self.h, self.c, self.lengths)
        return np.stack(hs), np.stack(cs)

    def backward(self):
        """{name of what the gradient belongs to: gradient}."""
        states = lstm_forward(self.inputs, self.wh, self.h, self.c, self.lengths)
        gradients = lstm_backward(self.dhs, self.dh, self.dc, self.wh, *states, self.lengths)
        return dict(zip(("inputs", "wh", "h", "c"), gradients, strict=True))

    def loss(self):
        """A number whose gradients at the outputs and the last state are dhs, dh and dc."""
        hs, cs = self.forward()
        return (0 if self.dhs is None else np.vdot(hs[1:], self.dhs)) + np.vdot(hs[-1], self.dh) + np.vdot(cs[-1], self.dc)


# ---- one step -------------------------------------------------------------------------------------------------------


def draw_step(examples, units, dtype=np.float64):
    """p, c_prev, dh, dc."""
    shapes = (examples, 4 * units), (examples, units), (examples, units), (examples, units)
    return [normal(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]


def step(p, c_prev, dh, dc):
    """h, c, dp, dc_prev."""
    h, c, gates = lstm_step_forward(p, c_prev)
    return h, c, *lstm_step_backward(dh, dc, c_prev, c, gates)


@pytest.mark.parametrize(("check", "examples", "units"), [(check_coordinates, 3, 4), (check_directions, 32, 48)])
def test_gradients_of_a_step(check, examples, units):
    p, c_prev, dh, dc = draw_step(examples, units)

    def loss():
        h, c, _ = lstm_step_forward(p, c_prev)
        return np.vdot(h, dh) + np.vdot(c, dc)

    _, _, dp, dc_prev = step(p, c_prev, dh, dc)
    check(loss, p, dp)
    check(loss, c_prev, dc_prev)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_a_step_agrees_with_torch(torch, dtype, tolerance):
    p, c_prev, dh, dc = draw_step(16, 24, dtype)
    leaves = tp, tc_prev = [torch.tensor(array, requires_grad=True) for array in (p, c_prev)]
    cell = torch.nn.LSTMCell(96, 24, bias=False).to(tp.dtype)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(96))
    h, c = cell(tp, (torch.zeros_like(tc_prev), tc_prev))
    torch.autograd.backward([h, c], [torch.tensor(dh), torch.tensor(dc)])
    expected = [tensor.detach().numpy() for tensor in (h, c, *(leaf.grad for leaf in leaves))]
    assert_close(step(p, c_prev, dh, dc), expected, tolerance)


def test_a_step_follows_the_formula_unit_by_unit():
    p, c_prev, _, _ = draw_step(3, 2)
    h, c, gates = lstm_step_forward(p, c_prev)
    for n, u in np.ndindex(3, 2):
        i, f, o = (1 / (1 + math.exp(-p[n, k * 2 + u])) for k in (0, 1, 3))
        g = math.tanh(p[n, 2 * 2 + u])
        cell = f * c_prev[n, u] + i * g
        np.testing.assert_allclose([gate[n, u] for gate in gates], [i, f, g, o], rtol=1e-13)
        np.testing.assert_allclose([c[n, u], h[n, u]], [cell, o * math.tanh(cell)], rtol=1e-13)


def test_a_step_with_extreme_pre_activations_stays_finite_in_float32():
    p, c_prev, dh, dc = draw_step(5, EXTREMES.size, np.float32)
    for k in range(4):  # One block with the extremes, then all four.
        p[k, k * EXTREMES.size : (k + 1) * EXTREMES.size] = EXTREMES
    p[4] = np.tile(EXTREMES, 4)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        results = step(p, c_prev, dh, dc)
    assert all(np.isfinite(result).all() and result.dtype == np.float32 for result in results)


# ---- a sequence: derivatives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gradients_coordinate_by_coordinate(lengths, given):
    sequence = Sequence(5, 4, 2, LENGTHS[lengths], GIVEN[given])
    for name, gradient in sequence.backward().items():
        check_coordinates(sequence.loss, getattr(sequence, name), gradient)


@pytest.mark.parametrize("lengths", [None, "random"])
def test_gradients_along_random_directions_at_a_realistic_size(lengths):
    if lengths is not None:
        lengths = np.random.default_rng(0).integers(0, 23, 16)
    sequence = Sequence(22, 16, 32, lengths)
    for name, gradient in sequence.backward().items():
        check_directions(sequence.loss, getattr(sequence, name), gradient, directions=5)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gradients_through_the_inputs_share(lengths, tokens):
    # x wx + b, or rows of wx + b for tokens, before the sequence. (With seed 0 one derivative is so near 0 that the check
    # takes the curvature for a kink.)
    case = Case(5, 4, 3, 2, tokens=tokens, lengths=LENGTHS[lengths], seed=1)

    def loss():
        h, c, _ = case.reference()
        return np.vdot(h[1:], case.dh) + np.vdot(h[-1], case.dh_last) + np.vdot(c[-1], case.dc_last)

    for name, gradient in case.reference()[2].items():
        check_coordinates(loss, getattr(case, name[1:]), gradient)


def test_no_output_gradients_count_as_zeros():
    sequence = Sequence(4, 3, 2, np.array([4, 2, 3]), GIVEN["last state"])
    expected = sequence.backward()
    sequence.dhs = np.zeros((4, 3, 2))
    for name, gradient in sequence.backward().items():
        np.testing.assert_array_equal(gradient, expected[name])


# ---- a sequence: PyTorch and the formula ----------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, np.array([4, 22, 1, 9, 13, 22, 7, 2])])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_agrees_with_torch(torch, dtype, tolerance, lengths):
    case = Case(22, 8, 39, 48, lengths=lengths, dtype=dtype)
    case.wx *= 0.2
    padding = np.zeros((22, 8), bool) if lengths is None else np.arange(22)[:, None] >= lengths
    case.dh[padding] = 0  # PyTorch's outputs in the padding are constant zeros, ours are the last state.
    h, c, gradients = case.reference()
    assert all(array.dtype == dtype for array in (h, c, *gradients.values()))
    out, h_last, c_last, theirs = case.in_torch(torch)
    ours = np.where(padding[..., None], 0, h[1:])
    assert_same_solution(
        (ours, c[-1], {**gradients, "h_last": h[-1]}), (out, c_last, {**theirs, "h_last": h_last}), tolerance
    )


@settings(deadline=None, max_examples=30)
@given(
    steps=st.integers(1, 6),
    examples=st.integers(1, 5),
    units=st.integers(1, 5),
    data=st.data(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equals_each_example_alone_at_any_shape_and_leaves_its_arguments(steps, examples, units, data, dtype):
    lengths = data.draw(st.none() | st.lists(st.integers(0, steps), min_size=examples, max_size=examples).map(np.array))
    sequence = Sequence(steps, examples, units, lengths, dtype=dtype)
    before = {name: value.copy() for name, value in vars(sequence).items() if value is not None}
    (hs, cs), gradients = sequence.forward(), sequence.backward()
    dwh = np.zeros_like(sequence.wh)
    ends = np.full(examples, steps) if lengths is None else lengths
    for n, end in enumerate(ends):
        # The shortened sequence, of which the gradients of the padding's outputs reach the last state.
        h, c, kept = [sequence.h[[n]]], [sequence.c[[n]]], []
        for t in range(end):
            h_new, c_new, gates = lstm_step_forward(sequence.inputs[t, [n]] + h[-1] @ sequence.wh, c[-1])
            h.append(h_new)
            c.append(c_new)
            kept.append(gates)
        dh, dc = sequence.dh[[n]] + sequence.dhs[end:, n].sum(axis=0), sequence.dc[[n]]
        dps = np.zeros((steps, 4 * units), dtype)
        for t in reversed(range(end)):
            dp, dc = lstm_step_backward(dh + sequence.dhs[t, n], dc, c[t], c[t + 1], kept[t])
            dps[t], dh = dp[0], dp @ sequence.wh.T
            dwh += h[t].T @ dp
        last = steps - end
        expected = (np.concatenate([*h, *h[-1:] * last]), np.concatenate([*c, *c[-1:] * last]), dps, dh[0], dc[0])
        found = hs[:, n], cs[:, n], gradients["inputs"][:, n], gradients["h"][n], gradients["c"][n]
        assert_close(found, expected, {np.float32: 1e-5, np.float64: 1e-13}[dtype])
    assert_close([gradients["wh"]], [dwh], {np.float32: 1e-5, np.float64: 1e-13}[dtype])
    for name, copy in before.items():
        np.testing.assert_array_equal(getattr(sequence, name), copy, err_msg=name)


# ---- sequences of different lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_state_of_a_finished_sequence_does_not_change(dtype):
    lengths = np.array([6, 1, 0, 4])
    sequence = Sequence(6, 4, 5, lengths, dtype=dtype)
    hs, cs = sequence.forward()
    for n, end in enumerate(lengths):
        for states in (hs, cs):
            np.testing.assert_array_equal(states[end:, n], np.broadcast_to(states[end, n], states[end:, n].shape))
            assert (states[1 : end + 1, n] != states[:end, n]).all()
    np.testing.assert_array_equal(sequence.backward()["inputs"][np.arange(6)[:, None] >= lengths], 0)


@pytest.mark.parametrize("value", [0, 1e6, -3e38])
def test_padding_has_no_influence(value):
    sequence = Sequence(6, 4, 7, np.array([2, 6, 0, 5]), dtype=np.float32)
    states, gradients = sequence.forward(), sequence.backward()
    sequence.inputs[np.arange(6)[:, None] >= sequence.lengths] = value
    np.testing.assert_array_equal(sequence.forward(), states)
    for name, gradient in sequence.backward().items():
        np.testing.assert_array_equal(gradient, gradients[name], err_msg=name)


def test_full_lengths_equal_no_lengths():
    sequence = Sequence(5, 3, 6)
    states, gradients = sequence.forward(), sequence.backward()
    sequence.lengths = np.full(3, 5)
    np.testing.assert_array_equal(sequence.forward(), states)
    for name, gradient in sequence.backward().items():
        np.testing.assert_array_equal(gradient, gradients[name], err_msg=name)


# ---- extreme inputs and precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS)
def test_extreme_inputs_stay_finite_and_in_float32(lengths):
    sequence = Sequence(5, 4, EXTREMES.size, LENGTHS[lengths], dtype=np.float32)
    sequence.inputs[:, :2] = np.tile(EXTREMES, 4)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        hs, cs = sequence.forward()
        gradients = sequence.backward()
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in (hs, cs, *gradients.values()))


@pytest.mark.parametrize("sign", [-1, 1])
def test_saturated_gates_are_exact_and_quiet(sign):
    sequence = Sequence(3, 2, 4, dtype=np.float32)
    sequence.inputs[:] = sign * 1e4
    with np.errstate(all="raise", under="ignore"):
        (hs, cs), gradients = sequence.forward(), sequence.backward()
    if sign < 0:  # All gates are closed: the state is forgotten.
        np.testing.assert_array_equal(cs[1:], 0)
        np.testing.assert_array_equal(hs[1:], 0)
    else:  # All are open: the cell counts the steps.
        np.testing.assert_allclose(cs[1:], cs[:1] + np.arange(1, 4)[:, None, None], rtol=1e-6)
        np.testing.assert_allclose(hs[1:], np.tanh(cs[1:]), rtol=1e-6)
    np.testing.assert_array_equal(gradients["inputs"][..., :12], 0)


def test_float32_equals_float64():
    single, double = (Sequence(22, 16, 32, np.arange(16), dtype=dtype) for dtype in (np.float32, np.float64))
    found = [*single.forward(), *single.backward().values()]
    expected = [array.astype(np.float32) for array in (*double.forward(), *double.backward().values())]
    assert_close(found, expected, 1e-5)


def test_nan_is_passed_on_to_the_last_state_of_its_example_alone():
    sequence = Sequence(3, 2, 4)
    sequence.inputs[0, 1, 0] = np.nan
    hs, cs = sequence.forward()
    assert np.isnan(hs[1, 1, 0]) and np.isnan(hs[2:, 1]).all() and np.isnan(cs[2:, 1]).all()
    assert np.isfinite(hs[:, 0]).all() and np.isfinite(cs[:, 0]).all()
    assert np.isnan(sequence.backward()["wh"]).any()
