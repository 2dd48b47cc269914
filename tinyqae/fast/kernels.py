"""Selects the fused kernels: functions of this engine, compiled to make one pass over memory instead of many.

The plain functions are complete. `choose` returns a fused kernel in place of a plain function for float32: on the CPU a
Numba kernel, if Numba is installed (`pip install tinyqae[fast]`); on a GPU a CUDA kernel, through CuPy.
TINYQAE_KERNELS=numpy disables them.
"""

import functools
import importlib
import importlib.util
import os
import warnings

import numpy as np

from .. import backend
from ..errors import BackendError

# Values of TINYQAE_KERNELS. "numpy" stands for the plain functions, on a GPU as well.
KERNELS = ("auto", "numpy", "numba", "cupy")
MODULES = ("elementwise", "norm", "lstm")
FLOAT32 = np.dtype(np.float32)
_replacements: dict = {}  # {backend: {plain function: fused kernel}}


def kernels():
    """The kernels for the current backend: "numpy" (none), "numba" or "cupy"."""
    requested = os.environ.get("TINYQAE_KERNELS", "auto")
    available = "numba" if backend.name == "numpy" else "cupy"
    if requested not in KERNELS:
        raise BackendError(f"TINYQAE_KERNELS={requested!r} is unknown; choose one of {', '.join(KERNELS)}")
    if requested == "numpy":
        return requested
    if requested not in ("auto", available):
        raise BackendError(
            f"TINYQAE_KERNELS={requested} is unavailable with the backend {backend.name}; choose numpy, {available} or auto"
        )
    reason = _why_not_numba() if available == "numba" else ""
    if reason and requested == "numba":
        raise BackendError(f"TINYQAE_KERNELS=numba, but {reason}: pip install numba")
    if reason and importlib.util.find_spec("numba"):  # Installed, so it was wanted.
        warnings.warn(f"{reason}; training continues with NumPy", stacklevel=1)
    return "numpy" if reason else available


@functools.cache
def _why_not_numba():
    """Why Numba cannot be used, or "" if it can."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    try:
        importlib.import_module("numba")
    except Exception as error:  # For example with a NumPy that is too new for it.
        return f"Numba cannot be imported ({' '.join(str(error).split())})"
    return ""


def choose(function, dtype):
    """The fused kernel for `function` and `dtype`, or `function` itself. TINYQAE_KERNELS is read once per backend."""
    if dtype != FLOAT32:
        return function
    if backend.name not in _replacements:
        folder = {"numpy": None, "numba": "numba", "cupy": "cuda"}[kernels()]
        modules = [importlib.import_module(f"{__package__}.{folder}.{name}") for name in MODULES if folder]
        _replacements[backend.name] = {plain: kernel for module in modules for plain, kernel in module.REPLACEMENTS.items()}
    return _replacements[backend.name].get(function, function)


def replacements_in(namespace, *modules):
    """{plain function of one of the modules: the kernel of the same name in a namespace}."""
    return {
        plain: namespace[name]
        for module in modules
        for name, plain in vars(module).items()
        if name in namespace and getattr(plain, "__module__", None) == module.__name__
    }
