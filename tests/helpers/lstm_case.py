"""One problem for a whole LSTM sequence, solved by the reference functions and by PyTorch."""

import numpy as np

from tinyqae.ops.dense import dense_backward
from tinyqae.ops.embedding import embedding_backward, embedding_forward
from tinyqae.ops.lstm import lstm_backward, lstm_forward


class Case:
    """One problem (random inputs, weights, states and incoming gradients) and its solutions.

    x (T, N, F), or with `tokens` tokens (T, N); lengths "random": drawn from 0 to T.
    """

    def __init__(self, steps, examples, features, units, *, tokens=False, lengths=None, seed=0, dtype=np.float64):
        random = np.random.default_rng((seed, steps, examples, features, units))

        def draw(*shape):
            return random.standard_normal(shape).astype(dtype)

        self.steps, self.examples, self.features, self.units = steps, examples, features, units
        self.tokens, self.dtype = tokens, np.dtype(dtype)
        self.lengths = random.integers(0, steps + 1, examples) if isinstance(lengths, str) else lengths
        self.x = draw(steps, examples, features)
        if tokens:
            self.x = random.integers(0, features, (steps, examples))
        self.wx, self.wh, self.b = draw(features, 4 * units), draw(units, 4 * units) / np.sqrt(units), draw(4 * units)
        self.wh, self.h0, self.c0 = self.wh.astype(dtype), draw(examples, units), draw(examples, units)
        self.dh, self.dh_last, self.dc_last = draw(steps, examples, units), draw(examples, units), draw(examples, units)

    def astype(self, dtype):
        """The same numbers in another precision."""
        other = type(self)(self.steps, self.examples, self.features, self.units, tokens=self.tokens, dtype=dtype)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.astype(dtype) if value.dtype.kind == "f" else value)
        return other

    def reference(self):
        """(h, c, {name: gradient}) by the reference functions; tokens have no gradient."""
        inputs = (embedding_forward(self.x, self.wx) if self.tokens else self.x @ self.wx) + self.b
        h, c, gates = lstm_forward(inputs, self.wh, self.h0, self.c0, self.lengths)
        dinputs, dwh, dh0, dc0 = lstm_backward(self.dh, self.dh_last, self.dc_last, self.wh, h, c, gates, self.lengths)
        rows = dinputs.reshape(-1, 4 * self.units)
        if self.tokens:
            gradients = {"dwx": embedding_backward(dinputs, self.x, self.features), "db": rows.sum(axis=0)}
        else:
            dx, dwx, db = dense_backward(rows, self.x.reshape(-1, self.features), self.wx)
            gradients = {"dx": dx.reshape(self.x.shape), "dwx": dwx, "db": db}
        return np.stack(h), np.stack(c), {**gradients, "dwh": dwh, "dh0": dh0, "dc0": dc0}

    def in_torch(self, torch):
        """(outputs, last h, last c, {name: gradient}) by torch.nn.LSTM, of packed sequences where lengths are given."""
        tensor = torch.tensor
        module = torch.nn.LSTM(self.features, self.units).to(tensor(self.b).dtype)
        with torch.no_grad():
            module.weight_ih_l0.copy_(tensor(self.wx.T.copy()))
            module.weight_hh_l0.copy_(tensor(self.wh.T.copy()))
            module.bias_ih_l0.copy_(tensor(self.b))
            module.bias_hh_l0.zero_()
        x, h0, c0 = (tensor(a, requires_grad=True) for a in (self.x, self.h0[None], self.c0[None]))
        rnn = torch.nn.utils.rnn
        if self.lengths is None:
            out, (h, c) = module(x, (h0, c0))
        else:
            packed = rnn.pack_padded_sequence(x, tensor(self.lengths), enforce_sorted=False)
            out, (h, c) = module(packed, (h0, c0))
            out, _ = rnn.pad_packed_sequence(out, total_length=self.steps)
        torch.autograd.backward([out, h, c], [tensor(self.dh), tensor(self.dh_last[None]), tensor(self.dc_last[None])])
        return (
            out.detach().numpy(),
            h.detach().numpy()[0],
            c.detach().numpy()[0],
            {
                "dx": x.grad.numpy(),
                "dwx": module.weight_ih_l0.grad.numpy().T,
                "dwh": module.weight_hh_l0.grad.numpy().T,
                "db": module.bias_ih_l0.grad.numpy(),
                "dh0": h0.grad.numpy()[0],
                "dc0": c0.grad.numpy()[0],
            },
        )


def assert_close(ours, reference, tolerance):
    """Each array within `tolerance` of the largest magnitude in its reference (of 1 where that is less)."""
    h, c, gradients = ours
    reference_h, reference_c, reference_gradients = reference
    pairs = {"h": (h, reference_h), "c": (c, reference_c)}
    assert gradients.keys() == reference_gradients.keys()
    pairs |= {name: (gradients[name], reference_gradients[name]) for name in gradients}
    for name, (a, b) in pairs.items():
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=name)
