"""The fast engine's LSTM, sentence encoder and decoder; the latter two split a batch among threads."""

import copy

from .. import backend, recurrent
from . import kernels
from .layers import Buffered
from .losses import FAST_LOSSES, BufferedLoss
from .lstm import LSTMPlan, leading_view, lstm_backward, lstm_forward

# Threshold for multithreading, by kernels: the number of multiplications in the recurrent matmul of a step above which a
# second thread pays off. Plain functions make many short calls, between which threads wait for the GIL.
THREADING_THRESHOLD = {"numba": 5e4, "numpy": 4e5}


class LSTM(Buffered, recurrent.LSTM):
    """See recurrent.LSTM; fast/lstm.py has the loop over time."""

    multithreaded = True
    capacity: tuple[int, int] = 0, 0

    def prepare(self):
        # Importing the compiled kernels loads their own BLAS, which must happen before its threads are limited.
        kernels.choose(lstm_forward, self.dtype)

    def allocate(self, batch_shape):
        """Allocate buffers for up to batch_shape (T, N): steps and examples."""
        self.capacity = steps, examples = tuple(batch_shape)
        empty, u = backend.xp.empty, self.units
        self.plan = LSTMPlan((steps, examples, *self.input_shape), u, self.dtype, self.tokens)
        # Flat, so that the arrays of a smaller batch are contiguous views of their beginning.
        self._gates = empty(steps * 4 * examples * u, self.dtype)
        self._tanh_c = empty(steps * examples * u, self.dtype)
        self._c, self._h = (empty((steps + 1) * examples * u, self.dtype) for _ in range(2))
        self._dstate = empty(2 * examples * u, self.dtype)
        self._dcontext = empty(examples * 4 * u, self.dtype)
        self._dx = None
        if self.needs_dx and not self.tokens:
            self._dx = empty(steps * examples * self.input_shape[0], self.dtype)

    def forward(self, x, lengths=None, h0=None, c0=None, context=None):
        steps, examples = x.shape[:2]
        if steps > self.capacity[0] or examples > self.capacity[1]:
            self.allocate((max(steps, self.capacity[0]), max(examples, self.capacity[1])))
        self.x, self.lengths, self.has_context, u = x, lengths, context is not None, self.units
        self.gates = leading_view(self._gates, steps, 4, examples, u)
        self.tanh_c = leading_view(self._tanh_c, steps, examples, u)
        self.c, self.h = (leading_view(buffer, steps + 1, examples, u) for buffer in (self._c, self._h))
        backend.xp.copyto(self.h[0], 0 if h0 is None else h0)
        backend.xp.copyto(self.c[0], 0 if c0 is None else c0)
        self.h_last, self.c_last = self.h[-1], self.c[-1]
        return lstm_forward(
            x,
            self.params["wx"],
            self.params["wh"],
            self.params["b"],
            lengths,
            self.plan,
            self.gates,
            self.c,
            self.tanh_c,
            self.h,
            context,
        )

    def backward(self, dout=None, dh_last=None, dc_last=None):
        examples = self.x.shape[1]
        self.dh0, self.dc0 = leading_view(self._dstate, 2, examples, self.units)
        self.dcontext = leading_view(self._dcontext, examples, 4 * self.units) if self.has_context else None
        dx = None if self._dx is None else leading_view(self._dx, *self.x.shape)
        return lstm_backward(
            dout,
            dh_last,
            dc_last,
            self.x,
            self.params["wx"],
            self.params["wh"],
            self.lengths,
            self.gates,
            self.c,
            self.tanh_c,
            self.h,
            self.plan,
            dx,
            self.grads["wx"],
            self.grads["wh"],
            self.grads["b"],
            self.dh0,
            self.dc0,
            self.dcontext,
        )


