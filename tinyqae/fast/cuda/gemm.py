"""Matrix products on a GPU that a CUDA graph can hold: cuBLAS by its own handle, or a tiled kernel of ours.

CuPy refuses its own products while a stream is being captured (its issue 6290), since not every routine of cuBLAS can be
captured under every setting. The products here can, by the rules of cuBLAS's manual ("CUDA Graphs Support"): coefficients
lie on the host, so that their values are captured; the handle and a workspace of ours exist beforehand, so that nothing
is allocated meanwhile. `backend.gemm` takes them outside of graphs as well: what is replayed is then, bit by bit, what was
computed eagerly.

The handle keeps cuBLAS's default mathematics: float32 is float32, without TF32.
"""
import ctypes
import functools

import numpy as np

from ... import backend
from ...errors import BackendError

# By cuBLAS's manual (cublasSetWorkspace): 32 MiB from Hopper on, 4 MiB before.
WORKSPACE_BYTES = {True: 32 << 20, False: 4 << 20}
HOPPER = 9
PREFIX = {np.dtype(np.float32): ("S", ctypes.c_float), np.dtype(np.float64): ("D", ctypes.c_double)}


@functools.cache
def products_of(device):
    """working_products of the current device, made once in a process: a handle of cuBLAS takes memory, and so does its
    workspace. device: its number.
    """
    return working_products()


def working_products():
    """CuBLAS, if its products are right on this machine, else TiledKernel."""
    try:
        cublas = CuBLAS(cublas_library(), WORKSPACE_BYTES[_compute_capability() >= HOPPER])
        if _is_right(cublas):
            return cublas
    except (OSError, AttributeError, BackendError):
        pass  # No such library, none of these functions in it, or it refuses.
    return TiledKernel()


def _compute_capability():
    return int(backend.xp.cuda.Device().compute_capability[:-1])


def _is_right(products):
    """Whether a product of transposed operands is what CuPy says it is."""
    xp = backend.xp
    a, b = xp.arange(12, dtype=xp.float32).reshape(3, 4), xp.arange(15, dtype=xp.float32).reshape(5, 3)
    out = xp.empty((4, 5), xp.float32)
    return bool((products.gemm(a.T, b.T, out) == xp.matmul(a.T, b.T)).all())


def cublas_library():
    """The cuBLAS that CuPy has loaded, through ctypes. OSError where there is none of that name."""
    major = backend.xp.cuda.runtime.runtimeGetVersion() // 1000
    # Asked for by its bare name, a library that a process has loaded already is found wherever it came from.
    try:
        return ctypes.CDLL(f"libcublas.so.{major}")
    except OSError:
        return ctypes.CDLL(f"cublas64_{major}.dll")


