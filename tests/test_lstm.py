"""The LSTM: gradients, the sequence against the textbook step, lengths, PyTorch agreement, allocation, bad input."""
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import fused
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops import embedding, lstm
from tinyqae.ops.lstm import LSTMPlan, lstm_backward, lstm_forward, lstm_step_backward, lstm_step_forward

GRADIENTS = ("dx", "dwx", "dwh", "db", "dh0", "dc0")


class Case:
    """One problem (random inputs, weights, states and incoming gradients) and its solutions."""

    def __init__(self, steps, examples, features, units, *, symbols=False, lengths=None, seed=0, dtype=np.float64):
        random = np.random.default_rng((seed, steps, examples, features, units))

        def draw(*shape):
            return random.standard_normal(shape).astype(dtype)

        self.steps, self.examples, self.features, self.units = steps, examples, features, units
        self.symbols, self.dtype = symbols, np.dtype(dtype)
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.x = draw(steps, examples, features)
        if symbols:
            self.x = random.integers(0, features, (steps, examples))
        self.wx, self.wh, self.b = draw(features, 4 * units), draw(units, 4 * units) / np.sqrt(units), draw(4 * units)
        self.wh, self.h0, self.c0 = self.wh.astype(dtype), draw(examples, units), draw(examples, units)
        self.dh, self.dh_last, self.dc_last = draw(steps, examples, units), draw(examples, units), draw(examples, units)

    def astype(self, dtype):
        """The same numbers in another precision."""
        other = Case(self.steps, self.examples, self.features, self.units, symbols=self.symbols, dtype=dtype)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.astype(dtype) if value.dtype.kind == "f" else value)
        return other

    def empty(self, *shape):
        return np.full(shape, np.nan, self.dtype)

    def buffers(self):
        """gates, c, tanh_c and h, with the initial states in place."""
        t, n, u = self.steps, self.examples, self.units
        gates, tanh_c = self.empty(t, 4, n, u), self.empty(t, n, u)
        c, h = self.empty(t + 1, n, u), self.empty(t + 1, n, u)
        c[0], h[0] = self.c0, self.h0
        return gates, c, tanh_c, h

    def plan(self, steps=None, examples=None):
        shape = (steps or self.steps, examples or self.examples, self.features)
        return LSTMPlan(shape, self.units, self.dtype, self.symbols)

    def forward(self, plan, buffers):
        return lstm_forward(self.x, self.wx, self.wh, self.b, self.lengths, plan, *buffers)

    def destinations(self):
        n, u = self.examples, self.units
        return {"dx": None if self.symbols else np.full_like(self.x, np.nan), "dwx": self.empty(self.features, 4 * u),
                "dwh": self.empty(u, 4 * u), "db": self.empty(4 * u), "dh0": self.empty(n, u), "dc0": self.empty(n, u)}

    def backward(self, plan, buffers, destinations):
        return lstm_backward(self.dh, self.dh_last, self.dc_last, self.x, self.wx, self.wh, self.lengths, *buffers,
                             plan, **destinations)

    def solve(self, plan=None):
        """(h, c, {name: gradient}); what is None is left out."""
        plan, buffers, destinations = plan or self.plan(), self.buffers(), self.destinations()
        out = self.forward(plan, buffers)
        assert np.shares_memory(out, buffers[3]) and out.shape == (self.steps, self.examples, self.units)
        assert self.backward(plan, buffers, destinations) is destinations["dx"]
        return buffers[3], buffers[1], {name: d for name, d in destinations.items() if d is not None}

    def loss(self):
        """A number whose gradients with respect to outputs and last states are dh, dh_last and dc_last."""
        _, c, _, h = buffers = self.buffers()
        self.forward(self.plan(), buffers)
        return sum(np.vdot(a, d) for a, d in ((h[1:], self.dh), (h[-1], self.dh_last), (c[-1], self.dc_last))
                   if d is not None)

    def textbook(self):
        """As `solve`, by the textbook step repeated; a sequence that has ended is left out of the step."""
        x = np.eye(self.features, dtype=self.dtype)[self.x] if self.symbols else self.x
        lengths = np.full(self.examples, self.steps) if self.lengths is None else self.lengths
        h, c, kept = [self.h0], [self.c0], []
        for t in range(self.steps):
            on = lengths > t
            gates = self.empty(4, on.sum(), self.units)
            h_new, c_new = h[-1].copy(), c[-1].copy()
            c_on, h_on = c_new[on], h_new[on]
            lstm_step_forward(x[t, on], h[-1][on], c[-1][on], self.wx, self.wh, self.b, gates, c_on, h_on)
            h_new[on], c_new[on] = h_on, c_on
            kept.append((on, gates, c_on))
            h.append(h_new)
            c.append(c_new)
        total = {"dx": np.zeros_like(x), "dwx": np.zeros_like(self.wx), "dwh": np.zeros_like(self.wh),
                 "db": np.zeros_like(self.b)}
        dh, dc = self.dh_last.copy(), self.dc_last.copy()
        for t in reversed(range(self.steps)):
            on, gates, c_on = kept[t]
            dh = dh + self.dh[t]
            dx, dh_on, dc_on = self.empty(*x[t, on].shape), self.empty(*c_on.shape), self.empty(*c_on.shape)
            dwx, dwh, db = (np.empty_like(w) for w in (self.wx, self.wh, self.b))
            lstm_step_backward(dh[on], dc[on], x[t, on], h[t][on], c[t][on], self.wx, self.wh, gates, c_on,
                               dx, dh_on, dc_on, dwx, dwh, db)
            dh[on], dc[on], total["dx"][t, on] = dh_on, dc_on, dx
            for name, part in (("dwx", dwx), ("dwh", dwh), ("db", db)):
                total[name] += part
        if self.symbols:
            del total["dx"]
        return np.stack(h), np.stack(c), {**total, "dh0": dh, "dc0": dc}


