"""Initial values of parameters, as NumPy arrays drawn from a NumPy generator."""

import contextlib
import math
import os
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from .annotations import Shape

MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
"""The physical memory of this machine."""
_left: ContextVar[int | None] = ContextVar("how many parameters may still be drawn", default=None)


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """A context in which drawing more than `count` parameters in total raises MemoryError, before memory is allocated."""
    token = _left.set(count)
    try:
        yield
    finally:
        _left.reset(token)


def _require_room(count: int) -> None:
    left = _left.get()
    # Parameters are drawn as float64, and training needs memory for gradients and more.
    room = MEMORY_BYTES / 32 if left is None else left
    if count > room:
        raise MemoryError(f"its sizes require an array of {count:,} parameters, but there is room for only {room:,.0f}")
    if left is not None:
        _left.set(left - count)


def glorot(random: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), which keeps the variance of signals and gradients (Glorot and Bengio)."""
    _require_room(math.prod(shape))
    limit = math.sqrt(6 / (fan_in + fan_out))
    return random.uniform(-limit, limit, shape)


def filled(random: np.random.Generator, value: float, n: int) -> np.ndarray:
    """n equal numbers, still drawn, so that a seed gives the same weights as when biases were random."""
    _require_room(n)
    return random.uniform(value, value, n)


def orthogonal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix w (rows, columns), rows <= columns, with orthonormal rows, so that x w has the norm of x.
    Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """
    _require_room(rows * columns)
    q, r = np.linalg.qr(random.standard_normal((columns, rows)))
    # The signs make the draw uniform over all such matrices (Mezzadri 2007, arXiv:math-ph/0609050).
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T)
