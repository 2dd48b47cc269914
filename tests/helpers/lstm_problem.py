"""An LSTM, a sentence encoder and a decoder, and what a pass through each takes, for tests of their contract and of the fast
engine's buffers.
"""

import numpy as np
from engines import build

from tinyqae.layers import Dense
from tinyqae.recurrent import LSTM, SentenceDecoder, SentenceEncoder

FEATURES, UNITS = 5, 4


def make_lstm(features=FEATURES, units=UNITS, tokens=False, dtype=np.float32, seed=0, needs_dx=True):
    """An LSTM as the engine in use computes it, with the weights it starts with."""
    lstm = LSTM(units, tokens)
    lstm.needs_dx = needs_dx
    assert lstm.setup((features,), np.random.default_rng(seed), np.dtype(dtype)) == (units,)
    return build(lstm)


def perturbed(part, seed=1):
    """The same layer (or layers) with weights of no special structure."""
    random = np.random.default_rng(seed)
    for layer in getattr(part, "layers", [part]):
        for array in layer.params.values():
            array += random.normal(0, 0.3, array.shape).astype(array.dtype)
    return part


class Problem:
    """Inputs, initial states and output gradients for one pass through an LSTM."""

    def __init__(self, lstm, steps, examples, lengths=None, seed=0, context=False):
        random = np.random.default_rng((seed, steps, examples))

        def draw(*shape):
            return random.standard_normal(shape).astype(lstm.dtype)

        features, u = *lstm.input_shape, lstm.units
        self.x = random.integers(0, features, (steps, examples)) if lstm.tokens else draw(steps, examples, features)
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.h0, self.c0 = draw(examples, u), draw(examples, u)
        self.dout, self.dh, self.dc = draw(steps, examples, u), draw(examples, u), draw(examples, u)
        self.context = draw(examples, 4 * u) if context else None

    def forward(self, lstm):
        return lstm.forward(self.x, self.lengths, self.h0, self.c0, self.context)

    def loss(self, lstm):
        """A number whose gradients at outputs and last states are dout, dh and dc."""
        out = self.forward(lstm)
        return np.vdot(out, self.dout) + np.vdot(lstm.h_last, self.dh) + np.vdot(lstm.c_last, self.dc)

    def solve(self, lstm):
        """Copies of all results of a pass, by name; what is None is left out."""
        out = {"out": self.forward(lstm), "h_last": lstm.h_last, "c_last": lstm.c_last}
        out = {name: array.copy() for name, array in out.items()}
        out |= {
            "x": lstm.backward(self.dout, self.dh, self.dc),
            "h0": lstm.dh0,
            "c0": lstm.dc0,
            "context": None if self.context is None else lstm.dcontext,
            **lstm.grads,
        }
        return {name: array.copy() for name, array in out.items() if array is not None}


class EncoderProblem:
    """Tokens and the gradients of the last state for one pass through a SentenceEncoder."""

    def __init__(self, steps, examples, lengths=None, *, tokens=3, units=2, dtype=np.float32, seed=0):
        random = np.random.default_rng((seed, steps, examples))
        self.size, self.units, self.dtype = tokens, units, np.dtype(dtype)
        self.tokens = random.integers(0, tokens, (steps, examples))
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.dh, self.dc = (random.standard_normal((examples, units)).astype(dtype) for _ in range(2))

    def make(self):
        """The layer, as the engine in use computes it."""
        encoder = SentenceEncoder(LSTM(self.units, tokens=True))
        encoder.setup((self.size,), np.random.default_rng(0), self.dtype)
        return perturbed(build(encoder))

    def loss(self, encoder):
        h, c = encoder.forward(self.tokens, self.lengths)
        return np.vdot(h, self.dh) + np.vdot(c, self.dc)

    def solve(self, encoder):
        """Copies of all results of a pass, by name."""
        h, c = (array.copy() for array in encoder.forward(self.tokens, self.lengths))
        encoder.backward(self.dh, self.dc)
        return {"h": h, "c": c} | {name: array.copy() for name, array in encoder.lstm.grads.items()}


class DecoderProblem:
    """Tokens, weights and an initial state for one pass through a SentenceDecoder; a quarter of the targets is padding."""

    def __init__(self, steps, examples, context=False, *, tokens=3, units=2, dtype=np.float32, seed=0):
        random = np.random.default_rng((seed, steps, examples))
        self.size, self.units, self.dtype = tokens, units, np.dtype(dtype)
        self.inputs, self.targets = (random.integers(0, tokens, (steps, examples)) for _ in range(2))
        self.weights = (random.random((steps, examples)) > 0.25).astype(dtype)
        self.weights /= max(1, self.weights.sum())
        self.start = random.standard_normal((examples, 2 * units)).astype(dtype)
        self.context = random.standard_normal((examples, 4 * units)).astype(dtype) if context else None

    def make(self):
        """The layer, as the engine in use computes it."""
        decoder = SentenceDecoder(LSTM(self.units, tokens=True), Dense(self.size))
        decoder.setup((self.size,), np.random.default_rng(0), self.dtype)
        return perturbed(build(decoder))

    def loss(self, decoder):
        return decoder.forward(self.inputs, self.targets, self.weights, self.start, self.context)

    def solve(self, decoder):
        """Copies of all results of a pass, by name."""
        loss = self.loss(decoder)
        dstart, dcontext = decoder.backward()
        results = {"loss": loss, "start": dstart} | ({} if self.context is None else {"context": dcontext})
        results |= decoder.lstm.grads | {f"output.{name}": array for name, array in decoder.output.grads.items()}
        return {name: np.array(value) for name, value in results.items()}


def assert_same(ours, reference, **tolerance):
    assert ours.keys() == reference.keys()
    for name, array in reference.items():
        np.testing.assert_allclose(ours[name], array, err_msg=name, **tolerance)
