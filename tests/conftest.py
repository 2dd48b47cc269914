"""Fixtures that several test files need."""
import pytest

from tinyqae import fused


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
