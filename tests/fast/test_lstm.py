"""The fast engine's LSTM, plain and by its Numba kernels, against the reference op, numeric derivatives and PyTorch;
sequences of different lengths, a context, allocation, bad tokens.
"""

import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import backend
from tinyqae.fast import lstm, ops
from tinyqae.fast.kernels import choose
from tinyqae.fast.lstm import LSTMPlan, lstm_backward, lstm_forward
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops import dense as dense_op
from tinyqae.ops import embedding as embedding_op
from tinyqae.ops import lstm as reference

GRADIENTS = ("dx", "dwx", "dwh", "db", "dh0", "dc0", "dcontext")


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """On small arrays more threads cost more than they do."""
    with backend.one_blas_thread():
        yield


class Case:
    """One problem (random inputs, weights, states and gradients of the outputs) and its solutions."""

    def __init__(
        self, steps, examples, features, units, *, tokens=False, lengths=None, context=False, seed=0, dtype=np.float64
    ):
        random = np.random.default_rng((seed, steps, examples, features, units))

        def draw(*shape):
            return random.standard_normal(shape).astype(dtype)

        self.steps, self.examples, self.features, self.units = steps, examples, features, units
        self.tokens, self.dtype = tokens, np.dtype(dtype)
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.x = draw(steps, examples, features)
        if tokens:
            self.x = random.integers(0, features, (steps, examples))
        self.wx, self.wh, self.b = draw(features, 4 * units), draw(units, 4 * units) / np.sqrt(units), draw(4 * units)
        self.wh, self.h0, self.c0 = self.wh.astype(dtype), draw(examples, units), draw(examples, units)
        self.dh, self.dh_last, self.dc_last = draw(steps, examples, units), draw(examples, units), draw(examples, units)
        self.context = draw(examples, 4 * units) if context else None

    def astype(self, dtype):
        """The same numbers in another precision."""
        other = Case(
            self.steps, self.examples, self.features, self.units, tokens=self.tokens, lengths=self.lengths, dtype=dtype
        )
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
        return LSTMPlan(shape, self.units, self.dtype, self.tokens)

    def forward(self, plan, buffers):
        return lstm_forward(self.x, self.wx, self.wh, self.b, self.lengths, plan, *buffers, self.context)

    def destinations(self):
        n, u = self.examples, self.units
        return {
            "dx": None if self.tokens else np.full_like(self.x, np.nan),
            "dwx": self.empty(self.features, 4 * u),
            "dwh": self.empty(u, 4 * u),
            "db": self.empty(4 * u),
            "dh0": self.empty(n, u),
            "dc0": self.empty(n, u),
            "dcontext": None if self.context is None else self.empty(n, 4 * u),
        }

    def backward(self, plan, buffers, destinations):
        return lstm_backward(
            self.dh, self.dh_last, self.dc_last, self.x, self.wx, self.wh, self.lengths, *buffers, plan, **destinations
        )

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
        return sum(
            np.vdot(a, d) for a, d in ((h[1:], self.dh), (h[-1], self.dh_last), (c[-1], self.dc_last)) if d is not None
        )

    def reference(self):
        """As `solve`, by the reference ops."""
        x_wx = embedding_op.embedding_forward(self.x, self.wx) if self.tokens else self.x @ self.wx
        inputs = x_wx + self.b if self.context is None else x_wx + self.b + self.context
        hs, cs, gates = reference.lstm_forward(inputs, self.wh, self.h0, self.c0, self.lengths)
        dh_last, dc_last = (np.zeros_like(self.h0) if d is None else d for d in (self.dh_last, self.dc_last))
        dinputs, dwh, dh0, dc0 = reference.lstm_backward(self.dh, dh_last, dc_last, self.wh, hs, cs, gates, self.lengths)
        gradients = {"dwh": dwh, "db": dinputs.sum(axis=(0, 1)), "dh0": dh0, "dc0": dc0}
        if self.context is not None:
            gradients["dcontext"] = dinputs.sum(axis=0)
        if self.tokens:
            gradients["dwx"] = embedding_op.embedding_backward(dinputs, self.x, self.features)
        else:
            rows, x = dinputs.reshape(-1, 4 * self.units), self.x.reshape(-1, self.features)
            dx, gradients["dwx"], _ = dense_op.dense_backward(rows, x, self.wx)
            gradients["dx"] = dx.reshape(self.x.shape)
        return np.stack(hs), np.stack(cs), gradients


