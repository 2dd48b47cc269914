"""The LSTM: one step and a whole sequence, forward and backward through time.

For an input x, the previous output h' and the previous cell state c', each with one row per example,

    p = x wx + h' wh + b                               pre-activations, four blocks of U columns: p_i, p_f, p_g, p_o
    i = sigma(p_i)   f = sigma(p_f)   g = tanh(p_g)   o = sigma(p_o)
    c = f c' + i g                                     products of gates and states are elementwise
    h = o tanh(c)

The blocks are in PyTorch's order: input gate, forget gate, candidate, output gate. PyTorch's weights are the transposes
of these, and the sum of its two biases is the single b here. Sequences of different lengths share a batch, padded at the
end: after its end, a sequence's state no longer changes.

Sources: Hochreiter and Schmidhuber 1997; with the forget gate, Gers, Schmidhuber and Cummins 2000. Backward through time:
Goodfellow, Bengio and Courville, Deep Learning, sections 10.2.2, 10.10.
"""
from .. import backend
from ..annotations import Array
from .activations import sigmoid_backward, sigmoid_forward, tanh_backward, tanh_forward


def lstm_step_forward(p: Array, c_prev: Array) -> tuple[Array, Array, tuple[Array, ...]]:
    """(h, c, gates) of one step from its pre-activations p (N, 4U) and the previous cell state c_prev (N, U)."""
    p_i, p_f, p_g, p_o = backend.xp.split(p, 4, axis=1)
    i, f, o = sigmoid_forward(p_i), sigmoid_forward(p_f), sigmoid_forward(p_o)
    g = tanh_forward(p_g)
    c = f * c_prev + i * g
    return o * tanh_forward(c), c, (i, f, g, o)


def lstm_step_backward(dh: Array, dc: Array, c_prev: Array, c: Array, gates: tuple[Array, ...]) -> tuple[Array, Array]:
    """(dp, dc_prev) of one step, from dh and dc, the gradients of its h and c; all (N, U) except dp (N, 4U).

    dc is the gradient that reaches c from the next step. The output also depends on c, through h = o tanh(c), so the full
    gradient of c is dc + dh o tanh'(c). From c = f c' + i g, and from h = o tanh(c) for the output gate,

        di = dc g        df = dc c'        dg = dc i        do = dh tanh(c)        dc' = dc f

    and the derivatives of the gates' nonlinearities give the gradients of the pre-activations.
    """
    i, f, g, o = gates
    tanh_c = tanh_forward(c)
    dc = dc + tanh_backward(dh * o, tanh_c)
    dp = backend.xp.concatenate([sigmoid_backward(dc * g, i), sigmoid_backward(dc * c_prev, f),
                                 tanh_backward(dc * i, g), sigmoid_backward(dh * tanh_c, o)], axis=1)
    return dp, dc * f


def lstm_forward(inputs: Array, wh: Array, h: Array, c: Array, lengths: Array | None = None) -> tuple[list, list, list]:
    """Run a whole sequence from the initial state h, c (N, U).

    inputs (T, N, 4U): x wx + b of every step; wh (U, 4U); lengths (N,): integers, where each sequence ends, or None if
    all have T steps. Returns (h, c, gates), lists over time: the states of steps 0 to T, the gates of steps 1 to T.
    """
    hs, cs, all_gates = [h], [c], []
    for t, x in enumerate(inputs):
        h_new, c_new, gates = lstm_step_forward(x + h @ wh, c)
        h, c = _where_running(t, lengths, (h_new, c_new), (h, c))
        hs.append(h)
        cs.append(c)
        all_gates.append(gates)
    return hs, cs, all_gates


def lstm_backward(dhs: Array | None, dh: Array, dc: Array, wh: Array, hs: list[Array], cs: list[Array],
                  all_gates: list[tuple[Array, ...]], lengths: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """(dinputs, dwh, dh0, dc0) for lstm_forward, from the last step to the first.

    dhs (T, N, U): the gradients of the outputs, hs[1:], or None for zeros; dh and dc (N, U): additional gradients of the
    last state. A state's gradient is the sum of its output's gradient and the one backpropagated from the next step:

        dh' = dp wh^T        dwh = sum over t of h'^T dp        dinputs[t] = dp, since inputs are added to p

    Where a sequence has ended, dp = 0 and the state's gradient passes through unchanged.
    """
    dps = [dh] * len(all_gates)
    for t in reversed(range(len(all_gates))):
        if dhs is not None:
            dh = dh + dhs[t]
        dp, dc_prev = lstm_step_backward(dh, dc, cs[t], cs[t + 1], all_gates[t])
        (dps[t],) = _where_running(t, lengths, (dp,), (backend.xp.zeros_like(dp),))
        dh, dc = _where_running(t, lengths, (dp @ wh.T, dc_prev), (dh, dc))
    dinputs, h_prev = backend.xp.stack(dps), backend.xp.stack(hs[:-1])
    dwh = h_prev.reshape(-1, h_prev.shape[-1]).T @ dinputs.reshape(-1, dinputs.shape[-1])
    return dinputs, dwh, dh, dc


def _where_running(t, lengths, running, ended):
    """Return `running`, arrays (N, .), in the rows whose sequence has more than t steps, and `ended` in the others."""
    if lengths is None:
        return running
    more = (t < lengths)[:, None]
    return tuple(backend.xp.where(more, one, other) for one, other in zip(running, ended, strict=True))
