"""GEMM on a GPU that a CUDA graph can capture: cuBLAS through its own handle, or a tiled kernel.

CuPy refuses its own matmul while a stream is being captured (its issue 6290), since not every cuBLAS routine can be captured
with every setting. The calls here can, by the rules of the cuBLAS manual ("CUDA Graphs Support"): the scalars are on the
host, so that their values are captured, and the handle and its workspace exist in advance, so that the capture allocates
nothing. `backend.gemm` uses them outside of graphs too, so that a replayed step is bit-identical to an eager one.

The handle keeps cuBLAS's default math mode: float32 without TF32.
"""
import ctypes
import functools

import numpy as np

from ... import backend
from ...errors import BackendError

# As the cuBLAS manual recommends (cublasSetWorkspace): 32 MiB from Hopper on, 4 MiB before.
WORKSPACE_BYTES = {True: 32 << 20, False: 4 << 20}
HOPPER = 9
PREFIX = {np.dtype(np.float32): ("S", ctypes.c_float), np.dtype(np.float64): ("D", ctypes.c_double)}


@functools.cache
def gemm_for_device(device):
    """select_gemm for the current device, cached by its number: a cuBLAS handle and its workspace take memory."""
    return select_gemm()


def select_gemm():
    """CuBLAS if it works on this machine, else TiledKernel."""
    try:
        is_hopper = int(backend.xp.cuda.Device().compute_capability[:-1]) >= HOPPER
        cublas = CuBLAS(cublas_library(), WORKSPACE_BYTES[is_hopper])
        if _is_correct(cublas):
            return cublas
    except (OSError, AttributeError, BackendError):
        pass  # The library or one of its functions is missing, or a call fails.
    return TiledKernel()


def _is_correct(implementation):
    """Whether a matmul of transposed matrices equals CuPy's."""
    xp = backend.xp
    a, b = xp.arange(12, dtype=xp.float32).reshape(3, 4), xp.arange(15, dtype=xp.float32).reshape(5, 3)
    out = xp.empty((4, 5), xp.float32)
    return bool((implementation.gemm(a.T, b.T, out) == xp.matmul(a.T, b.T)).all())


def cublas_library():
    """The cuBLAS library that CuPy has loaded, through ctypes. OSError if it is not found."""
    major = backend.xp.cuda.runtime.runtimeGetVersion() // 1000
    # The bare name finds a library that the process has already loaded, wherever it is.
    try:
        return ctypes.CDLL(f"libcublas.so.{major}")
    except OSError:
        return ctypes.CDLL(f"cublas64_{major}.dll")


class CuBLAS:
    """GEMM by cublasSgemm and its variants. Not thread-safe.

    Args:
        library: cuBLAS through ctypes.
        workspace_bytes: size of cuBLAS's workspace.
    """

    name = "cuBLAS"

    def __init__(self, library, workspace_bytes):
        self._library = library
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self._handle = handle
        self._workspace = backend.xp.empty(workspace_bytes, np.uint8)
        self._stream = None

    def gemm(self, a, b, out):
        """See backend.gemm. ValueError for an array with neither contiguous rows nor contiguous columns."""
        self._use_current_stream()
        a, b, c = _as_matrices(a, b, out)
        prefix, number = PREFIX[c.dtype]
        # cuBLAS is column-major: a row-major C is computed as C^T = B^T A^T, a column-major C as C = A B.
        transposed, leading = _layout("out", c)
        if transposed:
            a, b = _transpose(b), _transpose(a)
        rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        (transpose_b, leading_b), (transpose_a, leading_a) = _layout("b", b), _layout("a", a)
        shape = self._handle, int(transpose_b), int(transpose_a), columns, rows, inner, ctypes.byref(number(1))
        zero = ctypes.byref(number(0))
        at_a, at_b, at_c = (ctypes.c_void_p(array.data.ptr) for array in (a, b, c))
        if c.ndim == 2:
            self._call(f"cublas{prefix}gemm_v2", *shape, at_b, leading_b, at_a, leading_a, zero, at_c, leading)
        else:
            next_a, next_b, next_c = (ctypes.c_longlong(_batch_stride(array)) for array in (a, b, c))
            self._call(f"cublas{prefix}gemmStridedBatched", *shape, at_b, leading_b, next_b, at_a, leading_a, next_a, zero,
                       at_c, leading, next_c, len(c))
        return out

    def _use_current_stream(self):
        stream = backend.xp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
            # Setting the stream resets the workspace to cuBLAS's own.
            self._call("cublasSetWorkspace_v2", self._handle, ctypes.c_void_p(self._workspace.data.ptr),
                       ctypes.c_size_t(self._workspace.nbytes))
            self._stream = stream

    def _call(self, function, *arguments):
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise BackendError(f"{function} of cuBLAS failed with status {status}")


