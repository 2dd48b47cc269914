"""The fast engine's bottlenecks: those of tinyqae.bottlenecks with buffers and fused kernels.

A kind has two methods: `_quantize(a, code)` writes the code in training and, to `_loss_gradient`, the gradient of the loss;
`_quantize_backward(dcode, a, da)` writes the gradient of a without the loss.
"""
import numpy as np

from .. import backend, bottlenecks
from . import kernels
from .activations import relu_backward, relu_forward, sigmoid_backward, sigmoid_forward
from .binarize import binarize_forward, straight_through_backward
from .losses import binarize_and_commit, commitment_loss, entropy_loss, fence_loss


class Buffered:
    """What the kinds share: a mixin for a bottleneck of the reference engine."""

    capacity = 0
    _loss = 0.0

    def prepare(self):
        """Nothing to do before the first batch."""

    def allocate(self, shape, dtype):
        """Allocate buffers for codes of shape (N, K)."""
        empty = backend.xp.empty
        self.capacity = shape[0]
        self._a, self._code, self._da, self._loss_gradient, self._dh = (empty(shape, dtype) for _ in range(5))
        self._rectified = empty(shape, dtype) if self.activation == "relu-sigmoid" else None
        self._host_numbers = self._numbers = None

    def latent(self, h):
        if len(h) > self.capacity:
            self.allocate(h.shape, h.dtype)
        return self._activate(h, self._a[:len(h)])

    def forward(self, h, training=True):
        a = self.latent(h)
        code = self._code[:len(h)]
        if training:
            self._quantize(a, code)
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
        a, da, loss_gradient, dh = (buffer[:len(dcode)] for buffer in (self._a, self._da, self._loss_gradient, self._dh))
        self._quantize_backward(dcode, a, da)
        if self.signed:
            backend.xp.multiply(da, 2, out=da)
        if self.loss_name and self.weight:
            backend.xp.multiply(loss_gradient, self.weight, out=dh)
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

    def _quantize(self, a, code):
        backend.xp.copyto(code, a)
        if self.noise:
            noise = self._random(self.random.standard_normal, code)
            backend.xp.multiply(noise, self.noise, out=noise)
            backend.xp.add(code, noise, out=code)

    def _quantize_backward(self, dcode, a, da):
        backend.xp.copyto(da, dcode)

    def _random(self, distribution, code):
        """Random numbers of code's shape and dtype from a method of `random`, in a buffer. They are drawn on the host and
        copied to the device: the only transfer in a step.
        """
        if self._host_numbers is None:
            self._host_numbers = np.empty(self._code.shape, code.dtype)
            self._numbers = self._host_numbers if backend.name == "numpy" else backend.xp.empty_like(self._code)
        numbers = self._host_numbers[:len(code)]
        distribution(dtype=code.dtype, out=numbers)
        return backend.to_device(numbers, self._numbers[:len(code)])


class Vanilla(Buffered, bottlenecks.Vanilla):
    """See bottlenecks.Vanilla."""


class Naive(Buffered, bottlenecks.Naive):
    """See bottlenecks.Naive."""


class Fence(Buffered, bottlenecks.Fence):
    """See bottlenecks.Fence."""

    def _quantize(self, a, code):
        super()._quantize(a, code)
        self._loss = fence_loss(a, self._loss_gradient[:len(a)])


class Commit(Buffered, bottlenecks.Commit):
    """See bottlenecks.Commit."""

    def _quantize(self, a, code):
        if self.noise:
            super()._quantize(a, code)
            self._loss = commitment_loss(a, binarize_forward(code, code), self._loss_gradient[:len(a)])
        else:
            self._loss = kernels.choose(binarize_and_commit, a.dtype)(a, code, self._loss_gradient[:len(a)])

    def _quantize_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


class Clipped(Buffered, bottlenecks.Clipped):
    """See bottlenecks.Clipped."""

    def _quantize(self, a, code):
        super()._quantize(a, code)
        binarize_forward(code, code)

    def _quantize_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


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
        binarize_forward(code, code)
        # _da is unused until the backward pass.
        self._loss = entropy_loss(a, self._da[:len(a)], self._row_scratch, self._loss_gradient[:len(a)])
