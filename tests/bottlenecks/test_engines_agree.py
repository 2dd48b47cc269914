"""The fast engine's bottlenecks compute what the reference engine's do, whatever the settings and shapes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_arrays import assert_close

from tinyqae.bottlenecks import KINDS, make_bottleneck
from tinyqae.engine import choose

TOLERANCE = 1e-5
# Nearer than this to a threshold, rounding may decide what a bit is or whether its gradient passes.
MARGIN = 1e-4


def arguments_of(kind):
    """Any settings of this kind of bottleneck, a strategy."""
    window = st.floats(0.05, 2)
    strategies = {
        "weight": st.floats(0, 30),
        "activation": st.sampled_from(KINDS[kind].activations),
        "signed": st.booleans(),
        "noise": st.just(0.0) | st.floats(0.01, 1),
        "slope": st.floats(1, 30),
        "window": window | st.none() if kind == "commit" else window,
    }
    return st.fixed_dictionaries({name: strategies[name] for name in make_bottleneck(kind).config()})


def clear_of_half(a):
    """Where a is not within rounding of 1/2. Exactly 1/2 is clear: sigma(0) is, in both engines."""
    return (np.abs(a - 0.5) > MARGIN) | (a == 0.5)


def clear_of_jumps(bottleneck, a, random):
    """Where no bit or gradient of a training pass jumps within rounding. random: in the state of the bottleneck's."""
    clear = clear_of_half(a)
    if bottleneck.noise:
        a_with_noise = a + bottleneck.noise * random.standard_normal(a.shape, a.dtype)
        clear &= np.abs(a_with_noise - 0.5) > MARGIN
    else:
        a_with_noise = a
    if bottleneck.kind == "stochastic":
        clear &= np.abs(a_with_noise - random.random(a.shape, a.dtype)) > MARGIN
    if getattr(bottleneck, "window", None) is not None:
        clear &= np.abs(np.abs(a - 0.5) - bottleneck.window) > MARGIN
    return clear


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    steps=st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=2),
    k=st.integers(1, 12),
    scale=st.floats(0.1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_codes_loss_and_gradient_equal_the_reference(kind, kernels, data, steps, k, scale, seed):
    bottleneck = make_bottleneck(kind, **data.draw(arguments_of(kind)))
    reference, fast = (choose(engine).build(bottleneck) for engine in ("reference", "fast"))
    reference.random, fast.random, random = (np.random.default_rng(seed) for _ in range(3))
    numbers = np.random.default_rng((seed, 1))
    for n, progress in steps:  # The second step reuses the first one's buffers, or needs larger ones.
        reference.set_progress(progress)
        fast.set_progress(progress)
        h, dcode = numbers.standard_normal((2, n, k), np.float32)
        h *= np.float32(scale)

        stored, right = fast.forward(h, training=False), reference.forward(h, training=False)
        clear = clear_of_half(reference.a)
        assert clear.mean() > 0.5 or n * k < 50
        assert_close([stored[clear]], [right[clear]], TOLERANCE)

        code, right_code = fast.forward(h, training=True), reference.forward(h, training=True)
        clear = clear_of_jumps(bottleneck, reference.a, random)
        assert_close([code[clear]], [right_code[clear]], TOLERANCE)
        if kind != "commit" or np.array_equal(code, right_code):  # One other bit is another commitment loss.
            np.testing.assert_allclose(fast.loss(), reference.loss(), rtol=TOLERANCE, atol=1e-6)

        dh, right_dh = fast.backward(dcode), reference.backward(dcode)
        assert_close([dh[clear]], [right_dh[clear]], TOLERANCE)
