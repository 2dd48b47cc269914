"""Optimizers against torch.optim, their state, shortened gradients, and learning-rate schedules."""
import copy

import numpy as np
import pytest

from tinyqae.optim import OPTIMIZERS, PIECE, SGD, Adam, RMSprop, clip_by_norm, constant, cosine

# Shorter than a piece, exactly one, and several with a rest.
SIZES = [3, PIECE, 2 * PIECE + 17]

PAIRS = {
    "sgd": (lambda: SGD(0.1), lambda torch, p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda: SGD(0.1, momentum=0.9), lambda torch, p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "rmsprop": (lambda: RMSprop(1e-2, rho=0.8), lambda torch, p: torch.optim.RMSprop(p, 1e-2, alpha=0.8, eps=1e-7)),
    "adam": (lambda: Adam(1e-2), lambda torch, p: torch.optim.Adam(p, 1e-2)),
    "adam_betas": (lambda: Adam(1e-2, 0.5, 0.9, 1e-3),
                   lambda torch, p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9), eps=1e-3)),
}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-11}


def gradients(size, steps=5, dtype=np.float64):
    random = np.random.default_rng((size, steps))
    return [(random.standard_normal(size) * 10.0 ** random.integers(-3, 2)).astype(dtype) for _ in range(steps)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_five_steps_agree_with_torch(pair, dtype, size, torch, kernels):
    ours, make_theirs = PAIRS[pair][0](), PAIRS[pair][1]
    p = np.random.default_rng(size).standard_normal(size).astype(dtype)
    leaf = torch.nn.Parameter(torch.tensor(p))
    theirs = make_theirs(torch, [leaf])
    start = p.copy()
    for g in gradients(size, dtype=dtype):
        ours.step(p, g)
        leaf.grad = torch.tensor(g)
        theirs.step()
    assert (p != start).mean() > 0.99
    np.testing.assert_allclose(p, leaf.detach().numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_learning_rate_of_a_step_overrides_the_optimizers_own(torch):
    p, g = np.ones(4), gradients(4)[0]
    leaf = torch.nn.Parameter(torch.tensor(p))
    ours, theirs = Adam(123.0), torch.optim.Adam([leaf], 123.0)
    for lr in (0.1, 0.01, 0.0):
        ours.step(p, g, lr)
        theirs.param_groups[0]["lr"] = lr
        leaf.grad = torch.tensor(g)
        theirs.step()
    np.testing.assert_allclose(p, leaf.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_state_saved_and_restored_continues_identically(pair, kernels):
    size, make = PIECE + 5, PAIRS[pair][0]
    steps = gradients(size, 6, np.float32)
    whole, p = make(), np.ones(size, np.float32)
    for g in steps[:3]:
        whole.step(p, g)
    resumed, q = make(), p.copy()
    resumed.restore(copy.deepcopy(whole.state_arrays()))
    for g in steps[3:]:
        whole.step(p, g)
        resumed.step(q, g)
    assert resumed.steps == whole.steps == 6
    np.testing.assert_array_equal(p, q)


def test_restored_state_is_a_copy():
    first, p = SGD(0.1, momentum=0.9), np.ones(3)
    first.step(p, np.ones(3))
    second = SGD(0.1, momentum=0.9)
    second.restore(first.state_arrays())
    second.step(p, np.ones(3))
    np.testing.assert_array_equal(first.state["velocity"], 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_changes_parameters_in_place_and_leaves_gradients_alone(name):
    p, g = np.ones(5, np.float32), np.full(5, 2, np.float32)
    view = p[1:3]
    OPTIMIZERS[name](0.1).step(p, g)
    assert (view < 1).all()
    assert p.dtype == np.float32
    np.testing.assert_array_equal(g, 2)


@pytest.mark.parametrize(("make", "argument"), [
    (lambda: SGD(lr=-1), "lr=-1"), (lambda: Adam(lr=np.nan), "lr=nan"), (lambda: Adam(lr=np.inf), "lr=inf"),
    (lambda: SGD(momentum=1.0), "momentum=1.0"), (lambda: RMSprop(rho=-0.1), "rho=-0.1"),
    (lambda: Adam(beta1=1), "beta1=1"), (lambda: Adam(beta2=1.5), "beta2=1.5"),
])
def test_bad_argument_is_named(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1, 7.5])
def test_a_longer_gradient_is_shortened_to_the_largest_norm_and_keeps_its_direction(max_norm, dtype):
    g = 10 * np.random.default_rng(0).standard_normal(1000).astype(dtype)
    before, view = g.copy(), g[:3]
    assert np.linalg.norm(g) > max_norm
    clip_by_norm(g, max_norm)
    assert g.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(g.astype(np.float64)), max_norm, rtol=1e-6)
    np.testing.assert_allclose(g, before * (max_norm / np.linalg.norm(before)), rtol=1e-5)
    np.testing.assert_array_equal(view, g[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_within_the_largest_norm_stays_as_it_is(dtype):
    for g in (np.array([3, -4], dtype), np.zeros(5, dtype), np.array([1e-30], dtype)):
        before = g.copy()
        clip_by_norm(g, 5.0)
        np.testing.assert_array_equal(g, before)
        assert g.dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_does_not_become_one(bad):
    g = np.array([1, bad], np.float32)
    with np.errstate(invalid="ignore"):
        clip_by_norm(g, 1.0)
    assert np.isnan(g[1])


def test_constant_schedule_is_one():
    assert [constant()(step) for step in (0, 7, 10**6)] == [1, 1, 1]


def test_cosine_starts_at_one_halves_in_the_middle_and_ends_at_zero():
    factor = cosine(10)
    assert factor(0) == 1
    assert factor(5) == pytest.approx(0.5)
    assert factor(10) == pytest.approx(0, abs=1e-15)
    assert factor(25) == pytest.approx(0, abs=1e-15)
    values = [factor(step) for step in range(11)]
    assert all(a > b for a, b in zip(values, values[1:], strict=False))


def test_cosine_rises_linearly_during_warm_up():
    factor = cosine(10, warmup_steps=4)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert factor(7) == pytest.approx(0.5)
    assert factor(10) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("total", "warmup"), [(10, 10), (10, -1), (0, 0), (5, 8)])
def test_cosine_refuses_a_warm_up_that_does_not_fit(total, warmup):
    with pytest.raises(ValueError, match=f"warmup_steps={warmup}.*total_steps={total}"):
        cosine(total, warmup)
