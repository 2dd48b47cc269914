"""The LSTM over a whole sequence, forward and backward through time.

For an input x, the last output h' and the last cell state c', each a row for every example,

    a = x wx + h' wh + b                               four blocks of U columns: a_i, a_f, a_g, a_o
    i = sigma(a_i)   f = sigma(a_f)   g = tanh(a_g)   o = sigma(a_o)
    c = f c' + i g                                     products of gates and states are element by element
    h = o tanh(c)

The order of the blocks is PyTorch's: input gate, forget gate, candidate, output gate. PyTorch's weights are ours
transposed, and its two biases b_ih and b_hh act as their sum, which is the one b here.

Axis letters beside those of the package: U hidden units (H is a height). What a sequence is made of:

    x       (T, N, F)      the input; or (T, N) integers in [0, V), which stand for one-hot rows with F = V
    gates   (T, 4, N, U)   i, f, g, o of every step
    c, h    (T+1, N, U)    the states: [0] is the initial one, [t + 1] the one after step t, [T] the last

Time comes first, so that a step is contiguous, then the example. (With features before examples the products take the
same time within 7 %, but inputs, outputs, the gather of symbols, and the weights' gradients would all need a
transposition.) Within a step the gates are four contiguous blocks, since an operation on long runs is up to four times
as fast. The forward products write them so: a product with a block of wh each, which costs hardly more than one product
with all of it. In the backward pass da has rows of 4U, because there one product sums over all blocks.

Sequences of different lengths share a batch, padded at the end: `lengths` says where each ends. After its end a
sequence's state does not change, so h[T] and c[T] hold the state of every sequence at its own end. The step that does
this is an ordinary one with closed gates, i = 0, f = 1, g = 0, o = 0, but for h = h'. Its derivatives follow from
closed gates too: da = 0 and dc' = dc; only dh' = dh must be seen to. Padding may be anything finite.

Sources: Hochreiter and Schmidhuber 1997, Long Short-Term Memory; with the forget gate, Gers, Schmidhuber and Cummins
2000, Learning to Forget. Backward through time: Goodfellow, Bengio, Courville, Deep Learning, sections 10.2.2, 10.10.
"""
import math

import numpy as np

from .. import backend
from ..backend import gemm
from . import kernels
from .checks import require
from .embedding import OneHotScratch, embedding_backward, embedding_forward


class LSTMPlan:
    """The shapes of one LSTM and the scratch space it needs, allocated once.

    input_shape (T, N, F), where T is the most time steps and N the largest batch that will come; units U; dtype of
    every array; symbols True for an input of integers in [0, F). ValueError for lengths that are not whole numbers
    above 0. A plan holds no values between calls, but serves one call at a time: threads need one each.
    """

    def __init__(self, input_shape, units, dtype=np.float32, symbols=False):
        if len(input_shape) != 3 or not all(isinstance(length, int) and length > 0 for length in input_shape):
            raise ValueError(f"input_shape={input_shape!r} must be (T, N, F), three whole numbers above 0")
        if not (isinstance(units, int) and units > 0):
            raise ValueError(f"units={units!r} must be a whole number above 0")
        self.input_shape, self.units, self.dtype, self.symbols = tuple(input_shape), units, np.dtype(dtype), symbols
        if self.dtype.kind != "f":
            raise ValueError(f"dtype={self.dtype} must be a floating dtype, such as float32")
        xp = backend.xp
        steps, examples, features = self.input_shape
        # The input's share of the exponents in the forward pass, the pre-activations' gradients in the backward pass.
        self.sequence = xp.empty(steps * examples * 4 * units, self.dtype)
        self.exponents = xp.asarray([-1, -1, -2, -1], self.dtype).reshape(4, 1, 1)
        self.wx, self.wh = xp.empty((4, features, units), self.dtype), xp.empty((4, units, units), self.dtype)
        # BLAS multiplies with the rows of a transposed copy 2 to 16 % faster than with the columns of wh.
        self.wh_t = xp.empty((4 * units, units), self.dtype)
        self.step = xp.empty(examples * 4 * units, self.dtype)
        self.times = xp.arange(steps)[:, None]
        self.mask = xp.empty(steps * examples, bool)
        if symbols:
            self.onehot = OneHotScratch(features, steps * examples, self.dtype)
        else:
            self.ones = xp.ones(steps * examples, self.dtype)
        self.steps_forward = kernels.choose(lstm_steps_forward, self.dtype)
        self.symbol_steps_forward = kernels.choose(lstm_symbol_steps_forward, self.dtype)
        self.steps_backward = kernels.choose(lstm_steps_backward, self.dtype)
        self.embedding_backward = kernels.choose(embedding_backward, self.dtype)