def _as_matrices(a, b, out):
    """The arguments of backend.gemm, with a vector as a matrix of one row."""
    return (a[None], b, out[None]) if a.ndim == 1 else (a, b, out)


def _transpose(matrices):
    return matrices.transpose(*range(matrices.ndim - 2), -1, -2) if matrices.ndim > 2 else matrices.T


def _layout(name, array):
    """(whether a matrix is column-major, its leading dimension)."""
    rows, columns = array.shape[-2:]
    row, column = (stride // array.itemsize for stride in array.strides[-2:])
    # The stride of an axis of length 1 is arbitrary.
    row, column = row if rows > 1 else max(row, columns), column if columns > 1 else max(column, rows)
    if (column == 1 or columns == 1) and row >= columns:
        return False, row
    if (row == 1 or rows == 1) and column >= rows:
        return True, column
    raise ValueError(f"{name} of a matmul has shape {array.shape} and strides {array.strides}; "
                     "its rows or its columns must be contiguous")


def _batch_stride(array):
    """The stride between the matrices of a batch, in elements; 0 for a single matrix, which is broadcast."""
    return array.strides[0] // array.itemsize if array.ndim > 2 else 0


TILED = r"""
// out = a b, tile by tile: 16 x 16 threads share tiles of a and b. Strides are in elements.
struct Strides { long long row, column, batch; };

template <typename T>
__device__ void tiled(const T* a, const T* b, T* out, int rows, int inner, int columns, Strides at_a, Strides at_b,
                      Strides at_out)
{
    __shared__ T tile_a[16][17], tile_b[16][17];
    const int i = blockIdx.y * 16 + threadIdx.y, j = blockIdx.x * 16 + threadIdx.x;
    a += blockIdx.z * at_a.batch; b += blockIdx.z * at_b.batch; out += blockIdx.z * at_out.batch;
    T sum = 0;
    for (int start = 0; start < inner; start += 16) {
        const int k_a = start + threadIdx.x, k_b = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = i < rows && k_a < inner ? a[i * at_a.row + k_a * at_a.column] : T(0);
        tile_b[threadIdx.y][threadIdx.x] = k_b < inner && j < columns ? b[k_b * at_b.row + j * at_b.column] : T(0);
        __syncthreads();
        for (int k = 0; k < 16; ++k)
            sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
        __syncthreads();
    }
    if (i < rows && j < columns)
        out[i * at_out.row + j * at_out.column] = sum;
}

#define TILED(NAME, T) \
extern "C" __global__ void NAME(const T* a, const T* b, T* out, int rows, int inner, int columns, \
                                long long a_row, long long a_column, long long a_batch, \
                                long long b_row, long long b_column, long long b_batch, \
                                long long row, long long column, long long batch) \
{ \
    tiled<T>(a, b, out, rows, inner, columns, {a_row, a_column, a_batch}, {b_row, b_column, b_batch}, \
             {row, column, batch}); \
}

TILED(tiled_float32, float)
TILED(tiled_float64, double)
"""


class TiledKernel:
    """GEMM by a tiled kernel, for any strides: slower than cuBLAS, but without dependencies."""

    name = "tinyqae's own kernel, since cuBLAS is unavailable"

    def __init__(self):
        self._module = backend.xp.RawModule(code=TILED)
        self._kernel = functools.cache(self._module.get_function)

    def gemm(self, a, b, out):
        """See backend.gemm."""
        a, b, c = _as_matrices(a, b, out)
        rows, columns = c.shape[-2:]
        batch = len(c) if c.ndim > 2 else 1
        strides = []
        for array in (a, b, c):
            row, column = (np.int64(stride // array.itemsize) for stride in array.strides[-2:])
            strides += [row, column, np.int64(_batch_stride(array))]
        sizes = np.int32(rows), np.int32(a.shape[-1]), np.int32(columns)
        grid = -(-columns // 16), -(-rows // 16), batch
        self._kernel(f"tiled_{c.dtype.name}")(grid, (16, 16), (a, b, c, *sizes, *strides))
        return out
