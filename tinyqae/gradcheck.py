"""Numeric checks of hand-written derivatives, in float64.

The central difference (f(x + h) - f(x - h)) / 2h has an error of order h^2 f''' plus rounding of order eps f / h; with
h = 1e-5 both are near 1e-10 for functions of order 1. Two checks use it:

    check_coordinates    every coordinate by itself: complete, for small arrays
    check_directions     the derivative along random unit directions u, which must equal <gradient, u>: two evaluations
                         a direction whatever the size, for whole models (the idea of Chainer's gradient_check)

A central difference is wrong across a kink (ReLU at 0, a tie of max-pool). Both compare the two one-sided differences:
where they disagree the function is not smooth between x - h and x + h, and the check raises KinkFound instead of
judging. Choose inputs away from kinks, or (check_directions) let `skip_kinks` draw another direction.
"""
import numpy as np

STEP = 1e-5
TOLERANCE = 1e-6


class KinkFound(Exception):
    """The function is not differentiable where the check looked, so a difference tells nothing."""


def relative_error(numeric, analytic, scale=1e-8):
    """|numeric - analytic| / max(|numeric|, |analytic|, scale); `scale` keeps two near-zeros from comparing as noise."""
    numeric, analytic = np.asarray(numeric), np.asarray(analytic)
    return np.abs(numeric - analytic) / np.maximum(np.maximum(np.abs(numeric), np.abs(analytic)), scale)


def _differences(function, x, step_by, step):
    """(central difference, kink found) of function() along `step_by`, an array of x's shape; x is restored."""
    start = x.copy()
    middle = float(function())
    x[...] = start + step * step_by
    above = float(function())
    x[...] = start - step * step_by
    below = float(function())
    x[...] = start
    right, left = (above - middle) / step, (middle - below) / step
    central = (above - below) / (2 * step)
    # For a smooth function the two sides differ by step * f''; the allowance is far above that and far below a kink.
    kink = abs(right - left) > 1e-2 * max(abs(right), abs(left)) + 1e-6
    return central, kink


def check_coordinates(function, x, gradient, tolerance=TOLERANCE, step=STEP):
    """Check dfunction/dx coordinate by coordinate; return the largest relative error.

    function: no arguments, reads `x` and returns a scalar. x: float64, changed in place and restored.
    gradient: what the hand-written backward claims, of x's shape. The error of a coordinate is relative to the larger
    of its own and a thousandth of the gradient's largest magnitude, since a coordinate far smaller than its neighbours
    carries their rounding.

    Raises AssertionError naming the worst coordinate when the error is above `tolerance`; KinkFound at a kink.
    """
    _require_float64(x)
    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        direction = np.zeros_like(x)
        direction[index] = 1
        numeric[index], kink = _differences(function, x, direction, step)
        if kink:
            raise KinkFound(f"coordinate {index} of shape {x.shape}: left and right differences disagree")
    scale = max(1e-3 * np.abs(numeric).max(initial=0), 1e-8)
    errors = relative_error(numeric, gradient, scale)
    worst = tuple(int(i) for i in np.unravel_index(errors.argmax(), x.shape)) if x.ndim else ()
    if not errors.max(initial=0) <= tolerance:
        raise AssertionError(f"gradient of coordinate {worst}: numeric {numeric[worst]:.10g}, claimed "
                             f"{np.asarray(gradient)[worst]:.10g}, relative error {errors[worst]:.2e} above {tolerance:g}")
    return float(errors.max(initial=0))


def check_directions(function, x, gradient, directions=10, seed=0, tolerance=TOLERANCE, step=STEP, skip_kinks=True):
    """Check <gradient, u> against the numeric derivative along random unit directions u; return the largest error.

    Arguments as for check_coordinates. With `skip_kinks` a direction that crosses a kink is replaced by another; at
    most three directions are drawn for each one wanted, then KinkFound is raised. Small components of the gradient
    hide in a sum over all of them, so the error is relative to the norm of the gradient over the square root of its
    size, the size of a typical <gradient, u>.
    """
    _require_float64(x)
    random = np.random.default_rng(seed)
    gradient = np.asarray(gradient)
    typical = np.linalg.norm(gradient) / np.sqrt(max(gradient.size, 1))
    worst, judged = 0.0, 0
    for _ in range(3 * directions):
        u = random.standard_normal(x.shape)
        u /= np.linalg.norm(u)
        numeric, kink = _differences(function, x, u, step)
        if kink and skip_kinks:
            continue
        if kink:
            raise KinkFound("a random direction crosses a kink")
        claimed = float(np.vdot(gradient, u))
        error = float(relative_error(numeric, claimed, max(typical, 1e-8)))
        if not error <= tolerance:
            raise AssertionError(f"derivative along a random direction: numeric {numeric:.10g}, claimed {claimed:.10g}, "
                                 f"relative error {error:.2e} above {tolerance:g}")
        worst, judged = max(worst, error), judged + 1
        if judged == directions:
            return worst
    raise KinkFound(f"only {judged} of {directions} directions were free of kinks in {3 * directions} draws")


def _require_float64(x):
    if x.dtype != np.float64:
        raise TypeError(f"x is {x.dtype}; a numeric derivative needs float64")
