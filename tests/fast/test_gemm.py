"""GEMM on a GPU: the calls of cuBLAS, on a stand-in for it."""

import numpy as np
import pytest
from cublas_stand_in import CuBLASStandIn
from device_stand_in import Refused, StandIn

from tinyqae import backend
from tinyqae.errors import BackendError
from tinyqae.fast.cuda import gemm


def cublas():
    return gemm.CuBLAS(CuBLASStandIn(backend.xp), 1 << 20)


@pytest.fixture(params=[cublas, pytest.param(None, marks=pytest.mark.gpu)], ids=["cuBLAS stand-in", "gpu"])
def multiply(request, monkeypatch):
    """backend.gemm by cuBLAS, on the stand-in; and as chosen, on a GPU."""
    for name in ("xp", "name", "gpu_gemm", "why_not_cupy"):
        monkeypatch.setattr(backend, name, getattr(backend, name))
    if request.param is None:
        try:
            backend.use("cupy")
        except BackendError as error:
            pytest.skip(f"needs CuPy and a GPU: {error}")
    else:
        backend.xp, backend.name = StandIn(), "cupy"
        backend.gpu_gemm = request.param()
    return backend.gemm


def operand(shape, how, dtype, seed):
    """(a NumPy array, the same on the device in this layout)."""
    values = np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)
    *stack, rows, columns = shape
    if how == "rows":
        return values, backend.to_device(values)
    if how == "columns":
        transposed = np.ascontiguousarray(np.swapaxes(values, -1, -2))
        return values, backend.to_device(transposed).transpose(*range(len(stack)), len(stack) + 1, len(stack))
    wide = np.full((*stack, rows, columns + 3), np.nan, dtype)
    wide[..., 1 : columns + 1] = values
    return values, backend.to_device(wide)[..., 1 : columns + 1]


HOW = ["rows", "columns", "columns of wider rows"]


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [((3, 4, 5), np.float32), ((17, 33, 16), np.float64), ((1, 7, 1), np.float64), ((5, 1, 40), np.float32)],
)
@pytest.mark.parametrize("out_how", HOW)
@pytest.mark.parametrize("b_how", HOW)
@pytest.mark.parametrize("a_how", HOW)
def test_matrices_of_any_layout(a_how, b_how, out_how, sizes, dtype, multiply):
    rows, inner, columns = sizes
    (a, on_a), (b, on_b) = operand((rows, inner), a_how, dtype, 0), operand((inner, columns), b_how, dtype, 1)
    _, out = operand((rows, columns), out_how, dtype, 2)
    assert multiply(on_a, on_b, out) is out
    np.testing.assert_allclose(backend.to_host(out), a @ b, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-5)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((6, 5), (4, 5, 3)), ((4, 6, 5), (4, 5, 3)), ((4, 6, 5), (5, 3)), ((1, 5), (2, 5, 20))]
)
def test_batches_of_matrices(a_shape, b_shape, multiply):
    for a_how in HOW:
        (a, on_a), (b, on_b) = operand(a_shape, a_how, np.float32, 0), operand(b_shape, "rows", np.float32, 1)
        out = backend.xp.empty((max(a, b, key=np.ndim).shape[0], a_shape[-2], b_shape[-1]), np.float32)
        multiply(on_a, on_b, out)
        np.testing.assert_allclose(backend.to_host(out), a @ b, rtol=1e-5, atol=1e-5)


def test_a_vector_is_a_row(multiply):
    ones, (b, on_b) = backend.xp.ones(6, np.float32), operand((6, 4), "rows", np.float32, 0)
    out = backend.xp.empty((3, 4), np.float32)
    assert multiply(ones, on_b, out[1]).shape == (4,)
    np.testing.assert_allclose(backend.to_host(out)[1], b.sum(axis=0), rtol=1e-5)


def test_the_workspace_is_set_with_every_stream(monkeypatch):
    monkeypatch.setattr(backend, "xp", StandIn())
    ours = cublas()
    library, a, out = ours._library, backend.xp.ones((2, 2), np.float32), backend.xp.empty((2, 2), np.float32)
    ours.gemm(a, a, out)
    assert library.stream in (0, None) and library.workspace[1] == 1 << 20
    with backend.xp.cuda.Stream(non_blocking=True) as stream:
        ours.gemm(a, a, out)
        assert library.stream == stream.ptr and library.workspace[1] == 1 << 20


