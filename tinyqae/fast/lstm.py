"""The LSTM over a whole sequence, forward and backward through time. The formulas are in ops/lstm.py; the pre-activations
are called a here.

U is the number of hidden units (H is a height). The arrays of a sequence:

    x       (T, N, F)      the input; or tokens (T, N) in [0, V), which stand for one-hot rows with F = V
    gates   (T, 4, N, U)   i, f, g, o of every step
    c, h    (T+1, N, U)    the states: [0] is the initial one, [t + 1] the one after step t, [T] the last
    tanh_c  (T, N, U)      tanh(c[1:])
    lengths (N,)           integers from 0 to T, or None if every sequence has T steps
    context (N, 4U)        added to the pre-activations at every step, or None

Time comes first, so that a step is contiguous, then the example. Within a step the gates are four contiguous blocks, since
an operation on long contiguous runs is up to four times as fast. The forward matmuls write this layout: one matmul per
block of wh, which takes hardly longer than a single one with all of wh. In the backward pass da has rows of 4U, so that a
single matmul sums over all blocks.

Sequences of different lengths share a batch, padded at the end, and `lengths` masks the padding. After its end a sequence's
state does not change, so h[T] and c[T] are the state of every sequence at its own end. A masked step is an ordinary one with
i = 0, f = 1, g = 0, o = 0, except that h = h'. Then da = 0 and dc' = dc; only dh' = dh needs an extra operation. Padding may
have any finite values.
"""

import math

import numpy as np

from .. import backend
from ..backend import gemm
from . import kernels
from .ops import OneHotScratch, embedding_backward, embedding_forward


class LSTMPlan:
    """Scratch space of one LSTM, allocated once. It holds no values between calls; every thread needs its own.

    Args:
        input_shape: (T, N, F), where T and N are the largest number of steps and batch size.
        units: U.
        dtype: of every array.
        tokens: whether the input is tokens in [0, F).
    """

    def __init__(self, input_shape, units, dtype=np.float32, tokens=False):
        self.units, self.tokens, dtype = units, tokens, np.dtype(dtype)
        xp = backend.xp
        steps, examples, features = input_shape
        # The input's exponents in the forward pass, the gradients of the pre-activations in the backward pass.
        self.sequence = xp.empty(steps * examples * 4 * units, dtype)
        self.exponent_factors = xp.asarray([-1, -1, -2, -1], dtype).reshape(4, 1, 1)
        self.wx, self.wh = xp.empty((4, features, units), dtype), xp.empty((4, units, units), dtype)
        # A matmul with a contiguous copy of wh^T is 2 to 16 % faster than with the transposed view.
        self.wh_t = xp.empty((4 * units, units), dtype)
        self.step = xp.empty(examples * 4 * units, dtype)
        self.times = xp.arange(steps)[:, None]
        self.mask = xp.empty(steps * examples, bool)
        if tokens:
            self.onehot = OneHotScratch(features, steps * examples, dtype)
        else:
            self.ones = xp.ones(steps * examples, dtype)


def leading_view(buffer, *shape):
    """The first values of a flat buffer as a contiguous array of this shape."""
    return buffer[: math.prod(shape)].reshape(shape)


def _gate_blocks(rows):
    """A view (4, M, U) of rows (M, 4U)."""
    return rows.reshape(len(rows), 4, -1).transpose(1, 0, 2)


def _masked_steps(lengths, compare, steps, plan):
    """(the first step at which a sequence may have ended, compare(lengths, t) of every step t as a mask (T, N, 1)).

    The first is T and the second None if no sequence ends early. On a GPU, where reading the lengths would synchronize, the
    first is 0.
    """
    first = steps if lengths is None else int(lengths.min()) if backend.name == "numpy" else 0
    if first == steps:
        return steps, None
    mask = leading_view(plan.mask, steps, len(lengths), 1)
    compare(lengths, plan.times[:steps], out=mask[..., 0])
    return first, mask