def assert_close(ours, reference, tolerance):
    """Each array within `tolerance` of the largest magnitude in its reference (of 1 where that is less)."""
    h, c, gradients = ours
    reference_h, reference_c, reference_gradients = reference
    pairs = {"h": (h, reference_h), "c": (c, reference_c)}
    assert gradients.keys() == reference_gradients.keys()
    pairs |= {name: (gradients[name], reference_gradients[name]) for name in gradients}
    for name, (a, b) in pairs.items():
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=name)


# ---- gradients by finite differences --------------------------------------------------------------------------------


def test_gradients_of_the_textbook_step():
    case = Case(1, 3, 2, 4)
    gates, c, h = case.empty(4, 3, 4), case.empty(3, 4), case.empty(3, 4)
    x = case.x[0]

    def loss():
        lstm_step_forward(x, case.h0, case.c0, case.wx, case.wh, case.b, gates, c, h)
        return np.vdot(h, case.dh_last) + np.vdot(c, case.dc_last)

    loss()
    d = [np.empty_like(a) for a in (x, case.h0, case.c0, case.wx, case.wh, case.b)]
    lstm_step_backward(case.dh_last, case.dc_last, x, case.h0, case.c0, case.wx, case.wh, gates, c, *d)
    for array, gradient in zip((x, case.h0, case.c0, case.wx, case.wh, case.b), d, strict=True):
        check_coordinates(loss, array, gradient)


LENGTHS = {"all": None, "some": np.array([3, 0, 5, 1])}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("symbols", [False, True])
def test_gradients_coordinate_by_coordinate(symbols, lengths):
    case = Case(5, 4, 3, 2, symbols=symbols, lengths=LENGTHS[lengths], seed=1)
    _, _, gradients = case.solve()
    for name, gradient in gradients.items():
        check_coordinates(case.loss, getattr(case, name[1:]), gradient)


@pytest.mark.parametrize("missing", ["dh", "dh_last", "dc_last"])
def test_gradients_that_do_not_come_in_are_zero(missing):
    case, zero = Case(4, 3, 2, 3, lengths=np.array([4, 2, 3])), Case(4, 3, 2, 3, lengths=np.array([4, 2, 3]))
    setattr(case, missing, None)
    getattr(zero, missing)[:] = 0
    gradients = case.solve()[2]
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, zero.solve()[2][name])
    check_coordinates(case.loss, case.h0, gradients["dh0"])


@pytest.mark.parametrize("symbols", [False, True])
def test_gradients_of_a_realistic_size_along_random_directions(symbols):
    case = Case(22, 16, 39, 32, symbols=symbols, lengths="random")
    case.wx *= 0.3
    _, _, gradients = case.solve()
    for name, gradient in gradients.items():
        check_directions(case.loss, getattr(case, name[1:]), gradient, directions=5)


# ---- the sequence against the textbook step -------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(steps=st.integers(1, 6), examples=st.integers(1, 5), features=st.integers(1, 5), units=st.integers(1, 5),
       symbols=st.booleans(), lengths=st.sampled_from([None, "random"]), spare=st.integers(0, 3),
       seed=st.integers(0, 10_000))
