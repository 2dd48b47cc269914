"""What the fast engine's layers add to the contract (tests/test_layers.py): buffers, and all parameters in one vector."""

import copy

import numpy as np
import pytest
from engines import set_up
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae import backend, engine
from tinyqae.fast import layers as fast
from tinyqae.fast.parts import fast_version
from tinyqae.layers import BatchNorm, Centre, Conv2d, ConvBlock, Dense, MaxPool2d, ReLU, Sequential


@pytest.fixture(autouse=True)
def fast_engine(monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")


BUFFERED = {
    "dense": (lambda: Dense(4), (3,)),
    "relu": (ReLU, (3,)),
    "batch norm": (BatchNorm, (3,)),
    "block": (lambda: ConvBlock(2, pool=True), (4, 4, 3)),
}


@pytest.mark.parametrize("case", BUFFERED)
def test_layers_reuse_their_buffers_and_grow_for_a_larger_batch(case, kernels):
    make, shape = BUFFERED[case]
    layer = set_up(make(), shape)

    def passes(n):
        out = layer.forward(normal(n, *shape, dtype=np.float32))
        return out, layer.backward(np.ones_like(out))

    first = passes(5)
    for before, after in zip(first, passes(2), strict=True):
        assert np.shares_memory(before, after)
    for before, after in zip(first, passes(9), strict=True):
        assert len(after) == 9 and not np.shares_memory(before, after)


def test_centre_reuses_its_buffer(kernels):
    layer = fast_version(Centre(normal(2, 2, 1, dtype=np.float32)))
    first = layer.forward(normal(5, 2, 2, 1, dtype=np.float32))
    assert np.shares_memory(first, layer.forward(normal(3, 2, 2, 1, dtype=np.float32)))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Dense(4), (3,)),
        (lambda: ConvBlock(2), (4, 4, 3)),
        (lambda: ConvBlock(2, norm=False), (4, 4, 3)),
        (lambda: ConvBlock(2, upsample=True), (4, 4, 3)),
    ],
)
def test_a_first_layer_computes_no_gradient_of_its_input_and_the_same_of_its_parameters(make, shape, kernels):
    first, other = make(), set_up(make(), shape)
    first.needs_dx = False
    first = set_up(first, shape)
    x = normal(5, *shape, dtype=np.float32)
    dout = normal(*first.forward(x).shape, seed=1, dtype=np.float32)
    other.forward(x)
    assert first.backward(dout) is None and other.backward(dout) is not None
    assert_close(first.grads.values(), other.grads.values(), 1e-5)


def test_parts_have_fast_versions_but_for_those_that_are_wrapped():
    for make, kind in (
        (lambda: Dense(2), fast.Dense),
        (ReLU, fast.ReLU),
        (BatchNorm, fast.BatchNorm),
        (lambda: ConvBlock(2), fast.ConvBlock),
        (lambda: Conv2d(2), fast.WrappedLayer),
        (MaxPool2d, fast.WrappedLayer),
        (lambda: ConvBlock(2, norm=False, pool=True), fast.WrappedLayer),
        (lambda: ConvBlock(2, kernel=5, upsample=True), fast.WrappedLayer),
    ):
        assert type(set_up(make(), (4,) if make in (ReLU, BatchNorm) or kind is fast.Dense else (4, 4, 3))) is kind


LAYERS = {
    "fast": lambda: ConvBlock(2, pool=True),
    "wrapped convolution": lambda: Conv2d(2),
    "wrapped block": lambda: ConvBlock(2, norm=False, pool=True),
    "wrapped block with norm": lambda: ConvBlock(2, kernel=5, upsample=True),
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_computes_with_the_vector_that_its_parameters_are_moved_to(case, kernels):
    layer = set_up(LAYERS[case](), (4, 4, 3))
    x = normal(3, 4, 4, 3, dtype=np.float32)
    before = layer.forward(x).copy()
    parameters, gradients = fast.flatten_parameters([layer])
    np.testing.assert_array_equal(layer.forward(x), before)
    layer.backward(np.ones_like(before))
    for name in layer.params:
        assert np.shares_memory(layer.params[name], parameters) and np.shares_memory(layer.grads[name], gradients)
        assert np.abs(layer.grads[name]).max() > 0
    parameters += 1
    assert np.abs(layer.forward(x) - before).max() > 0.1


def test_parameters_of_several_layers_lie_one_after_another():
    model = set_up(Sequential(Dense(4), ReLU(), Dense(2)), (3,))
    values = [array.copy() for layer in model.layers for array in layer.params.values()]
    parameters, gradients = fast.flatten_parameters(model.layers)
    np.testing.assert_array_equal(parameters, np.concatenate([array.ravel() for array in values]))
    assert parameters.size == gradients.size == 3 * 4 + 4 + 4 * 2 + 2
    chosen = engine.choose()
    chosen.register_layers(model.layers)
    assert len(chosen.arrays(model.layers, "params")) == len(chosen.arrays(model.layers, "grads")) == 1


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 5),
    h=st.integers(1, 4),
    w=st.integers(1, 4),
    c=st.sampled_from([1, 2, 5, 40]),
    filters=st.sampled_from([1, 3, 52]),
    kernel=st.sampled_from([1, 3, 5]),
    upsample=st.booleans(),
    norm=st.booleans(),
    relu=st.booleans(),
    pool=st.booleans(),
    threads=st.integers(1, 3),
)
def test_any_block_equals_the_reference(n, h, w, c, filters, kernel, upsample, norm, relu, pool, threads):
    reference = ConvBlock(filters, kernel, upsample=upsample, norm=norm, relu=relu, pool=pool)
    reference.setup((2 * h, 2 * w, c), np.random.default_rng(0), np.dtype(np.float64))
    for name, array in reference.params.items():
        array += 0.3 * normal(*array.shape, seed=len(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "threads", threads)
        patch.setattr(fast, "THREADING_THRESHOLD", 0)
        layer = fast_version(copy.deepcopy(reference))
        x = normal(n, 2 * h, 2 * w, c)
        dout = normal(n, *reference.output_shape)
        results = [
            (
                part.forward(x).copy(),
                part.backward(dout).copy(),
                *(part.grads[name] for name in part.params),
                *part.state.values(),
                part.forward(x, training=False).copy(),
            )
            for part in (layer, reference)
        ]
    assert_close(*results, 1e-9)