def _leading(buffer, *shape):
    """The first values of a flat buffer as a contiguous array of this shape."""
    return buffer[:math.prod(shape)].reshape(shape)


def _blocks(rows):
    """Rows of 4U (M, 4U) as their four blocks (4, M, U): a view, whose matrices BLAS takes as they are."""
    return rows.reshape(len(rows), 4, -1).transpose(1, 0, 2)


def _require_sequence(x, wx, wh, lengths, gates, c, tanh_c, h, plan, written):
    """ValueError unless these arrays fit the plan and one another.

    Returns T and N of this sequence, and the first step at which a sequence may have ended. On a GPU that is 0 wherever
    lengths are given: to look at them would be to wait.
    """
    most_steps, most_examples, features = plan.input_shape
    u = plan.units
    axes = "(T, N)" if plan.symbols else "(T, N, F)"
    if x.ndim != (2 if plan.symbols else 3):
        raise ValueError(f"x has shape {x.shape} and dtype {x.dtype}; a plan with symbols={plan.symbols} needs {axes}")
    steps, examples = x.shape[:2]
    if not (1 <= steps <= most_steps and 1 <= examples <= most_examples):
        raise ValueError(f"x has {steps} time steps of {examples} examples; the plan is for 1 to {most_steps} "
                         f"and 1 to {most_examples}")
    if not plan.symbols:
        require("x", x, (steps, examples, features), plan.dtype)
    require("wx", wx, (features, 4 * u), plan.dtype)
    require("wh", wh, (u, 4 * u), plan.dtype)
    require("gates", gates, (steps, 4, examples, u), plan.dtype, written)
    require("tanh_c", tanh_c, (steps, examples, u), plan.dtype, written)
    require("c", c, (steps + 1, examples, u), plan.dtype, written)
    require("h", h, (steps + 1, examples, u), plan.dtype, written)
    first_end = steps
    if lengths is not None:
        first_end = 0
        if lengths.shape != (examples,) or lengths.dtype.kind not in "iu":
            raise ValueError(f"lengths has shape {lengths.shape} and dtype {lengths.dtype}; "
                             f"it must be {examples} integers, one for each example")
        if backend.name == "numpy":
            first_end, last_end = int(lengths.min()), int(lengths.max())
            if first_end < 0 or last_end > steps:
                raise ValueError(f"lengths are from {first_end} to {last_end}; with {steps} time steps they must be "
                                 f"0 to {steps}")
    return steps, examples, first_end


