"""The LSTM as a layer: it owns the weights and the buffers that ops/lstm.py works on."""
import copy
import math

import numpy as np

from . import backend, fused
from .layers import Layer
from .ops.lstm import LSTMPlan, lstm_backward, lstm_forward


class LSTM(Layer):
    """A sequence and an initial state -> outputs (T, N, units) and the last state. See ops/lstm.py for the formulas.

    symbols: True for inputs (T, N) of integers, which stand for one-hot rows; False for inputs (T, N, F).

    The weights start as in Keras: Glorot-uniform input weights and orthogonal recurrent ones, each taken as one matrix for
    the four gates; biases 0, but 1 at the forget gate, which so starts out keeping the cell's state.
    """

    def __init__(self, units, symbols=False):
        super().__init__()
        if not (isinstance(units, int) and units > 0):
            raise ValueError(f"units={units!r} must be a whole number above 0")
        self.units, self.symbols = units, symbols

    def setup(self, input_shape, random, dtype):
        """See Layer.setup; input_shape (F,), for symbols the number of different ones. Returns (units,)."""
        super().setup(input_shape, random, dtype)
        (features,), u = input_shape, self.units
        limit = math.sqrt(6 / (features + 4 * u))
        self._add_parameter("wx", random.uniform(-limit, limit, (features, 4 * u)))
        self._add_parameter("wh", orthogonal(random, u, 4 * u))
        bias = np.zeros(4 * u)
        bias[u:2 * u] = 1
        self._add_parameter("b", bias)
        self.output_shape = (u,)
        self.capacity = 0, 0
        # Compiled kernels bring a BLAS of their own, which must be there before its threads are limited.
        fused.choose(lstm_forward, dtype)
        return self.output_shape

    def build(self, batch_shape):
        """Allocate buffers for up to batch_shape (T, N): steps and examples."""
        self.capacity = steps, examples = tuple(batch_shape)
        empty, u = backend.xp.empty, self.units
        self.plan = LSTMPlan((steps, examples, *self.input_shape), u, self.dtype, self.symbols)
        # Flat, so that a smaller batch takes contiguous arrays from their front.
        self._gates = empty(steps * 4 * examples * u, self.dtype)
        self._tanh_c = empty(steps * examples * u, self.dtype)
        self._c, self._h = (empty((steps + 1) * examples * u, self.dtype) for _ in range(2))
        self._dstate = empty(2 * examples * u, self.dtype)
        self._dcontext = empty(examples * 4 * u, self.dtype)
        wants_dx = self.needs_dx and not self.symbols
        self._dx = empty(steps * examples * self.input_shape[0], self.dtype) if wants_dx else None

    def forward(self, x, lengths=None, h0=None, c0=None, context=None):
        """x (T, N) or (T, N, F), C-contiguous -> outputs (T, N, units), the layer's own buffer.

        lengths (N,): integers, where each sequence ends; None: all at T. h0, c0 (N, units): the initial state, None for
        zeros. context (N, 4 units): a bias of each example's own at every step, or None. Afterwards h_last and c_last
        (N, units) are the state at each sequence's end.
        """
        steps, examples = x.shape[:2]
        if steps > self.capacity[0] or examples > self.capacity[1]:
            self.build((max(steps, self.capacity[0]), max(examples, self.capacity[1])))
        self.x, self.lengths, self.has_context, u = x, lengths, context is not None, self.units
        self.gates = _front(self._gates, steps, 4, examples, u)
        self.tanh_c = _front(self._tanh_c, steps, examples, u)
        self.c, self.h = (_front(buffer, steps + 1, examples, u) for buffer in (self._c, self._h))
        backend.xp.copyto(self.h[0], 0 if h0 is None else h0)
        backend.xp.copyto(self.c[0], 0 if c0 is None else c0)
        out = lstm_forward(x, self.params["wx"], self.params["wh"], self.params["b"], lengths, self.plan, self.gates,
                           self.c, self.tanh_c, self.h, context)
        self.h_last, self.c_last = self.h[-1], self.c[-1]
        return out

    def backward(self, dout=None, dh_last=None, dc_last=None):
        """The gradients at the outputs (T, N, units) and at the last state (N, units), None for zeros -> dx as x, or None
        for symbols. Afterwards dh0 and dc0 (N, units) are the gradients at the initial state, and dcontext (N, 4 units) the
        one at the context, if there was one.
        """
        examples = self.x.shape[1]
        self.dh0, self.dc0 = _front(self._dstate, 2, examples, self.units)
        self.dcontext = _front(self._dcontext, examples, 4 * self.units) if self.has_context else None
        dx = None if self._dx is None else _front(self._dx, *self.x.shape)
        return lstm_backward(dout, dh_last, dc_last, self.x, self.params["wx"], self.params["wh"], self.lengths, self.gates,
                             self.c, self.tanh_c, self.h, self.plan, dx, self.grads["wx"], self.grads["wh"],
                             self.grads["b"], self.dh0, self.dc0, self.dcontext)


def replica(layer):
    """A layer with the very same parameters and with gradients and buffers of its own: one thread works with each."""
    twin = copy.copy(layer)
    twin.grads = {name: backend.xp.zeros_like(array) for name, array in layer.params.items()}
    twin.capacity = (0, 0) if isinstance(layer, LSTM) else 0
    return twin


def orthogonal(random, rows, columns):
    """A random matrix (rows, columns), rows <= columns, whose rows are orthonormal: it neither stretches nor shrinks what
    it multiplies from the left. Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """
    # Two threads of BLAS get in each other's way here.
    with backend.blas_threads(1):
        q, r = np.linalg.qr(random.standard_normal((columns, rows)))
    # The signs make the draw uniform over all such matrices (Mezzadri 2007, arXiv:math-ph/0609050).
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T)


def _front(buffer, *shape):
    """The first values of a flat buffer as a contiguous array of this shape."""
    return buffer[:math.prod(shape)].reshape(shape)