def test_sequence_equals_the_textbook_step_repeated(steps, examples, features, units, symbols, lengths, spare, seed):
    case = Case(steps, examples, features, units, symbols=symbols, lengths=lengths, seed=seed)
    assert_close(case.solve(case.plan(steps + spare, examples + 2 * spare)), case.textbook(), 1e-12)


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("symbols", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 5, 3, 9), (22, 16, 39, 32), (4, 3, 8, 131)])
def test_float32_equals_float64(kernels, shape, symbols, lengths):
    case = Case(*shape, symbols=symbols, lengths=lengths, dtype=np.float32)
    h, c, gradients = case.solve()
    assert all(a.dtype == np.float32 for a in (h, c, *gradients.values()))
    assert_close((h, c, gradients), case.astype(np.float64).textbook(), 1e-5)


def test_symbols_are_one_hot_rows():
    case = Case(6, 4, 5, 3, symbols=True, lengths="random")
    h, c, gradients = case.solve()
    case.symbols, case.x = False, np.eye(5)[case.x]
    h_onehot, c_onehot, onehot_gradients = case.solve()
    del onehot_gradients["dx"]
    assert_close((h, c, gradients), (h_onehot, c_onehot, onehot_gradients), 1e-13)


def test_a_smaller_batch_than_the_plan_was_built_for_gives_the_same(kernels):
    case = Case(6, 5, 4, 8, dtype=np.float32, lengths="random")
    larger = case.plan(9, 12)
    for _ in range(2):
        for a, b in zip(case.solve(), case.solve(larger), strict=True):
            if isinstance(a, dict):
                for name in a:
                    np.testing.assert_array_equal(a[name], b[name], err_msg=name)
            else:
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sign", [-1, 1])
def test_saturated_gates_are_exact_and_quiet(kernels, sign):
    case = Case(3, 2, 2, 4, dtype=np.float32)
    case.wx[:], case.b[:] = 0, sign * 1e4
    with np.errstate(all="raise", under="ignore"):
        h, c, gradients = case.solve()
    if sign < 0:
        np.testing.assert_allclose(c[1:], 0, atol=1e-30)
        np.testing.assert_allclose(h[1:], 0, atol=1e-30)
    else:
        np.testing.assert_allclose(c[1:], c[:1] + np.arange(1, 4)[:, None, None], rtol=1e-6)
        np.testing.assert_allclose(h[1:], np.tanh(c[1:]), rtol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_nan_in_reaches_the_last_state(kernels):
    # Training looks for it in the loss: no kernel may turn it into a number.
    case = Case(3, 2, 2, 4, dtype=np.float32)
    case.x[0, 1, 0] = np.nan
    h, c, gradients = case.solve()
    assert np.isnan(h[1:, 1]).all() and np.isnan(c[1:, 1]).all()
    assert np.isfinite(h[:, 0]).all() and np.isnan(gradients["dwh"]).any()


# ---- sequences of different lengths ---------------------------------------------------------------------------------


def test_a_masked_sequence_equals_the_shortened_one(kernels):
    lengths = np.array([6, 1, 0, 4])
    case = Case(6, 4, 3, 5, lengths=lengths, dtype=np.float32)
    h, c, gradients = case.solve()
    weights = {name: 0 for name in ("dwx", "dwh", "db")}
    for n, length in enumerate(lengths):
        # To the end of its own length the state moves; after it nothing does, to the last bit.
        np.testing.assert_array_equal(h[length:, n], np.broadcast_to(h[length, n], h[length:, n].shape))
        np.testing.assert_array_equal(c[length:, n], np.broadcast_to(c[length, n], c[length:, n].shape))
        # A gradient of a state in the padding is one of the last state.
        dh_last = case.dh_last[n] + case.dh[length:, n].sum(axis=0)
        np.testing.assert_array_equal(gradients["dx"][length:, n], 0)
        if length == 0:
            np.testing.assert_allclose(gradients["dh0"][n], dh_last, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(gradients["dc0"][n], case.dc_last[n])
            continue
        alone = Case(int(length), 1, 3, 5, dtype=np.float32)
        alone.wx, alone.wh, alone.b = case.wx, case.wh, case.b
        alone.x, alone.dh = case.x[:length, n:n + 1], case.dh[:length, n:n + 1]
        alone.h0, alone.c0, alone.dh_last, alone.dc_last = case.h0[[n]], case.c0[[n]], dh_last[None], case.dc_last[[n]]
        h_alone, c_alone, d = alone.solve()
        masked = {"dx": gradients["dx"][:length, n:n + 1], "dh0": gradients["dh0"][[n]], "dc0": gradients["dc0"][[n]]}
        weights = {name: weights[name] + d.pop(name) for name in weights}
        assert_close((h[:length + 1, n:n + 1], c[:length + 1, n:n + 1], masked), (h_alone, c_alone, d), 2e-6)
    for name, gradient in weights.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("symbols", [False, True])
def test_padding_has_no_influence(kernels, symbols):
    case = Case(6, 4, 5, 7, lengths=np.array([2, 6, 3, 5]), symbols=symbols, dtype=np.float32)
    h, c, gradients = case.solve()
    padding = np.arange(6)[:, None] >= case.lengths
    case.x[padding] = 0 if symbols else 1e6
    h_other, c_other, other = case.solve()
    np.testing.assert_array_equal(h, h_other)
    np.testing.assert_array_equal(c, c_other)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, other[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("symbols", [False, True])
def test_full_lengths_equal_no_lengths(kernels, symbols):
    case = Case(5, 3, 4, 6, symbols=symbols, dtype=np.float32)
    expected = case.solve()
    case.lengths = np.full(3, 5)
    assert_close(case.solve(), expected, 0)


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def in_torch(case, torch):
    """As `Case.solve`, by torch.nn.LSTM, of packed sequences where lengths are given."""
    tensor = torch.tensor
    module = torch.nn.LSTM(case.features, case.units).to(tensor(case.b).dtype)
    with torch.no_grad():
        module.weight_ih_l0.copy_(tensor(case.wx.T.copy()))
        module.weight_hh_l0.copy_(tensor(case.wh.T.copy()))
        module.bias_ih_l0.copy_(tensor(case.b))
        module.bias_hh_l0.zero_()
    x, h0, c0 = (tensor(a, requires_grad=True) for a in (case.x, case.h0[None], case.c0[None]))
    rnn = torch.nn.utils.rnn
    if case.lengths is None:
        out, (h, c) = module(x, (h0, c0))
    else:
        packed = rnn.pack_padded_sequence(x, tensor(case.lengths), enforce_sorted=False)
        out, (h, c) = module(packed, (h0, c0))
        out, _ = rnn.pad_packed_sequence(out, total_length=case.steps)
    torch.autograd.backward([out, h, c], [tensor(case.dh), tensor(case.dh_last[None]), tensor(case.dc_last[None])])
    return out.detach().numpy(), h.detach().numpy()[0], c.detach().numpy()[0], {
        "dx": x.grad.numpy(), "dwx": module.weight_ih_l0.grad.numpy().T, "dwh": module.weight_hh_l0.grad.numpy().T,
        "db": module.bias_ih_l0.grad.numpy(), "dh0": h0.grad.numpy()[0], "dc0": c0.grad.numpy()[0]}


@pytest.mark.parametrize("lengths", [None, np.array([4, 22, 1, 9, 13, 22, 7, 2])])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_agreement_with_pytorch(torch, kernels, dtype, tolerance, lengths):
    case = Case(22, 8, 39, 48, lengths=lengths, dtype=dtype)
    case.wx *= 0.2
    if lengths is not None:
        # PyTorch's outputs in the padding are constant zeros, ours are the last state.
        case.dh[np.arange(22)[:, None] >= lengths] = 0
    h, c, gradients = case.solve()
    out, h_last, c_last, torch_gradients = in_torch(case, torch)
    ours = h[1:].copy()
    if lengths is not None:
        ours[np.arange(22)[:, None] >= lengths] = 0
    assert_close((ours, c[-1], {**gradients, "h_last": h[-1]}), (out, c_last, {**torch_gradients, "h_last": h_last}),
                 tolerance)


# ---- allocation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("symbols", [False, True])
def test_neither_pass_allocates_an_array(kernels, symbols, lengths):
    case = Case(3, 512, 39, 128, symbols=symbols, lengths=lengths, dtype=np.float32)
    plan, buffers, destinations = case.plan(), case.buffers(), case.destinations()
    for _ in range(2):
        case.forward(plan, buffers)
        case.backward(plan, buffers, destinations)
    tracemalloc.start()
    try:
        case.forward(plan, buffers)
        case.backward(plan, buffers, destinations)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy itself takes a buffer of getbufsize() elements for each of an operation's three arrays where it broadcasts
    # or casts, of 8 bytes where symbols are compared. The smallest array of this batch, a state, has 262,144 bytes.
    assert peak < 3 * 8 * np.getbufsize() + 10_000


# ---- the kernels ----------------------------------------------------------------------------------------------------


def test_a_float32_plan_uses_the_kernels_and_a_float64_plan_does_not(kernels):
    plain = (lstm.lstm_symbol_steps_forward, lstm.lstm_steps_backward, embedding.embedding_backward)
    single, double = (LSTMPlan((2, 2, 2), 2, dtype) for dtype in (np.float32, np.float64))
    assert (double.symbol_steps_forward, double.steps_backward, double.embedding_backward) == plain
    chosen = (single.symbol_steps_forward, single.steps_backward, single.embedding_backward)
    assert chosen == tuple(fused.choose(function, np.dtype(np.float32)) for function in plain)
    assert all((ours is reference) == (kernels == "numpy") for ours, reference in zip(chosen, plain, strict=True))


EXTREMES = np.array([0, -0.0, 1e-30, -1e-30, 1e-3, -1e-3, 8, -8, 43.9, -43.9, 86.9, -86.9, 88.5, -88.5, 104, -104,
                     1e4, -1e4, 3e38, -3e38], np.float32)


@pytest.mark.parametrize("shape", [(1, 20), (3, 33), (5, 64)])
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_of_the_gates_equal_the_plain_form(shape, masked):
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    from tinyqae.fused import lstm_kernels
    examples, units = shape
    random = np.random.default_rng(units)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float32)

    inputs, product, c_prev, h_prev = draw(4, 3, *shape), draw(4, *shape), draw(*shape), draw(*shape)
    inputs[:, 1, 0, :20], product[:, 0] = EXTREMES, 0
    dh, dc = draw(*shape), draw(*shape)
    finished = random.random((examples, 1)) < 0.5 if masked else None
    results = []
    for form in (lstm, lstm_kernels):
        gates, c, tanh_c, h = product.copy(), draw(*shape), draw(*shape), draw(*shape)
        with np.errstate(over="ignore"):
            form.lstm_gates_forward(inputs, 1, c_prev, h_prev, finished, gates, c, tanh_c, h)
        carried, da = dc.copy(), draw(examples, 4 * units)
        form.lstm_gates_backward(dh, carried, c_prev, gates, tanh_c, draw(4, *shape), da)
        results.append({"gates": gates, "c": c, "h": h, "dc": carried, "da": da})
        if masked:
            ended = finished[:, 0]
            np.testing.assert_array_equal(c[ended], c_prev[ended])
            np.testing.assert_array_equal(h[ended], h_prev[ended])
            np.testing.assert_array_equal(da[ended], 0)
            np.testing.assert_array_equal(carried[ended], dc[ended])
    for name, plain in results[0].items():
        np.testing.assert_allclose(results[1][name], plain, rtol=1e-5, atol=2e-6, err_msg=name)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, named", [
    (((3, 4), 5), r"input_shape=\(3, 4\) must be \(T, N, F\)"),
    (((3, 0, 2), 5), r"input_shape=\(3, 0, 2\)"),
    (((3, 4, 2), 0), "units=0 must be a whole number above 0"),
    (((3, 4, 2), 2.0), "units=2.0"),
    (((3, 4, 2), 5, np.int32), "dtype=int32 must be a floating dtype"),
])
def test_a_plan_that_makes_no_sense_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        LSTMPlan(*arguments)