def lstm_forward(x, wx, wh, b, lengths, plan, gates, c, tanh_c, h, context=None):
    """The whole sequence, from the initial states in c[0] and h[0]; no array is allocated. Returns the outputs, h[1:].

    The input's contribution to the pre-activations, x wx + b, is one matmul for all steps, block by block; for tokens it is
    a gather of rows of wx + b. Only h' wh and the gates remain in the loop. These need the exponentials of -a_i, -a_f,
    -2 a_g and -a_o, so the weights are multiplied by -1 and -2 once, in advance.

    wx (F, 4U), wh (U, 4U), b (4U,). gates, tanh_c, c and h are written, except c[0] and h[0]. T and N are up to those of
    the plan, an LSTMPlan. ValueError for tokens that are out of range.
    """
    xp = backend.xp
    steps, examples = x.shape[:2]
    first_masked, finished = _masked_steps(lengths, xp.less_equal, steps, plan)
    inputs = leading_view(plan.sequence, 4, steps, examples, plan.units)
    bias = leading_view(plan.step, 4, 1, plan.units)
    xp.multiply(b.reshape(bias.shape), plan.exponent_factors, out=bias)
    xp.multiply(_gate_blocks(wx), plan.exponent_factors, out=plan.wx)
    xp.multiply(_gate_blocks(wh), plan.exponent_factors, out=plan.wh)
    if plan.tokens:
        plan.wx += bias
    else:
        x_wx = inputs.reshape(4, steps * examples, -1)
        gemm(x.reshape(steps * examples, -1), plan.wx, x_wx)
        x_wx += bias
    if context is not None:
        exponents = leading_view(plan.step, 4, examples, plan.units)
        context = xp.multiply(_gate_blocks(context), plan.exponent_factors, out=exponents)
    if plan.tokens:
        run = kernels.choose(lstm_token_steps_forward, c.dtype)
        run(plan.wx, x, context, inputs, finished, first_masked, plan.wh, gates, c, tanh_c, h)
        return h[1:]
    if context is not None:
        inputs += context[:, None]
    kernels.choose(lstm_steps_forward, c.dtype)(inputs, finished, first_masked, plan.wh, gates, c, tanh_c, h)
    return h[1:]


def lstm_token_steps_forward(table, tokens, context, inputs, finished, first_masked, wh, gates, c, tanh_c, h):
    """lstm_steps_forward for tokens (T, N), whose rows of the table (4, V, U), wx + b, are gathered in `inputs`. The context
    (4, N, U), or None, is added to them. All in exponents.
    """
    for k in range(4):
        embedding_forward(table[k], tokens, inputs[k])
    if context is not None:
        inputs += context[:, None]
    lstm_steps_forward(inputs, finished, first_masked, wh, gates, c, tanh_c, h)


def lstm_steps_forward(inputs, finished, first_masked, wh, gates, c, tanh_c, h):
    """The loop over time of lstm_forward: in each step h' wh, then the gates.

    inputs (4, T, N, U), wh (4, U, U): x wx + b and wh in exponents. finished (T, N, 1): which sequences ended before a step,
    or None if none did. first_masked: the first step with such a sequence.
    """
    gates_forward = kernels.choose(lstm_gates_forward, c.dtype)
    with np.errstate(over="ignore"):  # see lstm_gates_forward
        for t in range(len(gates)):
            gemm(h[t], wh, gates[t])
            mask = None if t < first_masked else finished[t]
            gates_forward(inputs, t, c[t], h[t], mask, gates[t], c[t + 1], tanh_c[t], h[t + 1])


def lstm_gates_forward(inputs, t, c_prev, h_prev, finished, gates, c, tanh_c, h):
    """Step t without its matmul, the result of which is in `gates` (4, N, U). gates, c, tanh_c and h (N, U) are written.

    sigma(a) = 1 / (1 + e^-a) and tanh(a) = 2 sigma(2 a) - 1, so one exponential serves all four blocks. e^-a may overflow
    to infinity: then sigma is 0, as it should be.
    """
    xp = backend.xp
    i, f, g, o = gates
    gates += inputs[:, t]
    xp.exp(gates, out=gates)
    gates += 1
    xp.divide(1, gates, out=gates)
    g += g
    g -= 1
    if finished is not None:
        xp.copyto(gates, 0, where=finished)
        xp.copyto(f, 1, where=finished)
    xp.multiply(f, c_prev, out=c)
    c += xp.multiply(i, g, out=h)
    xp.multiply(o, xp.tanh(c, out=tanh_c), out=h)
    if finished is not None:
        xp.copyto(h, h_prev, where=finished)


