"""The checker of derivatives: it must accept right ones, refuse slightly wrong ones, and abstain at kinks."""

import numpy as np
import pytest

from tinyqae.gradcheck import KinkFound, check_coordinates, check_directions, relative_error


def cubic(x):
    """(function, gradient) of sum x^3 / 3 + x_0 x_1, smooth and with unequal coordinates."""
    gradient = x**2
    gradient.flat[0] += x.flat[1]
    gradient.flat[1] += x.flat[0]
    return (lambda: (x**3).sum() / 3 + x.flat[0] * x.flat[1]), gradient


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(0.5, 2, (3, 4))


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
def test_passes_a_right_gradient_and_returns_its_error(check, x):
    assert 0 < check(*_arguments(x, 1)) < 1e-8


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
@pytest.mark.parametrize("factor", [1.001, 1 - 1e-5, -1, 0, np.nan])
def test_refuses_a_gradient_off_by_a_factor(check, x, factor):
    with pytest.raises(AssertionError, match="numeric"):
        check(*_arguments(x, factor))


def _arguments(x, factor):
    function, gradient = cubic(x)
    return function, x, gradient * factor


def test_coordinate_check_names_the_one_wrong_coordinate(x):
    function, gradient = cubic(x)
    gradient[2, 1] *= 1.001
    with pytest.raises(AssertionError, match=r"coordinate \(2, 1\): .*relative error 9\.99e-04"):
        check_coordinates(function, x, gradient)


def test_coordinate_check_notices_a_missing_small_coordinate(x):
    x[1, 1] = 0.1
    function, gradient = cubic(x)
    gradient[1, 1] = 0
    with pytest.raises(AssertionError):
        check_coordinates(function, x, gradient)


def test_direction_check_notices_one_wrong_coordinate_of_many():
    x = np.random.default_rng(1).uniform(0.5, 2, 1000)
    function, gradient = cubic(x)
    check_directions(function, x, gradient)
    gradient[7] *= 1.01
    with pytest.raises(AssertionError):
        check_directions(function, x, gradient)


def in_arrays(x, factor=1):
    """Arguments for check_directions: x (3, 4) as a list of two arrays, with the gradient as another."""
    xs, (_, gradient) = [x[0].copy(), x[1:].copy()], cubic(x)
    return lambda: cubic(np.vstack(xs))[0](), xs, [gradient[0], factor * gradient[1:]]


def test_direction_check_takes_lists_of_arrays_as_one_vector(x):
    function, xs, gradients = in_arrays(x)
    before = [array.copy() for array in xs]
    # Another error than that of one array by rounding alone.
    assert check_directions(function, xs, gradients) == pytest.approx(check_directions(*_arguments(x, 1)), abs=1e-9)
    for array, values in zip(xs, before, strict=True):
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("factor", [1.001, 1 - 1e-5, -1, 0, np.nan])
def test_direction_check_refuses_a_list_in_which_one_array_is_off(x, factor):
    with pytest.raises(AssertionError, match="numeric"):
        check_directions(*in_arrays(x, factor))


def test_direction_check_refuses_lists_of_which_one_array_is_float32(x):
    function, xs, gradients = in_arrays(x)
    with pytest.raises(TypeError, match="float32"):
        check_directions(function, [xs[0], xs[1].astype(np.float32)], gradients)


def test_coordinate_check_abstains_at_a_kink():
    x = np.array([1.0, 0.0, -1.0])
    with pytest.raises(KinkFound, match=r"\(1,\)"):
        check_coordinates(lambda: np.abs(x).sum(), x, np.sign(x))


def test_coordinate_check_abstains_close_to_a_kink():
    x = np.array([4e-6])
    with pytest.raises(KinkFound):
        check_coordinates(lambda: np.abs(x).sum(), x, np.sign(x))


def test_direction_check_abstains_where_every_direction_crosses_a_kink():
    x = np.zeros(5)
    with pytest.raises(KinkFound):
        check_directions(lambda: np.abs(x).sum(), x, np.ones(5))


def test_direction_check_draws_another_direction_when_one_crosses_a_kink():
    x = np.array([0.7e-5, 1.0])
    calls = []

    def function():
        calls.append(1)
        return np.abs(x[0]) + x[1] ** 2

    check_directions(function, x, np.array([1.0, 2.0]), directions=5, seed=2)
    assert len(calls) > 3 * 5


