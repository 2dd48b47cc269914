"""The bottleneck: from the encoder's last output h to the code, and what gradient comes back. Four kinds, one contract.

Each kind answers three questions of the report's section 2:

    kind      what the decoder sees in training    what is stored             what is added to the loss
    Vanilla   z = sigma(h)                         z, as float32              nothing
    Naive     z = sigma(h)                         bits 1[z > 1/2]            nothing
    Fence     z = sigma(h)                         bits 1[z > 1/2]            weight * mean of min(z, 1 - z)
    Commit    b = 1[a > 1/2], a = sigma(h)         bits b                     weight * mean of (b - a)^2

The contract:

    forward(h, training)   the code for the decoder, (N, F). In training also sets `extra_loss`, the value of the added
                           term without its weight. Outside training the code is what would be read from storage.
    backward(dcode)        dh, the added term's gradient included.
    latent(h)              the values before the threshold, where one sees who sits on the fence.

With `signed` the decoder sees 2 code - 1, so -1 and +1 instead of 0 and 1: the same information, but an off bit
moves the decoder's weights too, and the decoder's bias need not undo the mean of the code.

These are the report's four. more_bottlenecks.py has others, which make_bottleneck knows too.
"""
import math

import numpy as np

from . import backend, fused
from .losses import binarize_and_commit, commit_loss, fence_loss
from .ops.activations import relu_backward, relu_forward, sigmoid_backward, sigmoid_forward
from .ops.binarize import binarize_forward, straight_through_backward

ACTIVATIONS = ("sigmoid", "relu", "linear", "relu-sigmoid")


