"""Initial values of parameters, as NumPy arrays drawn from a NumPy generator."""
import math

import numpy as np

from .annotations import Shape


def glorot(random: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), which keeps the variance of signals and gradients (Glorot and Bengio)."""
    limit = math.sqrt(6 / (fan_in + fan_out))
    return random.uniform(-limit, limit, shape)


def filled(random: np.random.Generator, value: float, n: int) -> np.ndarray:
    """n equal numbers. They are drawn all the same: a seed means the same weights as when biases were drawn."""
    return random.uniform(value, value, n)


def orthogonal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix (rows, columns), rows <= columns, with orthonormal rows: it neither stretches nor shrinks what it
    multiplies from the left. Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """
    q, r = np.linalg.qr(random.standard_normal((columns, rows)))
    # The signs make the draw uniform over all such matrices (Mezzadri 2007, arXiv:math-ph/0609050).
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T)