def change(**attributes):
    """A function that sets attributes of a case."""
    return lambda case: vars(case).update(attributes)


@pytest.mark.parametrize("spoil, named", [
    (change(x=np.zeros((5, 4))), r"x has shape \(5, 4\) .* a plan with symbols=False needs \(T, N, F\)"),
    (change(x=np.zeros((5, 4, 2))), r"x has shape \(5, 4, 2\)"),
    (change(x=np.zeros((5, 4, 3), np.float32)), r"x .* float32; the plan needs .* float64"),
    (change(x=np.zeros((6, 4, 3))), "x has 6 time steps of 4 examples; the plan is for 1 to 5 and 1 to 4"),
    (change(x=np.zeros((5, 9, 3))), "x has 5 time steps of 9 examples"),
    (change(x=np.zeros((0, 4, 3))), "x has 0 time steps"),
    (change(wx=np.zeros((8, 3))), r"wx has shape \(8, 3\) .* needs \(3, 8\)"),
    (change(wh=np.zeros((2, 2))), r"wh has shape"),
    (change(b=np.zeros((2, 8))), r"b has shape"),
    (change(lengths=np.array([1, 2, 3])), r"lengths has shape \(3,\) and dtype int64; it must be 4 integers"),
    (change(lengths=np.array([1.0, 2, 3, 4])), "lengths .* dtype float64"),
    (change(lengths=np.array([1, 2, 3, 6])), "lengths are from 1 to 6; with 5 time steps they must be 0 to 5"),
    (change(lengths=np.array([-1, 2, 3, 5])), "lengths are from -1 to 5"),
])
def test_input_that_does_not_fit_the_plan_is_refused(spoil, named):
    case = Case(5, 4, 3, 2)
    plan, buffers = case.plan(), case.buffers()
    spoil(case)
    with pytest.raises(ValueError, match=named):
        case.forward(plan, buffers)


