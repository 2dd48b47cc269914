"""The fast engine's LSTM, and the reading and writing of sentences in as many parts of a batch as threads work on it."""
import copy
import math

from .. import backend, recurrent
from . import kernels
from .layers import Buffered
from .losses import CrossEntropy
from .lstm import LSTMPlan, lstm_backward, lstm_forward

# Multiplications of a step in a recurrent product above which a second thread makes it faster, by kernels: plain ones are
# many short calls, during which threads wait for each other's turn in the interpreter.
THREADING_THRESHOLD = {"numba": 5e4, "numpy": 4e5}


class LSTM(Buffered, recurrent.LSTM):
    """See recurrent.LSTM; fast/lstm.py has the loop over time."""

    splits_batches = True
    capacity = 0, 0

    def prepare(self):
        # Compiled kernels bring a BLAS of their own, which must be there before its threads are limited.
        kernels.choose(lstm_forward, self.dtype)

    def build(self, batch_shape):
        """Allocate buffers for up to batch_shape (T, N): steps and examples."""
        self.capacity = steps, examples = tuple(batch_shape)
        empty, u = backend.xp.empty, self.units
        self.plan = LSTMPlan((steps, examples, *self.input_shape), u, self.dtype, self.tokens)
        # Flat, so that a smaller batch takes contiguous arrays from their front.
        self._gates = empty(steps * 4 * examples * u, self.dtype)
        self._tanh_c = empty(steps * examples * u, self.dtype)
        self._c, self._h = (empty((steps + 1) * examples * u, self.dtype) for _ in range(2))
        self._dstate = empty(2 * examples * u, self.dtype)
        self._dcontext = empty(examples * 4 * u, self.dtype)
        wants_dx = self.needs_dx and not self.tokens
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
        for tokens. Afterwards dh0 and dc0 (N, units) are the gradients at the initial state, and dcontext (N, 4 units) the
        one at the context, if there was one.
        """
        examples = self.x.shape[1]
        self.dh0, self.dc0 = _front(self._dstate, 2, examples, self.units)
        self.dcontext = _front(self._dcontext, examples, 4 * self.units) if self.has_context else None
        dx = None if self._dx is None else _front(self._dx, *self.x.shape)
        return lstm_backward(dout, dh_last, dc_last, self.x, self.params["wx"], self.params["wh"], self.lengths, self.gates,
                             self.c, self.tanh_c, self.h, self.plan, dx, self.grads["wx"], self.grads["wh"],
                             self.grads["b"], self.dh0, self.dc0, self.dcontext)


class InParts:
    """Work on a batch of sentences in parts, side by side in threads. Each part has layers of its own, with the same
    parameters; the first part's are the layer's own.
    """

    def prepare(self):
        self.rewire()
        self.parts = [self]

    def split(self, n):
        """Slices of a batch of n sentences, one for each thread that pays."""
        threads = 1
        if backend.name == "numpy" and n * self.lstm.units ** 2 > THREADING_THRESHOLD[kernels.kernels()]:
            threads = backend.threads
        size = -(-n // min(threads, n))
        self.slices = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        for _ in range(len(self.parts), len(self.slices)):
            self.parts.append(self.replica())
        return self.slices

    def replica(self):
        """Another part: the same parameters, with gradients and buffers of its own."""
        other = copy.copy(self)
        other.layers = [replica(layer) for layer in self.layers]
        other.rewire()
        return other

    def each(self, work):
        """work(part, its slice of the batch) for all parts, side by side."""
        if len(self.slices) == 1:
            return [work(self, self.slices[0])]
        results = [None] * len(self.slices)

        def one(i):
            results[i] = work(self.parts[i], self.slices[i])

        backend.split_work(one, len(self.slices))
        return results

    def add_gradients(self):
        """Add the other parts' gradients to the first one's, always in the same order."""
        for part in self.parts[1:len(self.slices)]:
            for own, others in zip(self.layers, part.layers, strict=True):
                for name, gradient in own.grads.items():
                    backend.xp.add(gradient, others.grads[name], out=gradient)


class SentenceEncoder(InParts, recurrent.SentenceEncoder):
    """See recurrent.SentenceEncoder."""

    capacity = 0

    def rewire(self):
        (self.lstm,) = self.layers

    def forward(self, tokens, lengths):
        n, xp = tokens.shape[1], backend.xp
        if n > self.capacity:
            self.capacity, self._last = n, xp.empty((2, n, self.lstm.units), self.dtype)
        self.split(n)
        h, c = last = self._last[:, :n]

        def read(part, rows):
            own = None if lengths is None else lengths[rows]
            part.lstm.forward(columns(tokens, rows), own)
            h[rows], c[rows] = part.lstm.h_last, part.lstm.c_last

        self.each(read)
        return last

    def backward(self, dh, dc):
        self.each(lambda part, rows: part.lstm.backward(None, dh[rows], dc[rows]))
        self.add_gradients()


class SideBySide(recurrent.SideBySide):
    """See recurrent.SideBySide."""

    capacity = 0

    def prepare(self):
        """Nothing to do before the first batch."""

    def forward(self, h, c):
        n, self.units = h.shape
        if n > self.capacity:
            self.capacity, self._out = n, backend.xp.empty((n, 2 * self.units), h.dtype)
        out = self._out[:n]
        out[:, :self.units], out[:, self.units:] = h, c
        return out


class SentenceDecoder(InParts, recurrent.SentenceDecoder):
    """See recurrent.SentenceDecoder."""

    capacity = 0

    def rewire(self):
        self.lstm, self.output = self.layers
        self.criterion = CrossEntropy()

    def forward(self, inputs, targets, weights, start, context=None):
        n, u, xp = inputs.shape[1], self.lstm.units, backend.xp
        if n > self.capacity:
            self.capacity = n
            self._dstart, self._dcontext = xp.empty((n, 2 * u), self.dtype), xp.empty((n, 4 * u), self.dtype)
        self.split(n)

        def write(part, rows):
            part.hs = part.lstm.forward(columns(inputs, rows), None, start[rows, :u], start[rows, u:],
                                        None if context is None else context[rows])
            logits = part.output.forward(part.hs.reshape(-1, u))
            return part.criterion.forward(logits, columns(targets, rows).reshape(-1), columns(weights, rows).reshape(-1))

        return sum(self.each(write))

    def backward(self):
        n, u = self.slices[-1].stop, self.lstm.units
        dstart, dcontext = self._dstart[:n], self._dcontext[:n]

        def back(part, rows):
            dhs = part.output.backward(part.criterion.backward())
            part.lstm.backward(dhs.reshape(part.hs.shape))
            dstart[rows, :u], dstart[rows, u:] = part.lstm.dh0, part.lstm.dc0
            if part.lstm.has_context:
                dcontext[rows] = part.lstm.dcontext

        self.each(back)
        self.add_gradients()
        return dstart, dcontext


def columns(array, rows):
    """Some sentences of an array (T, N), contiguous."""
    return array if rows == slice(0, array.shape[1]) else backend.xp.ascontiguousarray(array[:, rows])


def replica(layer):
    """A layer with the same parameters and with gradients and buffers of its own: one thread works with each."""
    other = copy.copy(layer)
    other.grads = {name: backend.xp.zeros_like(array) for name, array in layer.params.items()}
    other.capacity = type(layer).capacity
    return other


def _front(buffer, *shape):
    """The first values of a flat buffer as a contiguous array of this shape."""
    return buffer[:math.prod(shape)].reshape(shape)
