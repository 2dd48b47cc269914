"""The fast engine's layers: those of tinyqae.layers with preallocated buffers and fused kernels.

`forward` and `backward` mean the same as in the reference. The arrays that they return are the layer's own buffers: they
hold until its next call. Buffers are made at the first batch, and anew for a larger one.
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

# Multiplications in a layer's convolution above which a second thread makes it faster.
THREADING_THRESHOLD = 5e6


class Buffered:
    """Buffers for a layer of the reference engine, to be inherited beside it."""

    capacity = 0

    def setup(self, input_shape, random, dtype):
        """As in the reference, and `prepare`."""
        super().setup(input_shape, random, dtype)
        self.prepare()
        return self.output_shape

    def prepare(self):
        """Allocate what does not depend on the batch size."""

    def build(self, batch_shape):
        """Allocate buffers for up to batch_shape[0] examples."""
        self.capacity = batch_shape[0]
        self.out = backend.xp.empty((self.capacity, *self.output_shape), self.dtype)
        self.dx = backend.xp.empty((self.capacity, *self.input_shape), self.dtype) if self.needs_dx else None

    def _fit(self, x):
        if len(x) > self.capacity:
            self.build(x.shape)


class Adapted(layers.Layer):
    """A layer that has no version of its own in this engine: the reference one, with its gradients copied to where this
    engine wants them.
    """

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
        self._fit(x)
        self.x = x
        return dense_forward(x, self.params["w"], self.params["b"], self.out[:len(x)])

    def backward(self, dout):
        dx = self.dx[:len(dout)] if self.needs_dx else None
        return dense_backward(dout, self.x, self.params["w"], dx, self.grads["w"], self.grads["b"])


class ReLU(Buffered, layers.ReLU):
    """See layers.ReLU."""

    def forward(self, x, training=True):
        self._fit(x)
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
        self._fit(x)
        return backend.xp.subtract(x, self.constant, out=self.out[:len(x)])


class BatchNorm(Buffered, layers.BatchNorm):
    """See layers.BatchNorm."""

    def prepare(self):
        self.channels = self.input_shape[-1]
        self._mean, self._variance, self._rstd, self._scratch = (
            backend.xp.empty(self.channels, self.dtype) for _ in range(4))

    def build(self, batch_shape):
        super().build(batch_shape)
        self.xhat = backend.xp.empty_like(self.out)

    def forward(self, x, training=True):
        self._fit(x)
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
    """[nearest upsampling by 2] -> convolution, 'same' padding -> [batch norm] -> [ReLU] -> [2x2 max-pooling].

    (N, H, W, C) -> (N, H', W', filters). One layer, because the fast forms of these ops reach across their borders:
    the upsampled image is never stored, pooling comes before the normalization (fast/norm_relu_pool.py), and at
    inference the normalization is folded into the convolution. With batch norm there is no bias beside its beta.

    On the CPU a large batch is split among threads. A thread takes its part as far as it can: a pass with batch norm
    stops once, where statistics (or gradients of gamma and beta) are sums over all parts.
    """

    splits_batches = True

    def prepare(self):
        self.layers, self.window = (), 2 if self.pool else 1
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

    def build(self, batch_shape):
        super().build(batch_shape)
        xp, (height, width, _) = backend.xp, self.conv_shape
        products = self.capacity * height * width * math.prod(self.w_shape)
        threads = backend.threads if backend.name == "numpy" and products > THREADING_THRESHOLD else 1
        parts = min(threads, self.capacity)
        shape = (-(-self.capacity // parts), *self.input_shape)
        if self.upsample:
            self.plans = [UpsampledConv2dPlan(shape, self.w_shape, self.dtype) for _ in range(parts)]
        else:
            self.plans = [Conv2dPlan(shape, self.w_shape, dtype=self.dtype, needs_dx=self.needs_dx)
                          for _ in range(parts)]
        # Every part but the first sums its gradients and statistics apart.
        self.part_grads = [self.grads] + [{name: xp.empty_like(grad) for name, grad in self.grads.items()}
                                          for _ in range(parts - 1)]
        conv_shape = (self.capacity, *self.conv_shape)
        self.convolved, self.dconvolved = xp.empty(conv_shape, self.dtype), xp.empty(conv_shape, self.dtype)
        if self.norm:
            self.pooled = xp.empty_like(self.out) if self.pool else self.convolved
            self.g = xp.empty_like(self.out)
            self.scratch = [NormScratch((shape[0], *self.conv_shape), self.window, self.dtype) for _ in range(parts)]
            self.means = [self._mean] + [xp.empty_like(self._mean) for _ in range(parts - 1)]
            self.variances = [self._variance] + [xp.empty_like(self._variance) for _ in range(parts - 1)]

    def forward(self, x, training=True):
        """x (N, H, W, C) -> (N, H', W', filters), by the batch's statistics in training, else by the running ones."""
        self._fit(x)
        self.x = x
        if self.norm and training:
            return self._forward_normalizing(x)
        if self.norm:
            self._fold()
            w, b = self._folded_w, self._folded_b
        else:
            w, b = self.params["w"], self.params["b"]
        out, parts = self.out[:len(x)], self._parts(len(x))
        convolved = self.convolved[:len(x)] if self.pool else out

        def one(i):
            part = parts[i]
            self._convolve(x[part], w, b, self.plans[i], convolved[part])
            if self.relu:
                relu_forward(convolved[part], convolved[part])
            if self.pool:
                kernels.choose(max_pool_forward, self.dtype)(convolved[part], self.window, out[part])

        backend.split_work(one, len(parts))
        return out

    def _forward_normalizing(self, x):
        n = len(x)
        pixels = n * self.conv_shape[0] * self.conv_shape[1]
        if pixels < 2:
            raise ValueError("batch norm in training needs at least 2 values of each channel; use a larger batch")
        parts, convolved, pooled, out = self._parts(n), self.convolved[:n], self.pooled[:n], self.out[:n]
        measure, normalize = (kernels.choose(op, self.dtype) for op in (batch_statistics, norm_relu_pool_forward))

        def until_statistics(i):
            part = parts[i]
            self._convolve(x[part], self.params["w"], None, self.plans[i], convolved[part])
            measure(convolved[part], self.scratch[i], self.means[i], self.variances[i])

        def after_statistics(i):
            part = parts[i]
            normalize(convolved[part], self.params["gamma"], self.params["beta"], self._mean, self._rstd, self.relu,
                      self.window, self.scratch[i], pooled[part], out[part])

        backend.split_work(until_statistics, len(parts))
        counts = [part.stop - part.start for part in parts]
        combine_statistics(counts, self.means[:len(parts)], self.variances[:len(parts)], self.eps, self._rstd)
        backend.split_work(after_statistics, len(parts))
        update_running(self.state["mean"], self._mean, self.momentum, self._scale)
        backend.xp.multiply(self._variance, pixels / (pixels - 1), out=self._variance)
        update_running(self.state["variance"], self._variance, self.momentum, self._scale)
        return out

    def _parts(self, n):
        """Slices of a batch of n, equal in size and at most one for each plan."""
        size = -(-n // len(self.plans))
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def _sum_parts(self, parts, *names):
        """Add to the first part's gradients of these names the others', always in the same order."""
        for name in names:
            for other in self.part_grads[1:parts]:
                backend.xp.add(self.grads[name], other[name], out=self.grads[name])

    def _fold(self):
        """Weights and bias of the convolution that does the normalization as well: gamma rstd w, beta - gamma rstd mean.
        """
        xp, scale = backend.xp, self._scale
        xp.add(self.state["variance"], self.eps, out=scale)
        xp.sqrt(scale, out=scale)
        xp.divide(self.params["gamma"], scale, out=scale)
        xp.multiply(self.params["w"], scale, out=self._folded_w)
        xp.multiply(self.state["mean"], scale, out=self._folded_b)
        xp.subtract(self.params["beta"], self._folded_b, out=self._folded_b)

    def backward(self, dout):
        """dout (N, H', W', filters) -> dx (N, H, W, C), or None for a first layer."""
        n, parts = len(dout), self._parts(len(dout))
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
                    self.grads["gamma"], self.grads["beta"], pixels, self.window, self.scratch[i], dconvolved[part])
            elif self.relu:
                relu_backward(dout[part], out[part], dconvolved[part])
            self._convolve_backward(dconvolved[part], self.x[part], self.params["w"], self.plans[i],
                                    None if dx is None else dx[part], grads["w"], grads.get("b"))

        backend.split_work(one, len(parts))
        self._sum_parts(len(parts), "w")
        if not self.norm:
            self._sum_parts(len(parts), "b")
        return dx

    def _sum_norm_gradients(self, dout, parts):
        """Fill g and the gradients of gamma and beta."""
        sums = kernels.choose(norm_gradient_sums, self.dtype)

        def one(i):
            part, grads = parts[i], self.part_grads[i]
            sums(dout[part], self.pooled[part], self.out[part], self._mean, self._rstd, self.relu, self.scratch[i],
                 self.g[part], grads["gamma"], grads["beta"])

        backend.split_work(one, len(parts))
        self._sum_parts(len(parts), "gamma", "beta")


def has_kernels(part):
    """Whether this engine can compute a part that it knows with these settings."""
    if type(part) is not layers.ConvBlock:
        return True
    return (part.norm or not part.pool) and (part.kernel == 3 or not part.upsample)


def flatten_parameters(layers):
    """Move the parameters of `layers` into one vector, their gradients into another; the layers keep views.

    Returns (parameters, gradients), each (P,). One vector means one optimizer update, one norm, one file entry.
    """
    xp = backend.xp
    arrays = [layer.params[name] for layer in layers for name in layer.params]
    parameters = xp.concatenate([array.ravel() for array in arrays])
    gradients = xp.zeros_like(parameters)
    start = 0
    for layer in layers:
        for name, array in layer.params.items():
            piece = slice(start, start + array.size)
            layer.params[name] = parameters[piece].reshape(array.shape)
            layer.grads[name] = gradients[piece].reshape(array.shape)
            start += array.size
    return parameters, gradients