def lstm_forward(x, wx, wh, b, lengths, plan, gates, c, tanh_c, h, context=None):
    """The whole sequence, from the states in c[0] and h[0], which the caller sets; no array is allocated.

    The input's share of the pre-activations, x wx + b, is one product for all time steps, taken block by block; for
    symbols it is no product but a gather of the rows of wx + b (embedding.py). What is left in the loop is h' wh and
    the gates. These take the exponentials of -a_i, -a_f, -2 a_g and -a_o, so the weights are multiplied by -1 and -2
    beforehand, once for all steps.

    x (T, N, F) or (T, N), with any T and N up to the plan's; wx (F, 4U), wh (U, 4U), b (4U,); lengths (N,), integers in
    [0, T], or None where every sequence has T steps; written: gates (T, 4, N, U), tanh_c (T, N, U) with the tanh of
    every new cell state, c[1:] and h[1:] of c and h (T+1, N, U). context (N, 4U), or None: a bias of each example's own,
    added at every step. ValueError names an array that does not fit. Returns h[1:], the outputs (T, N, U).
    """
    xp = backend.xp
    steps, examples, first_end = _require_sequence(x, wx, wh, lengths, gates, c, tanh_c, h, plan, written=True)
    require("b", b, (4 * plan.units,), plan.dtype)
    inputs = _leading(plan.sequence, 4, steps, examples, plan.units)
    bias = _leading(plan.step, 4, 1, plan.units)
    xp.multiply(b.reshape(bias.shape), plan.exponents, out=bias)
    xp.multiply(_blocks(wx), plan.exponents, out=plan.wx)
    xp.multiply(_blocks(wh), plan.exponents, out=plan.wh)
    finished = None
    if first_end < steps:
        finished = _leading(plan.mask, steps, examples, 1)
        xp.less_equal(lengths, plan.times[:steps], out=finished[..., 0])
    if plan.symbols:
        xp.add(plan.wx, bias, out=plan.wx)
    else:
        products = inputs.reshape(4, steps * examples, -1)
        gemm(x.reshape(steps * examples, -1), plan.wx, products)
        xp.add(products, bias, out=products)
    if context is not None:
        require("context", context, (examples, 4 * plan.units), plan.dtype)
        exponents = _leading(plan.step, 4, examples, plan.units)
        context = xp.multiply(_blocks(context), plan.exponents, out=exponents)
    if plan.symbols:
        plan.symbol_steps_forward(plan.wx, x, context, inputs, finished, first_end, plan.wh, gates, c, tanh_c, h)
        return h[1:]
    if context is not None:
        xp.add(inputs, context[:, None], out=inputs)
    plan.steps_forward(inputs, finished, first_end, plan.wh, gates, c, tanh_c, h)
    return h[1:]


def lstm_symbol_steps_forward(table, symbols, context, inputs, finished, first_end, wh, gates, c, tanh_c, h):
    """lstm_steps_forward for symbols (T, N), whose inputs are rows of the table (4, F, U), plus the context (4, N, U) where
    there is one, all in exponents. inputs (4, T, N, U) is overwritten. ValueError for symbols outside the table.
    """
    for k in range(4):
        embedding_forward(table[k], symbols, inputs[k])
    if context is not None:
        backend.xp.add(inputs, context[:, None], out=inputs)
    lstm_steps_forward(inputs, finished, first_end, wh, gates, c, tanh_c, h)


def lstm_steps_forward(inputs, finished, first_end, wh, gates, c, tanh_c, h):
    """The loop over time of lstm_forward: in each step h' wh, then the gates.

    inputs (4, T, N, U) as in lstm_gates_forward; finished (T, N, 1) says which sequences ended before a step, and
    first_end is the first step before which one may have; finished None: none does. wh (4, U, U): the blocks of wh,
    multiplied as the inputs are. The other arrays as in lstm_forward.
    """
    gates_forward = kernels.choose(lstm_gates_forward, c.dtype)
    with np.errstate(over="ignore"):  # see lstm_gates_forward
        for t in range(len(gates)):
            gemm(h[t], wh, gates[t])
            ended = None if finished is None or t < first_end else finished[t]
            gates_forward(inputs, t, c[t], h[t], ended, gates[t], c[t + 1], tanh_c[t], h[t + 1])


