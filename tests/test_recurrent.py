"""The LSTM layer: initial weights, PyTorch agreement, gradients, buffers, replicas, allocation."""
import tracemalloc

import numpy as np
import pytest

from tinyqae import backend
from tinyqae.gradcheck import check_coordinates
from tinyqae.layers import Dense
from tinyqae.recurrent import LSTM, orthogonal, replica

FEATURES, UNITS = 5, 4


@pytest.fixture(autouse=True)
def one_blas_thread():
    """On small arrays more threads cost more than they do."""
    with backend.blas_threads(1):
        yield


def layer(features=FEATURES, units=UNITS, symbols=False, dtype=np.float32, seed=0, needs_dx=True):
    lstm = LSTM(units, symbols)
    lstm.needs_dx = needs_dx
    assert lstm.setup((features,), np.random.default_rng(seed), np.dtype(dtype)) == (units,)
    return lstm


def stirred(lstm, seed=1):
    """The same layer with weights that are nothing special."""
    random = np.random.default_rng(seed)
    for array in lstm.params.values():
        array += random.normal(0, 0.3, array.shape).astype(array.dtype)
    return lstm


class Problem:
    """Inputs, initial states and incoming gradients for one pass through a layer."""

    def __init__(self, lstm, steps, examples, lengths=None, seed=0, context=False):
        random = np.random.default_rng((seed, steps, examples))

        def draw(*shape):
            return random.standard_normal(shape).astype(lstm.dtype)

        features, u = *lstm.input_shape, lstm.units
        self.x = random.integers(0, features, (steps, examples)) if lstm.symbols else draw(steps, examples, features)
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.h0, self.c0 = draw(examples, u), draw(examples, u)
        self.dout, self.dh, self.dc = draw(steps, examples, u), draw(examples, u), draw(examples, u)
        self.context = draw(examples, 4 * u) if context else None

    def forward(self, lstm):
        return lstm.forward(self.x, self.lengths, self.h0, self.c0, self.context)

    def loss(self, lstm):
        """A number whose gradients at outputs and last states are dout, dh and dc."""
        out = self.forward(lstm)
        return np.vdot(out, self.dout) + np.vdot(lstm.h_last, self.dh) + np.vdot(lstm.c_last, self.dc)

    def solve(self, lstm):
        """Copies of everything that comes out of a pass, by name; what is None is left out."""
        out = {"out": self.forward(lstm), "h_last": lstm.h_last, "c_last": lstm.c_last}
        out = {name: array.copy() for name, array in out.items()}
        out |= {"x": lstm.backward(self.dout, self.dh, self.dc), "h0": lstm.dh0, "c0": lstm.dc0,
                "context": lstm.dcontext, **lstm.grads}
        return {name: array.copy() for name, array in out.items() if array is not None}


def assert_same(ours, reference, **tolerance):
    assert ours.keys() == reference.keys()
    for name, array in reference.items():
        np.testing.assert_allclose(ours[name], array, err_msg=name, **tolerance)


# ---- initial weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recurrent_weights_start_orthonormal(dtype):
    wh = layer(37, 64, dtype=dtype).params["wh"]
    assert wh.shape == (64, 256) and wh.dtype == dtype
    np.testing.assert_allclose(wh @ wh.T, np.eye(64), atol=1e-5)


def test_orthogonal_matrices_favour_no_sign():
    draws = [orthogonal(np.random.default_rng(seed), 3, 12) for seed in range(300)]
    np.testing.assert_allclose(np.mean(draws, axis=0), 0, atol=5 * np.sqrt(1 / 12 / 300))
    np.testing.assert_allclose(np.std(draws, axis=0), np.sqrt(1 / 12), rtol=0.25)


def test_input_weights_fill_the_glorot_range():
    wx, limit = layer(37, 64).params["wx"], np.sqrt(6 / (37 + 4 * 64))
    assert wx.shape == (37, 256)
    assert 0.99 * limit < np.abs(wx).max() <= limit * 1.000001
    np.testing.assert_allclose(wx.std(), limit / np.sqrt(3), rtol=0.03)


