"""Numba kernels of the LSTM, of the embedding's gradient and of the softmax cross-entropy, float32 on the CPU.

The loop over time is compiled as well, matmuls included; otherwise threads would wait for the GIL at each of its hundreds of
short calls. Numba uses SciPy's BLAS.

See elementwise.py for what the kernels have in common. The gates are computed row by row, and within a row, which is in the
cache, in one short loop per result: LLVM can prove only for a few arrays at a time that they do not overlap.
"""

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  loaded before any limit on BLAS threads is set, so that it applies here

from .. import losses, lstm, ops
from ..kernels import replacements_in
from .elementwise import ONE, ZERO, compiled, exp_up_to_88, inlined

TWO, LARGEST = np.float32(2), np.float32(87)


@inlined
def _sigmoid(exponent):
    # sigma(a) from the exponent -a
    return ONE / (ONE + exp_up_to_88(min(exponent, LARGEST)))


@inlined
def _tanh(exponent):
    # tanh(a) from the exponent -2a
    e = exp_up_to_88(min(exponent, LARGEST))
    return (ONE - e) / (ONE + e)


@compiled
def _sigmoid_of_sum(x, out):
    for u in range(len(out)):
        out[u] = _sigmoid(x[u] + out[u])


@compiled
def _tanh_of_sum(x, out):
    for u in range(len(out)):
        out[u] = _tanh(x[u] + out[u])


@compiled
def _gates_forward(inputs, rows, c_prev, h_prev, finished, gates, c, tanh_c, h):
    # Like the plain lstm_gates_forward, but with inputs (4, M, U), of which example n uses row rows[n].
    examples, units = c.shape
    for n in range(examples):
        i, f, g, o = gates[0, n], gates[1, n], gates[2, n], gates[3, n]
        if finished is not None and finished[n, 0]:
            i[:], f[:], g[:], o[:] = ZERO, ONE, ZERO, ZERO
            c[n], tanh_c[n], h[n] = c_prev[n], ZERO, h_prev[n]
            continue
        row, old, new, squashed, output = rows[n], c_prev[n], c[n], tanh_c[n], h[n]
        _sigmoid_of_sum(inputs[0, row], i)
        _sigmoid_of_sum(inputs[1, row], f)
        _tanh_of_sum(inputs[2, row], g)
        _sigmoid_of_sum(inputs[3, row], o)
        for u in range(units):
            new[u] = f[u] * old[u] + i[u] * g[u]
        for u in range(units):
            squashed[u] = _tanh(-TWO * new[u])
        for u in range(units):
            output[u] = o[u] * squashed[u]


@compiled
def _gates_backward(dh, dc, c_prev, gates, tanh_c, scratch, da):
    examples, units = dh.shape
    for n in range(examples):
        i, f, g, o = gates[0, n], gates[1, n], gates[2, n], gates[3, n]
        dhidden, dcell, old, squashed = dh[n], dc[n], c_prev[n], tanh_c[n]
        di, df = da[n, :units], da[n, units : 2 * units]
        dg, do = da[n, 2 * units : 3 * units], da[n, 3 * units :]
        for u in range(units):
            do[u] = dhidden[u] * squashed[u] * o[u] * (ONE - o[u])
        for u in range(units):
            dcell[u] += dhidden[u] * o[u] * (ONE - squashed[u] * squashed[u])
        for u in range(units):
            di[u] = dcell[u] * g[u] * i[u] * (ONE - i[u])
        for u in range(units):
            dg[u] = dcell[u] * i[u] * (ONE - g[u] * g[u])
        for u in range(units):
            df[u] = dcell[u] * old[u] * f[u] * (ONE - f[u])
        for u in range(units):
            dcell[u] *= f[u]


@compiled
def _add_rows(x, out):
    for n in range(len(out)):
        row, total = x[n], out[n]
        for u in range(len(row)):
            total[u] += row[u]


@compiled
def _steps_forward(inputs, rows, context, finished, wh, gates, c, tanh_c, h):
    # At step t example n reads inputs[:, rows[t, n]].
    for t in range(len(gates)):
        for k in range(4):
            np.dot(h[t], wh[k], gates[t, k])
            if context is not None:
                _add_rows(context[k], gates[t, k])
        if finished is None:
            _gates_forward(inputs, rows[t], c[t], h[t], None, gates[t], c[t + 1], tanh_c[t], h[t + 1])
        else:
            _gates_forward(inputs, rows[t], c[t], h[t], finished[t], gates[t], c[t + 1], tanh_c[t], h[t + 1])


def lstm_steps_forward(inputs, finished, first_masked, wh, gates, c, tanh_c, h):
    _, steps, examples, units = inputs.shape
    rows = np.arange(steps * examples).reshape(steps, examples)
    _steps_forward(inputs.reshape(4, -1, units), rows, None, finished, wh, gates, c, tanh_c, h)


def lstm_token_steps_forward(table, tokens, context, inputs, finished, first_masked, wh, gates, c, tanh_c, h):
    # Rows of the table are read directly: they stay in the cache, unlike the gathered inputs of all steps.
    ops.require_tokens(tokens, table.shape[1])
    _steps_forward(table, tokens, context, finished, wh, gates, c, tanh_c, h)


@compiled
def lstm_steps_backward(dh, running, first_masked, wh_t, c, gates, tanh_c, scratch, dh_t, dc_t, da):
    for t in range(len(gates) - 1, -1, -1):
        if dh is not None:
            dh_t += dh[t]
        _gates_backward(dh_t, dc_t, c[t], gates[t], tanh_c[t], scratch, da[t])
        if running is None or t < first_masked:
            np.dot(da[t], wh_t, dh_t)
        else:
            np.dot(da[t], wh_t, scratch[0])
            for n in range(len(dh_t)):
                if running[t, n, 0]:
                    dh_t[n] = scratch[0, n]


@compiled
def _scatter_add(dout, tokens, dtable):
    dtable[:] = ZERO
    for m in range(len(tokens)):
        row, total = dout[m], dtable[tokens[m]]
        for k in range(len(row)):
            total[k] += row[k]


def embedding_backward(dout, tokens, scratch, dtable):
    ops.require_tokens(tokens, len(dtable))
    _scatter_add(dout.reshape(tokens.size, -1), tokens.reshape(-1), dtable)
    return dtable


@compiled
def _cross_entropy(logits, labels, weights, dlogits):
    total = 0.0
    for m in range(len(labels)):
        l, p, weight = logits[m], dlogits[m], weights[m]
        largest = l[0]
        for v in range(1, len(l)):
            largest = max(largest, l[v])
        for v in range(len(l)):
            p[v] = exp_up_to_88(l[v] - largest)
        normalizer = ZERO
        for v in range(len(l)):
            normalizer += p[v]
        total += weight * (np.log(normalizer) + (np.float64(largest) - np.float64(l[labels[m]])))  # Exact at any offset.
        scale = weight / normalizer
        for v in range(len(l)):
            p[v] *= scale
        p[labels[m]] -= weight
    return np.float32(total)


def cross_entropy_with_logits(logits, labels, weights, scratch, dlogits):
    return _cross_entropy(logits, labels, weights, dlogits)


REPLACEMENTS = replacements_in(globals(), losses, lstm, ops)
