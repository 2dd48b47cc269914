"""Layers: thin objects over ops that own parameters, gradients and preallocated buffers.

    setup(input_shape, random, dtype)   draw the parameters; input_shape without the batch axis; returns output_shape
    build(batch_shape)                  allocate buffers for up to that many examples
    forward(x, training), backward(dout)

Arrays that a layer returns are its own buffers: they hold until its next call. Parameters are drawn with NumPy's
generator, so a seed gives the same weights on every backend.
"""
import math

from . import backend, fused
from .ops.activations import relu_backward, relu_forward
from .ops.conv import Conv2dPlan, conv2d_backward, conv2d_forward
from .ops.conv_upsampled import UpsampledConv2dPlan, conv2d_upsampled_backward, conv2d_upsampled_forward
from .ops.dense import dense_backward, dense_forward
from .ops.norm import batch_norm_backward, batch_norm_forward, batch_norm_inference, update_running
from .ops.norm_relu_pool import (
    NormScratch,
    batch_statistics,
    combine_statistics,
    norm_gradient_sums,
    norm_relu_pool_backward,
    norm_relu_pool_forward,
)
from .ops.pool import max_pool_forward

# Multiplications in a layer's convolution from which waking another thread pays.
PRODUCTS_WORTH_SPLITTING = 5e6


class Layer:
    """A layer with no parameters and no state; the others add theirs to `params`, `grads` and `state` (by name).

    `state` is what inference needs beside the parameters, such as running statistics. `needs_dx` is False for a first
    layer, whose input gradient nobody reads.
    """

    def __init__(self):
        self.params, self.grads, self.state = {}, {}, {}
        self.needs_dx = True
        self.capacity = 0

    def setup(self, input_shape, random, dtype):
        """Draw parameters for inputs of shape (N, *input_shape). Returns the output shape, without N."""
        self.input_shape, self.dtype = tuple(input_shape), dtype
        self.output_shape = self.input_shape
        return self.output_shape

    def build(self, batch_shape):
        """Allocate buffers for up to batch_shape[0] examples."""
        self.capacity = batch_shape[0]
        self.out = backend.xp.empty((self.capacity, *self.output_shape), self.dtype)
        self.dx = backend.xp.empty((self.capacity, *self.input_shape), self.dtype) if self.needs_dx else None

    def _prepare(self, x):
        if len(x) > self.capacity:
            self.build(x.shape)

    def _add_parameter(self, name, values):
        self.params[name] = backend.to_device(values.astype(self.dtype))
        self.grads[name] = backend.xp.zeros_like(self.params[name])


class Dense(Layer):
    """Fully connected: (N, D) -> (N, units). Glorot-uniform weights (Glorot and Bengio 2010), zero biases."""

    def __init__(self, units):
        super().__init__()
        if not (isinstance(units, int) and units > 0):
            raise ValueError(f"units={units!r} must be a whole number above 0")
        self.units = units

    def setup(self, input_shape, random, dtype):
        """See Layer.setup; input_shape (D,)."""
        super().setup(input_shape, random, dtype)
        (features,) = input_shape
        limit = math.sqrt(6 / (features + self.units))
        self._add_parameter("w", random.uniform(-limit, limit, (features, self.units)))
        self._add_parameter("b", random.uniform(0, 0, self.units))
        self.output_shape = (self.units,)
        return self.output_shape

    def forward(self, x, training=True):
        """x (N, D) -> (N, units)."""
        self._prepare(x)
        self.x = x
        return dense_forward(x, self.params["w"], self.params["b"], self.out[:len(x)])

    def backward(self, dout):
        """dout (N, units) -> dx (N, D), or None for a first layer."""
        dx = self.dx[:len(dout)] if self.needs_dx else None
        return dense_backward(dout, self.x, self.params["w"], dx, self.grads["w"], self.grads["b"])


class ReLU(Layer):
    """max(x, 0), any shape."""

    def forward(self, x, training=True):
        """x (N, ...) -> same shape."""
        self._prepare(x)
        return relu_forward(x, self.out[:len(x)])

    def backward(self, dout):
        """dout (N, ...) -> dx, same shape."""
        return relu_backward(dout, self.out[:len(dout)], self.dx[:len(dout)])


