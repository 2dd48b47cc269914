"""What the CUDA kernels have in common: their compilation, launches, and the sums of a block's threads."""
import numpy as np

from ... import backend

THREADS = 256
# Blocks of a sum over a whole array: enough to fill any card, and so few partial sums that one block adds them.
MOST_PARTS = 512

# Before every kernel's source. block_sum is for blocks of exactly THREADS threads; the halves are added in a fixed order,
# so that a sum is the same bits every time.
PRELUDE = f"#define THREADS {THREADS}\n" + r"""
__device__ float block_sum(float value)
{
    __shared__ float sums[THREADS];
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    sums[t] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half)
            sums[t] += sums[t + half];
        __syncthreads();
    }
    const float sum = sums[0];
    __syncthreads();
    return sum;
}

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
"""


class Kernels:
    """CUDA C++ of some kernels, compiled at the first launch. Its kernels write float32 and take contiguous arrays."""

    def __init__(self, source):
        self.source = PRELUDE + source
        self._xp, self._functions = None, {}

    def launch(self, name, grid, block, *arguments):
        """Run a kernel. arguments: arrays, None for a null pointer, or numbers: int for int, float for float,
        np.float64 for double."""
        if self._xp is not backend.xp:
            self._xp, self._functions = backend.xp, {}
            self._module = backend.xp.RawModule(code=self.source)
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        self._functions[name](grid, block, tuple(map(_argument, arguments)))

    def launch_each(self, name, size, *arguments):
        """Run a kernel with a thread for each of `size` results; its last argument is `size`."""
        self.launch(name, (-(-size // THREADS),), (THREADS,), *arguments, size)


def _argument(value):
    if value is None:
        return np.uintp(0)
    if isinstance(value, np.float64):  # For the few that are computed in double precision.
        return value
    if isinstance(value, bool | int):
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    if not value.flags.c_contiguous:
        raise ValueError(f"a CUDA kernel was given an array of shape {value.shape} and strides {value.strides}; "
                         "it must be contiguous")
    return value