def assert_close(ours, expected, tolerance):
    """Each array within `tolerance` of the largest magnitude in the expected one (of 1 where that is less)."""
    h, c, gradients = ours
    expected_h, expected_c, expected_gradients = expected
    pairs = {"h": (h, expected_h), "c": (c, expected_c)}
    assert gradients.keys() == expected_gradients.keys()
    pairs |= {name: (gradients[name], expected_gradients[name]) for name in gradients}
    for name, (a, b) in pairs.items():
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=name)


# ---- gradients by finite differences --------------------------------------------------------------------------------


LENGTHS = {"all": None, "some": np.array([3, 0, 5, 1])}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_gradients_coordinate_by_coordinate(tokens, context, lengths):
    case = Case(5, 4, 3, 2, tokens=tokens, context=context, lengths=LENGTHS[lengths], seed=1)
    _, _, gradients = case.solve()
    assert set(GRADIENTS) - gradients.keys() == {*(["dx"] if tokens else []), *([] if context else ["dcontext"])}
    for name, gradient in gradients.items():
        check_coordinates(case.loss, getattr(case, name[1:]), gradient)


@pytest.mark.parametrize("missing", ["dh", "dh_last", "dc_last"])
def test_gradients_left_out_are_zeros(missing):
    case, zero = (Case(4, 3, 2, 3, lengths=np.array([4, 2, 3])) for _ in range(2))
    setattr(case, missing, None)
    getattr(zero, missing)[:] = 0
    gradients = case.solve()[2]
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, zero.solve()[2][name])
    check_coordinates(case.loss, case.h0, gradients["dh0"])


@pytest.mark.parametrize("tokens", [False, True])
def test_gradients_along_directions_at_a_realistic_size(tokens):
    case = Case(22, 16, 39, 32, tokens=tokens, lengths="random")
    case.wx *= 0.3
    _, _, gradients = case.solve()
    for name, gradient in gradients.items():
        check_directions(case.loss, getattr(case, name[1:]), gradient, directions=5)


# ---- against the reference ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    steps=st.integers(1, 6),
    examples=st.integers(1, 5),
    features=st.integers(1, 5),
    units=st.integers(1, 5),
    tokens=st.booleans(),
    context=st.booleans(),
    lengths=st.sampled_from([None, "random"]),
    spare=st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
def test_equals_the_reference(steps, examples, features, units, tokens, context, lengths, spare, seed):
    case = Case(steps, examples, features, units, tokens=tokens, context=context, lengths=lengths, seed=seed)
    assert_close(case.solve(case.plan(steps + spare, examples + 2 * spare)), case.reference(), 1e-12)


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 5, 3, 9), (22, 16, 39, 32), (4, 3, 8, 131)])
def test_float32_equals_the_reference_in_float64(kernels, shape, tokens, context, lengths):
    case = Case(*shape, tokens=tokens, context=context, lengths=lengths, dtype=np.float32)
    h, c, gradients = case.solve()
    assert all(a.dtype == np.float32 for a in (h, c, *gradients.values()))
    assert_close((h, c, gradients), case.astype(np.float64).reference(), 1e-5)


def test_tokens_are_one_hot_rows():
    case = Case(6, 4, 5, 3, tokens=True, lengths="random")
    h, c, gradients = case.solve()
    case.tokens, case.x = False, np.eye(5)[case.x]
    h_onehot, c_onehot, onehot_gradients = case.solve()
    del onehot_gradients["dx"]
    assert_close((h, c, gradients), (h_onehot, c_onehot, onehot_gradients), 1e-13)


def test_a_smaller_batch_than_the_plan_was_built_for_gives_the_same(kernels):
    case = Case(6, 5, 4, 8, dtype=np.float32, lengths="random")
    larger = case.plan(9, 12)
    for _ in range(2):
        assert_close(case.solve(larger), case.solve(), 0)


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
        alone.x, alone.dh = case.x[:length, n : n + 1], case.dh[:length, n : n + 1]
        alone.h0, alone.c0, alone.dh_last, alone.dc_last = case.h0[[n]], case.c0[[n]], dh_last[None], case.dc_last[[n]]
        h_alone, c_alone, d = alone.solve()
        masked = {"dx": gradients["dx"][:length, n : n + 1], "dh0": gradients["dh0"][[n]], "dc0": gradients["dc0"][[n]]}
        weights = {name: weights[name] + d.pop(name) for name in weights}
        assert_close((h[: length + 1, n : n + 1], c[: length + 1, n : n + 1], masked), (h_alone, c_alone, d), 2e-6)
    for name, gradient in weights.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("tokens", [False, True])