class CuBLAS:
    """Products by cublasSgemm and its like.

    library: cuBLAS through ctypes. workspace_bytes: of the scratch space that it is given. One product at a time.
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
        """See backend.gemm. ValueError for an array that is neither of the rows nor of the columns of its matrix contiguous:
        it would have to be copied.
        """
        self._use_current_stream()
        a, b, product = _as_matrices(a, b, out)
        prefix, number = PREFIX[product.dtype]
        # cuBLAS stores by columns. So it is given what lies there: C^T = B^T A^T, or, where C itself lies by columns, C.
        transposed, leading = _leading("out", product)
        if transposed:
            a, b = _transpose(b), _transpose(a)
        rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        (transpose_b, leading_b), (transpose_a, leading_a) = _leading("b", b), _leading("a", a)
        shape = self._handle, int(transpose_b), int(transpose_a), columns, rows, inner, ctypes.byref(number(1))
        zero = ctypes.byref(number(0))
        at_a, at_b, at_c = (ctypes.c_void_p(array.data.ptr) for array in (a, b, product))
        if product.ndim == 2:
            self._call(f"cublas{prefix}gemm_v2", *shape, at_b, leading_b, at_a, leading_a, zero, at_c, leading)
        else:
            next_a, next_b, next_c = (ctypes.c_longlong(_stack_stride(array)) for array in (a, b, product))
            self._call(f"cublas{prefix}gemmStridedBatched", *shape, at_b, leading_b, next_b, at_a, leading_a, next_a, zero,
                       at_c, leading, next_c, len(product))
        return out

    def _use_current_stream(self):
        stream = backend.xp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
            # Setting the stream puts cuBLAS's own workspace back in place.
            self._call("cublasSetWorkspace_v2", self._handle, ctypes.c_void_p(self._workspace.data.ptr),
                       ctypes.c_size_t(self._workspace.nbytes))
            self._stream = stream

    def _call(self, function, *arguments):
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise BackendError(f"{function} of cuBLAS failed with status {status}")


def _as_matrices(a, b, out):
    """The arguments of backend.gemm with a row in place of a vector."""
    return (a[None], b, out[None]) if a.ndim == 1 else (a, b, out)


def _transpose(matrices):
    return matrices.transpose(*range(matrices.ndim - 2), -1, -2) if matrices.ndim > 2 else matrices.T


def _leading(name, array):
    """(whether the matrix lies by columns, the stride from one row or column to the next), in numbers."""
    rows, columns = array.shape[-2:]
    row, column = (stride // array.itemsize for stride in array.strides[-2:])
    # Where there is but one row (or column), its stride means nothing.
    row, column = row if rows > 1 else max(row, columns), column if columns > 1 else max(column, rows)
    if (column == 1 or columns == 1) and row >= columns:
        return False, row
    if (row == 1 or rows == 1) and column >= rows:
        return True, column
    raise ValueError(f"{name} of a matrix product has shape {array.shape} and strides {array.strides}; "
                     "its rows or its columns must be contiguous")


def _stack_stride(array):
    """From one matrix of a stack to the next, in numbers; 0 for a matrix that stands for a whole stack."""
    return array.strides[0] // array.itemsize if array.ndim > 2 else 0


TILED = r"""
// out = a b, tile by tile: 16 x 16 threads share what they read of a and b. Strides are in numbers.
struct Matrix { long long row, column, stack; };

template <typename T>
__device__ void tiled(const T* a, const T* b, T* out, int rows, int inner, int columns, Matrix at_a, Matrix at_b,
                      Matrix at_out)
{
    __shared__ T tile_a[16][17], tile_b[16][17];
    const int i = blockIdx.y * 16 + threadIdx.y, j = blockIdx.x * 16 + threadIdx.x;
    a += blockIdx.z * at_a.stack; b += blockIdx.z * at_b.stack; out += blockIdx.z * at_out.stack;
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
                                long long a_row, long long a_column, long long a_stack, \
                                long long b_row, long long b_column, long long b_stack, \
                                long long row, long long column, long long stack) \
{ \
    tiled<T>(a, b, out, rows, inner, columns, {a_row, a_column, a_stack}, {b_row, b_column, b_stack}, \
             {row, column, stack}); \
}

TILED(tiled_float32, float)
TILED(tiled_float64, double)
"""


class TiledKernel:
    """Products by a kernel of ours, for any strides: slower than cuBLAS, but it depends on nothing."""

    name = "a kernel of tinyqae, since cuBLAS was not to be had directly"

    def __init__(self):
        self._module = backend.xp.RawModule(code=TILED)
        self._kernel = functools.cache(self._module.get_function)

    def gemm(self, a, b, out):
        """See backend.gemm."""
        a, b, product = _as_matrices(a, b, out)
        rows, columns = product.shape[-2:]
        stacked = len(product) if product.ndim > 2 else 1
        strides = []
        for array in (a, b, product):
            row, column = (np.int64(stride // array.itemsize) for stride in array.strides[-2:])
            strides += [row, column, np.int64(_stack_stride(array))]
        sizes = np.int32(rows), np.int32(a.shape[-1]), np.int32(columns)
        self._kernel(f"tiled_{product.dtype.name}")((-(-columns // 16), -(-rows // 16), stacked), (16, 16),
                                                    (a, b, product, *sizes, *strides))
        return out