@pytest.mark.parametrize("place", [-0.9, -0.5, -1 / 3, -1 / 6, 0, 1 / 6, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("change", [1, 0.5, 5e-3, 1e-4])
def test_a_small_change_of_slope_is_a_kink_and_not_a_wrong_gradient(change, place):
    x = np.array([0.3])
    kink = 0.3 + place * 1e-5
    slope = np.array([2.0 + change * (place < 0)])
    with pytest.raises(KinkFound):
        check_coordinates(lambda: 2 * x[0] + change * max(x[0] - kink, 0), x, slope)


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
@pytest.mark.parametrize("function", [lambda x: (x**2).sum(), lambda x: 1e3 * (x**2).sum(), lambda x: np.cosh(x).sum()])
def test_curvature_where_the_slope_vanishes_is_no_kink(check, function):
    x = np.zeros(3)
    assert check(lambda: function(x), x, np.zeros(3)) < 1e-6
    with pytest.raises(AssertionError, match="numeric"):
        check(lambda: function(x), x, np.full(3, 1e-3))


def test_a_steep_smooth_function_is_judged():
    x = np.array([0.4])
    check_coordinates(lambda: np.sin(100 * x[0]), x, 100 * np.cos(100 * x), tolerance=1e-5)
    with pytest.raises(AssertionError, match="numeric"):
        check_coordinates(lambda: np.sin(100 * x[0]), x, 101 * np.cos(100 * x), tolerance=1e-5)


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
def test_refuses_a_gradient_of_another_shape(check):
    x = np.ones((4, 1))
    with pytest.raises(ValueError, match=r"shape \(4,\); x has shape \(4, 1\)"):
        check(lambda: x.sum(), x, np.ones(4))


def test_kinks_elsewhere_do_not_matter():
    x = np.array([1.0, -2.0, 3e-5])
    check_coordinates(lambda: np.abs(x).sum(), x, np.sign(x))


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
def test_restores_x_exactly(check, x):
    before = x.copy()
    check(*_arguments(x, 1))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("check", [check_coordinates, check_directions])
def test_refuses_float32(check):
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="float32"):
        check(lambda: x.sum(), x, np.ones(3))


@pytest.mark.parametrize("largest", [1.0, 64.0])
def test_a_small_coordinate_is_judged_by_a_thousandth_of_the_largest(largest):
    """f = largest x_0 has the gradient (largest, 0); a claimed 1e-9 times that is off by 1e-6 of a thousandth of it."""
    x = np.array([1.0, 1.0])

    def check(small):
        return check_coordinates(lambda: largest * x[0], x, np.array([largest, small * largest]))

    assert check(0.9e-9) == pytest.approx(0.9e-6, rel=1e-3)
    with pytest.raises(AssertionError, match=r"coordinate \(1,\)"):
        check(1.1e-9)


def test_a_gradient_of_nothing_is_judged_by_1e_8():
    x = np.ones(4)
    claimed = np.array([0, 0, 0.9e-14, 0])
    assert check_coordinates(lambda: 0.0, x, claimed) == pytest.approx(0.9e-6)
    assert check_directions(lambda: 0.0, x, 0.25 * claimed) <= 0.25e-6
    with pytest.raises(AssertionError):
        check_coordinates(lambda: 0.0, x, 1.2 * claimed)
    with pytest.raises(AssertionError):
        check_directions(lambda: 0.0, x, 100 * claimed)


def test_a_direction_is_judged_by_what_is_typical_of_a_direction():
    """For f = g x and a claimed g + e the error along u is |e u| / max(|g u|, |(g + e) u|, |g + e| / n^(1/2))."""
    n, steep = 100, 0
    g, e = np.random.default_rng(0).standard_normal((2, n))
    for seed in range(20):
        x = np.zeros(n)
        u = np.random.default_rng(seed).standard_normal(n)
        u /= np.linalg.norm(u)
        along, claimed, typical = g @ u, (g + 1e-8 * e) @ u, np.linalg.norm(g + 1e-8 * e) / 10
        expected = 1e-8 * abs(e @ u) / max(abs(along), abs(claimed), typical)
        found = check_directions(lambda x=x: g @ x, x, g + 1e-8 * e, directions=1, seed=seed, step=1.0)
        assert found == pytest.approx(expected, rel=1e-4)
        steep += abs(along) > typical
    assert 0 < steep < 20


def test_relative_error_is_relative_to_the_larger_magnitude():
    np.testing.assert_allclose(relative_error([2.0, -1.0, 0.0, 1e-12], [1.0, 1.0, 0.0, 0.0]), [0.5, 2, 0, 1e-4])


def test_three_directions_are_drawn_for_each_one_wanted_before_it_gives_up():
    x, evaluations = np.zeros(3), []

    def kinked():
        evaluations.append(None)
        return np.abs(x).sum()

    with pytest.raises(KinkFound, match="only 0 of 4 directions were free of kinks in 12 draws"):
        check_directions(kinked, x, np.zeros(3), directions=4)
    assert len(evaluations) == (3 + 6) * 12  # At h; then, in doubt, at h, h / 2 and h / 4.