class BatchNorm(Layer):
    """Batch normalization of the last axis. affine=False leaves out gamma and beta; statistics run with `momentum`."""

    def __init__(self, affine=True, momentum=0.9, eps=1e-5):
        super().__init__()
        self.affine, self.momentum, self.eps = affine, momentum, eps

    def setup(self, input_shape, random, dtype):
        """See Layer.setup; input_shape (..., C)."""
        super().setup(input_shape, random, dtype)
        xp, channels = backend.xp, input_shape[-1]
        self.channels = channels
        self.state = {"mean": xp.zeros(channels, dtype), "variance": xp.ones(channels, dtype)}
        if self.affine:
            self._add_parameter("gamma", random.uniform(1, 1, channels))
            self._add_parameter("beta", random.uniform(0, 0, channels))
        self._mean, self._variance, self._rstd, self._dgamma, self._dbeta = (
            xp.empty(channels, dtype) for _ in range(5))
        return self.output_shape

    def build(self, batch_shape):
        """See Layer.build."""
        super().build(batch_shape)
        self.xhat = backend.xp.empty_like(self.out)

    def forward(self, x, training=True):
        """x (N, ..., C) -> same shape, by the batch's statistics in training, by the running ones otherwise."""
        self._prepare(x)
        gamma, beta = self.params.get("gamma"), self.params.get("beta")
        rows, out, xhat = (a.reshape(-1, self.channels) for a in (x, self.out[:len(x)], self.xhat[:len(x)]))
        if not training:
            batch_norm_inference(rows, gamma, beta, self.eps, self.state["mean"], self.state["variance"],
                                 self._rstd, out)
            return self.out[:len(x)]
        if len(rows) < 2:
            raise ValueError(f"batch norm in training needs at least 2 values of each channel, got {len(rows)}; "
                             "use a larger batch")
        normalize = fused.choose(batch_norm_forward, self.dtype)
        normalize(rows, gamma, beta, self.eps, self._mean, self._variance, self._rstd, xhat, out)
        update_running(self.state["mean"], self._mean, self.momentum, self._dgamma)
        unbiased = backend.xp.multiply(self._variance, len(rows) / (len(rows) - 1), out=self._variance)
        update_running(self.state["variance"], unbiased, self.momentum, self._dgamma)
        return self.out[:len(x)]

    def backward(self, dout):
        """dout (N, ..., C) -> dx, same shape."""
        n = len(dout)
        rows, xhat, dx = (a.reshape(-1, self.channels) for a in (dout, self.xhat[:n], self.dx[:n]))
        dgamma, dbeta = self.grads.get("gamma", self._dgamma), self.grads.get("beta", self._dbeta)
        normalize_backward = fused.choose(batch_norm_backward, self.dtype)
        normalize_backward(rows, xhat, self.params.get("gamma"), self._rstd, dx, dgamma, dbeta)
        return self.dx[:n]


