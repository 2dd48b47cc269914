"""Shared by the CUDA kernels: compilation, launches and sums."""

import functools

import numpy as np

from ... import backend

THREADS = 256
# The largest number of blocks that sum an array: enough to fill any GPU, and few enough for one block to add their sums.
MAX_BLOCKS = 512

C_TYPES = {bool: np.int32, int: np.int32, float: np.float32, np.float64: np.float64}

# Precedes the source of every kernel.
PRELUDE = (
    f"#define THREADS {THREADS}\n"
    + r"""
#define KERNEL extern "C" __global__ void
// The element i of this thread, in a kernel with one thread per element.
#define THREAD_INDEX(i, size) const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= size) return

// For blocks of THREADS threads. The order of summation is fixed, so that results are deterministic.
__device__ void store_block_sum(float* destination, float value, float scale = 1.0f)
{
    __shared__ float sums[THREADS];
    const int t = threadIdx.x;
    sums[t] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half)
            sums[t] += sums[t + half];
        __syncthreads();
    }
    if (t == 0)
        *destination = sums[0] * scale;
}

KERNEL add_partial_sums(const float* partial, float* value, float scale, int count)
{
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        sum += partial[i];
    store_block_sum(value, sum, scale);
}
"""
)


class KernelModule:
    """Kernels in CUDA C++, compiled at the first launch. They take contiguous arrays and write float32."""

    def __init__(self, source):
        self.source = PRELUDE + source
        self._module = functools.cache(lambda xp: xp.RawModule(code=self.source))
        self._function = functools.cache(lambda xp, name: self._module(xp).get_function(name))

    def launch(self, name, grid, block, *arguments):
        """Launch the kernel `name` on a grid of blocks, both tuples of int.

        Its arguments are arrays, None for a null pointer, or numbers: int for int, float for float, np.float64 for double.
        """
        self._function(backend.xp, name)(grid, block, tuple(map(_argument, arguments)))

    def launch_1d(self, name, size, *arguments):
        """Launch a kernel with one thread per element; its last argument is `size`."""
        self.launch(name, (-(-size // THREADS),), (THREADS,), *arguments, size)


def _argument(value):
    if value is None:
        return np.uintp(0)
    if type(value) in C_TYPES:
        return C_TYPES[type(value)](value)
    if not value.flags.c_contiguous:
        raise ValueError(
            f"a CUDA kernel got an array of shape {value.shape} and strides {value.strides}; it must be contiguous"
        )
    return value
