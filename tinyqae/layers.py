"""Layers: each an op with its parameters. The forward pass keeps what the backward pass needs, and nothing else.

    setup(input_shape, random, dtype)   draw the parameters, given the shape of x without the batch axis; return that of y
    y = forward(x, training=True)
    dx = backward(dy)                   and store the gradients of the parameters in `grads`

`params`, `grads` and `state` are dicts of arrays; `state` holds what inference needs besides the parameters. Parameters are
drawn with NumPy's generator on the host, so a seed gives the same weights on every backend and in both engines.
"""
import numpy as np

from . import backend
from .annotations import Array, DType, Function, Shape
from .errors import require_positive, require_range, require_two_values
from .initializers import filled, glorot
from .ops.activations import relu_backward, relu_forward
from .ops.conv import conv2d_backward, conv2d_forward
from .ops.dense import dense_backward, dense_forward
from .ops.norm import batch_norm_backward, batch_norm_forward, batch_norm_inference
from .ops.pool import max_pool_backward, max_pool_forward, upsample_backward, upsample_forward

__all__ = ["BatchNorm", "Centre", "Conv2d", "ConvBlock", "Dense", "Layer", "MaxPool2d", "ReLU", "Sequential", "Upsample2d"]


class Layer:
    """A layer without parameters. needs_dx: False for a first layer, whose dx is never used; the fast engine skips it."""

    needs_dx = True
    forward: Function
    backward: Function

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def setup(self, input_shape: Shape, random: np.random.Generator, dtype: DType) -> Shape:
        """Draw the parameters for inputs (N, *input_shape). Returns the shape of the output, without N."""
        self.input_shape, self.dtype = tuple(input_shape), np.dtype(dtype)
        self.output_shape = tuple(self.draw(random))
        return self.output_shape

    def draw(self, random: np.random.Generator) -> Shape:
        """Draw the parameters for `self.input_shape`, which `setup` has set. Returns the shape of the output."""
        return self.input_shape

    def _parameter(self, name: str, values: np.ndarray) -> None:
        self.params[name] = backend.to_device(values.astype(self.dtype))
        self.grads[name] = backend.xp.zeros_like(self.params[name])


class Dense(Layer):
    """y = x w + b, (N, D) -> (N, units). Glorot-uniform weights (Glorot and Bengio 2010), zero biases."""

    def __init__(self, units: int):
        super().__init__()
        self.units = require_positive("units", units)

    def draw(self, random: np.random.Generator) -> Shape:
        (features,) = self.input_shape
        self._parameter("w", glorot(random, (features, self.units), features, self.units))
        self._parameter("b", filled(random, 0, self.units))
        return (self.units,)

    def forward(self, x: Array, training: bool = True) -> Array:
        self.x = x
        return dense_forward(x, self.params["w"], self.params["b"])

    def backward(self, dy: Array) -> Array:
        dx, self.grads["w"], self.grads["b"] = dense_backward(dy, self.x, self.params["w"])
        return dx


class ReLU(Layer):
    """max(x, 0), any shape."""

    def forward(self, x: Array, training: bool = True) -> Array:
        self.y = relu_forward(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return relu_backward(dy, self.y)


class BatchNorm(Layer):
    """Batch normalization of each channel (last axis). Training uses the batch statistics and updates the running ones,
    running = momentum running + (1 - momentum) batch; inference uses the running ones. As in PyTorch, the running variance
    takes the unbiased estimate, v M / (M - 1) for M values.
    """

    def __init__(self, momentum: float = 0.9, eps: float = 1e-5):
        super().__init__()
        require_range("momentum", momentum, 0, 1)
        require_range("eps", eps, 0, np.inf)
        self.momentum, self.eps = momentum, eps

    def draw(self, random: np.random.Generator) -> Shape:
        channels, xp = self.input_shape[-1], backend.xp
        self._parameter("gamma", filled(random, 1, channels))
        self._parameter("beta", filled(random, 0, channels))
        self.state = {"mean": xp.zeros(channels, self.dtype), "variance": xp.ones(channels, self.dtype)}
        return self.input_shape

    def forward(self, x: Array, training: bool = True) -> Array:
        gamma, beta, running = self.params["gamma"], self.params["beta"], self.state
        if not training:
            return batch_norm_inference(x, gamma, beta, running["mean"], running["variance"], self.eps)
        m = require_two_values(x)
        y, self.xhat, mean, self.variance = batch_norm_forward(x, gamma, beta, self.eps)
        for name, batch in (("mean", mean), ("variance", self.variance * (m / (m - 1)))):
            running[name][...] = self.momentum * running[name] + (1 - self.momentum) * batch
        return y

    def backward(self, dy: Array) -> Array:
        dx, self.grads["gamma"], self.grads["beta"] = batch_norm_backward(dy, self.xhat, self.params["gamma"],
                                                                          self.variance, self.eps)
        return dx


class Conv2d(Layer):
    """Convolution with stride 1 and 'same' padding, (N, H, W, C) -> (N, H, W, filters). Glorot-uniform weights."""

    def __init__(self, filters: int, kernel: int = 3, bias: bool = True):
        super().__init__()
        self.filters, self.kernel, self.bias = require_positive("filters", filters), require_positive("kernel", kernel), bias
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel!r} must be odd, so that it has a centre")

    def draw(self, random: np.random.Generator) -> Shape:
        height, width, channels = self.input_shape
        taps = self.kernel ** 2
        shape = (self.kernel, self.kernel, channels, self.filters)
        self._parameter("w", glorot(random, shape, taps * channels, taps * self.filters))
        if self.bias:
            self._parameter("b", filled(random, 0, self.filters))
        return (height, width, self.filters)

    def forward(self, x: Array, training: bool = True) -> Array:
        self.x = x
        return conv2d_forward(x, self.params["w"], self.params.get("b"))

    def backward(self, dy: Array) -> Array:
        dx, self.grads["w"], db = conv2d_backward(dy, self.x, self.params["w"])
        if self.bias:
            self.grads["b"] = db
        return dx


