"""The contract of the LSTM and of the sentence encoder and decoder, with one body for both engines: initial weights, PyTorch
agreement, gradients, lengths, single steps.
"""

import numpy as np
import pytest
from engines import build, set_up
from lstm_problem import FEATURES, DecoderProblem, EncoderProblem, Problem, assert_same, make_lstm, perturbed

from tinyqae import backend
from tinyqae.gradcheck import check_coordinates
from tinyqae.recurrent import LSTM, SideBySide


@pytest.fixture(autouse=True)
def one_blas_thread():
    """On small arrays more threads cost more than they do."""
    with backend.one_blas_thread():
        yield


# ---- initial weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recurrent_weights_start_orthonormal(dtype, plain_engine):
    wh = make_lstm(37, 64, dtype=dtype).params["wh"]
    assert wh.shape == (64, 256) and wh.dtype == dtype
    np.testing.assert_allclose(wh @ wh.T, np.eye(64), atol=1e-5)


def test_recurrent_weights_favour_no_sign():
    draws = [make_lstm(units=3, seed=seed).params["wh"] for seed in range(300)]
    np.testing.assert_allclose(np.mean(draws, axis=0), 0, atol=5 * np.sqrt(1 / 12 / 300))
    np.testing.assert_allclose(np.std(draws, axis=0), np.sqrt(1 / 12), rtol=0.25)


def test_input_weights_fill_the_glorot_range(plain_engine):
    wx, limit = make_lstm(37, 64).params["wx"], np.sqrt(6 / (37 + 4 * 64))
    assert wx.shape == (37, 256)
    assert 0.99 * limit < np.abs(wx).max() <= limit * 1.000001
    np.testing.assert_allclose(wx.std(), limit / np.sqrt(3), rtol=0.03)


def test_the_forget_gate_alone_starts_with_a_bias(engine):
    u = 6
    b = make_lstm(units=u).params["b"]
    assert b.tolist() == [0] * u + [1] * u + [0] * 2 * u
    lstm = make_lstm(units=u)
    lstm.params["wx"][...] = lstm.params["wh"][...] = 0
    lstm.forward(np.zeros((1, 1, FEATURES), np.float32), None, None, np.ones((1, u), np.float32))
    np.testing.assert_allclose(lstm.c_last, 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_a_seed_gives_the_same_weights_in_both_precisions_and_another_seed_others(plain_engine):
    single, double, other = make_lstm(seed=3), make_lstm(seed=3, dtype=np.float64), make_lstm(seed=4)
    for name in ("wx", "wh", "b"):
        np.testing.assert_array_equal(single.params[name], double.params[name].astype(np.float32))
    assert not np.array_equal(single.params["wx"], other.params["wx"])
    assert not np.array_equal(single.params["wh"], other.params["wh"])


@pytest.mark.parametrize("units", [0, -3, 2.0, "4", None])
def test_units_that_make_no_sense_are_refused(units):
    with pytest.raises(ValueError, match=f"units={units!r} must be a whole number above 0"):
        LSTM(units)


def test_inputs_are_vectors_unless_tokens_are_announced(engine):
    lstm = set_up(LSTM(4), (3,))
    assert lstm.forward(np.ones((5, 2, 3), np.float32)).shape == (5, 2, 4)
    assert lstm.backward(np.ones((5, 2, 4), np.float32)).shape == (5, 2, 3)


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def torch_lstm(torch, lstm):
    """torch.nn.LSTM with the same weights. A context enters as further inputs, whose weights are one-hot rows."""
    u, p = lstm.units, {name: torch.tensor(array) for name, array in lstm.params.items()}
    module = torch.nn.LSTM(lstm.input_shape[0] + 4 * u, u, dtype=p["wh"].dtype)
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.cat([p["wx"], torch.eye(4 * u)]).T)
        module.weight_hh_l0.copy_(p["wh"].T)
        module.bias_ih_l0.copy_(p["b"])
        module.bias_hh_l0.zero_()
    return module


