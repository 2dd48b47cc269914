"""Optimizers against torch.optim, with either engine; their state, shortened gradients, and learning-rate schedules."""

import copy

import numpy as np
import pytest
from engines import flat

from tinyqae import engine as engines
from tinyqae.fast.optim import CHUNK_SIZE
from tinyqae.layers import Layer
from tinyqae.optim import OPTIMIZERS, SGD, Adam, RMSprop, clip_by_norm
from tinyqae.schedules import constant, cosine

# The fast engine works in pieces: shorter than one, exactly one, several with a rest; and several arrays.
SHAPES = [[(3,)], [(CHUNK_SIZE,)], [(2 * CHUNK_SIZE + 17,)], [(4, 5), (7,), (2, 3, 2, 1)]]

PAIRS = {
    "sgd": (lambda: SGD(0.1), lambda torch, p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda: SGD(0.1, momentum=0.9), lambda torch, p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "rmsprop": (lambda: RMSprop(1e-2, rho=0.8), lambda torch, p: torch.optim.RMSprop(p, 1e-2, alpha=0.8, eps=1e-7)),
    "adam": (lambda: Adam(1e-2), lambda torch, p: torch.optim.Adam(p, 1e-2)),
    "adam_betas": (
        lambda: Adam(1e-2, 0.5, 0.9, 1e-3),
        lambda torch, p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9), eps=1e-3),
    ),
}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-11}


class Parameters:
    """All of a model that an optimizer needs: its engine, parameters and gradients."""

    def __init__(self, *arrays):
        self.engine, self.layer = engines.choose(), Layer()
        self.layer.params = {i: array.copy() for i, array in enumerate(arrays)}
        self.layer.grads = {i: np.zeros_like(array) for i, array in enumerate(arrays)}
        self.engine.register_layers([self.layer])

    def parameters(self):
        return self.engine.arrays([self.layer], "params")

    def gradients(self):
        return self.engine.arrays([self.layer], "grads")

    def set_gradients(self, *arrays):
        for i, array in enumerate(arrays):
            self.layer.grads[i][...] = array

    def values(self):
        return flat(self.parameters())