@pytest.mark.parametrize("position, name", list(enumerate(["gates", "c", "tanh_c", "h"])))
def test_destinations_of_the_forward_pass_must_fit(position, name):
    case = Case(5, 4, 3, 2)
    buffers = list(case.buffers())
    good = buffers[position]
    for bad, named in ((good[:, :1], f"{name} has shape"), (np.asfortranarray(good), f"{name} .* contiguous"),
                       (good.astype(np.float32), f"{name} .* float32")):
        buffers[position] = bad
        with pytest.raises(ValueError, match=named):
            case.forward(case.plan(), buffers)


@pytest.mark.parametrize("name", ["dh", "dh_last", "dc_last", *GRADIENTS])
def test_gradients_that_do_not_fit_are_refused(name):
    case = Case(5, 4, 3, 2)
    buffers, destinations = case.buffers(), case.destinations()
    case.forward(case.plan(), buffers)
    bad = np.zeros((5, 4))
    if name in destinations:
        destinations[name] = bad
    else:
        setattr(case, name, bad)
    with pytest.raises(ValueError, match=rf"{name} has shape \(5, 4\)"):
        case.backward(case.plan(), buffers, destinations)


def test_symbols_are_checked():
    case = Case(5, 4, 3, 2, symbols=True)
    plan, buffers = case.plan(), case.buffers()
    case.forward(plan, buffers)
    with pytest.raises(ValueError, match="dx is given, but symbols have no derivative; pass dx=None"):
        case.backward(plan, buffers, {**case.destinations(), "dx": np.zeros((5, 4))})
    case.x[2, 1] = 3
    with pytest.raises(ValueError, match="symbols from 0 to 3 do not fit a table of 3 rows"):
        case.forward(plan, buffers)
    case.x = case.x.astype(np.float64)
    with pytest.raises(ValueError, match="symbols have dtype float64; they must be integers"):
        case.forward(plan, buffers)