def torch_gradients(module):
    """The gradients of such a module's weights, by their names in our LSTM."""
    features = module.input_size - 4 * module.hidden_size
    return {
        "wx": module.weight_ih_l0.grad.T[:features].numpy(),
        "wh": module.weight_hh_l0.grad.T.numpy(),
        "b": module.bias_ih_l0.grad.numpy(),
    }


def in_torch(torch, lstm, problem):
    """As Problem.solve, by torch.nn.LSTM."""
    tensor, module = torch.tensor, torch_lstm(torch, lstm)
    context = np.zeros((len(problem.h0), 4 * lstm.units), lstm.dtype) if problem.context is None else problem.context
    x = np.eye(lstm.input_shape[0], dtype=lstm.dtype)[problem.x] if lstm.tokens else problem.x
    x, h0, c0, context = (tensor(a, requires_grad=True) for a in (x, problem.h0[None], problem.c0[None], context))
    out, (h, c) = module(torch.cat([x, context.expand(len(x), -1, -1)], dim=-1), (h0, c0))
    torch.autograd.backward([out, h, c], [tensor(problem.dout), tensor(problem.dh[None]), tensor(problem.dc[None])])
    solution = {
        "out": out.detach(),
        "h_last": h.detach()[0],
        "c_last": c.detach()[0],
        "x": x.grad,
        "h0": h0.grad[0],
        "c0": c0.grad[0],
        "context": context.grad,
    }
    if problem.context is None:
        del solution["context"]
    if lstm.tokens:
        del solution["x"]
    return {name: array.numpy() for name, array in solution.items()} | torch_gradients(module)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_agreement_with_pytorch(torch, tokens, context, dtype, tolerance, engine):
    lstm = perturbed(make_lstm(19, 24, tokens, dtype))
    problem = Problem(lstm, 15, 7, context=context)
    ours, theirs = problem.solve(lstm), in_torch(torch, lstm, problem)
    assert all(array.dtype == dtype for array in ours.values())
    assert_same(ours, theirs, rtol=tolerance, atol=10 * tolerance)


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_gradients_coordinate_by_coordinate(tokens, context, lengths, plain_engine):
    lstm = perturbed(make_lstm(3, 2, tokens, np.float64))
    problem = Problem(lstm, 5, 4, lengths, context=context)
    gradients = problem.solve(lstm)
    assert ("x" in gradients) != tokens and ("context" in gradients) == context
    for name in ("wx", "wh", "b"):
        check_coordinates(lambda: problem.loss(lstm), lstm.params[name], gradients[name])
    for name in {"x", "h0", "c0", "context"} & gradients.keys():
        check_coordinates(lambda: problem.loss(lstm), getattr(problem, name), gradients[name])


def test_initial_state_and_gradients_left_out_are_zeros(engine):
    lstm = perturbed(make_lstm())
    problem = Problem(lstm, 6, 3)
    out = lstm.forward(problem.x).copy()
    lstm.backward(problem.dout)
    gradients = {name: array.copy() for name, array in lstm.grads.items()}
    for array in (problem.h0, problem.c0, problem.dh, problem.dc):
        array[...] = 0
    expected = problem.solve(lstm)
    np.testing.assert_array_equal(out, expected["out"])
    assert_same(gradients, {name: expected[name] for name in gradients}, rtol=0)