def test_padding_has_no_influence(kernels, tokens):
    case = Case(6, 4, 5, 7, lengths=np.array([2, 6, 3, 5]), tokens=tokens, dtype=np.float32)
    h, c, gradients = case.solve()
    padding = np.arange(6)[:, None] >= case.lengths
    case.x[padding] = 0 if tokens else 1e6
    h_other, c_other, other = case.solve()
    np.testing.assert_array_equal(h, h_other)
    np.testing.assert_array_equal(c, c_other)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, other[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("tokens", [False, True])
def test_full_lengths_equal_no_lengths(kernels, tokens):
    case = Case(5, 3, 4, 6, tokens=tokens, dtype=np.float32)
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
    return (
        out.detach().numpy(),
        h.detach().numpy()[0],
        c.detach().numpy()[0],
        {
            "dx": x.grad.numpy(),
            "dwx": module.weight_ih_l0.grad.numpy().T,
            "dwh": module.weight_hh_l0.grad.numpy().T,
            "db": module.bias_ih_l0.grad.numpy(),
            "dh0": h0.grad.numpy()[0],
            "dc0": c0.grad.numpy()[0],
        },
    )


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
    assert_close(
        (ours, c[-1], {**gradients, "h_last": h[-1]}), (out, c_last, {**torch_gradients, "h_last": h_last}), tolerance
    )


# ---- allocation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("tokens", [False, True])
def test_neither_pass_allocates_an_array(kernels, tokens, lengths, context):
    case = Case(3, 512, 39, 128, tokens=tokens, lengths=lengths, context=context, dtype=np.float32)
    plan, buffers, destinations = case.plan(), case.buffers(), case.destinations()

    def both():
        case.forward(plan, buffers)
        case.backward(plan, buffers, destinations)

    both()
    # The smallest array of this batch, a state, has 262,144 bytes.
    assert peak_of_second_call(both) < 20_000


# ---- the kernels ----------------------------------------------------------------------------------------------------


def test_float32_uses_the_kernels_and_float64_does_not(kernels):
    for plain in (lstm.lstm_steps_forward, lstm.lstm_token_steps_forward, lstm.lstm_steps_backward, ops.embedding_backward):
        assert choose(plain, np.dtype(np.float64)) is plain
        assert (choose(plain, np.dtype(np.float32)) is plain) == (kernels == "numpy")


EXTREMES = np.array(
    [0, -0.0, 1e-30, -1e-30, 1e-3, -1e-3, 8, -8, 43.9, -43.9, 86.9, -86.9, 88.5, -88.5, 104, -104, 1e4, -1e4, 3e38, -3e38],
    np.float32,
)


class Gates:
    """One step after its matmul, in exponents as lstm_gates_forward takes them, and the gradients of its h and c."""

    def __init__(self, examples, units, masked):
        random = np.random.default_rng(units)

        def draw(*shape):
            return random.standard_normal((*shape, examples, units)).astype(np.float32)

        self.shape, self.inputs, self.h_wh = (examples, units), draw(4, 3), draw(4)
        self.c_prev, self.h_prev = draw(), draw()
        self.inputs[:, 1, 0, :20], self.h_wh[:, 0] = EXTREMES, 0
        self.dh, self.dc = draw(), draw()
        self.finished = random.random((examples, 1)) < 0.5 if masked else None

    def solve(self, form):
        """The results of both passes by name; form: "numpy" or "numba"."""
        forward, backward = (
            (lstm.lstm_gates_forward, lstm.lstm_gates_backward)
            if form == "numpy"
            else (numba_kernels()._gates_forward, numba_kernels()._gates_backward)
        )
        examples, units = self.shape
        gates, carried = self.h_wh.copy(), self.dc.copy()
        c, tanh_c, h, scratch, da = (
            np.full(shape, np.nan, np.float32)
            for shape in (self.shape, self.shape, self.shape, (4, *self.shape), (examples, 4 * units))
        )
        # The kernel takes the inputs of one step, with the row of each example.
        inputs = (self.inputs, 1) if form == "numpy" else (self.inputs[:, 1].copy(), np.arange(examples))
        with np.errstate(over="ignore"):
            forward(*inputs, self.c_prev, self.h_prev, self.finished, gates, c, tanh_c, h)
        backward(self.dh, carried, self.c_prev, gates, tanh_c, scratch, da)
        return {"gates": gates, "c": c, "h": h, "dc": carried, "da": da}

    def reference(self):
        """The same by the reference op."""
        exponents = (self.inputs[:, 1] + self.h_wh) / np.array([-1, -1, -2, -1], np.float32).reshape(4, 1, 1)
        h, c, gates = reference.lstm_step_forward(np.concatenate(exponents, axis=1), self.c_prev)
        da, dc = reference.lstm_step_backward(self.dh, self.dc, self.c_prev, c, gates)
        return {"gates": np.stack(gates), "c": c, "h": h, "dc": dc, "da": da}


@pytest.mark.parametrize("shape", [(1, 20), (3, 33), (5, 64)])
@pytest.mark.parametrize("form", ["numpy", "numba"])
def test_the_gates_of_a_step_equal_the_reference(shape, form):
    problem = Gates(*shape, masked=False)
    results = problem.solve(form)
    for name, expected in problem.reference().items():
        np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=2e-6, err_msg=name)


