"""Fixtures that several test files need."""
import pytest
from cupy_device import CuPyDevice
from device_stand_in import StandIn

from tinyqae import backend, fused, train
from tinyqae.errors import BackendError


@pytest.fixture(params=["numpy", "numba"])
def kernels(request, monkeypatch):
    """The test runs once with the plain functions and once with the Numba kernels, where Numba is installed."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    monkeypatch.setenv("TINYQAE_KERNELS", request.param)
    monkeypatch.setattr(fused, "_replacements", None)
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
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")  # What NumPy computes beside it is the plain functions as well.
    monkeypatch.setattr(fused, "_replacements", None)
    monkeypatch.setattr(train, "SECONDS_PER_LOOK", float("inf"))
    for name in ("xp", "name", "products", "why_not_cupy"):
        monkeypatch.setattr(backend, name, getattr(backend, name))
    if request.param == "stand-in":
        backend.xp, backend.name = StandIn(), "cupy"
        return backend.xp
    try:
        backend.use("cupy")
    except BackendError as error:
        pytest.skip(f"needs CuPy and a GPU: {error}")
    return CuPyDevice(backend.xp, monkeypatch)
