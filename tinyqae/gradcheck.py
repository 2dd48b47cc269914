"""Numerical checks of hand-written derivatives, in float64.

The central difference (f(x + h) - f(x - h)) / 2h has an error of order h^2 f''' plus rounding of order eps f / h; with
h = 1e-5 both are near 1e-10 for functions of order 1. check_coordinates uses it for each coordinate separately,
check_directions along random directions, which takes a few evaluations whatever the size (an idea from Chainer).
A central difference is wrong across a kink (ReLU at 0, a tie of max-pool): there, both raise KinkFound in the end.
"""
import numpy as np

from .annotations import Array, Function

__all__ = ["KinkFound", "check_coordinates", "check_directions", "relative_error"]
STEP, TOLERANCE = 1e-5, 1e-6


class KinkFound(Exception):
    """The function is not differentiable near the checked point, so a finite difference says nothing."""


def relative_error(numeric: Array | float, analytic: Array | float, scale: float = 1e-8) -> Array:
    """|numeric - analytic| / max(|numeric|, |analytic|, scale); `scale` keeps noise from counting when both are near 0."""
    numeric, analytic = np.asarray(numeric), np.asarray(analytic)
    return np.abs(numeric - analytic) / np.maximum(np.maximum(np.abs(numeric), np.abs(analytic)), scale)


def check_coordinates(function: Function, x: Array, gradient: Array, tolerance: float = TOLERANCE,
                      step: float = STEP) -> float:
    """Check dfunction/dx coordinate by coordinate; return the largest relative error.

    Errors are relative to the larger of the coordinate and a thousandth of the gradient's largest magnitude, since a
    coordinate far smaller than the others carries their rounding error.

    Args:
        function: takes no arguments, reads `x` and returns a scalar.
        x: float64, changed in place and restored.
        gradient: the result of the hand-written backward pass, of x's shape.

    Raises:
        AssertionError: the error is above `tolerance` at the worst coordinate, which it names.
        KinkFound, TypeError, ValueError: at a kink; wrong dtype; wrong shape.
    """
    _require_float64([x], [gradient])
    numeric, axes = np.zeros_like(x), np.eye(x.size).reshape(x.size, *x.shape)
    for index, axis in zip(np.ndindex(x.shape), axes, strict=True):
        claimed, name = np.asarray(gradient)[index], f"coordinate {index}"
        numeric[index] = _central_difference(function, [x], [axis], step, claimed, name)
    errors = relative_error(numeric, gradient, max(1e-3 * np.abs(numeric).max(initial=0), 1e-8))
    worst = tuple(int(i) for i in np.unravel_index(errors.argmax(), x.shape)) if x.ndim else ()
    if not errors.max(initial=0) <= tolerance:
        raise AssertionError(f"gradient of coordinate {worst}: numeric {numeric[worst]:.10g}, claimed "
                             f"{np.asarray(gradient)[worst]:.10g}, relative error {errors[worst]:.2e} above {tolerance:g}")
    return float(errors.max(initial=0))


def check_directions(function: Function, x: Array | list[Array], gradient: Array | list[Array], directions: int = 10,
                     seed: int = 0, tolerance: float = TOLERANCE, step: float = STEP) -> float:
    """Check <gradient, u> against the numeric derivative along random unit directions u; return the largest error.

    Arguments as for check_coordinates; x and gradient may be lists of arrays, treated as one vector. A direction that
    crosses a kink is replaced by another, with up to three draws per direction. The error is relative to the norm of the
    gradient over the square root of its size, the size of a typical <gradient, u>.
    """
    xs, gradients = (part if isinstance(part, list) else [part] for part in (x, gradient))
    _require_float64(xs, gradients)
    vector, random = _vector(gradients), np.random.default_rng(seed)
    typical = np.linalg.norm(vector) / np.sqrt(max(vector.size, 1))
    worst, judged = 0.0, 0
    for _ in range(3 * directions):
        u = [random.standard_normal(array.shape) for array in xs]
        u = [part / np.linalg.norm(_vector(u)) for part in u]
        claimed = float(vector @ _vector(u))
        try:
            numeric = _central_difference(function, xs, u, step, claimed, "a random direction")
        except KinkFound:
            continue
        error = float(relative_error(numeric, claimed, max(typical, 1e-8)))
        if not error <= tolerance:
            raise AssertionError(f"derivative along a random direction: numeric {numeric:.10g}, claimed {claimed:.10g}, "
                                 f"relative error {error:.2e} above {tolerance:g}")
        worst, judged = max(worst, error), judged + 1
        if judged == directions:
            return worst
    raise KinkFound(f"only {judged} of {directions} directions were free of kinks in {3 * directions} draws")


def _central_difference(function, xs, direction, step, claimed, name):
    """The central difference of function() along `direction`, arrays of the shapes of xs; xs are restored.

    Where it differs from `claimed`, or the one-sided slopes disagree, s(h) = f(x + h) - 2 f(x) + f(x - h) tells why. For a
    smooth f it is about h^2 f'', so that s(h) = 4 s(h/2). A kink between x - h and x + h violates this at h or at h/2, by
    at least 0.4 h times the kink's part in the central difference: then KinkFound is raised.
    """
    starts, kink = [x.copy() for x in xs], False

    def value(length):
        for x, start, part in zip(xs, starts, direction, strict=True):
            x[...] = start + length * part
        return float(function())

    above, below, middle = value(step), value(-step), value(0)
    central, slope = (above - below) / (2 * step), max(abs(above - middle), abs(below - middle)) / step
    difference = abs(central - claimed)
    if difference > TOLERANCE * slope or abs(above - 2 * middle + below) > 1e-2 * slope * step:
        s = [value(h) - 2 * middle + value(-h) for h in (step, step / 2, step / 4)]
        rounding = 64 * np.finfo(np.float64).eps * max(abs(above), abs(below)) / step
        jump = max(abs(s[0] - 4 * s[1]), abs(s[1] - 4 * s[2])) / step
        kink = jump > max(difference / 4, TOLERANCE * slope, rounding)
    for x, start in zip(xs, starts, strict=True):
        x[...] = start
    if kink:
        raise KinkFound(f"{name}: the function is not smooth between x - {step:g} and x + {step:g}")
    return central


def _require_float64(xs, gradients):
    for x, gradient in zip(xs, gradients, strict=True):
        if x.dtype != np.float64:
            raise TypeError(f"x is {x.dtype}; a numeric derivative needs float64")
        if x.shape != np.shape(gradient):
            raise ValueError(f"gradient has shape {np.shape(gradient)}; x has shape {x.shape}")


def _vector(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])
