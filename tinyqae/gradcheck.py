"""Numeric checks of hand-written derivatives, in float64.

The central difference (f(x + h) - f(x - h)) / 2h has an error of order h^2 f''' plus rounding of order eps f / h; with
h = 1e-5 both are near 1e-10 for functions of order 1. check_coordinates uses it for every coordinate by itself,
check_directions along random directions, which takes two evaluations whatever the size (Chainer's idea).

A central difference is wrong across a kink (ReLU at 0, a tie of max-pool). Both compare the two one-sided differences:
where they disagree the function is not smooth between x - h and x + h, and the check raises KinkFound instead of judging.
"""
import numpy as np

from .annotations import Array, Function

STEP, TOLERANCE = 1e-5, 1e-6


class KinkFound(Exception):
    """The function is not differentiable where the check looked, so a difference says nothing."""


def relative_error(numeric: Array | float, analytic: Array | float, scale: float = 1e-8) -> Array:
    """|numeric - analytic| / max(|numeric|, |analytic|, scale); `scale` keeps two near-zeros from comparing as noise."""
    numeric, analytic = np.asarray(numeric), np.asarray(analytic)
    return np.abs(numeric - analytic) / np.maximum(np.maximum(np.abs(numeric), np.abs(analytic)), scale)


def check_coordinates(function: Function, x: Array, gradient: Array, tolerance: float = TOLERANCE,
                      step: float = STEP) -> float:
    """Check dfunction/dx coordinate by coordinate; return the largest relative error.

    function: no arguments, reads `x` and returns a scalar. x: float64, changed in place and restored. gradient: what the
    hand-written backward claims, of x's shape. Errors are relative to the larger of the coordinate and a thousandth of the
    gradient's largest magnitude, since a coordinate far smaller than its neighbours carries their rounding.
    Raises AssertionError naming the worst coordinate when the error is above `tolerance`; KinkFound at a kink.
    """
    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        direction = np.zeros_like(x)
        direction[index] = 1
        numeric[index], kink = _central_difference(function, [x], [direction], step)
        if kink:
            raise KinkFound(f"coordinate {index} of shape {x.shape}: left and right differences disagree")
    errors = relative_error(numeric, gradient, max(1e-3 * np.abs(numeric).max(initial=0), 1e-8))
    worst = tuple(int(i) for i in np.unravel_index(errors.argmax(), x.shape)) if x.ndim else ()
    if not errors.max(initial=0) <= tolerance:
        raise AssertionError(f"gradient of coordinate {worst}: numeric {numeric[worst]:.10g}, claimed "
                             f"{np.asarray(gradient)[worst]:.10g}, relative error {errors[worst]:.2e} above {tolerance:g}")
    return float(errors.max(initial=0))


def check_directions(function: Function, x: Array | list[Array], gradient: Array | list[Array], directions: int = 10,
                     seed: int = 0, tolerance: float = TOLERANCE, step: float = STEP) -> float:
    """Check <gradient, u> against the numeric derivative along random unit directions u; return the largest error.

    Arguments as for check_coordinates; x and gradient may be lists of arrays, which count as one vector. A direction that
    crosses a kink is replaced by another, up to three draws for each one wanted. The error is relative to the norm of the
    gradient over the square root of its size, the size of a typical <gradient, u>.
    """
    xs, random = x if isinstance(x, list) else [x], np.random.default_rng(seed)
    vector = _vector(gradient if isinstance(gradient, list) else [gradient])
    typical = np.linalg.norm(vector) / np.sqrt(max(vector.size, 1))
    worst, judged = 0.0, 0
    for _ in range(3 * directions):
        u = [random.standard_normal(array.shape) for array in xs]
        u = [part / np.linalg.norm(_vector(u)) for part in u]
        numeric, kink = _central_difference(function, xs, u, step)
        if kink:
            continue
        claimed = float(vector @ _vector(u))
        error = float(relative_error(numeric, claimed, max(typical, 1e-8)))
        if not error <= tolerance:
            raise AssertionError(f"derivative along a random direction: numeric {numeric:.10g}, claimed {claimed:.10g}, "
                                 f"relative error {error:.2e} above {tolerance:g}")
        worst, judged = max(worst, error), judged + 1
        if judged == directions:
            return worst
    raise KinkFound(f"only {judged} of {directions} directions were free of kinks in {3 * directions} draws")


def _central_difference(function, xs, direction, step):
    """(central difference, kink found) of function() along `direction`, arrays of the shapes of xs; xs are restored."""
    if any(x.dtype != np.float64 for x in xs):
        raise TypeError(f"x is {', '.join(str(x.dtype) for x in xs)}; a numeric derivative needs float64")
    starts, values = [x.copy() for x in xs], []
    for length in (step, -step, 0):
        for x, start, part in zip(xs, starts, direction, strict=True):
            x[...] = start + length * part
        values.append(float(function()))
    above, below, middle = values
    right, left = (above - middle) / step, (middle - below) / step
    # For a smooth function the two sides differ by step * f''; the allowance is far above that and far below a kink.
    return (above - below) / (2 * step), abs(right - left) > 1e-2 * max(abs(right), abs(left)) + 1e-6


def _vector(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])
