"""The fast engine's layers: those of tinyqae.layers with preallocated buffers and fused kernels.

`forward` and `backward` return the layer's own buffers, which the next call overwrites. Buffers are allocated for the first
batch, and again for a larger one; those of a fixed size are allocated in `prepare`, which the engine's `build` calls.
"""

import math

from .. import backend, layers
from . import kernels, ops
from . import norm_relu_pool as fused
from .conv import Conv2dPlan, conv2d_backward, conv2d_forward
from .conv_upsampled import UpsampledConv2dPlan, conv2d_upsampled_backward, conv2d_upsampled_forward

# Threshold for multithreading: the number of multiplications in a convolution above which a second thread pays off.
THREADING_THRESHOLD = 5e6


class Buffered:
    """A mixin for a layer of the reference engine that adds buffers."""

    capacity: int | tuple[int, int] = 0

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
    def forward(self, x, training=True):
        self._ensure_capacity(x)
        self.x = x
        return ops.dense_forward(x, self.params["w"], self.params["b"], self.out[: len(x)])

    def backward(self, dout):
        dx = self.dx[: len(dout)] if self.needs_dx else None
        return ops.dense_backward(dout, self.x, self.params["w"], dx, self.grads["w"], self.grads["b"])


class ReLU(Buffered, layers.ReLU):
    def forward(self, x, training=True):
        self._ensure_capacity(x)
        return ops.relu_forward(x, self.out[: len(x)])

    def backward(self, dout):
        return ops.relu_backward(dout, self.out[: len(dout)], self.dx[: len(dout)])


class Centre(Buffered, layers.Centre):
    needs_dx = False

    def prepare(self):
        self.input_shape = self.output_shape = self.constant.shape
        self.dtype = self.constant.dtype

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        return backend.xp.subtract(x, self.constant, out=self.out[: len(x)])