class Bottleneck:
    """What the four kinds share: the activation, signed codes, buffers.

    weight: factor of the added loss term (a non-negative number).
    activation: what is applied to h before the threshold: "sigmoid" (the report's text); "relu-sigmoid" (its code for
    the MLP's vanilla and naive models); for Commit alone also "relu" or "linear" (its code for commit).
    noise: standard deviation of Gaussian noise added to the code in training, which asks for the same robustness that a
    threshold needs later; 0 for none.
    """

    kind = None
    loss_name = None
    is_binary = True
    activations = ("sigmoid", "relu-sigmoid")
    # Between which numbers a stored code lies.
    code_range = (0, 1)

    def __init__(self, weight=0.0, activation="sigmoid", signed=False, noise=0.0):
        if activation not in self.activations:
            raise ValueError(f"activation={activation!r} does not fit {self.kind}; "
                             f"choose one of {', '.join(self.activations)}")
        for argument, value in (("weight", weight), ("noise", noise)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{argument}={value!r} must be a finite number, 0 or more")
        self.weight, self.activation, self.signed, self.noise = float(weight), activation, bool(signed), float(noise)
        self.extra_loss = 0.0
        self.random = backend.generator(0)
        self._capacity = 0

    def config(self):
        """The constructor's arguments, for saving."""
        return {"weight": self.weight, "activation": self.activation, "signed": self.signed, "noise": self.noise}

    def build(self, shape, dtype):
        """Allocate buffers for codes of shape (N, F)."""
        empty = backend.xp.empty
        self._capacity = shape[0]
        self._a, self._code, self._da, self._dextra = (empty(shape, dtype) for _ in range(4))
        self._rectified = empty(shape, dtype) if self.activation == "relu-sigmoid" else None
        self._dh = empty(shape, dtype)
        self._drawn = self._sent = None

    @property
    def draws(self):
        """Whether a training step draws random numbers, which happens on the host: no CUDA graph can hold that."""
        return self.noise > 0

    def at(self, progress):
        """The share of its training that is done, 0 to 1: told before each step, to those that change with it."""

    def _views(self, rows):
        return (buffer[:rows] for buffer in (self._a, self._code, self._da, self._dextra, self._dh))

    def _activate(self, h, out):
        if self.activation == "linear":
            backend.xp.copyto(out, h)
        elif self.activation == "relu":
            relu_forward(h, out)
        elif self.activation == "sigmoid":
            fused.choose(sigmoid_forward, h.dtype)(h, out)
        else:
            rectified = relu_forward(h, self._rectified[:len(h)])
            sigmoid_forward(rectified, out)
        return out

    def _activate_backward(self, da, a, dh):
        if self.activation == "linear":
            backend.xp.copyto(dh, da)
        elif self.activation == "relu":
            relu_backward(da, a, dh)
        elif self.activation == "sigmoid":
            sigmoid_backward(da, a, dh)
        else:
            sigmoid_backward(da, a, dh)
            rectified = self._rectified[:len(dh)]
            on = backend.xp.greater(rectified, 0, out=rectified)
            backend.xp.multiply(dh, on, out=dh)
        return dh

    def latent(self, h):
        """The values before the threshold, (N, F); overwritten by the next call."""
        if len(h) > self._capacity:
            self.build(h.shape, h.dtype)
        return self._activate(h, self._a[:len(h)])

    def forward(self, h, training=True):
        """The code for the decoder, (N, F); overwritten by the next call."""
        a = self.latent(h)
        code = self._code[:len(h)]
        if training:
            self._training_code(a, code)
        else:
            self._stored_code(a, code)
        return self.for_decoder(code, code)

    def for_decoder(self, code, out):
        """A stored code with values in [0, 1] as the decoder sees it: itself, or 2 code - 1 when signed."""
        xp = backend.xp
        if self.signed:
            xp.multiply(code, 2, out=out)
            xp.subtract(out, 1, out=out)
        elif out is not code:
            xp.copyto(out, code)
        return out

    def backward(self, dcode):
        """dh (N, F) from dcode, the gradient at the decoder's input."""
        a, _, da, dextra, dh = self._views(len(dcode))
        self._code_backward(dcode, a, da)
        if self.signed:
            backend.xp.multiply(da, 2, out=da)
        if self.loss_name and self.weight:
            backend.xp.multiply(dextra, self.weight, out=dh)
            backend.xp.add(da, dh, out=da)
        return self._activate_backward(da, a, dh)

    def _training_code(self, a, code):
        backend.xp.copyto(code, a)
        if self.noise:
            self._add_noise(code)

    def _add_noise(self, code):
        noise = self._draw(self.random.standard_normal, code)
        backend.xp.multiply(noise, self.noise, out=noise)
        backend.xp.add(code, noise, out=code)

    def _draw(self, distribution, code):
        """Numbers of code's shape and dtype from a method of `random`, on the device; overwritten by the next call.

        They are drawn on the host, like all that is random in a run, and sent: the one transfer that a step may have.
        """
        if self._drawn is None:
            self._drawn = np.empty(self._code.shape, code.dtype)
            self._sent = self._drawn if backend.name == "numpy" else backend.xp.empty_like(self._code)
        drawn = self._drawn[:len(code)]
        distribution(dtype=code.dtype, out=drawn)
        return backend.to_device(drawn, self._sent[:len(code)])

    def _stored_code(self, a, code):
        binarize_forward(a, code)

    def _code_backward(self, dcode, a, da):
        backend.xp.copyto(da, dcode)

    def __repr__(self):
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class Vanilla(Bottleneck):
    """No quantization: the code is z = sigma(h), stored as 32-bit floats. Report, section 2.1. Its LSTM's code has no
    sigmoid: activation "linear".
    """

    kind = "vanilla"
    is_binary = False
    activations = ("sigmoid", "relu-sigmoid", "linear")

    @property
    def code_range(self):
        """Any number with the linear activation, else the sigmoid's range."""
        return (-math.inf, math.inf) if self.activation == "linear" else (0, 1)

    def _stored_code(self, a, code):
        backend.xp.copyto(code, a)


class Naive(Bottleneck):
    """Train as Vanilla, threshold afterwards. Report, section 2.2."""

    kind = "naive"


class Fence(Bottleneck):
    """Train as Vanilla with the fence loss, which pulls codes away from 1/2; threshold afterwards. Section 2.3."""

    kind = "fence"
    loss_name = "fence"

    def __init__(self, weight=0.1, activation="sigmoid", signed=False, noise=0.0):
        super().__init__(weight, activation, signed, noise)

    def _training_code(self, a, code):
        super()._training_code(a, code)
        self.extra_loss = fence_loss(a, self._dextra[:len(a)])


class Commit(Bottleneck):
    """Threshold in training too: forward b = 1[a > 1/2], backward the straight-through estimator, and a commit loss
    that pulls a to the bit it became. Report, section 2.4; VQ-VAE's commitment term (arXiv:1711.00937) is its model.

    window: None lets the whole gradient through; a number w lets it through where |a - 1/2| <= w only.
    """

    kind = "commit"
    loss_name = "commit"
    activations = ACTIVATIONS

    def __init__(self, weight=0.1, activation="sigmoid", signed=False, noise=0.0, window=None):
        super().__init__(weight, activation, signed, noise)
        if window is not None and not window > 0:
            raise ValueError(f"window={window!r} must be None (identity gradient) or a number above 0")
        self.window = window

    def config(self):
        """The constructor's arguments, for saving."""
        return {**super().config(), "window": self.window}

    def _training_code(self, a, code):
        if self.noise:
            super()._training_code(a, code)
            self.extra_loss = commit_loss(a, binarize_forward(code, code), self._dextra[:len(a)])
        else:
            fused_form = fused.choose(binarize_and_commit, a.dtype)
            self.extra_loss = fused_form(a, code, self._dextra[:len(a)])

    def _code_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


KINDS = {bottleneck.kind: bottleneck for bottleneck in (Vanilla, Naive, Fence, Commit)}


def make_bottleneck(kind, **arguments):
    """The bottleneck named `kind`: "vanilla" (or its other word "none"), "naive", "fence", "commit", or one of
    more_bottlenecks.MORE_KINDS.
    """
    from .more_bottlenecks import MORE_KINDS  # Not above: that file builds on this one.

    kind, kinds = "vanilla" if kind == "none" else kind, KINDS | MORE_KINDS
    if kind not in kinds:
        raise ValueError(f"quantizer {kind!r} is unknown; choose one of {', '.join(kinds)} (none means vanilla)")
    return kinds[kind](**arguments)
