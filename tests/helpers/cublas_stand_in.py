"""cuBLAS without a GPU: the functions that the library calls, by the manual's definition, on the host's memory.

Matrices lie by columns: element (i, j) is at i + j * leading dimension. Arguments are those of ctypes, as the real library
would get them.
"""

import ctypes

import numpy as np

SUCCESS, INVALID_VALUE = 0, 7


class CuBLASStandIn:
    """Attributes: `stream` and `workspace` as set, `products`, how many there were. device: a StandIn, for its captures."""

    def __init__(self, device):
        self.device, self.handle, self.stream, self.workspace, self.products = device, None, None, None, 0

    def cublasCreate_v2(self, handle):
        self.device.no_capture("cublasCreate")
        self.handle = handle._obj.value = 77
        return SUCCESS

    def cublasSetStream_v2(self, handle, stream):
        assert handle.value == self.handle
        self.stream, self.workspace = stream.value, None
        return SUCCESS

    def cublasSetWorkspace_v2(self, handle, workspace, size):
        assert handle.value == self.handle and workspace.value % 16 == 0
        self.workspace = workspace.value, size.value
        return SUCCESS

    def cublasSgemm_v2(self, *arguments):
        return self._gemm(np.float32, *arguments)

    def cublasDgemm_v2(self, *arguments):
        return self._gemm(np.float64, *arguments)

    def cublasSgemmStridedBatched(self, *arguments):
        return self._batched(np.float32, *arguments)

    def cublasDgemmStridedBatched(self, *arguments):
        return self._batched(np.float64, *arguments)

    def _gemm(self, dtype, *arguments):
        *before, a, lda, b, ldb, beta, c, ldc = arguments
        zero = ctypes.c_longlong(0)
        return self._batched(dtype, *before, a, lda, zero, b, ldb, zero, beta, c, ldc, zero, 1)

    def _batched(
        self,
        dtype,
        handle,
        transa,
        transb,
        m,
        n,
        k,
        alpha,
        a,
        lda,
        stride_a,
        b,
        ldb,
        stride_b,
        beta,
        c,
        ldc,
        stride_c,
        count,
    ):
        assert handle.value == self.handle and self.workspace is not None
        shape_a, shape_b = ((m, k), (k, m))[transa], ((k, n), (n, k))[transb]
        if min(m, n, k, count) < 1 or lda < shape_a[0] or ldb < shape_b[0] or ldc < m:
            return INVALID_VALUE
        a = matrices(dtype, a.value, count, stride_a.value, shape_a, lda)
        b = matrices(dtype, b.value, count, stride_b.value, shape_b, ldb)
        c = matrices(dtype, c.value, count, stride_c.value, (m, n), ldc)
        a, b = (x.transpose(0, 2, 1) if transposed else x for x, transposed in ((a, transa), (b, transb)))
        assert (alpha._obj.value, beta._obj.value) == (1, 0)
        self.products += 1
        self.device.change([c], lambda: c.__setitem__(..., a @ b))
        return SUCCESS


def matrices(dtype, pointer, count, stride, shape, leading):
    """A view (count, *shape) of memory in which matrices lie by columns."""
    (rows, columns), size = shape, np.dtype(dtype).itemsize
    reach = (count - 1) * stride + (columns - 1) * leading + rows
    memory = np.frombuffer((ctypes.c_char * (reach * size)).from_address(pointer), dtype)
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), (stride * size, size, leading * size))