class BatchNorm(Buffered, layers.BatchNorm):
    def prepare(self):
        self._mean, self._variance, self._rstd, self._scratch = (
            backend.xp.empty(self.input_shape[-1], self.dtype) for _ in range(4)
        )

    def allocate(self, batch_shape):
        super().allocate(batch_shape)
        self.xhat = backend.xp.empty_like(self.out)

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        gamma, beta, state, out = self.params["gamma"], self.params["beta"], self.state, self.out[: len(x)]
        rows, out_rows, xhat = (a.reshape(-1, len(gamma)) for a in (x, out, self.xhat[: len(x)]))
        if not training:
            ops.batch_norm_inference(rows, gamma, beta, self.eps, state["mean"], state["variance"], self._rstd, out_rows)
            return out
        m = layers.require_two_values(x)
        normalize = kernels.choose(ops.batch_norm_forward, self.dtype)
        normalize(rows, gamma, beta, self.eps, self._mean, self._variance, self._rstd, xhat, out_rows)
        ops.update_running_statistics(state, self._mean, self._variance, m, self.momentum, self._scratch)
        return out

    def backward(self, dout):
        n, gamma = len(dout), self.params["gamma"]
        rows, xhat, dx = (a.reshape(-1, len(gamma)) for a in (dout, self.xhat[:n], self.dx[:n]))
        differentiate = kernels.choose(ops.batch_norm_backward, self.dtype)
        differentiate(rows, xhat, gamma, self._rstd, dx, self.grads["gamma"], self.grads["beta"])
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
            (conv2d_upsampled_forward, conv2d_upsampled_backward) if self.upsample else (conv2d_forward, conv2d_backward)
        )
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
        part_size = -(-self.capacity // parts)
        shape = (part_size, *self.input_shape)
        if self.upsample:
            self.plans = [UpsampledConv2dPlan(shape, self.w_shape, self.dtype) for _ in range(parts)]
        else:
            self.plans = [Conv2dPlan(shape, self.w_shape, self.dtype, self.needs_dx) for _ in range(parts)]
        # The first part writes to the layer's gradients and statistics, the others to their own.
        self.part_grads = [self.grads] + [
            {name: xp.empty_like(grad) for name, grad in self.grads.items()} for _ in range(parts - 1)
        ]
        self.convolved, self.dconvolved = (xp.empty((self.capacity, *self.conv_shape), self.dtype) for _ in range(2))
        if self.norm:
            self.pooled = xp.empty_like(self.out) if self.pool else self.convolved
            self.g = xp.empty_like(self.out)
            self.scratch = [fused.NormScratch((part_size, *self.conv_shape), self.pool, self.dtype) for _ in range(parts)]
            self.means, self.variances = (
                [first] + [xp.empty_like(first) for _ in range(parts - 1)] for first in (self._mean, self._variance)
            )

    def _for_each_part(self, function, n):
        """Call function(i, rows) in parallel for slices of a batch of n, at most one per plan. Returns their lengths."""
        size = -(-n // len(self.plans))
        parts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        backend.parallel_for(lambda i: function(i, parts[i]), len(parts))
        return [rows.stop - rows.start for rows in parts]

    def forward(self, x, training=True):
        self._ensure_capacity(x)
        self.x, n = x, len(x)
        if self.norm and training:
            return self._forward_batch_norm(x)
        w, b = self._fold_batch_norm() if self.norm else (self.params["w"], self.params["b"])
        out = self.out[:n]
        convolved = self.convolved[:n] if self.pool else out

        def one(i, rows):
            self._convolve(x[rows], w, b, self.plans[i], convolved[rows])
            if self.relu:
                ops.relu_forward(convolved[rows], convolved[rows])
            if self.pool:
                kernels.choose(ops.max_pool_forward, self.dtype)(convolved[rows], out[rows])

        self._for_each_part(one, n)
        return out

    def _forward_batch_norm(self, x):
        convolved, pooled, out = (array[: len(x)] for array in (self.convolved, self.pooled, self.out))
        pixels = layers.require_two_values(convolved)
        statistics = kernels.choose(fused.batch_statistics, self.dtype)
        normalize = kernels.choose(fused.norm_relu_pool_forward, self.dtype)

        def convolve_and_measure(i, rows):
            self._convolve(x[rows], self.params["w"], None, self.plans[i], convolved[rows])
            statistics(convolved[rows], self.scratch[i], self.means[i], self.variances[i])

        def normalize_part(i, rows):
            normalize(
                convolved[rows],
                self.params["gamma"],
                self.params["beta"],
                self._mean,
                self._rstd,
                self.relu,
                self.pool,
                self.scratch[i],
                pooled[rows],
                out[rows],
            )

        counts = self._for_each_part(convolve_and_measure, len(x))
        fused.combine_statistics(counts, self.means[: len(counts)], self.variances[: len(counts)], self.eps, self._rstd)
        self._for_each_part(normalize_part, len(x))
        ops.update_running_statistics(self.state, self._mean, self._variance, pixels, self.momentum, self._scale)
        return out

    def _fold_batch_norm(self):
        """Weights and bias of the convolution with the normalization folded in: gamma rstd w and beta - gamma rstd mean."""
        xp, scale = backend.xp, self._scale
        xp.sqrt(xp.add(self.state["variance"], self.eps, out=scale), out=scale)
        xp.divide(self.params["gamma"], scale, out=scale)
        xp.multiply(self.params["w"], scale, out=self._folded_w)
        xp.multiply(self.state["mean"], scale, out=self._folded_b)
        xp.subtract(self.params["beta"], self._folded_b, out=self._folded_b)
        return self._folded_w, self._folded_b

    def backward(self, dout):
        n, params = len(dout), self.params
        out, dx = self.out[:n], self.dx[:n] if self.needs_dx else None
        dconvolved = self.dconvolved[:n] if self.norm or self.relu else dout
        sums = kernels.choose(fused.norm_gradient_sums, self.dtype)
        normalize_backward = kernels.choose(fused.norm_relu_pool_backward, self.dtype)

        def sum_norm_gradients(i, rows):
            sums(
                dout[rows],
                self.pooled[rows],
                out[rows],
                self._mean,
                self._rstd,
                self.relu,
                self.scratch[i],
                self.g[rows],
                self.part_grads[i]["gamma"],
                self.part_grads[i]["beta"],
            )

        def one(i, rows):
            grads = self.part_grads[i]
            if self.norm:
                normalize_backward(
                    self.g[rows],
                    self.convolved[rows],
                    self.pooled[rows],
                    params["gamma"],
                    self._mean,
                    self._rstd,
                    self.grads["gamma"],
                    self.grads["beta"],
                    n * math.prod(self.conv_shape[:2]),
                    self.pool,
                    self.scratch[i],
                    dconvolved[rows],
                )
            elif self.relu:
                ops.relu_backward(dout[rows], out[rows], dconvolved[rows])
            self._convolve_backward(
                dconvolved[rows],
                self.x[rows],
                params["w"],
                self.plans[i],
                None if dx is None else dx[rows],
                grads["w"],
                grads.get("b"),
            )

        if self.norm:
            self._reduce_gradients(len(self._for_each_part(sum_norm_gradients, n)), "gamma", "beta")
        self._reduce_gradients(len(self._for_each_part(one, n)), "w", *(() if self.norm else "b"))
        return dx

    def _reduce_gradients(self, parts, *names):
        """Add the gradients of the other parts to the first one's, always in the same order."""
        for name in names:
            for other in self.part_grads[1:parts]:
                self.grads[name] += other[name]


def is_supported(part):
    """Whether the fast version of a part supports its settings."""
    return type(part) is not layers.ConvBlock or ((part.norm or not part.pool) and (part.kernel == 3 or not part.upsample))


def flatten_parameters(layers):
    """Move the parameters of `layers` into one vector (P,) and their gradients into another, for one update per step. The
    layers keep views. Returns (parameters, gradients).
    """
    parameters = backend.xp.concatenate([layer.params[name].ravel() for layer in layers for name in layer.params])
    gradients, start = backend.xp.zeros_like(parameters), 0
    for layer in layers:
        for name, array in layer.params.items():
            span = slice(start, start + array.size)
            layer.params[name] = parameters[span].reshape(array.shape)
            layer.grads[name] = gradients[span].reshape(array.shape)
            start = span.stop
    return parameters, gradients
