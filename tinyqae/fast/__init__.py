"""The fast engine: the reference engine's parts with preallocated buffers, fused kernels, threads and CUDA graphs.

Nobody needs to read it to understand the method. Each part has the contract of the one it stands for and is tested against
it. What is computed is said there; how, here:

    layers, recurrent, losses, bottlenecks, optim, batches   the parts, with their buffers
    conv, conv_upsampled, windows      im2col, Winograd, upsampling folded into the kernel
    norm, norm_relu_pool, pool, lstm   batch norm with ReLU and pooling in one go; the loop over time
    kernels, numba/, cuda/             fused kernels, and which of them are in use; matrix products that graphs can hold
    graphs                             a whole training step as one CUDA graph
"""
import contextlib

from .. import backend
from . import kernels, optim
from .layers import flatten_parameters
from .parts import tuned

# Multiplications in a matrix product above which a second BLAS thread makes it faster.
THREADING_THRESHOLD = 2e6


class Fast:
    """The fast engine of one model; see engine.Reference for what its methods mean."""

    name = "fast"

    def build(self, part):
        """The fast version of a part; one that has none is used as it is."""
        return tuned(part)

    def adopt(self, layers):
        """Move the parameters of all layers into one vector, of which the layers keep views."""
        self.parameters, self.gradients = flatten_parameters(layers)
        self.splits_batches = any(getattr(layer, "splits_batches", False) for layer in layers)
        self.largest = max((array.size for layer in layers for array in layer.params.values()), default=0)

    def arrays(self, layers, kind):
        """The one vector of all parameters, or of all gradients, in a list."""
        return [self.parameters if kind == "params" else self.gradients]

    def step(self, optimizer, model, lr):
        """One update of the model's parameters."""
        optim.step(optimizer, self.parameters, self.gradients, lr)

    def working(self, model, batch_size):
        """With as many BLAS threads as serve this model and batch size best: one where layers split batches themselves, and
        for small products.
        """
        if self.splits_batches or batch_size * self.largest < THREADING_THRESHOLD:
            return backend.blas_threads(1)
        return contextlib.nullcontext()

    def kernels(self):
        """Which kernels it computes with: "numpy", "numba" or "cupy"."""
        return kernels.kernels()
