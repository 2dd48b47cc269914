"""What the CUDA kernels share: compilation, launches and the block-wide sum."""
import numpy as np

from ... import backend

THREADS = 256
# The largest number of blocks that sum an array: enough to fill any GPU, and few enough for one block to add their sums.
MAX_BLOCKS = 512

# Precedes the source of every kernel.
PRELUDE = f"#define THREADS {THREADS}\n" + r"""
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

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
"""


class KernelModule:
    """Kernels in CUDA C++, compiled at the first launch. They take contiguous arrays and write float32."""

    def __init__(self, source):
        self.source = PRELUDE + source
        self._xp, self._functions = None, {}

    def launch(self, name, grid, block, *arguments):
        """Launch a kernel.

        Args:
            name: of the kernel.
            grid, block: tuples of int.
            arguments: arrays, None for a null pointer, or numbers: int for int, float for float, np.float64 for double.
        """
        if self._xp is not backend.xp:
            self._xp, self._functions = backend.xp, {}
            self._module = backend.xp.RawModule(code=self.source)
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        self._functions[name](grid, block, tuple(map(_argument, arguments)))

    def launch_1d(self, name, size, *arguments):
        """Launch a kernel with one thread per element; its last argument is `size`."""
        self.launch(name, (-(-size // THREADS),), (THREADS,), *arguments, size)


def _argument(value):
    if value is None:
        return np.uintp(0)
    if isinstance(value, np.float64):
        return value
    if isinstance(value, bool | int):
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    if not value.flags.c_contiguous:
        raise ValueError(f"a CUDA kernel got an array of shape {value.shape} and strides {value.strides}; "
                         "it must be contiguous")
    return value