def test_the_forget_gate_alone_starts_with_a_bias():
    u = 6
    b = layer(units=u).params["b"]
    assert b.tolist() == [0] * u + [1] * u + [0] * 2 * u
    lstm = layer(units=u)
    lstm.params["wx"][...] = lstm.params["wh"][...] = 0
    lstm.forward(np.zeros((1, 1, FEATURES), np.float32), None, None, np.ones((1, u), np.float32))
    np.testing.assert_allclose(lstm.c_last, 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_a_seed_gives_the_same_weights_in_both_precisions_and_another_seed_others():
    single, double, other = layer(seed=3), layer(seed=3, dtype=np.float64), layer(seed=4)
    for name in ("wx", "wh", "b"):
        np.testing.assert_array_equal(single.params[name], double.params[name].astype(np.float32))
    assert not np.array_equal(single.params["wx"], other.params["wx"])
    assert not np.array_equal(single.params["wh"], other.params["wh"])


@pytest.mark.parametrize("units", [0, -3, 2.0, "4", None])
def test_units_that_make_no_sense_are_refused(units):
    with pytest.raises(ValueError, match=f"units={units!r} must be a whole number above 0"):
        LSTM(units)


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def in_torch(torch, lstm, problem):
    """As Problem.solve, by torch.nn.LSTM. The context enters as further inputs whose weights are one-hot rows."""
    tensor, u = torch.tensor, lstm.units
    context = np.zeros((len(problem.h0), 4 * u), lstm.dtype) if problem.context is None else problem.context
    module = torch.nn.LSTM(lstm.input_shape[0] + 4 * u, u, dtype=tensor(context).dtype)
    with torch.no_grad():
        module.weight_ih_l0.copy_(tensor(np.concatenate([lstm.params["wx"], np.eye(4 * u)]).T))
        module.weight_hh_l0.copy_(tensor(lstm.params["wh"].T))
        module.bias_ih_l0.copy_(tensor(lstm.params["b"]))
        module.bias_hh_l0.zero_()
    x = np.eye(lstm.input_shape[0], dtype=lstm.dtype)[problem.x] if lstm.symbols else problem.x
    x, h0, c0, context = (tensor(a, requires_grad=True) for a in (x, problem.h0[None], problem.c0[None], context))
    out, (h, c) = module(torch.cat([x, context.expand(len(x), -1, -1)], dim=-1), (h0, c0))
    torch.autograd.backward([out, h, c], [tensor(problem.dout), tensor(problem.dh[None]), tensor(problem.dc[None])])
    solution = {"out": out.detach(), "h_last": h.detach()[0], "c_last": c.detach()[0], "x": x.grad, "h0": h0.grad[0],
                "c0": c0.grad[0], "context": context.grad, "wx": module.weight_ih_l0.grad.T[:lstm.input_shape[0]],
                "wh": module.weight_hh_l0.grad.T, "b": module.bias_ih_l0.grad}
    if problem.context is None:
        del solution["context"]
    if lstm.symbols:
        del solution["x"]
    return {name: array.numpy() for name, array in solution.items()}


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("symbols", [False, True])
def test_agreement_with_pytorch(torch, kernels, symbols, context, dtype, tolerance):
    lstm = stirred(layer(19, 24, symbols, dtype))
    problem = Problem(lstm, 15, 7, context=context)
    ours, theirs = problem.solve(lstm), in_torch(torch, lstm, problem)
    assert all(array.dtype == dtype for array in ours.values())
    assert_same(ours, theirs, rtol=tolerance, atol=10 * tolerance)


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("symbols", [False, True])
def test_gradients_coordinate_by_coordinate(symbols, context, lengths):
    lstm = stirred(layer(3, 2, symbols, np.float64))
    problem = Problem(lstm, 5, 4, lengths, context=context)
    gradients = problem.solve(lstm)
    assert ("x" in gradients) != symbols and ("context" in gradients) == context
    for name in ("wx", "wh", "b"):
        check_coordinates(lambda: problem.loss(lstm), lstm.params[name], gradients[name])
    for name in {"x", "h0", "c0", "context"} & gradients.keys():
        check_coordinates(lambda: problem.loss(lstm), getattr(problem, name), gradients[name])


def test_initial_state_and_gradients_left_out_are_zeros(kernels):
    lstm = stirred(layer())
    problem = Problem(lstm, 6, 3)
    out = lstm.forward(problem.x).copy()
    lstm.backward(problem.dout)
    gradients = {name: array.copy() for name, array in lstm.grads.items()}
    for array in (problem.h0, problem.c0, problem.dh, problem.dc):
        array[...] = 0
    expected = problem.solve(lstm)
    np.testing.assert_array_equal(out, expected["out"])
    assert_same(gradients, {name: expected[name] for name in gradients}, rtol=0)


def test_a_first_layer_computes_no_gradient_at_its_input():
    first, later = stirred(layer(needs_dx=False)), stirred(layer())
    problem = Problem(first, 6, 3)
    ours, expected = problem.solve(first), problem.solve(later)
    assert "x" not in ours and expected.pop("x").shape == (6, 3, FEATURES)
    assert_same(ours, expected, rtol=0)


def test_the_last_state_is_the_one_at_each_sequences_end():
    lstm = stirred(layer())
    problem = Problem(lstm, 6, 4, np.array([6, 1, 0, 4]))
    solution = problem.solve(lstm)
    for n, length in enumerate(problem.lengths):
        alone = lstm.forward(problem.x[:max(length, 1), n:n + 1].copy(), None, problem.h0[[n]], problem.c0[[n]])
        h, c = (alone[-1, 0], lstm.c_last[0]) if length else (problem.h0[n], problem.c0[n])
        np.testing.assert_allclose(solution["h_last"][n], h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(solution["c_last"][n], c, rtol=1e-5, atol=1e-6)


# ---- buffers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbols", [False, True])
def test_other_batch_sizes_and_lengths_leave_no_trace(symbols, kernels):
    used, random = stirred(layer(symbols=symbols)), np.random.default_rng(0)
    for i, (steps, examples) in enumerate([(9, 6), (3, 2), (9, 1), (1, 6), (4, 11), (12, 3), (9, 6)]):
        fresh = stirred(layer(symbols=symbols))
        problem = Problem(used, steps, examples, "random" if random.random() < 0.5 else None, context=bool(i % 2))
        assert_same(problem.solve(used), problem.solve(fresh), rtol=0)
    assert used.capacity == (12, 11)


def test_gradients_are_overwritten_not_added():
    lstm = stirred(layer())
    problem = Problem(lstm, 5, 3, "random", context=True)
    assert_same(problem.solve(lstm), problem.solve(lstm), rtol=0)


@pytest.mark.parametrize("symbols", [False, True])
def test_no_pass_after_the_first_allocates_an_array(symbols, kernels):
    lstm = layer(39, 128, symbols)
    problem = Problem(lstm, 2, 512, "random", context=True)
    smaller = Problem(lstm, 1, 480, "random", context=True)

    def both():
        for p in (problem, smaller):
            p.forward(lstm)
            lstm.backward(p.dout, p.dh, p.dc)

    both()
    tracemalloc.start()
    try:
        both()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy's own buffers, see test_lstm.py. The smallest array of the smaller batch, a state, has 245,760 bytes.
    assert peak < 3 * 8 * np.getbufsize() + 10_000 < 245_760


# ---- replicas -------------------------------------------------------------------------------------------------------


def arrays_of(lstm):
    """Every array that a layer writes: its gradients and buffers."""
    own = [array for array in vars(lstm).values() if isinstance(array, np.ndarray)]
    plan = [array for array in vars(lstm.plan).values() if isinstance(array, np.ndarray)]
    return [*own, *plan, *lstm.grads.values()]


def test_a_replica_shares_parameters_and_nothing_else():
    lstm = stirred(layer())
    problem, other = Problem(lstm, 6, 3), Problem(lstm, 4, 2, seed=1)
    expected, other_expected = problem.solve(lstm), other.solve(stirred(layer()))
    twin = replica(lstm)
    problem.forward(lstm)
    assert_same(other.solve(twin), other_expected, rtol=0)
    lstm.backward(problem.dout, problem.dh, problem.dc)
    assert_same(lstm.grads, {name: expected[name] for name in lstm.grads}, rtol=0)
    for name, array in lstm.params.items():
        assert twin.params[name] is array
    other.forward(twin)
    inputs = {id(other.x), id(other.h0), id(other.c0), id(problem.x)}
    for mine in arrays_of(lstm):
        for its in arrays_of(twin):
            assert id(mine) in inputs or id(its) in inputs or not np.shares_memory(mine, its)


def test_a_replica_follows_a_change_of_the_parameters():
    lstm = stirred(layer())
    twin, problem = replica(lstm), Problem(lstm, 4, 3)
    problem.solve(twin)
    lstm.params["wx"] *= 2
    assert_same(problem.solve(twin), problem.solve(lstm), rtol=0)


def test_a_dense_layer_has_replicas_too():
    dense, x = Dense(3), np.random.default_rng(0).standard_normal((7, 2))
    dense.setup((2,), np.random.default_rng(0), np.dtype(np.float64))
    out = dense.forward(x)
    expected = out.copy()
    twin = replica(dense)
    np.testing.assert_array_equal(twin.forward(x[:4] * 2), dense.forward(x[:4] * 2))
    np.testing.assert_array_equal(dense.forward(x), expected)
    twin.backward(np.ones((4, 3)))
    assert not dense.grads["w"].any() and twin.grads["w"].all()
    assert twin.params["w"] is dense.params["w"]