class MaxPool2d(Layer):
    """Max-pooling by 2, (N, H, W, C) -> (N, H/2, W/2, C)."""

    def draw(self, random: np.random.Generator) -> Shape:
        height, width, channels = self.input_shape
        if height % 2 or width % 2:
            raise ValueError(f"an image of {height}x{width} cannot be pooled by 2; use sides divisible by 2 at every level")
        return (height // 2, width // 2, channels)

    def forward(self, x: Array, training: bool = True) -> Array:
        self.x, self.y = x, max_pool_forward(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return max_pool_backward(dy, self.x, self.y)


class Upsample2d(Layer):
    """Nearest-neighbour upsampling by 2, (N, H, W, C) -> (N, 2H, 2W, C)."""

    def draw(self, random: np.random.Generator) -> Shape:
        height, width, channels = self.input_shape
        return (2 * height, 2 * width, channels)

    def forward(self, x: Array, training: bool = True) -> Array:
        return upsample_forward(x)

    def backward(self, dy: Array) -> Array:
        return upsample_backward(dy)


class Sequential(Layer):
    """Layers one after another."""

    def __init__(self, *layers: Layer):
        super().__init__()
        # A nested Sequential is flattened: a model looks for parameters in these layers, not below them.
        self.layers: list[Layer] = [part for layer in layers
                                    for part in (layer.layers if type(layer) is Sequential else [layer])]

    def draw(self, random: np.random.Generator) -> Shape:
        shape = self.input_shape
        for layer in self.layers:
            shape = layer.setup(shape, random, self.dtype)
        return shape

    def forward(self, x: Array, training: bool = True) -> Array:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: Array) -> Array:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class ConvBlock(Sequential):
    """[Upsample2d] -> Conv2d -> [BatchNorm] -> [ReLU] -> [MaxPool2d], seen from outside as one layer: its `params`, `grads`
    and `state` are those of its parts. With batch norm, the convolution has no bias besides beta.
    """

    def __init__(self, filters: int, kernel: int = 3, *, upsample: bool = False, norm: bool = True, relu: bool = True,
                 pool: bool = False, momentum: float = 0.9, eps: float = 1e-5):
        self.upsample, self.norm, self.relu, self.pool = upsample, norm, relu, pool
        self.filters, self.kernel, self.momentum, self.eps = filters, kernel, momentum, eps
        parts = [Upsample2d()] * upsample + [Conv2d(filters, kernel, bias=not norm)]
        super().__init__(*parts, *[BatchNorm(momentum, eps)] * norm, *[ReLU()] * relu, *[MaxPool2d()] * pool)

    def draw(self, random: np.random.Generator) -> Shape:
        shape = super().draw(random)
        for kind in ("params", "grads", "state"):
            shared = {name: array for part in self.layers for name, array in getattr(part, kind).items()}
            for part in (self, *self.layers):  # One shared dict, so that replacing an array here replaces it there too.
                setattr(part, kind, shared)
        return shape


class Centre(Layer):
    """y = x - constant; the constant has the shape of x without the batch axis."""

    def __init__(self, constant: Array):
        super().__init__()
        self.constant = constant

    def forward(self, x: Array, training: bool = True) -> Array:
        return x - self.constant

    def backward(self, dy: Array) -> Array:
        return dy
