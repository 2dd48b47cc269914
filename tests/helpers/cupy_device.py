"""What tests of the GPU's side share: CuPy with the counting of its stand-in, and which kernels and backend are in use."""

import contextlib

from device_stand_in import Counts

from tinyqae import backend
from tinyqae.fast import kernels


class CuPyDevice:
    """CuPy with the counting of the stand-in, as far as Python sees it: allocations are 1 if the memory pool grew."""

    def __init__(self, cupy, monkeypatch):
        self._cupy, self._inside, self.counts = cupy, False, Counts()
        for name in ("get", "item", "tolist", "__float__", "__int__", "__bool__"):
            self._watch(monkeypatch, cupy.ndarray, name, lambda: self._count("to_host"))
        self._watch(monkeypatch, cupy.ndarray, "set", lambda: self._count("to_device"))
        self._watch(monkeypatch, cupy, "asarray", lambda: self._count("to_device"))

    def _count(self, side):
        setattr(self.counts, side, getattr(self.counts, side) + 1)

    def _watch(self, monkeypatch, owner, name, count):
        original = getattr(owner, name)

        def watched(*arguments, **options):
            # CuPy's own methods call one another.
            if self._inside or owner is self._cupy and isinstance(arguments[0], self._cupy.ndarray):
                return original(*arguments, **options)
            self._inside = True
            try:
                count()
                return original(*arguments, **options)
            finally:
                self._inside = False

        monkeypatch.setattr(owner, name, watched)

    @contextlib.contextmanager
    def counting(self):
        pool = self._cupy.get_default_memory_pool()
        before, size, self.counts = self.counts, pool.total_bytes(), Counts()
        try:
            yield self.counts
        finally:
            self.counts.allocations = int(pool.total_bytes() > size)
            self.counts = before

    def transfers_allowed(self):
        return contextlib.nullcontext()


def use_fused(monkeypatch):
    """From now on the test's device computes with the fused kernels."""
    monkeypatch.setenv("TINYQAE_KERNELS", "auto")
    monkeypatch.setattr(kernels, "_replacements", {})
    assert kernels.kernels() == "cupy"


@contextlib.contextmanager
def numpy():
    """Inside, the backend is NumPy."""
    with backend.temporarily("numpy"):
        yield
