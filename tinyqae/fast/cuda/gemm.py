"""GEMM on a GPU that a CUDA graph can capture: cuBLAS through its own handle.

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
    """CuBLAS if it works on this machine, else None: then matmuls are CuPy's, and nothing is captured."""
    xp = backend.xp
    a, b = xp.arange(12, dtype=xp.float32).reshape(3, 4), xp.arange(15, dtype=xp.float32).reshape(5, 3)
    try:
        is_hopper = int(xp.cuda.Device().compute_capability[:-1]) >= HOPPER
        cublas = CuBLAS(cublas_library(), WORKSPACE_BYTES[is_hopper])
        is_correct = (cublas.gemm(a.T, b.T, xp.empty((4, 5), xp.float32)) == xp.matmul(a.T, b.T)).all()
        return cublas if is_correct else None
    except (OSError, AttributeError, BackendError):
        return None  # The library or one of its functions is missing, or a call fails.


def cublas_library():
    """The cuBLAS library that CuPy has loaded, through ctypes; its bare name finds it. OSError if it is missing."""
    major = backend.xp.cuda.runtime.runtimeGetVersion() // 1000
    try:
        return ctypes.CDLL(f"libcublas.so.{major}")
    except OSError:
        return ctypes.CDLL(f"cublas64_{major}.dll")


class CuBLAS:
    """GEMM by cublasSgemm and its variants, of a library loaded through ctypes. Not thread-safe."""

    def __init__(self, library, workspace_bytes):
        self._library, self._handle, self._stream = library, ctypes.c_void_p(), None
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._workspace = backend.xp.empty(workspace_bytes, np.uint8)

    def gemm(self, a, b, out):
        """See backend.gemm. ValueError for an array with neither contiguous rows nor contiguous columns."""
        self._use_current_stream()
        a, c = (a[None], out[None]) if a.ndim == 1 else (a, out)
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
            self._call(
                f"cublas{prefix}gemmStridedBatched",
                *shape,
                at_b,
                leading_b,
                next_b,
                at_a,
                leading_a,
                next_a,
                zero,
                at_c,
                leading,
                next_c,
                len(c),
            )
        return out

    def _use_current_stream(self):
        stream = backend.xp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
            # Setting the stream resets the workspace to cuBLAS's own.
            self._call(
                "cublasSetWorkspace_v2",
                self._handle,
                ctypes.c_void_p(self._workspace.data.ptr),
                ctypes.c_size_t(self._workspace.nbytes),
            )
            self._stream = stream

    def _call(self, function, *arguments):
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise BackendError(f"{function} of cuBLAS failed with status {status}")


def _transpose(matrices):
    return matrices.transpose(*range(matrices.ndim - 2), -1, -2)


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
    raise ValueError(
        f"{name} of a matmul has shape {array.shape} and strides {array.strides}; its rows or its columns must be contiguous"
    )


def _batch_stride(array):
    """The stride between the matrices of a batch, in elements; 0 for a single matrix, which is broadcast."""
    return array.strides[0] // array.itemsize if array.ndim > 2 else 0