def numba_kernels():
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    from tinyqae.fast.numba import lstm as kernels

    return kernels


@pytest.mark.parametrize("shape", [(1, 20), (3, 33), (5, 64)])
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_of_the_gates_equal_the_plain_form(shape, masked):
    problem = Gates(*shape, masked)
    ours, plain = problem.solve("numba"), problem.solve("numpy")
    for name, expected in plain.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=2e-6, err_msg=name)
    if masked:
        ended = problem.finished[:, 0]
        for results in (ours, plain):
            np.testing.assert_array_equal(results["c"][ended], problem.c_prev[ended])
            np.testing.assert_array_equal(results["h"][ended], problem.h_prev[ended])
            np.testing.assert_array_equal(results["da"][ended], 0)
            np.testing.assert_array_equal(results["dc"][ended], problem.dc[ended])


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_tokens_are_checked(kernels):
    case = Case(5, 4, 3, 2, tokens=True, dtype=np.float64 if kernels == "numpy" else np.float32)
    plan, buffers = case.plan(), case.buffers()
    case.x[2, 1] = 3
    with pytest.raises(ValueError, match="tokens from 0 to 3 are out of range for a vocabulary of 3"):
        case.forward(plan, buffers)
    case.x = case.x.astype(np.float64)
    with pytest.raises(ValueError, match="tokens have dtype float64; they must be integers"):
        case.forward(plan, buffers)


# ---- a context ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("tokens", [False, True])
def test_a_context_equals_an_input_that_is_the_same_at_every_step(tokens, lengths):
    """z wz as context, or z beside every x_t and wz below wx."""
    steps, examples, features, units, width = 5, 4, 6, 3, 2
    case = Case(steps, examples, features, units, tokens=tokens, lengths=lengths)
    random = np.random.default_rng(0)
    z, wz = random.standard_normal((examples, width)), random.standard_normal((width, 4 * units))
    case.context = z @ wz
    with_context_h, with_context_c, with_context = case.solve()
    dcontext = with_context["dcontext"]

    beside = Case(steps, examples, features + width, units, lengths=case.lengths)
    x = np.eye(features)[case.x] if tokens else case.x
    vars(beside).update({name: getattr(case, name) for name in ("wh", "b", "h0", "c0", "dh", "dh_last", "dc_last")})
    beside.x = np.ascontiguousarray(np.concatenate([x, np.broadcast_to(z, (steps, examples, width))], axis=2))
    beside.wx = np.concatenate([case.wx, wz])
    h, c, gradients = beside.solve()
    np.testing.assert_allclose(with_context_h, h, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(with_context_c, c, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(z.T @ dcontext, gradients["dwx"][features:], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dcontext @ wz.T, gradients["dx"][..., features:].sum(axis=0), rtol=1e-10, atol=1e-12)
    for name in ("dwh", "db", "dh0", "dc0"):
        np.testing.assert_allclose(with_context[name], gradients[name], rtol=1e-10, atol=1e-12)