def test_the_last_state_is_the_one_at_each_sequences_end(engine):
    lstm = perturbed(make_lstm())
    problem = Problem(lstm, 6, 4, np.array([6, 1, 0, 4]))
    solution = problem.solve(lstm)
    for n, length in enumerate(problem.lengths):
        alone = lstm.forward(problem.x[: max(length, 1), n : n + 1].copy(), None, problem.h0[[n]], problem.c0[[n]])
        h, c = (alone[-1, 0], lstm.c_last[0]) if length else (problem.h0[n], problem.c0[n])
        np.testing.assert_allclose(solution["h_last"][n], h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(solution["c_last"][n], c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [False, True])
def test_other_batch_sizes_and_lengths_leave_no_trace(tokens, engine):
    used, random = perturbed(make_lstm(tokens=tokens)), np.random.default_rng(0)
    for i, (steps, examples) in enumerate([(9, 6), (3, 2), (9, 1), (1, 6), (4, 8), (4, 11), (10, 3), (9, 6)]):
        fresh = perturbed(make_lstm(tokens=tokens))
        problem = Problem(used, steps, examples, "random" if random.random() < 0.5 else None, context=bool(i % 2))
        assert_same(problem.solve(used), problem.solve(fresh), rtol=0)
    if engine == "fast":
        assert used.capacity == (10, 11)


def test_gradients_are_overwritten_not_added(engine):
    lstm = perturbed(make_lstm())
    problem = Problem(lstm, 5, 3, "random", context=True)
    assert_same(problem.solve(lstm), problem.solve(lstm), rtol=0)


# ---- the sentence encoder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, "random"])
def test_gradients_of_the_encoder_coordinate_by_coordinate(lengths, plain_engine):
    problem = EncoderProblem(5, 4, lengths, dtype=np.float64)
    encoder = problem.make()
    gradients = problem.solve(encoder)
    for name, array in encoder.lstm.params.items():
        check_coordinates(lambda: problem.loss(encoder), array, gradients[name])


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("lengths", [None, "random"])
def test_the_encoder_agrees_with_pytorch(torch, lengths, dtype, tolerance, engine):
    problem = EncoderProblem(11, 9, lengths, tokens=19, units=16, dtype=dtype)
    if problem.lengths is not None:
        problem.lengths = np.maximum(problem.lengths, 1)  # PyTorch packs no empty sequence.
    encoder = problem.make()
    ours, module = problem.solve(encoder), torch_lstm(torch, encoder.lstm)
    onehot = torch.nn.functional.one_hot(torch.tensor(problem.tokens), 19).to(module.weight_hh_l0.dtype)
    ends = [11] * 9 if problem.lengths is None else problem.lengths.tolist()
    onehot = torch.cat([onehot, onehot.new_zeros(11, 9, 4 * problem.units)], dim=-1)  # No context.
    packed = torch.nn.utils.rnn.pack_sequence([onehot[:n, i] for i, n in enumerate(ends)], enforce_sorted=False)
    _, (h, c) = module(packed)
    torch.autograd.backward([h[0], c[0]], [torch.tensor(problem.dh), torch.tensor(problem.dc)])
    theirs = {"h": h[0].detach().numpy(), "c": c[0].detach().numpy(), **torch_gradients(module)}
    assert all(array.dtype == dtype for array in ours.values())
    assert_same(ours, theirs, rtol=tolerance, atol=10 * tolerance)


def test_an_empty_sentence_is_encoded_as_the_zero_state(engine):
    problem = EncoderProblem(4, 3, np.array([4, 0, 2]))
    for state in problem.make().forward(problem.tokens, problem.lengths):
        assert not state[1].any() and state[0].any() and state[2].any()


def test_two_states_stand_side_by_side_and_so_do_their_gradients(engine):
    side_by_side = build(SideBySide())
    for n in (5, 2, 9):
        h, c = np.random.default_rng(n).standard_normal((2, n, 3)).astype(np.float32)
        joined = side_by_side.forward(h, c)
        assert joined.dtype == np.float32 and joined.shape == (n, 6)
        np.testing.assert_array_equal(joined[:, :3], h)
        np.testing.assert_array_equal(joined[:, 3:], c)
        dh, dc = side_by_side.backward(joined)
        np.testing.assert_array_equal(dh, h)
        np.testing.assert_array_equal(dc, c)


# ---- the sentence decoder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [False, True])
def test_gradients_of_the_decoder_coordinate_by_coordinate(context, plain_engine):
    problem = DecoderProblem(5, 4, context, dtype=np.float64)
    decoder = problem.make()
    gradients = problem.solve(decoder)
    assert ("context" in gradients) == context
    arrays = {
        "start": problem.start,
        "context": problem.context,
        **decoder.lstm.params,
        **{f"output.{name}": array for name, array in decoder.output.params.items()},
    }
    assert gradients.keys() - {"loss"} == {name for name, array in arrays.items() if array is not None}
    for name in gradients.keys() - {"loss"}:
        check_coordinates(lambda: problem.loss(decoder), arrays[name], gradients[name])


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("context", [False, True])
def test_the_decoder_agrees_with_pytorch(torch, context, dtype, tolerance, engine):
    problem = DecoderProblem(11, 9, context, tokens=19, units=16, dtype=dtype)
    decoder, u = problem.make(), problem.units
    ours, module = problem.solve(decoder), torch_lstm(torch, decoder.lstm)
    w, b, start, bias = (
        torch.tensor(array, requires_grad=True)
        for array in (
            decoder.output.params["w"],
            decoder.output.params["b"],
            problem.start,
            np.zeros((9, 4 * u), dtype) if problem.context is None else problem.context,
        )
    )
    onehot = torch.nn.functional.one_hot(torch.tensor(problem.inputs), 19).to(w.dtype)
    state = (start[None, :, :u].contiguous(), start[None, :, u:].contiguous())
    hs, _ = module(torch.cat([onehot, bias.expand(11, -1, -1)], dim=-1), state)
    each = torch.nn.functional.cross_entropy(
        (hs @ w + b).flatten(0, 1), torch.tensor(problem.targets).flatten(), reduction="none"
    )
    loss = (each * torch.tensor(problem.weights).flatten()).sum()
    loss.backward()
    theirs = {
        "loss": loss.detach().numpy(),
        "start": start.grad.numpy(),
        **torch_gradients(module),
        "output.w": w.grad.numpy(),
        "output.b": b.grad.numpy(),
    } | ({"context": bias.grad.numpy()} if context else {})
    assert_same(ours, theirs, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("context", [False, True])
def test_steps_of_the_decoder_give_what_teacher_forcing_gives(context, engine):
    problem = DecoderProblem(6, 5, context, tokens=7, units=4)
    decoder, u = problem.make(), problem.units
    expected, state, loss = problem.loss(decoder), (problem.start[:, :u], problem.start[:, u:]), 0
    for inputs, targets, weights in zip(problem.inputs, problem.targets, problem.weights, strict=True):
        log_p, *state = decoder.step(inputs, *state, problem.context)
        assert log_p.shape == (5, 7) and all(array.shape == (5, u) for array in state)
        np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-5)
        loss -= (weights * log_p[np.arange(5), targets]).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    state = [array.copy() for array in state]  # The fast engine overwrites it.
    decoder.lstm.forward(problem.inputs, None, problem.start[:, :u], problem.start[:, u:], problem.context)
    for ours, theirs in zip(state, (decoder.lstm.h_last, decoder.lstm.c_last), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_steps_of_the_decoder_and_other_batches_leave_no_trace(engine):
    used, problem = DecoderProblem(6, 5).make(), DecoderProblem(6, 5, context=True)
    expected = problem.solve(problem.make())
    for other in (DecoderProblem(9, 8), DecoderProblem(2, 1, context=True)):
        other.solve(used)
        used.step(other.inputs[0], other.start[:, :2], other.start[:, 2:], other.context)
        assert_same(problem.solve(used), expected, rtol=0)


def test_targets_of_weight_0_do_not_matter(engine):
    problem = DecoderProblem(6, 5, context=True)
    decoder = problem.make()
    expected, padding = problem.solve(decoder), problem.weights == 0
    assert padding.any()
    problem.targets[padding] = (problem.targets[padding] + 1) % 3
    assert_same(problem.solve(decoder), expected, rtol=1e-5, atol=1e-7)
