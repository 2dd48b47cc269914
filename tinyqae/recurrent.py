"""The LSTM as a layer, and two layers built on it: the sentence encoder and the sentence decoder."""

import numpy as np

from . import backend
from .annotations import Array, Scalar, Shape
from .errors import require_positive
from .initializers import glorot, orthogonal
from .layers import Dense, Layer
from .losses import Loss, cross_entropy_with_logits, cross_entropy_with_logits_backward, log_softmax
from .ops.dense import dense_backward
from .ops.embedding import embedding_backward, embedding_forward
from .ops.lstm import lstm_backward, lstm_forward


class LSTM(Layer):
    """A sequence x and an initial state -> the outputs (T, N, units); see ops/lstm.py for the formulas.

    Weights are initialized as in Keras: Glorot-uniform input weights and orthogonal recurrent ones, each as one matrix for
    the four gates; biases 0, but 1 for the forget gate, so that the cell initially keeps its state.

    Args:
        tokens: True for x (T, N) of integers, which represent one-hot rows; False for x (T, N, F).
    """

    def __init__(self, units: int, tokens: bool = False):
        super().__init__()
        self.units, self.tokens = require_positive("units", units), tokens

    def draw(self, random: np.random.Generator) -> Shape:
        (features,), u = self.input_shape, self.units
        self._parameter("wx", glorot(random, (features, 4 * u), features, 4 * u))
        self._parameter("wh", orthogonal(random, u, 4 * u))
        self._parameter("b", np.repeat([0.0, 1.0, 0.0, 0.0], u))
        return (u,)

    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        h0: Array | None = None,
        c0: Array | None = None,
        context: Array | None = None,
    ) -> Array:
        """x (T, N) or (T, N, F) -> outputs (T, N, units). Afterwards h_last and c_last (N, units) are the state at each
        sequence's end.

        lengths (N,): integers, where each sequence ends; None for all at T. h0, c0 (N, units): the initial state, None for
        zeros. context (N, 4 units): a bias per example, added at every step, or None.
        """
        self.x, self.lengths, zeros = x, lengths, backend.xp.zeros((x.shape[1], self.units), self.dtype)
        inputs = (embedding_forward(x, self.params["wx"]) if self.tokens else x @ self.params["wx"]) + self.params["b"]
        inputs = inputs if context is None else inputs + context
        self.hs, self.cs, self.gates = lstm_forward(
            inputs, self.params["wh"], zeros if h0 is None else h0, zeros if c0 is None else c0, lengths
        )
        self.h_last, self.c_last = self.hs[-1], self.cs[-1]
        return backend.xp.stack(self.hs[1:])

    def backward(self, dy: Array | None = None, dh_last: Array | None = None, dc_last: Array | None = None) -> Array | None:
        """dy (T, N, units), dh_last and dc_last (N, units), None for zeros -> dx, or None for tokens. Afterwards dh0, dc0
        (N, units) and dcontext (N, 4 units) are the gradients of the initial state and the context.
        """
        zeros = backend.xp.zeros_like(self.h_last)
        dinputs, self.grads["wh"], self.dh0, self.dc0 = lstm_backward(
            dy,
            zeros if dh_last is None else dh_last,
            zeros if dc_last is None else dc_last,
            self.params["wh"],
            self.hs,
            self.cs,
            self.gates,
            self.lengths,
        )
        self.dcontext = dinputs.sum(axis=0)
        self.grads["b"] = self.dcontext.sum(axis=0)
        if self.tokens:
            self.grads["wx"] = embedding_backward(dinputs, self.x, self.input_shape[0])
            return None
        rows, x = dinputs.reshape(-1, 4 * self.units), self.x.reshape(-1, *self.input_shape)
        dx, self.grads["wx"], _ = dense_backward(rows, x, self.params["wx"])
        return dx.reshape(self.x.shape)


class SentenceEncoder(Layer):
    """Tokens -> the last state of an LSTM."""

    def __init__(self, lstm: LSTM):
        super().__init__()
        self.lstm, self.layers = lstm, [lstm]

    def draw(self, random: np.random.Generator) -> Shape:
        return self.lstm.setup(self.input_shape, random, self.dtype)

    def forward(self, tokens: Array, lengths: Array | None) -> tuple[Array, Array]:
        """tokens (T, N), lengths (N,) or None -> h, c (N, units)."""
        self.lstm.forward(tokens, lengths)
        return self.lstm.h_last, self.lstm.c_last

    def backward(self, dh: Array, dc: Array) -> None:
        """dh, dc (N, units); tokens have no gradient."""
        self.lstm.backward(None, dh, dc)


class SideBySide(Layer):
    """h, c (N, U) -> (N, 2 U), concatenated."""

    def forward(self, h: Array, c: Array) -> Array:
        self.units = h.shape[1]
        return backend.xp.concatenate([h, c], axis=1)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        return dy[:, : self.units], dy[:, self.units :]


class SentenceDecoder(Layer):
    """An LSTM that writes tokens, with a dense layer to the logits of the next token, and the cross-entropy loss."""

    def __init__(self, lstm: LSTM, output: Dense):
        super().__init__()
        self.lstm, self.output, self.layers = lstm, output, [lstm, output]
        self.criterion = Loss(cross_entropy_with_logits, cross_entropy_with_logits_backward)

    def draw(self, random: np.random.Generator) -> Shape:
        return self.output.setup(self.lstm.setup(self.input_shape, random, self.dtype), random, self.dtype)

    def forward(self, inputs: Array, targets: Array, weights: Array, start: Array, context: Array | None = None) -> Scalar:
        """The loss with teacher forcing. inputs, targets, weights (T, N); start (N, 2 units): the initial h and c side by
        side; context (N, 4 units) or None.
        """
        u = self.lstm.units
        self.hs = self.lstm.forward(inputs, None, start[:, :u], start[:, u:], context)
        logits = self.output.forward(self.hs.reshape(-1, u))
        return self.criterion.forward(logits, targets.reshape(-1), weights.reshape(-1))

    def backward(self) -> tuple[Array, Array]:
        """(dstart, dcontext), the latter meaningless without a context."""
        dhs = self.output.backward(self.criterion.backward())
        self.lstm.backward(dhs.reshape(self.hs.shape))
        return backend.xp.concatenate([self.lstm.dh0, self.lstm.dc0], axis=1), self.lstm.dcontext

    def step(self, tokens: Array, h: Array, c: Array, context: Array | None = None) -> tuple[Array, Array, Array]:
        """(log-probabilities of the next token (N, V), h, c) after one more token of each. tokens (N,); h, c (N, units)."""
        self.lstm.forward(tokens[None], None, h, c, context)
        log_p = log_softmax(self.output.forward(self.lstm.h_last, training=False))
        return log_p, self.lstm.h_last, self.lstm.c_last