def test_layouts_that_cublas_does_not_support_are_refused(monkeypatch):
    monkeypatch.setattr(backend, "xp", StandIn())
    ours, a = cublas(), backend.xp.ones((4, 4), np.float32)
    out = backend.xp.empty((2, 2), np.float32)
    for name, arguments in (
        ("a", (a[::2, ::2], a[:2, :2], out)),
        ("b", (a[:2, :2], a[::2, ::2], out)),
        ("out", (a[:2, :2], a[:2, :2], a[::2, ::2])),
    ):
        with pytest.raises(ValueError, match=f"^{name} of a matmul .*contiguous"):
            ours.gemm(*arguments)


def test_a_failure_of_cublas_is_an_error(monkeypatch):
    monkeypatch.setattr(backend, "xp", StandIn())
    ours, a = cublas(), backend.xp.ones((2, 2), np.float32)
    ours._library._gemm = lambda *arguments: 13
    with pytest.raises(BackendError, match="cublasSgemm_v2 of cuBLAS failed with status 13"):
        ours.gemm(a, a, backend.xp.empty((2, 2), np.float32))


@pytest.mark.parametrize("fault", ["no library", "another library", "refuses", "wrong"])
def test_without_a_working_cublas_there_is_none(fault, monkeypatch):
    xp = StandIn()
    monkeypatch.setattr(backend, "xp", xp)
    library = CuBLASStandIn(xp)

    def find():
        if fault == "no library":
            raise OSError("libcublas.so.12: cannot open shared object file")
        if fault == "another library":
            return object()
        if fault == "refuses":
            library._gemm = lambda *arguments: 15
        if fault == "wrong":
            library._gemm = lambda *arguments: 0
        return library

    with xp.transfers_allowed():
        monkeypatch.setattr(gemm, "cublas_library", find)
        assert gemm.select_gemm() is None
        monkeypatch.setattr(gemm, "cublas_library", lambda: CuBLASStandIn(xp))
        assert isinstance(gemm.select_gemm(), gemm.CuBLAS)


def test_gemm_can_be_captured_and_cupys_own_cannot(monkeypatch):
    xp = StandIn()
    monkeypatch.setattr(backend, "xp", xp)
    ours, stream = cublas(), xp.cuda.Stream(non_blocking=True)
    a, out = xp.ones((2, 3), np.float32), xp.zeros((2, 2), np.float32)
    with stream:
        ours.gemm(a, a.T, out)
        out.fill(0)
        stream.begin_capture()
        ours.gemm(a, a.T, out)
        with pytest.raises(Refused, match="matrix product of CuPy"):
            xp.matmul(a, a.T, out=out)
        graph = stream.end_capture()
        assert out.get().tolist() == [[0, 0], [0, 0]]
        a.fill(2)
        graph.launch()
        assert out.get().tolist() == [[12, 12], [12, 12]]


def test_the_cublas_that_cupy_has_loaded_is_found_and_has_every_function(monkeypatch):
    cupy = pytest.importorskip("cupy", reason="needs CuPy and cuBLAS, but no GPU")
    try:
        from cupy_backends.cuda.libs import cublas as loaded  # In this form CuPy looks for the library.
    except ImportError as error:
        pytest.skip(f"needs cuBLAS, but no GPU: {error}")
    monkeypatch.setattr(backend, "xp", cupy)
    library = gemm.cublas_library()
    for name in (
        "cublasCreate_v2",
        "cublasSetStream_v2",
        "cublasSetWorkspace_v2",
        "cublasSgemm_v2",
        "cublasDgemm_v2",
        "cublasSgemmStridedBatched",
        "cublasDgemmStridedBatched",
    ):
        assert getattr(library, name)
    try:
        loaded.create()
    except loaded.CUBLASError:  # There is no GPU, and we are told so as CuPy is.
        with pytest.raises(BackendError, match="cublasCreate_v2 of cuBLAS failed with status 1"):
            gemm.CuBLAS(library, 1 << 20)
