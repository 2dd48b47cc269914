"""The fast engine's bottlenecks: those of tinyqae.bottlenecks with buffers and fused kernels.

A kind writes its code in `_training_code(a, code)`, with the gradient of its loss into `_dextra`, and the gradient of a,
without that of the loss, in `_code_backward(dcode, a, da)`.
"""
import numpy as np

from .. import backend, bottlenecks
from . import kernels
from .activations import relu_backward, relu_forward, sigmoid_backward, sigmoid_forward
from .binarize import binarize_forward, straight_through_backward
from .losses import binarize_and_commit, commit_loss, entropy_loss, fence_loss


class Buffered:
    """What the kinds share, to be inherited beside a bottleneck of the reference engine."""

    capacity = 0
    _loss = 0.0

    def prepare(self):
        """What an engine calls once: buffers come with the first batch."""

    def build(self, shape, dtype):
        """Allocate buffers for codes of shape (N, K)."""
        empty = backend.xp.empty
        self.capacity = shape[0]
        self._a, self._code, self._da, self._dextra, self._dh = (empty(shape, dtype) for _ in range(5))
        self._rectified = empty(shape, dtype) if self.activation == "relu-sigmoid" else None
        self._drawn = self._sent = None

    def latent(self, h):
        if len(h) > self.capacity:
            self.build(h.shape, h.dtype)
        return self._activate(h, self._a[:len(h)])

    def forward(self, h, training=True):
        a = self.latent(h)
        code = self._code[:len(h)]
        if training:
            self._training_code(a, code)
        elif self.is_binary:
            binarize_forward(a, code)
        else:
            backend.xp.copyto(code, a)
        if self.signed:
            backend.xp.multiply(code, 2, out=code)
            backend.xp.subtract(code, 1, out=code)
        return code

    def loss(self):
        return self._loss

    def backward(self, dcode):
        a, da, dextra, dh = (buffer[:len(dcode)] for buffer in (self._a, self._da, self._dextra, self._dh))
        self._code_backward(dcode, a, da)
        if self.signed:
            backend.xp.multiply(da, 2, out=da)
        if self.loss_name and self.weight:
            backend.xp.multiply(dextra, self.weight, out=dh)
            backend.xp.add(da, dh, out=da)
        return self._activate_backward(da, a, dh)

    def _activate(self, h, out):
        if self.activation == "linear":
            backend.xp.copyto(out, h)
        elif self.activation == "relu":
            relu_forward(h, out)
        elif self.activation == "sigmoid":
            kernels.choose(sigmoid_forward, h.dtype)(h, out)
        else:
            sigmoid_forward(relu_forward(h, self._rectified[:len(h)]), out)
        return out

    def _activate_backward(self, da, a, dh):
        if self.activation == "linear":
            backend.xp.copyto(dh, da)
        elif self.activation == "relu":
            relu_backward(da, a, dh)
        else:
            sigmoid_backward(da, a, dh)
        if self.activation == "relu-sigmoid":
            rectified = self._rectified[:len(dh)]
            on = backend.xp.greater(rectified, 0, out=rectified)
            backend.xp.multiply(dh, on, out=dh)
        return dh

    def _training_code(self, a, code):
        backend.xp.copyto(code, a)
        if self.noise:
            noise = self._draw(self.random.standard_normal, code)
            backend.xp.multiply(noise, self.noise, out=noise)
            backend.xp.add(code, noise, out=code)

    def _code_backward(self, dcode, a, da):
        backend.xp.copyto(da, dcode)

    def _draw(self, distribution, code):
        """Numbers of code's shape and dtype from a method of `random`, on the device; overwritten by the next call. They are
        drawn on the host and sent: the one transfer that a step may have.
        """
        if self._drawn is None:
            self._drawn = np.empty(self._code.shape, code.dtype)
            self._sent = self._drawn if backend.name == "numpy" else backend.xp.empty_like(self._code)
        drawn = self._drawn[:len(code)]
        distribution(dtype=code.dtype, out=drawn)
        return backend.to_device(drawn, self._sent[:len(code)])


class Vanilla(Buffered, bottlenecks.Vanilla):
    """See bottlenecks.Vanilla."""


class Naive(Buffered, bottlenecks.Naive):
    """See bottlenecks.Naive."""


class Fence(Buffered, bottlenecks.Fence):
    """See bottlenecks.Fence."""

    def _training_code(self, a, code):
        super()._training_code(a, code)
        self._loss = fence_loss(a, self._dextra[:len(a)])


class Commit(Buffered, bottlenecks.Commit):
    """See bottlenecks.Commit."""

    def _training_code(self, a, code):
        if self.noise:
            super()._training_code(a, code)
            self._loss = commit_loss(a, binarize_forward(code, code), self._dextra[:len(a)])
        else:
            self._loss = kernels.choose(binarize_and_commit, a.dtype)(a, code, self._dextra[:len(a)])

    def _code_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


class Clipped(Buffered, bottlenecks.Clipped):
    """See bottlenecks.Clipped."""

    def _training_code(self, a, code):
        super()._training_code(a, code)
        binarize_forward(code, code)

    def _code_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


class Stochastic(Buffered, bottlenecks.Stochastic):
    """See bottlenecks.Stochastic."""

    def _training_code(self, a, code):
        super()._training_code(a, code)
        backend.xp.less(self._draw(self.random.random, code), code, out=code)


class Annealed(Buffered, bottlenecks.Annealed):
    """See bottlenecks.Annealed."""

    _factor = None

    def set_progress(self, progress):
        super().set_progress(progress)
        if self._factor is not None:
            self._factor.fill(self.current_slope)

    def build(self, shape, dtype):
        super().build(shape, dtype)
        # An array, so that a CUDA graph sees it change.
        self._factor = backend.xp.full(1, self.current_slope, dtype)

    def _activate(self, h, out):
        return super()._activate(backend.xp.multiply(h, self._factor, out=out), out)

    def backward(self, dcode):
        dh = Buffered.backward(self, dcode)
        return backend.xp.multiply(dh, self._factor, out=dh)


class Entropy(Buffered, bottlenecks.Entropy):
    """See bottlenecks.Entropy."""

    def build(self, shape, dtype):
        super().build(shape, dtype)
        self._rows = backend.xp.empty((2, shape[1]), dtype)

    def _training_code(self, a, code):
        super()._training_code(a, code)
        binarize_forward(code, code)
        # _da is free until backward.
        self._loss = entropy_loss(a, self._da[:len(a)], self._rows, self._dextra[:len(a)])