# ---- a context ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("symbols", [False, True])
def test_a_context_equals_an_input_that_is_the_same_at_every_step(symbols, lengths):
    """z wz as context, or z beside every x_t and wz below wx."""
    steps, examples, features, units, width = 5, 4, 6, 3, 2
    case = Case(steps, examples, features, units, symbols=symbols, lengths=lengths)
    random = np.random.default_rng(0)
    z, wz = random.standard_normal((examples, width)), random.standard_normal((width, 4 * units))
    with_context, destinations = case.buffers(), case.destinations()
    plan, dcontext = case.plan(), case.empty(examples, 4 * units)
    lstm_forward(case.x, case.wx, case.wh, case.b, case.lengths, plan, *with_context, context=z @ wz)
    lstm_backward(case.dh, case.dh_last, case.dc_last, case.x, case.wx, case.wh, case.lengths, *with_context, plan,
                  **destinations, dcontext=dcontext)

    beside = Case(steps, examples, features + width, units, lengths=case.lengths)
    x = np.eye(features)[case.x] if symbols else case.x
    vars(beside).update({name: getattr(case, name) for name in ("wh", "b", "h0", "c0", "dh", "dh_last", "dc_last")})
    beside.x = np.ascontiguousarray(np.concatenate([x, np.broadcast_to(z, (steps, examples, width))], axis=2))
    beside.wx = np.concatenate([case.wx, wz])
    h, c, gradients = beside.solve()
    np.testing.assert_allclose(with_context[3], h, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(with_context[1], c, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(z.T @ dcontext, gradients["dwx"][features:], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dcontext @ wz.T, gradients["dx"][..., features:].sum(axis=0), rtol=1e-10, atol=1e-12)
    for name in ("dwh", "db", "dh0", "dc0"):
        np.testing.assert_allclose(destinations[name], gradients[name], rtol=1e-10, atol=1e-12)