def gradients(shapes, steps=5, dtype=np.float64):
    """For each of some steps one gradient of each shape, of all magnitudes."""
    random = np.random.default_rng((len(shapes), steps))
    return [
        [(random.standard_normal(shape) * 10.0 ** random.integers(-3, 2)).astype(dtype) for shape in shapes]
        for _ in range(steps)
    ]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_five_steps_agree_with_torch(pair, dtype, shapes, torch, engine):
    ours, make_theirs = PAIRS[pair][0](), PAIRS[pair][1]
    random = np.random.default_rng(len(shapes))
    arrays = [random.standard_normal(shape).astype(dtype) for shape in shapes]
    model, leaves = Parameters(*arrays), [torch.nn.Parameter(torch.tensor(array)) for array in arrays]
    theirs = make_theirs(torch, leaves)
    for step in gradients(shapes, dtype=dtype):
        model.set_gradients(*step)
        ours.step(model)
        for leaf, g in zip(leaves, step, strict=True):
            leaf.grad = torch.tensor(g)
        theirs.step()
    assert (model.values() != flat(arrays)).mean() > 0.99
    assert model.values().dtype == dtype
    np.testing.assert_allclose(
        model.values(), flat([leaf.detach().numpy() for leaf in leaves]), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


def test_learning_rate_of_a_step_overrides_the_optimizers_own(torch, plain_engine):
    ((g,),) = gradients([(4,)], steps=1)
    model, leaf = Parameters(np.ones(4)), torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    ours, theirs = Adam(123.0), torch.optim.Adam([leaf], 123.0)
    model.set_gradients(g)
    for lr in (0.1, 0.01, 0.0):
        ours.step(model, lr)
        theirs.param_groups[0]["lr"] = lr
        leaf.grad = torch.tensor(g)
        theirs.step()
    np.testing.assert_allclose(model.values(), leaf.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_state_saved_and_restored_continues_identically(pair, engine):
    shapes, make = [(CHUNK_SIZE + 5,), (3, 4)], PAIRS[pair][0]
    steps = gradients(shapes, 6, np.float32)
    whole, model = make(), Parameters(*(np.ones(shape, np.float32) for shape in shapes))

    def train(optimizer, model, steps):
        for step in steps:
            model.set_gradients(*step)
            optimizer.step(model)

    train(whole, model, steps[:3])
    resumed, copied = make(), Parameters(*(model.layer.params[i] for i in range(len(shapes))))
    resumed.restore(copy.deepcopy(whole.state_arrays()))
    train(whole, model, steps[3:])
    train(resumed, copied, steps[3:])
    assert resumed.steps == whole.steps == 6
    assert not (model.values() == 1).any()
    np.testing.assert_array_equal(model.values(), copied.values())


def test_restored_state_is_a_copy(engine):
    first, second, model = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9), Parameters(np.ones(3, np.float32))
    model.set_gradients(np.ones(3))
    first.step(model)
    second.restore(first.state_arrays())
    second.step(model)
    steps, velocity = first.state_arrays().values()
    assert steps == 1
    np.testing.assert_array_equal(velocity, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_changes_parameters_in_place_and_leaves_gradients_alone(name, engine):
    model = Parameters(np.ones(5, np.float32))
    (p,) = model.parameters()
    view = p[1:3]
    model.set_gradients(np.full(5, 2))
    OPTIMIZERS[name](0.1).step(model)
    assert (view < 1).all()
    assert p.dtype == np.float32
    np.testing.assert_array_equal(flat(model.gradients()), 2)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: SGD(lr=-1), "lr=-1"),
        (lambda: Adam(lr=np.nan), "lr=nan"),
        (lambda: Adam(lr=np.inf), "lr=inf"),
        (lambda: SGD(momentum=1.0), "momentum=1.0"),
        (lambda: RMSprop(rho=-0.1), "rho=-0.1"),
        (lambda: Adam(beta1=1), "beta1=1"),
        (lambda: Adam(beta2=1.5), "beta2=1.5"),
        (lambda: Adam(eps=-1e-8), "eps=-1e-08"),
        (lambda: RMSprop(eps=np.nan), "eps=nan"),
        (lambda: Adam(beta1=np.nan), "beta1=nan"),
    ],
)
def test_bad_argument_is_named(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1, 7.5])
def test_a_longer_gradient_is_shortened_to_the_largest_norm_and_keeps_its_direction(max_norm, dtype):
    g = 10 * np.random.default_rng(0).standard_normal(1000).astype(dtype)
    before, view = g.copy(), g[:3]
    assert np.linalg.norm(g) > max_norm
    clip_by_norm([g], max_norm)
    assert g.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(g.astype(np.float64)), max_norm, rtol=1e-6)
    np.testing.assert_allclose(g, before * (max_norm / np.linalg.norm(before)), rtol=1e-5)
    np.testing.assert_array_equal(view, g[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_several_gradients_are_shortened_as_one_vector(dtype, torch):
    random = np.random.default_rng(1)
    arrays = [random.standard_normal(shape).astype(dtype) for shape in ((4, 5), (7,), (3, 3, 2, 1))]
    leaves = [torch.nn.Parameter(torch.zeros(array.shape)) for array in arrays]
    for leaf, array in zip(leaves, arrays, strict=True):
        leaf.grad = torch.tensor(array).float()
    clip_by_norm(arrays, 2.0)
    torch.nn.utils.clip_grad_norm_(leaves, 2.0)
    np.testing.assert_allclose(np.linalg.norm(flat(arrays)), 2.0, rtol=1e-6)
    for leaf, array in zip(leaves, arrays, strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, leaf.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_within_the_largest_norm_stays_as_it_is(dtype):
    for g in (np.array([3, -4], dtype), np.zeros(5, dtype), np.array([1e-30], dtype)):
        before = g.copy()
        clip_by_norm([g], 5.0)
        np.testing.assert_array_equal(g, before)
        assert g.dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_does_not_become_one(bad):
    g = np.array([1, bad], np.float32)
    with np.errstate(invalid="ignore"):
        clip_by_norm([g], 1.0)
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_for_one_model(name, engine):
    optimizer, (first, second) = OPTIMIZERS[name](), (Parameters(np.ones((3, 2))) for _ in range(2))
    for model in (first, second):
        model.set_gradients(np.ones((3, 2)))
    optimizer.step(first)
    optimizer.step(first)
    with pytest.raises(ValueError, match="state of another model"):
        optimizer.step(second)
    np.testing.assert_array_equal(second.values(), np.ones(6))
    optimizer.step(first)
