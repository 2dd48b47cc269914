"""Fused kernels: the same functions as in ops, losses and optim, one pass over memory instead of many.

The plain functions are the reference, and complete. `choose` hands out a kernel in place of the plain function, for
float32: on the CPU Numba's, where it is installed (`pip install tinyqae[fast]`); on a GPU ours in CUDA, with CuPy.
TINYQAE_KERNELS=numpy turns them off.
"""
import importlib.util
import os

import numpy as np

from .. import backend
from ..errors import BackendError

# The environment variable's values. Plain functions are called "numpy" on a GPU too.
KERNELS = ("auto", "numpy", "numba", "cupy")
FLOAT32 = np.dtype(np.float32)
_replacements = None


def kernels():
    """Which kernels are in use on the backend in use: "numpy" (none), "numba" or "cupy"."""
    wanted = os.environ.get("TINYQAE_KERNELS", "auto")
    if wanted not in KERNELS:
        raise BackendError(f"TINYQAE_KERNELS={wanted!r} is unknown; choose one of {', '.join(KERNELS)}")
    if wanted == "numpy":
        return wanted
    fitting = "numba" if backend.name == "numpy" else "cupy"
    if wanted not in ("auto", fitting):
        raise BackendError(f"TINYQAE_KERNELS={wanted} does not fit the backend {backend.name}; "
                           f"choose numpy, {fitting} or auto")
    if fitting == "numba" and importlib.util.find_spec("numba") is None:
        if wanted == "numba":
            raise BackendError("TINYQAE_KERNELS=numba, but Numba is not installed: pip install numba")
        return "numpy"
    return fitting


def choose(function, dtype):
    """The fused form of `function` for arrays of `dtype` on the backend in use, or `function` itself.

    The environment variable is read at a backend's first call.
    """
    global _replacements
    if dtype != FLOAT32:
        return function
    if _replacements is None:
        _replacements = {}
    if backend.name not in _replacements:
        _replacements[backend.name] = _replacements_by(kernels())
    return _replacements[backend.name].get(function, function)


def _replacements_by(which):
    """{plain function: kernel}."""
    families = ()
    if which == "numba":
        from .numba import elementwise, lstm, norm, pool
        families = elementwise, pool, norm, lstm
    if which == "cupy":
        from .cuda import elementwise, lstm, norm
        families = elementwise, norm, lstm
    return {plain: kernel for family in families for plain, kernel in family.REPLACEMENTS.items()}
