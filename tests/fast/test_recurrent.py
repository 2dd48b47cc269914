"""What the fast engine's LSTM, sentence encoder and decoder add to the contract (tests/test_recurrent.py): buffers, replicas
and batches that are split among threads.
"""

import numpy as np
import pytest
from allocations import peak_of_second_call
from lstm_problem import FEATURES, DecoderProblem, EncoderProblem, Problem, assert_same, make_lstm, perturbed

from tinyqae import backend
from tinyqae.fast.layers import Dense
from tinyqae.fast.recurrent import replicate


@pytest.fixture(autouse=True)
def fast_engine(monkeypatch):
    """The engine of these tests, with one BLAS thread: on small arrays more threads cost more than they do."""
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")
    with backend.one_blas_thread():
        yield


# ---- buffers --------------------------------------------------------------------------------------------------------


def test_a_first_layer_computes_no_gradient_at_its_input():
    first, later = perturbed(make_lstm(needs_dx=False)), perturbed(make_lstm())
    problem = Problem(first, 6, 3)
    ours, expected = problem.solve(first), problem.solve(later)
    assert "x" not in ours and expected.pop("x").shape == (6, 3, FEATURES)
    assert_same(ours, expected, rtol=0)


@pytest.mark.parametrize("tokens", [False, True])
def test_no_pass_after_the_first_allocates_an_array(tokens, kernels):
    lstm = make_lstm(39, 128, tokens)
    problem = Problem(lstm, 2, 512, "random", context=True)
    smaller = Problem(lstm, 1, 480, "random", context=True)

    def both():
        for p in (problem, smaller):
            p.forward(lstm)
            lstm.backward(p.dout, p.dh, p.dc)

    # The smallest array of the smaller batch, a state, has 245,760 bytes.
    peak = peak_of_second_call(both)
    assert peak < 20_000


# ---- replicas -------------------------------------------------------------------------------------------------------


def arrays_of(lstm):
    """Every array that a layer writes: its gradients and buffers."""
    own = [array for array in vars(lstm).values() if isinstance(array, np.ndarray)]
    plan = [array for array in vars(lstm.plan).values() if isinstance(array, np.ndarray)]
    return [*own, *plan, *lstm.grads.values()]


def test_a_replica_shares_parameters_and_nothing_else():
    lstm = perturbed(make_lstm())
    problem, other = Problem(lstm, 6, 3), Problem(lstm, 4, 2, seed=1)
    expected, other_expected = problem.solve(lstm), other.solve(perturbed(make_lstm()))
    other_lstm = replicate(lstm)
    problem.forward(lstm)
    assert_same(other.solve(other_lstm), other_expected, rtol=0)
    lstm.backward(problem.dout, problem.dh, problem.dc)
    assert_same(lstm.grads, {name: expected[name] for name in lstm.grads}, rtol=0)
    for name, array in lstm.params.items():
        assert other_lstm.params[name] is array
    other.forward(other_lstm)
    inputs = {id(other.x), id(other.h0), id(other.c0), id(problem.x)}
    for mine in arrays_of(lstm):
        for its in arrays_of(other_lstm):
            assert id(mine) in inputs or id(its) in inputs or not np.shares_memory(mine, its)


def test_a_replica_follows_a_change_of_the_parameters():
    lstm = perturbed(make_lstm())
    other_lstm, problem = replicate(lstm), Problem(lstm, 4, 3)
    problem.solve(other_lstm)
    lstm.params["wx"] *= 2
    assert_same(problem.solve(other_lstm), problem.solve(lstm), rtol=0)


def test_a_dense_layer_has_replicas_too():
    dense, x = Dense(3), np.random.default_rng(0).standard_normal((7, 2))
    dense.setup((2,), np.random.default_rng(0), np.dtype(np.float64))
    out = dense.forward(x)
    expected = out.copy()
    copied = replicate(dense)
    np.testing.assert_array_equal(copied.forward(x[:4] * 2), dense.forward(x[:4] * 2))
    np.testing.assert_array_equal(dense.forward(x), expected)
    copied.backward(np.ones((4, 3)))
    assert not dense.grads["w"].any() and copied.grads["w"].all()
    assert copied.params["w"] is dense.params["w"]


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def use_threads(monkeypatch):
    """A function that sets the number of threads; batches of any size are split. Undone after the test."""
    monkeypatch.setattr("tinyqae.fast.recurrent.THREADING_THRESHOLD", {"numba": 0, "numpy": 0})
    before = backend.threads
    yield backend.use_threads
    backend.use_threads(before)


PROBLEMS = {
    "encoder": lambda n, **k: EncoderProblem(7, n, "random", tokens=11, units=6, **k),
    "encoder of padded sentences": lambda n, **k: EncoderProblem(7, n, tokens=11, units=6, **k),
    "decoder": lambda n, **k: DecoderProblem(7, n, tokens=11, units=6, **k),
    "decoder with context": lambda n, **k: DecoderProblem(7, n, context=True, tokens=11, units=6, **k),
}


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_threads_give_the_results_of_one(problem, threads, use_threads, kernels):
    problem = problem(10)
    use_threads(1)
    layer = problem.make()
    expected = problem.solve(layer)
    assert len(layer.slices) == 1
    use_threads(threads)
    for _ in range(2):  # Gradients are overwritten in every part.
        assert_same(problem.solve(layer), expected, rtol=1e-5, atol=1e-6)
        assert len(layer.slices) == threads


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_threads_give_the_results_of_one_for_batches_of_any_size_and_new_parameters(problem, use_threads):
    split, whole = problem(1, dtype=np.float64).make(), problem(1, dtype=np.float64).make()
    for n in (9, 1, 2, 6, 11):
        of_this_size = problem(n, dtype=np.float64)
        for layer in (split, whole):
            perturbed(layer, seed=n)
        use_threads(2)
        ours = of_this_size.solve(split)
        assert [rows.stop - rows.start for rows in split.slices] == {1: [1], 2: [1, 1], 6: [3, 3], 9: [5, 4], 11: [6, 5]}[n]
        use_threads(1)
        assert_same(ours, of_this_size.solve(whole), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_same_number_of_threads_gives_the_very_same_results(problem, use_threads, kernels):
    use_threads(2)
    problem = problem(10)
    assert_same(problem.solve(problem.make()), problem.solve(problem.make()), rtol=0)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_small_batch_is_not_split(problem, kernels):
    before, problem = backend.threads, problem(10)
    backend.use_threads(2)
    try:
        layer = problem.make()
        problem.solve(layer)
        assert len(layer.slices) == len(layer.replicas) == 1
    finally:
        backend.use_threads(before)


def test_an_error_in_a_thread_is_raised(use_threads, kernels):
    use_threads(2)
    problem = PROBLEMS["encoder"](10)
    problem.tokens[:, -1] = 10**6
    with pytest.raises(ValueError, match="out of range for a vocabulary of 11"):
        problem.solve(problem.make())
