"""Fixtures that several test files need."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # Before NumPy is imported: the workers share the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TINYQAE_THREADS", "1")

import pytest
from cupy_device import CuPyDevice
from device_stand_in import StandIn

from tinyqae import backend
from tinyqae.errors import BackendError
from tinyqae.fast import kernels as fast_kernels


def use_kernels(monkeypatch, which):
    """From now on the fast engine computes with these kernels, "numpy" or "numba"."""
    if which == "numba":
        pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    monkeypatch.setenv("TINYQAE_KERNELS", which)
    monkeypatch.setattr(fast_kernels, "_replacements", {})


@pytest.fixture(params=["numpy", "numba"])
def kernels(request, monkeypatch):
    """The test runs with the fast engine's plain functions and with its Numba kernels, where Numba is installed."""
    use_kernels(monkeypatch, request.param)
    return request.param


@pytest.fixture(params=["reference", "fast", "fast with Numba"])
def engine(request, monkeypatch):
    """The test runs with each engine, the fast one with and without Numba; the value is the engine's name."""
    name = request.param.split()[0]
    monkeypatch.setenv("TINYQAE_ENGINE", name)
    use_kernels(monkeypatch, "numba" if "Numba" in request.param else "numpy")
    return name


@pytest.fixture(params=["reference", "fast"])
def plain_engine(request, monkeypatch):
    """As `engine`, but without Numba: for float64, which no Numba kernel computes with."""
    monkeypatch.setenv("TINYQAE_ENGINE", request.param)
    use_kernels(monkeypatch, "numpy")
    return request.param


@pytest.fixture(scope="session")
def torch():
    """PyTorch, the independent reference; tests that need it are skipped where it is not installed."""
    module = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    module.set_num_threads(1)  # On small arrays its threads cost more than they do.
    return module


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """The backend is the device; its `counting` yields the counts of what happens inside."""
    use_kernels(monkeypatch, "numpy")  # What NumPy computes beside it is the plain functions as well.
    monkeypatch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", float("inf"))
    for name in ("xp", "name", "gpu_gemm", "why_not_cupy"):
        monkeypatch.setattr(backend, name, getattr(backend, name))
    if request.param == "stand-in":
        backend.xp, backend.name = StandIn(), "cupy"
        return backend.xp
    try:
        backend.use("cupy")
    except BackendError as error:
        pytest.skip(f"needs CuPy and a GPU: {error}")
    return CuPyDevice(backend.xp, monkeypatch)
