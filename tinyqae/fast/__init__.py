"""The fast engine: the reference engine's parts with preallocated buffers, fused kernels, multithreading and CUDA graphs.

Nobody needs to read it to understand the method. Each part has the interface of its reference implementation, which has
the formulas, and is tested against it. A function writes its results to its last arguments (or those that a docstring calls
written), and returns the main one, `out` or `dx`.

    layers, recurrent, losses, bottlenecks, optim, batches   the parts, with their buffers
    ops, norm_relu_pool, lstm      small operations; batch norm fused with ReLU and pooling; the LSTM's loop over time
    conv, conv_upsampled, windows  im2col, Winograd, upsampling folded into the convolution's weights
    kernels, numba/, cuda/         fused kernels and their selection; GEMM that CUDA graphs can capture
    cuda_graphs                    a whole training step as one CUDA graph
"""

import contextlib

from .. import backend
from ..engine import Reference
from . import kernels, optim
from .layers import flatten_parameters
from .parts import fast_version

# Threshold for multithreading in BLAS: the number of multiplications in a matmul above which a second thread pays off.
THREADING_THRESHOLD = 2e6


class Fast(Reference):
    """The fast engine of one model; engine.Reference documents the methods."""

    name = "fast"

    def build(self, part):
        return fast_version(part)

    def register_layers(self, layers):
        """Move the parameters of all layers into one vector; the layers keep views."""
        self.parameters, self.gradients = flatten_parameters(layers)
        self.multithreaded = any(getattr(layer, "multithreaded", False) for layer in layers)
        self.largest = max((array.size for layer in layers for array in layer.params.values()), default=0)

    def arrays(self, layers, kind):
        """The vector of all parameters, or of all gradients, in a list."""
        return [self.parameters if kind == "params" else self.gradients]

    def step(self, optimizer, model, lr):
        optim.step(optimizer, self.parameters, self.gradients, lr)

    @contextlib.contextmanager
    def working(self, model, batch_size):
        """Let one thread at a time use the model's buffers, and limit BLAS to one thread if the layers are multithreaded
        themselves or the matmuls are small.
        """
        single = self.multithreaded or batch_size * self.largest < THREADING_THRESHOLD
        with self._lock, backend.one_blas_thread() if single else contextlib.nullcontext():
            yield

    def kernels(self):
        """The kernels in use: "numpy", "numba" or "cupy"."""
        return kernels.kernels()
