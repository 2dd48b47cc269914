"""The fast engine's bottlenecks: those of tinyqae.bottlenecks with buffers and fused kernels.

A kind's method `_quantize(a, code)` writes the code in training and, to `_loss_gradient`, the gradient of the kind's loss.
"""

import numpy as np

from .. import backend, bottlenecks
from . import kernels, ops
from .losses import binarize_and_commit, commitment_loss, entropy_loss, fence_loss


class Buffered:
    """Shared by all kinds: a mixin for a bottleneck of the reference engine."""

    capacity = 0
    _loss = 0.0

    def allocate(self, shape, dtype):
        """Allocate buffers for codes of shape (N, K)."""
        empty = backend.xp.empty
        self.capacity = shape[0]
        self._a, self._code, self._da, self._loss_gradient, self._dh = (empty(shape, dtype) for _ in range(5))
        if self.draws:
            self._host_numbers, self._numbers = np.empty(shape, dtype), empty(shape, dtype)

    def latent(self, h):
        if len(h) > self.capacity:
            self.allocate(h.shape, h.dtype)
        return self._activate(h, self._a[: len(h)])

    def forward(self, h, training=True):
        a, self._h = self.latent(h), h
        code = self._code[: len(h)]
        if training:
            self._quantize(a, code)
        elif self.is_binary:
            ops.binarize_forward(a, code)
        else:
            backend.xp.copyto(code, a)
        if self.signed:
            code *= 2
            code -= 1
        return code

    def loss(self):
        return self._loss

    def backward(self, dcode):
        a, da, loss_gradient, dh = (buffer[: len(dcode)] for buffer in (self._a, self._da, self._loss_gradient, self._dh))
        ops.straight_through_backward(dcode, a, getattr(self, "window", None), da)
        if self.signed:
            da *= 2
        if self.loss_name and self.weight:
            da += backend.xp.multiply(loss_gradient, self.weight, out=dh)
        return self._activate_backward(da, a, dh)

    def _activate(self, h, out):
        if self.activation == "linear":
            backend.xp.copyto(out, h)
        elif self.activation == "sigmoid":
            kernels.choose(ops.sigmoid_forward, h.dtype)(h, out)
        else:
            ops.relu_forward(h, out)
        return ops.sigmoid_forward(out, out) if self.activation == "relu-sigmoid" else out

    def _activate_backward(self, da, a, dh):
        if self.activation == "linear":
            backend.xp.copyto(dh, da)
        elif self.activation == "relu":
            ops.relu_backward(da, a, dh)
        else:
            ops.sigmoid_backward(da, a, dh)
        if self.activation == "relu-sigmoid":
            dh *= backend.xp.greater(self._h, 0, out=da)
        return dh

    def _quantize(self, a, code):
        backend.xp.copyto(code, a)
        if self.noise:
            noise = self._random(self.random.standard_normal, code)
            noise *= self.noise
            code += noise

    def _random(self, distribution, code):
        """Random numbers of code's shape and dtype from a method of `random`, in a buffer. They are drawn on the host and
        copied to the device: the only transfer in a step.
        """
        numbers = self._host_numbers[: len(code)]
        distribution(dtype=code.dtype, out=numbers)
        return backend.to_device(numbers, self._numbers[: len(code)])


class Vanilla(Buffered, bottlenecks.Vanilla):
    """See bottlenecks.Vanilla."""


class Naive(Buffered, bottlenecks.Naive):
    """See bottlenecks.Naive."""


class Fence(Buffered, bottlenecks.Fence):
    """See bottlenecks.Fence."""

    def _quantize(self, a, code):
        super()._quantize(a, code)
        self._loss = fence_loss(a, self._loss_gradient[: len(a)])


class Commit(Buffered, bottlenecks.Commit):
    """See bottlenecks.Commit."""

    def _quantize(self, a, code):
        if self.noise:
            super()._quantize(a, code)
            self._loss = commitment_loss(a, ops.binarize_forward(code, code), self._loss_gradient[: len(a)])
        else:
            self._loss = kernels.choose(binarize_and_commit, a.dtype)(a, code, self._loss_gradient[: len(a)])


class Clipped(Buffered, bottlenecks.Clipped):
    """See bottlenecks.Clipped."""

    def _quantize(self, a, code):
        super()._quantize(a, code)
        ops.binarize_forward(code, code)


class Stochastic(Buffered, bottlenecks.Stochastic):
    """See bottlenecks.Stochastic."""

    def _quantize(self, a, code):
        super()._quantize(a, code)
        backend.xp.less(self._random(self.random.random, code), code, out=code)


class Annealed(Buffered, bottlenecks.Annealed):
    """See bottlenecks.Annealed."""

    _device_slope = None

    def set_progress(self, progress):
        super().set_progress(progress)
        if self._device_slope is not None:
            self._device_slope.fill(self.current_slope)

    def allocate(self, shape, dtype):
        super().allocate(shape, dtype)
        # An array, so that a replayed CUDA graph uses the current value.
        self._device_slope = backend.xp.full(1, self.current_slope, dtype)

    def _activate(self, h, out):
        return super()._activate(backend.xp.multiply(h, self._device_slope, out=out), out)

    def backward(self, dcode):
        dh = Buffered.backward(self, dcode)
        return backend.xp.multiply(dh, self._device_slope, out=dh)


class Entropy(Buffered, bottlenecks.Entropy):
    """See bottlenecks.Entropy."""

    def allocate(self, shape, dtype):
        super().allocate(shape, dtype)
        self._row_scratch = backend.xp.empty((2, shape[1]), dtype)

    def _quantize(self, a, code):
        super()._quantize(a, code)
        ops.binarize_forward(code, code)
        # _da is unused until the backward pass.
        self._loss = entropy_loss(a, self._da[: len(a)], self._row_scratch, self._loss_gradient[: len(a)])