class DataParallel:
    """A mixin that splits a batch of sentences among threads, each with a replica of the layer, which shares the parameters
    and has its own gradients and buffers. The first replica is the layer itself.
    """

    def prepare(self):
        self.bind_layers()
        self.replicas = [self]

    def split_batch(self, n):
        """Compute the slices of a batch of n sentences, one per thread."""
        threads = 1
        if backend.name == "numpy" and n * self.lstm.units**2 > THREADING_THRESHOLD[kernels.kernels()]:
            threads = backend.threads
        size = -(-n // min(threads, n))
        self.slices = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        for _ in range(len(self.replicas), len(self.slices)):
            replica = copy.copy(self)
            replica.layers = [replicate(layer) for layer in self.layers]
            replica.bind_layers()
            self.replicas.append(replica)

    def parallel_apply(self, function):
        """A list of function(replica, its slice of the batch), computed in parallel threads."""
        return backend.parallel_for(lambda i: function(self.replicas[i], self.slices[i]), len(self.slices))

    def reduce_gradients(self):
        """Add the gradients of the other replicas to the first one's, always in the same order."""
        for replica in self.replicas[1 : len(self.slices)]:
            for own, other in zip(self.layers, replica.layers, strict=True):
                for name, gradient in own.grads.items():
                    gradient += other.grads[name]


class SentenceEncoder(DataParallel, recurrent.SentenceEncoder):
    capacity = 0

    def bind_layers(self):
        (self.lstm,) = self.layers

    def forward(self, tokens, lengths):
        n = tokens.shape[1]
        if n > self.capacity:
            self.capacity, self._last = n, backend.xp.empty((2, n, self.lstm.units), self.dtype)
        self.split_batch(n)
        h, c = last = self._last[:, :n]

        def encode(replica, rows):
            replica.lstm.forward(columns(tokens, rows), None if lengths is None else lengths[rows])
            h[rows], c[rows] = replica.lstm.h_last, replica.lstm.c_last

        self.parallel_apply(encode)
        return last

    def backward(self, dh, dc):
        self.parallel_apply(lambda replica, rows: replica.lstm.backward(None, dh[rows], dc[rows]))
        self.reduce_gradients()


class SideBySide(recurrent.SideBySide):
    capacity = 0

    def forward(self, h, c):
        n, self.units = h.shape
        if n > self.capacity:
            self.capacity, self._out = n, backend.xp.empty((n, 2 * self.units), h.dtype)
        out = self._out[:n]
        out[:, : self.units], out[:, self.units :] = h, c
        return out


class SentenceDecoder(DataParallel, recurrent.SentenceDecoder):
    capacity = 0

    def bind_layers(self):
        self.lstm, self.output = self.layers
        self.criterion = BufferedLoss(*FAST_LOSSES[recurrent.cross_entropy_with_logits])

    def forward(self, inputs, targets, weights, start, context=None):
        n, u = inputs.shape[1], self.lstm.units
        if n > self.capacity:
            self.capacity = n
            self._dstart, self._dcontext = (backend.xp.empty((n, size * u), self.dtype) for size in (2, 4))
        self.split_batch(n)

        def decode(replica, rows):
            replica.hs = replica.lstm.forward(
                columns(inputs, rows), None, start[rows, :u], start[rows, u:], None if context is None else context[rows]
            )
            logits = replica.output.forward(replica.hs.reshape(-1, u))
            return replica.criterion.forward(logits, columns(targets, rows).reshape(-1), columns(weights, rows).reshape(-1))

        return sum(self.parallel_apply(decode))

    def backward(self):
        n, u = self.slices[-1].stop, self.lstm.units
        dstart, dcontext = self._dstart[:n], self._dcontext[:n]

        def backpropagate(replica, rows):
            dhs = replica.output.backward(replica.criterion.backward())
            replica.lstm.backward(dhs.reshape(replica.hs.shape))
            dstart[rows, :u], dstart[rows, u:] = replica.lstm.dh0, replica.lstm.dc0
            if replica.lstm.has_context:
                dcontext[rows] = replica.lstm.dcontext

        self.parallel_apply(backpropagate)
        self.reduce_gradients()
        return dstart, dcontext


def columns(array, rows):
    """The sentences `rows` (a slice) of an array (T, N), contiguous."""
    return array if rows == slice(0, array.shape[1]) else backend.xp.ascontiguousarray(array[:, rows])


def replicate(layer):
    """A layer with the same parameters, and with its own gradients and buffers, for one thread."""
    replica = copy.copy(layer)
    replica.grads = {name: backend.xp.zeros_like(array) for name, array in layer.params.items()}
    replica.capacity = type(layer).capacity
    return replica
