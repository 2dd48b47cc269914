"""The fast engine's layers: those of tinyqae.layers with preallocated buffers and fused kernels.

`forward` and `backward` return the layer's own buffers, which the next call overwrites. Buffers are allocated for the first
batch, and again for a larger one.
"""
import math

from .. import backend, layers
from . import kernels
from .activations import relu_backward, relu_forward
from .conv import Conv2dPlan, conv2d_backward, conv2d_forward
from .conv_upsampled import UpsampledConv2dPlan, conv2d_upsampled_backward, conv2d_upsampled_forward
from .dense import dense_backward, dense_forward
from .norm import batch_norm_backward, batch_norm_forward, batch_norm_inference, update_running
from .norm_relu_pool import (
    NormScratch,
    batch_statistics,
    combine_statistics,
    norm_gradient_sums,
    norm_relu_pool_backward,
    norm_relu_pool_forward,
)
from .pool import max_pool_forward

# Threshold for multithreading: the number of multiplications in a convolution above which a second thread pays off.
THREADING_THRESHOLD = 5e6


class Buffered:
    """A mixin for a layer of the reference engine that adds buffers."""

    capacity: int | tuple[int, int] = 0

    def prepare(self):
        """Called once, by the engine's `build`: allocate what does not depend on the batch size."""

    def allocate(self, batch_shape):
        """Allocate buffers for up to batch_shape[0] examples."""
        self.capacity = batch_shape[0]
        self.out = backend.xp.empty((self.capacity, *self.output_shape), self.dtype)
        self.dx = backend.xp.empty((self.capacity, *self.input_shape), self.dtype) if self.needs_dx else None

    def _ensure_capacity(self, x):
        if len(x) > self.capacity:
            self.allocate(x.shape)