def lstm_gates_forward(inputs, t, c_prev, h_prev, finished, gates, c, tanh_c, h):
    """All of step t that is not a matrix product.

    sigma(a) = 1 / (1 + e^-a) and tanh(a) = 2 sigma(2 a) - 1, so that one exponential serves all four blocks. e^-a may
    be infinite: then its sigma is 0, as it should be.

    inputs (4, T, N, U) is the share of x wx + b in the exponents -a_i, -a_f, -2 a_g, -a_o of all steps; c_prev, h_prev
    (N, U); finished (N, 1) says which sequences ended before this step, None where none did; gates (4, N, U) is the share
    of h' wh and becomes the gates; written: c, tanh_c, h (N, U).
    """
    xp = backend.xp
    i, f, g, o = gates
    xp.add(gates, inputs[:, t], out=gates)
    xp.exp(gates, out=gates)
    xp.add(gates, 1, out=gates)
    xp.divide(1, gates, out=gates)
    xp.add(g, g, out=g)
    xp.subtract(g, 1, out=g)
    if finished is not None:
        xp.copyto(gates, 0, where=finished)
        xp.copyto(f, 1, where=finished)
    xp.multiply(f, c_prev, out=c)
    xp.multiply(i, g, out=h)
    xp.add(c, h, out=c)
    xp.tanh(c, out=tanh_c)
    xp.multiply(o, tanh_c, out=h)
    if finished is not None:
        xp.copyto(h, h_prev, where=finished)


def lstm_backward(dh, dh_last, dc_last, x, wx, wh, lengths, gates, c, tanh_c, h, plan, dx, dwx, dwh, db, dh0, dc0,
                  dcontext=None):
    """The derivatives of lstm_forward, from the last step to the first; no array is allocated.

    The state after a step reaches the loss directly, by dh[t], and through all later steps, so its gradient is the sum
    of dh[t] and of what the step after it hands back (ops/lstm.py), beginning with dh_last and dc_last. Every
    step leaves its da; since the weights are the same at every step, their gradients are sums over time as well as
    over examples, and thus one product each:

        dwx = sum over t of x_t^T da_t = x^T da        dwh = h[:-1]^T da        with the rows of all steps below
        db  = sum over t and n of da                   dx  = da wx^T            one another, T N of them

    For symbols, dwx is a scatter-add, and db = sum over v of dwx_v, since every row of da is added to one dwx_v. A
    context is a bias of one example, so its gradient dcontext (N, 4U), where wanted, is the sum of da_t over t.

    dh (T, N, U), the gradients of h[1:], or None for zeros; dh_last and dc_last (N, U), the gradients of h[T] and c[T]
    that come beside it, or None for zeros. A gradient of a state after a sequence's end is one of its last state.
    x, wx, wh, lengths and the arrays after it as they were in lstm_forward. Written: dx as x, or None where it is not
    wanted (always for symbols), dwx, dwh and db as wx, wh and b, dh0 and dc0 (N, U), the gradients of h[0] and c[0].
    """
    xp = backend.xp
    u = plan.units
    steps, examples, first_end = _require_sequence(x, wx, wh, lengths, gates, c, tanh_c, h, plan, written=False)
    for name, array, shape in (("dh", dh, (steps, examples, u)), ("dh_last", dh_last, (examples, u)),
                               ("dc_last", dc_last, (examples, u))):
        if array is not None:
            require(name, array, shape, plan.dtype)
    for name, array, shape in (("dwx", dwx, wx.shape), ("dwh", dwh, wh.shape), ("db", db, (4 * u,)),
                               ("dh0", dh0, (examples, u)), ("dc0", dc0, (examples, u))):
        require(name, array, shape, plan.dtype, written=True)
    if dx is not None:
        if plan.symbols:
            raise ValueError("dx is given, but symbols have no derivative; pass dx=None")
        require("dx", dx, x.shape, plan.dtype, written=True)

    # dh0 and dc0 are the gradients of the state at every time, and end as those of the initial one.
    xp.copyto(dh0, 0 if dh_last is None else dh_last)
    xp.copyto(dc0, 0 if dc_last is None else dc_last)
    da = _leading(plan.sequence, steps, examples, 4 * u)
    scratch = _leading(plan.step, 4, examples, u)
    running = None
    if first_end < steps:
        running = _leading(plan.mask, steps, examples, 1)
        xp.greater(lengths, plan.times[:steps], out=running[..., 0])
    xp.copyto(plan.wh_t, wh.T)
    plan.steps_backward(dh, running, first_end, plan.wh_t, c, gates, tanh_c, scratch, dh0, dc0, da)

    if dcontext is not None:
        require("dcontext", dcontext, (examples, 4 * u), plan.dtype, written=True)
        xp.sum(da, axis=0, out=dcontext)
    rows = da.reshape(steps * examples, 4 * u)
    gemm(h[:-1].reshape(steps * examples, u).T, rows, dwh)
    if plan.symbols:
        plan.embedding_backward(rows, x.reshape(-1), plan.onehot, dwx)
        xp.sum(dwx, axis=0, out=db)
        return None
    gemm(x.reshape(steps * examples, -1).T, rows, dwx)
    gemm(plan.ones[:len(rows)], rows, db)
    if dx is not None:
        gemm(rows, wx.T, dx.reshape(steps * examples, -1))
    return dx