def lstm_backward(
    dh, dh_last, dc_last, x, wx, wh, lengths, gates, c, tanh_c, h, plan, dx, dwx, dwh, db, dh0, dc0, dcontext=None
):
    """The gradients of lstm_forward, from the last step to the first; no array is allocated.

    A step's state affects the loss directly, with gradient dh[t], and through all later steps, so its gradient is the sum of
    dh[t] and what the next step passes back (ops/lstm.py), beginning with dh_last and dc_last. Every step stores its da;
    since all steps share the weights, their gradients are sums over time and examples, and thus one matmul each:

        dwx = sum over t of x_t^T da_t = x^T da        dwh = h[:-1]^T da        with the rows of all T N steps stacked
        db  = sum over t and n of da                   dx  = da wx^T

    For tokens, dwx is a scatter-add, and db = sum over v of dwx_v, since every row of da is added to one dwx_v. The context
    is a bias per example, so dcontext is the sum of da_t over t.

    dh (T, N, U): the gradients of the outputs; dh_last, dc_last (N, U): additional ones of h[T] and c[T]; None for zeros.
    The arguments from dx on are written; dx is None if not needed, and for tokens. Returns dx.
    """
    xp = backend.xp
    u, (steps, examples) = plan.units, x.shape[:2]
    # dh0 and dc0 hold the gradients of the current state, and in the end those of the initial one.
    xp.copyto(dh0, 0 if dh_last is None else dh_last)
    xp.copyto(dc0, 0 if dc_last is None else dc_last)
    da = leading_view(plan.sequence, steps, examples, 4 * u)
    scratch = leading_view(plan.step, 4, examples, u)
    first_masked, running = _masked_steps(lengths, xp.greater, steps, plan)
    xp.copyto(plan.wh_t, wh.T)
    run = kernels.choose(lstm_steps_backward, c.dtype)
    run(dh, running, first_masked, plan.wh_t, c, gates, tanh_c, scratch, dh0, dc0, da)

    if dcontext is not None:
        xp.sum(da, axis=0, out=dcontext)
    rows = da.reshape(steps * examples, 4 * u)
    gemm(h[:-1].reshape(steps * examples, u).T, rows, dwh)
    if plan.tokens:
        kernels.choose(embedding_backward, c.dtype)(rows, x.reshape(-1), plan.onehot, dwx)
        xp.sum(dwx, axis=0, out=db)
        return None
    gemm(x.reshape(steps * examples, -1).T, rows, dwx)
    gemm(plan.ones[: len(rows)], rows, db)
    if dx is not None:
        gemm(rows, wx.T, dx.reshape(steps * examples, -1))
    return dx


def lstm_steps_backward(dh, running, first_masked, wh_t, c, gates, tanh_c, scratch, dh_t, dc_t, da):
    """The loop over time of lstm_backward: in each step the gates, then dh' = da wh^T.

    running (T, N, 1): which sequences have not ended before a step, or None if none ends early. first_masked: as in
    lstm_steps_forward. wh_t (4U, U): the transpose of wh. scratch (4, N, U). dh_t, dc_t (N, U): the gradients of the last
    state, overwritten by those of the initial one. da (T, N, 4U): written.
    """
    xp, gates_backward = backend.xp, kernels.choose(lstm_gates_backward, c.dtype)
    for t in reversed(range(len(gates))):
        if dh is not None:
            dh_t += dh[t]
        gates_backward(dh_t, dc_t, c[t], gates[t], tanh_c[t], scratch, da[t])
        if t < first_masked:
            gemm(da[t], wh_t, dh_t)
        else:
            xp.copyto(dh_t, gemm(da[t], wh_t, scratch[0]), where=running[t])


def lstm_gates_backward(dh, dc, c_prev, gates, tanh_c, scratch, da):
    """The gradients of a step without its matmul; lstm_step_backward in ops/lstm.py has the formulas.

    dh, dc (N, U): the gradients of this step's h and c; dc does not include the path through h, and becomes dc'. scratch
    (4, N, U). da (N, 4U): written.
    """
    xp = backend.xp
    i, f, g, o = gates
    blocks = _gate_blocks(da)
    # o tanh(c) is h, except where a sequence has ended.
    o_tanh_c, slope_o = scratch[0], scratch[3]
    xp.multiply(o, tanh_c, out=o_tanh_c)
    xp.subtract(1, o, out=slope_o)
    slope_o *= o_tanh_c
    xp.multiply(slope_o, dh, out=blocks[3])
    # dc += dh (o - o tanh(c)^2)
    through_h = xp.multiply(o_tanh_c, tanh_c, out=o_tanh_c)
    xp.subtract(o, through_h, out=through_h)
    through_h *= dh
    dc += through_h

    slopes = scratch[:3]
    xp.multiply(gates[:3], gates[:3], out=slopes)
    xp.subtract(gates[:2], slopes[:2], out=slopes[:2])
    xp.subtract(1, slopes[2], out=slopes[2])
    for slope, factor in zip(slopes, (g, c_prev, i), strict=True):
        slope *= factor
    xp.multiply(slopes, dc, out=blocks[:3])
    dc *= f