class ConvBlock(Layer):
    """[nearest upsampling by 2] -> convolution, 'same' padding -> [batch norm] -> [ReLU] -> [2x2 max-pooling].

    (N, H, W, C) -> (N, H', W', filters). One layer, because the fast forms of these ops reach across their borders:
    the upsampled image is never stored, pooling comes before the normalization (ops/norm_relu_pool.py), and at
    inference the normalization is folded into the convolution. With batch norm there is no bias beside its beta.

    On the CPU a large batch is split among threads. A thread takes its part as far as it can: a pass with batch norm
    stops once, where statistics (or gradients of gamma and beta) are sums over all parts.
    """

    def __init__(self, filters, kernel=3, *, upsample=False, norm=True, relu=True, pool=False, momentum=0.9, eps=1e-5):
        super().__init__()
        if not (isinstance(filters, int) and filters > 0):
            raise ValueError(f"filters={filters!r} must be a whole number above 0")
        if pool and not norm:
            raise ValueError("pool=True comes with norm=True in this layer")
        self.filters, self.kernel, self.upsample = filters, kernel, upsample
        self.norm, self.relu, self.pool, self.momentum, self.eps = norm, relu, 2 if pool else 1, momentum, eps
        self._convolve, self._convolve_backward = (
            (conv2d_upsampled_forward, conv2d_upsampled_backward) if upsample else (conv2d_forward, conv2d_backward))

    def setup(self, input_shape, random, dtype):
        """See Layer.setup; input_shape (H, W, C). Glorot-uniform weights, zero biases, gamma 1 and beta 0."""
        super().setup(input_shape, random, dtype)
        height, width, channels = input_shape
        factor = 2 if self.upsample else 1
        if height * factor % self.pool or width * factor % self.pool:
            raise ValueError(f"an image of {height * factor}x{width * factor} cannot be pooled by {self.pool}; "
                             "use sides divisible by 2 at every level")
        self.conv_shape = (height * factor, width * factor, self.filters)
        self.output_shape = (height * factor // self.pool, width * factor // self.pool, self.filters)
        self.w_shape = (self.kernel, self.kernel, channels, self.filters)
        limit = math.sqrt(6 / (self.kernel ** 2 * (channels + self.filters)))
        self._add_parameter("w", random.uniform(-limit, limit, self.w_shape))
        if not self.norm:
            self._add_parameter("b", random.uniform(0, 0, self.filters))
            return self.output_shape
        xp = backend.xp
        self._add_parameter("gamma", random.uniform(1, 1, self.filters))
        self._add_parameter("beta", random.uniform(0, 0, self.filters))
        self.state = {"mean": xp.zeros(self.filters, dtype), "variance": xp.ones(self.filters, dtype)}
        self._mean, self._variance, self._rstd, self._scale = (xp.empty(self.filters, dtype) for _ in range(4))
        self._folded_w, self._folded_b = xp.empty(self.w_shape, dtype), xp.empty(self.filters, dtype)
        return self.output_shape

    def build(self, batch_shape):
        """See Layer.build."""
        super().build(batch_shape)
        xp, (height, width, _) = backend.xp, self.conv_shape
        products = self.capacity * height * width * math.prod(self.w_shape)
        threads = backend.threads if backend.name == "numpy" and products > PRODUCTS_WORTH_SPLITTING else 1
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
            self.pooled = xp.empty_like(self.out) if self.pool > 1 else self.convolved
            self.g = xp.empty_like(self.out)
            self.scratch = [NormScratch((shape[0], *self.conv_shape), self.pool, self.dtype) for _ in range(parts)]
            self.means = [self._mean] + [xp.empty_like(self._mean) for _ in range(parts - 1)]
            self.variances = [self._variance] + [xp.empty_like(self._variance) for _ in range(parts - 1)]

    def forward(self, x, training=True):
        """x (N, H, W, C) -> (N, H', W', filters), by the batch's statistics in training, else by the running ones."""
        self._prepare(x)
        self.x = x
        if self.norm and training:
            return self._forward_normalizing(x)
        if self.norm:
            self._fold()
            w, b = self._folded_w, self._folded_b
        else:
            w, b = self.params["w"], self.params["b"]
        out, parts = self.out[:len(x)], self._parts(len(x))
        convolved = self.convolved[:len(x)] if self.pool > 1 else out

        def one(i):
            part = parts[i]
            self._convolve(x[part], w, b, self.plans[i], convolved[part])
            if self.relu:
                relu_forward(convolved[part], convolved[part])
            if self.pool > 1:
                fused.choose(max_pool_forward, self.dtype)(convolved[part], self.pool, out[part])

        backend.split_work(one, len(parts))
        return out

    def _forward_normalizing(self, x):
        n = len(x)
        pixels = n * self.conv_shape[0] * self.conv_shape[1]
        if pixels < 2:
            raise ValueError("batch norm in training needs at least 2 values of each channel; use a larger batch")
        parts, convolved, pooled, out = self._parts(n), self.convolved[:n], self.pooled[:n], self.out[:n]
        measure, normalize = (fused.choose(op, self.dtype) for op in (batch_statistics, norm_relu_pool_forward))

        def until_statistics(i):
            part = parts[i]
            self._convolve(x[part], self.params["w"], None, self.plans[i], convolved[part])
            measure(convolved[part], self.scratch[i], self.means[i], self.variances[i])

        def after_statistics(i):
            part = parts[i]
            normalize(convolved[part], self.params["gamma"], self.params["beta"], self._mean, self._rstd, self.relu,
                      self.pool, self.scratch[i], pooled[part], out[part])

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
        normalize_backward = fused.choose(norm_relu_pool_backward, self.dtype)
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

        backend.split_work(one, len(parts))
        self._sum_parts(len(parts), "w")
        if not self.norm:
            self._sum_parts(len(parts), "b")
        return dx

    def _sum_norm_gradients(self, dout, parts):
        """Fill g and the gradients of gamma and beta."""
        sums = fused.choose(norm_gradient_sums, self.dtype)

        def one(i):
            part, grads = parts[i], self.part_grads[i]
            sums(dout[part], self.pooled[part], self.out[part], self._mean, self._rstd, self.relu, self.scratch[i],
                 self.g[part], grads["gamma"], grads["beta"])

        backend.split_work(one, len(parts))
        self._sum_parts(len(parts), "gamma", "beta")


class Sequential(Layer):
    """Layers one after another."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = layers

    def setup(self, input_shape, random, dtype):
        """Set up every layer, each on the one before."""
        shape = super().setup(input_shape, random, dtype)
        for layer in self.layers:
            shape = layer.setup(shape, random, dtype)
        self.output_shape = shape
        return shape

    def forward(self, x, training=True):
        """x through every layer."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dout):
        """dout back through every layer."""
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


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