def lstm_steps_backward(dh, running, first_end, wh_t, c, gates, tanh_c, scratch, dh_t, dc_t, da):
    """The loop over time of lstm_backward: in each step the gates, then dh' = da wh^T.

    dh (T, N, U) or None, c, gates and tanh_c as there; running (T, N, 1): which sequences have not ended before a step,
    None where none does, and first_end the first step before which one may have; wh_t (4U, U), the transpose of wh.
    dh_t and dc_t (N, U): the gradients of the last state, which become those of every state down to the initial one.
    scratch (4, N, U); written: da (T, N, 4U).
    """
    xp, gates_backward = backend.xp, kernels.choose(lstm_gates_backward, c.dtype)
    for t in reversed(range(len(gates))):
        if dh is not None:
            xp.add(dh_t, dh[t], out=dh_t)
        gates_backward(dh_t, dc_t, c[t], gates[t], tanh_c[t], scratch, da[t])
        if t < first_end:
            gemm(da[t], wh_t, dh_t)
        else:
            xp.copyto(dh_t, gemm(da[t], wh_t, scratch[0]), where=running[t])


def lstm_gates_backward(dh, dc, c_prev, gates, tanh_c, scratch, da):
    """All of a step's derivatives that is not a matrix product: lstm_step_backward in ops/lstm.py has the formulas.

    dh and dc (N, U) are the gradients of this step's h and c, dc without the share through h; dc becomes dc'.
    c_prev, tanh_c (N, U), gates and scratch (4, N, U); written: da (N, 4U).
    """
    xp = backend.xp
    i, f, g, o = gates
    blocks = _blocks(da)
    # o tanh(c) is h, but not where a sequence has ended and its gates are closed.
    product, slope_o = scratch[0], scratch[3]
    xp.multiply(o, tanh_c, out=product)
    xp.subtract(1, o, out=slope_o)
    xp.multiply(slope_o, product, out=slope_o)
    xp.multiply(slope_o, dh, out=blocks[3])
    xp.multiply(product, tanh_c, out=product)
    xp.subtract(o, product, out=product)
    xp.multiply(product, dh, out=product)
    xp.add(dc, product, out=dc)

    slopes = scratch[:3]
    xp.multiply(gates[:3], gates[:3], out=slopes)
    xp.subtract(gates[:2], slopes[:2], out=slopes[:2])
    xp.subtract(1, slopes[2], out=slopes[2])
    xp.multiply(slopes[0], g, out=slopes[0])
    xp.multiply(slopes[1], c_prev, out=slopes[1])
    xp.multiply(slopes[2], i, out=slopes[2])
    xp.multiply(slopes, dc, out=blocks[:3])
    xp.multiply(dc, f, out=dc)
