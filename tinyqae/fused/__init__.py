"""Fused kernels: the same functions as in ops, losses and optim, one pass over memory instead of many.

The plain functions are the reference, and complete. Where Numba is installed (`pip install tinyqae[fast]`), `choose`
hands out its kernel in place of the plain function, for float32 on the CPU. TINYQAE_KERNELS=numpy turns them off.
"""
import importlib.util
import os

import numpy as np

from .. import backend
from ..errors import BackendError

KERNELS = ("auto", "numpy", "numba")
FLOAT32 = np.dtype(np.float32)
_replacements = None


def kernels():
    """Which kernels are in use on the CPU: "numba" or "numpy"."""
    wanted = os.environ.get("TINYQAE_KERNELS", "auto")
    if wanted not in KERNELS:
        raise BackendError(f"TINYQAE_KERNELS={wanted!r} is unknown; choose one of {', '.join(KERNELS)}")
    if wanted == "numpy" or importlib.util.find_spec("numba") is None:
        if wanted == "numba":
            raise BackendError("TINYQAE_KERNELS=numba, but Numba is not installed: pip install numba")
        return "numpy"
    return "numba"


def choose(function, dtype):
    """The fused form of `function` for arrays of `dtype` on the backend in use, or `function` itself.

    The environment variable is read at the first call.
    """
    global _replacements
    if dtype != FLOAT32 or backend.name != "numpy":
        return function
    if _replacements is None:
        _replacements = {}
        if kernels() == "numba":
            from . import lstm_kernels, norm_kernels, numba_kernels, pool_kernels
            for family in (numba_kernels, pool_kernels, norm_kernels, lstm_kernels):
                _replacements |= family.REPLACEMENTS
    return _replacements.get(function, function)