class WrappedLayer(layers.Layer):
    """A reference layer without a fast version; its gradients are copied to this engine's arrays."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.params, self.grads, self.state = layer, layer.params, dict(layer.grads), layer.state
        self.input_shape, self.output_shape, self.dtype = layer.input_shape, layer.output_shape, layer.dtype

    def forward(self, x, training=True):
        return self.layer.forward(x, training)

    def backward(self, dy):
        dx = self.layer.backward(dy)
        for name, gradient in self.layer.grads.items():
            self.grads[name][...] = gradient
        return dx


class Dense(Buffered, layers.Dense):
    """See layers.Dense."""

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        self.x = x
        return dense_forward(x, self.params["w"], self.params["b"], self.out[:len(x)])

    def backward(self, dout):
        dx = self.dx[:len(dout)] if self.needs_dx else None
        return dense_backward(dout, self.x, self.params["w"], dx, self.grads["w"], self.grads["b"])


class ReLU(Buffered, layers.ReLU):
    """See layers.ReLU."""

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        return relu_forward(x, self.out[:len(x)])

    def backward(self, dout):
        return relu_backward(dout, self.out[:len(dout)], self.dx[:len(dout)])


class Centre(Buffered, layers.Centre):
    """See layers.Centre."""

    needs_dx = False

    def prepare(self):
        self.input_shape = self.output_shape = self.constant.shape
        self.dtype = self.constant.dtype

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        return backend.xp.subtract(x, self.constant, out=self.out[:len(x)])


class BatchNorm(Buffered, layers.BatchNorm):
    """See layers.BatchNorm."""

    def prepare(self):
        self.channels = self.input_shape[-1]
        self._mean, self._variance, self._rstd, self._scratch = (
            backend.xp.empty(self.channels, self.dtype) for _ in range(4))

    def allocate(self, batch_shape):
        super().allocate(batch_shape)
        self.xhat = backend.xp.empty_like(self.out)

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        gamma, beta, state = self.params["gamma"], self.params["beta"], self.state
        rows, out, xhat = (a.reshape(-1, self.channels) for a in (x, self.out[:len(x)], self.xhat[:len(x)]))
        if not training:
            batch_norm_inference(rows, gamma, beta, self.eps, state["mean"], state["variance"], self._rstd, out)
            return self.out[:len(x)]
        m = layers.require_two_values(x)
        normalize = kernels.choose(batch_norm_forward, self.dtype)
        normalize(rows, gamma, beta, self.eps, self._mean, self._variance, self._rstd, xhat, out)
        update_running(state["mean"], self._mean, self.momentum, self._scratch)
        unbiased = backend.xp.multiply(self._variance, m / (m - 1), out=self._variance)
        update_running(state["variance"], unbiased, self.momentum, self._scratch)
        return self.out[:len(x)]

    def backward(self, dout):
        n = len(dout)
        rows, xhat, dx = (a.reshape(-1, self.channels) for a in (dout, self.xhat[:n], self.dx[:n]))
        kernels.choose(batch_norm_backward, self.dtype)(rows, xhat, self.params["gamma"], self._rstd, dx,
                                                        self.grads["gamma"], self.grads["beta"])
        return self.dx[:n]


class ConvBlock(Buffered, layers.ConvBlock):
    """See layers.ConvBlock: [upsampling] -> convolution -> [batch norm] -> [ReLU] -> [max-pooling], with fused ops: the
    upsampled image is never stored, pooling precedes the normalization (fast/norm_relu_pool.py), and at inference the
    normalization is folded into the convolution.

    On the CPU a large batch is split among threads. With batch norm the threads synchronize once per pass, to sum the
    statistics, or the gradients of gamma and beta, over all parts.
    """

    multithreaded = True

    def prepare(self):
        self.layers = ()
        factor = 2 if self.upsample else 1
        height, width, channels = self.input_shape
        self.conv_shape = (height * factor, width * factor, self.filters)
        self.w_shape = self.params["w"].shape
        self._convolve, self._convolve_backward = (
            (conv2d_upsampled_forward, conv2d_upsampled_backward) if self.upsample else (conv2d_forward, conv2d_backward))
        if self.norm:
            empty = backend.xp.empty
            self._mean, self._variance, self._rstd, self._scale = (empty(self.filters, self.dtype) for _ in range(4))
            self._folded_w, self._folded_b = empty(self.w_shape, self.dtype), empty(self.filters, self.dtype)

    def allocate(self, batch_shape):
        super().allocate(batch_shape)
        xp, (height, width, _) = backend.xp, self.conv_shape
        multiplications = self.capacity * height * width * math.prod(self.w_shape)
        threads = backend.threads if backend.name == "numpy" and multiplications > THREADING_THRESHOLD else 1
        parts = min(threads, self.capacity)
        shape = (-(-self.capacity // parts), *self.input_shape)
        if self.upsample:
            self.plans = [UpsampledConv2dPlan(shape, self.w_shape, self.dtype) for _ in range(parts)]
        else:
            self.plans = [Conv2dPlan(shape, self.w_shape, self.dtype, self.needs_dx) for _ in range(parts)]
        # The first part writes to the layer's gradients and statistics, the others to their own.
        self.part_grads = [self.grads] + [{name: xp.empty_like(grad) for name, grad in self.grads.items()}
                                          for _ in range(parts - 1)]
        conv_shape = (self.capacity, *self.conv_shape)
        self.convolved, self.dconvolved = xp.empty(conv_shape, self.dtype), xp.empty(conv_shape, self.dtype)
        if self.norm:
            self.pooled = xp.empty_like(self.out) if self.pool else self.convolved
            self.g = xp.empty_like(self.out)
            self.scratch = [NormScratch((shape[0], *self.conv_shape), self.pool, self.dtype) for _ in range(parts)]
            self.means = [self._mean] + [xp.empty_like(self._mean) for _ in range(parts - 1)]
            self.variances = [self._variance] + [xp.empty_like(self._variance) for _ in range(parts - 1)]

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        self.x = x
        if self.norm and training:
            return self._forward_batch_norm(x)
        if self.norm:
            self._fold_batch_norm()
            w, b = self._folded_w, self._folded_b
        else:
            w, b = self.params["w"], self.params["b"]
        out, parts = self.out[:len(x)], self._split_batch(len(x))
        convolved = self.convolved[:len(x)] if self.pool else out

        def one(i):
            part = parts[i]
            self._convolve(x[part], w, b, self.plans[i], convolved[part])
            if self.relu:
                relu_forward(convolved[part], convolved[part])
            if self.pool:
                kernels.choose(max_pool_forward, self.dtype)(convolved[part], out[part])

        backend.parallel_for(one, len(parts))
        return out

    def _forward_batch_norm(self, x):
        n = len(x)
        parts, convolved, pooled, out = self._split_batch(n), self.convolved[:n], self.pooled[:n], self.out[:n]
        pixels = layers.require_two_values(convolved)
        statistics, normalize = (kernels.choose(op, self.dtype) for op in (batch_statistics, norm_relu_pool_forward))

        def convolve_and_measure(i):
            part = parts[i]
            self._convolve(x[part], self.params["w"], None, self.plans[i], convolved[part])
            statistics(convolved[part], self.scratch[i], self.means[i], self.variances[i])

        def normalize_part(i):
            part = parts[i]
            normalize(convolved[part], self.params["gamma"], self.params["beta"], self._mean, self._rstd, self.relu,
                      self.pool, self.scratch[i], pooled[part], out[part])

        backend.parallel_for(convolve_and_measure, len(parts))
        counts = [part.stop - part.start for part in parts]
        combine_statistics(counts, self.means[:len(parts)], self.variances[:len(parts)], self.eps, self._rstd)
        backend.parallel_for(normalize_part, len(parts))
        update_running(self.state["mean"], self._mean, self.momentum, self._scale)
        backend.xp.multiply(self._variance, pixels / (pixels - 1), out=self._variance)
        update_running(self.state["variance"], self._variance, self.momentum, self._scale)
        return out

    def _split_batch(self, n):
        """Slices of a batch of n, of equal size and at most one per plan."""
        size = -(-n // len(self.plans))
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def _reduce_gradients(self, parts, *names):
        """Add the gradients of the other parts to the first one's, always in the same order."""
        for name in names:
            for other in self.part_grads[1:parts]:
                backend.xp.add(self.grads[name], other[name], out=self.grads[name])

    def _fold_batch_norm(self):
        """The weights and bias of convolution and normalization in one: gamma rstd w and beta - gamma rstd mean."""
        xp, scale = backend.xp, self._scale
        xp.add(self.state["variance"], self.eps, out=scale)
        xp.sqrt(scale, out=scale)
        xp.divide(self.params["gamma"], scale, out=scale)
        xp.multiply(self.params["w"], scale, out=self._folded_w)
        xp.multiply(self.state["mean"], scale, out=self._folded_b)
        xp.subtract(self.params["beta"], self._folded_b, out=self._folded_b)

    def backward(self, dout):
        n, parts = len(dout), self._split_batch(len(dout))
        out, dx = self.out[:n], self.dx[:n] if self.needs_dx else None
        dconvolved = self.dconvolved[:n] if self.norm or self.relu else dout
        if self.norm:
            self._sum_norm_gradients(dout, parts)
        normalize_backward = kernels.choose(norm_relu_pool_backward, self.dtype)
        pixels = n * self.conv_shape[0] * self.conv_shape[1]

        def one(i):
            part, grads = parts[i], self.part_grads[i]
            if self.norm:
                normalize_backward(
                    self.g[part], self.convolved[part], self.pooled[part], self.params["gamma"], self._mean, self._rstd,
                    self.grads["gamma"], self.grads["beta"], pixels, self.pool, self.scratch[i], dconvolved[part])
            elif self.relu:
                relu_backward(dout[part], out[part], dconvolved[part])
            self._convolve_backward(dconvolved[part], self.x[part], self.params["w"], self.plans[i],
                                    None if dx is None else dx[part], grads["w"], grads.get("b"))

        backend.parallel_for(one, len(parts))
        self._reduce_gradients(len(parts), "w")
        if not self.norm:
            self._reduce_gradients(len(parts), "b")
        return dx

    def _sum_norm_gradients(self, dout, parts):
        """Compute g and the gradients of gamma and beta."""
        sums = kernels.choose(norm_gradient_sums, self.dtype)

        def one(i):
            part, grads = parts[i], self.part_grads[i]
            sums(dout[part], self.pooled[part], self.out[part], self._mean, self._rstd, self.relu, self.scratch[i],
                 self.g[part], grads["gamma"], grads["beta"])

        backend.parallel_for(one, len(parts))
        self._reduce_gradients(len(parts), "gamma", "beta")


def is_supported(part):
    """Whether the fast version of a part supports its settings."""
    if type(part) is not layers.ConvBlock:
        return True
    return (part.norm or not part.pool) and (part.kernel == 3 or not part.upsample)


def flatten_parameters(layers):
    """Move the parameters of `layers` into one vector (P,), their gradients into another; the layers keep views.

    Returns:
        (parameters, gradients). One vector means one optimizer update and one norm.
    """
    xp = backend.xp
    arrays = [layer.params[name] for layer in layers for name in layer.params]
    parameters = xp.concatenate([array.ravel() for array in arrays])
    gradients = xp.zeros_like(parameters)
    start = 0
    for layer in layers:
        for name, array in layer.params.items():
            span = slice(start, start + array.size)
            layer.params[name] = parameters[span].reshape(array.shape)
            layer.grads[name] = gradients[span].reshape(array.shape)
            start += array.size
    return parameters, gradients
