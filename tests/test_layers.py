"""The layers' contract, with one body for both engines: shapes, gradients, agreement with PyTorch, running statistics."""

import functools
import itertools

import numpy as np
import pytest
from engines import build, set_up
from random_arrays import assert_close, normal

from tinyqae import layers
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.layers import BatchNorm, Centre, Conv2d, ConvBlock, Dense, MaxPool2d, ReLU, Sequential, Upsample2d

OPTIONS = [
    {"upsample": upsample, "norm": norm, "relu": relu, "pool": pool}
    for upsample, norm, relu, pool in itertools.product((False, True), repeat=4)
]
BLOCKS = {
    " ".join(["block", *(name for name, on in options.items() if on)]): (
        lambda options=options: ConvBlock(3, **options),
        (4, 6, 2),
    )
    for options in OPTIONS
}
# Name: (how to make it, the shape of its input without the batch axis).
CASES = {
    "dense": (lambda: Dense(4), (3,)),
    "relu": (ReLU, (3,)),
    "relu of images": (ReLU, (2, 3, 2)),
    "batch norm": (BatchNorm, (3,)),
    "batch norm of images": (lambda: BatchNorm(momentum=0.8, eps=1e-3), (2, 3, 2)),
    "conv 3x3": (lambda: Conv2d(3), (4, 5, 2)),
    "conv 1x1": (lambda: Conv2d(3, kernel=1), (2, 3, 2)),
    "conv 5x5 without bias": (lambda: Conv2d(2, kernel=5, bias=False), (4, 3, 2)),
    "max-pool": (MaxPool2d, (4, 6, 2)),
    "upsample": (Upsample2d, (2, 3, 2)),
    "centre": (lambda: Centre(normal(2, 3, 2, dtype=np.float32)), (2, 3, 2)),
    "sequential": (lambda: Sequential(BatchNorm(), Dense(4), ReLU(), Dense(3)), (5,)),
    "nested": (lambda: Sequential(Conv2d(2), Sequential(MaxPool2d(), ConvBlock(3, upsample=True)), ReLU()), (4, 4, 2)),
    **BLOCKS,
    "block 1x1": (lambda: ConvBlock(3, kernel=1, norm=False, relu=False), (4, 4, 2)),
    "block 5x5": (lambda: ConvBlock(2, kernel=5, pool=True, momentum=0.8, eps=1e-3), (4, 6, 2)),
    "block 5x5 upsample": (lambda: ConvBlock(2, kernel=5, upsample=True), (2, 3, 2)),
    # Enough channels for Winograd in the fast engine.
    "block of many channels": (lambda: ConvBlock(44, pool=True), (4, 4, 48)),
}
ALL = pytest.mark.parametrize("case", CASES)


def prepare(case, dtype=np.float32, seed=0):
    """(the reference layer, the same layer as the engine in use computes it), of one set of parameters: none is 0 or 1, and
    some gammas are negative.
    """
    make, input_shape = CASES[case]
    layer = make()
    if isinstance(layer, Centre):
        layer.constant = layer.constant.astype(dtype)
    layer.setup(input_shape, np.random.default_rng(seed), np.dtype(dtype))
    for part in parts(layer):
        for name, array in part.params.items():
            array += 0.3 * normal(*array.shape, seed=seed + len(name), dtype=dtype)
            if name == "gamma":
                array[0] *= -1
    return layer, build(layer)


def parts(layer):
    """The innermost layers that a layer consists of, or the layer itself."""
    if not isinstance(layer, Sequential):
        return [layer]
    return [innermost for part in layer.layers for innermost in parts(part)]


def with_parameters(layer):
    """The layers that an optimizer sees."""
    if type(layer) is Sequential or not layer.params:
        return [inner for part in getattr(layer, "layers", ()) for inner in with_parameters(part)]
    return [layer]


def parameters(layer):
    return [part.params[name] for part in with_parameters(layer) for name in part.params]


def gradients(layer):
    return [part.grads[name] for part in with_parameters(layer) for name in part.params]


def inputs(layer, n=3, dtype=np.float32, seed=5):
    """x and dy for a batch of n."""
    x = normal(n, *layer.input_shape, seed=seed, dtype=dtype)
    return x + np.copysign(dtype(0.01), x), normal(n, *layer.output_shape, seed=seed + 1, dtype=dtype)


def one_step(layer, x, dy):
    """y, dx and the gradients of the parameters, as copies."""
    y = layer.forward(x).copy()
    return [y, layer.backward(dy).copy(), *(gradient.copy() for gradient in gradients(layer))]


# ---- forward and backward -------------------------------------------------------------------------------------------


@ALL
def test_shapes_dtype_and_untouched_arguments(case, engine):
    _, layer = prepare(case)
    x, dy = inputs(layer)
    before = x.copy(), dy.copy()
    y, dx, *grads = one_step(layer, x, dy)
    assert y.shape == (3, *layer.output_shape) and dx.shape == x.shape
    assert [grad.shape for grad in grads] == [parameter.shape for parameter in parameters(layer)]
    assert {array.dtype for array in (y, dx, *grads)} == {np.dtype(np.float32)}
    assert layer.forward(x, training=False).shape == y.shape
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dy, before[1])


@ALL
def test_gradients(case, plain_engine):
    _, layer = prepare(case, np.float64)
    x, dy = inputs(layer, dtype=np.float64)
    _, dx, *grads = one_step(layer, x, dy)

    def value():
        return np.vdot(dy, layer.forward(x))

    for array, gradient in ((x, dx), *zip(parameters(layer), grads, strict=True)):
        if array.size <= 200:
            check_coordinates(value, array, gradient)
        check_directions(value, array, gradient)


def by_torch(torch, layer, x, leaves, training=True):
    """The output of a reference layer, computed by PyTorch's functions, with the parameters that `leaves` holds as tensors
    for each of its innermost layers. x in this library's layout.
    """
    functional = torch.nn.functional
    for part, leaf in zip(parts(layer), leaves, strict=True):
        kind = type(part)
        if kind is Dense:
            x = functional.linear(x, leaf["w"].T, leaf["b"])
        elif kind is ReLU:
            x = torch.relu(x)
        elif kind is BatchNorm:
            running = [None, None] if training else [torch.tensor(part.state[name]) for name in ("mean", "variance")]
            rows = x.reshape(-1, x.shape[-1])
            x = functional.batch_norm(rows, *running, leaf["gamma"], leaf["beta"], training, eps=part.eps).reshape(x.shape)
        elif kind is Centre:
            x = x - torch.tensor(part.constant)
        else:
            x = x.permute(0, 3, 1, 2)
            if kind is Conv2d:
                x = functional.conv2d(x, leaf["w"].permute(3, 2, 0, 1), leaf.get("b"), padding=part.kernel // 2)
            elif kind is MaxPool2d:
                x = functional.max_pool2d(x, 2)
            else:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = x.permute(0, 2, 3, 1)
    return x


def torch_leaves(torch, layer):
    """Each innermost layer's parameters as tensors. Those of a block's parts are the block's own."""
    return [
        {
            name: torch.tensor(array, requires_grad=True)
            for name, array in part.params.items()
            if name in own_parameters(part)
        }
        for part in parts(layer)
    ]


def own_parameters(part):
    return {Dense: ("w", "b"), BatchNorm: ("gamma", "beta"), Conv2d: ("w", "b")}.get(type(part), ())


@ALL
def test_training_and_inference_agree_with_torch(case, engine, torch):
    reference, layer = prepare(case)
    x, dy = inputs(layer, n=8)
    leaves = torch_leaves(torch, reference)
    tx = torch.tensor(x, requires_grad=True)
    ty = by_torch(torch, reference, tx, leaves)
    ty.backward(torch.tensor(dy))
    # In the order of the layers, and of the parameters in them.
    grads = [leaf[name].grad.numpy() for leaf in leaves for name in leaf]
    assert_close(one_step(layer, x, dy), [ty.detach().numpy(), tx.grad.numpy(), *grads], 1e-5)
    expected = by_torch(torch, reference, torch.tensor(x), leaves, training=False).detach().numpy()
    assert_close([layer.forward(x, training=False)], [expected], 1e-5)


@ALL
def test_a_smaller_batch_after_a_larger_one_leaves_no_trace(case, engine):
    _, layer = prepare(case)
    for n in (9, 4, 2, 12):
        arguments = inputs(layer, n)
        _, alone = prepare(case)
        assert_close(one_step(layer, *arguments), one_step(alone, *arguments), 1e-6)


@ALL
def test_a_second_backward_pass_gives_the_same_gradients_not_their_sum(case, engine):
    _, layer = prepare(case)
    x, dy = inputs(layer)
    first = one_step(layer, x, dy)
    for ours, before in zip(one_step(layer, x, dy), first, strict=True):
        np.testing.assert_array_equal(ours, before)


@ALL
def test_replaced_arrays_are_the_parameters_from_then_on(case, engine):
    # The fast engine moves all parameters of a model into one vector.
    _, layer = prepare(case)
    x, dy = inputs(layer)
    before = one_step(layer, x, dy)
    for part in with_parameters(layer):
        for name, array in part.params.items():
            part.params[name] = 2 * array
    after = one_step(layer, x, dy)
    if with_parameters(layer):
        assert not np.allclose(after[0], before[0])
        for gradient in after[2:]:
            assert np.isfinite(gradient).all()
    for part in with_parameters(layer):
        for name, array in part.params.items():
            part.params[name] = array / 2
    assert_close(one_step(layer, x, dy), before, 1e-6)


# ---- setting up -----------------------------------------------------------------------------------------------------


@ALL
def test_a_seed_gives_the_same_parameters_in_both_dtypes_and_another_seed_others(case):
    make, input_shape = CASES[case]

    def drawn(seed, dtype):
        layer = make()
        layer.setup(input_shape, np.random.default_rng(seed), np.dtype(dtype))
        return parameters(layer)

    single, double, other = drawn(0, np.float32), drawn(0, np.float64), drawn(1, np.float32)
    for a, b in zip(single, double, strict=True):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(a, b.astype(np.float32))
    assert not single or any((a != b).any() for a, b in zip(single, other, strict=True)) or case.startswith("batch norm")


@pytest.mark.parametrize(
    ("make", "input_shape", "fans"),
    [
        (lambda: Dense(300), (100,), 400),
        (lambda: Conv2d(30), (4, 4, 20), 9 * 50),
        (lambda: ConvBlock(30, norm=False), (4, 4, 20), 9 * 50),
        (lambda: ConvBlock(30), (4, 4, 20), 9 * 50),
        (lambda: ConvBlock(30, kernel=5, pool=True), (4, 4, 20), 25 * 50),
        (lambda: ConvBlock(60, upsample=True), (4, 4, 20), 9 * 80),
        (lambda: ConvBlock(100, kernel=1, norm=False, relu=False), (4, 4, 80), 180),
    ],
)
def test_weights_are_glorot_uniform_and_biases_zero(make, input_shape, fans, engine):
    layer = set_up(make(), input_shape)
    w, limit = layer.params["w"], np.sqrt(6 / fans)
    assert w.dtype == np.float32
    assert 0.99 * limit < np.abs(w).max() <= limit
    np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.02)
    np.testing.assert_array_equal(layer.params["b" if "b" in layer.params else "beta"], 0)


def test_batch_norm_starts_as_plain_normalization_with_a_standard_normal_for_statistics(engine):
    layer = set_up(BatchNorm(), (4, 4, 3))
    for values, expected in (
        (layer.params["gamma"], 1),
        (layer.params["beta"], 0),
        (layer.state["mean"], 0),
        (layer.state["variance"], 1),
    ):
        assert values.shape == (3,) and values.dtype == np.float32
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("case", BLOCKS)
def test_a_block_shows_what_its_parts_hold(case, engine):
    reference, layer = prepare(case)
    norm = reference.norm
    assert list(layer.params) == list(layer.grads) == (["w", "gamma", "beta"] if norm else ["w", "b"])
    assert list(layer.state) == (["mean", "variance"] if norm else [])


# ---- batch norm -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 20), (8, 5, 5, 6)])
def test_batch_norm_agrees_with_torch_running_statistics_included(shape, engine, torch):
    channels = shape[-1]
    layer = set_up(BatchNorm(momentum=0.8), shape[1:])
    module = torch.nn.BatchNorm1d(channels, momentum=1 - 0.8)
    for ours, theirs, values in (
        ("gamma", module.weight, 1 + normal(channels) / 4),
        ("beta", module.bias, normal(channels, seed=1)),
    ):
        layer.params[ours][...] = values
        theirs.data = torch.tensor(values, dtype=torch.float32)

    def close(ours, theirs, atol=1e-5):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=atol)

    for seed in range(3):
        x, dy = 2 * normal(*shape, seed=seed, dtype=np.float32) + 1, normal(*shape, seed=9, dtype=np.float32)
        leaf = torch.tensor(x.reshape(-1, channels), requires_grad=True)
        module.zero_grad()
        theirs = module(leaf)
        theirs.backward(torch.tensor(dy.reshape(-1, channels)))
        close(layer.forward(x, training=True).reshape(-1, channels), theirs)
        close(layer.backward(dy).reshape(-1, channels), leaf.grad)
    # Sums over the batch: relative to their size.
    close(layer.grads["gamma"], module.weight.grad, atol=1e-4)
    close(layer.grads["beta"], module.bias.grad, atol=1e-4)
    close(layer.state["mean"], module.running_mean)
    close(layer.state["variance"], module.running_var)
    module.eval()
    before = {name: array.copy() for name, array in layer.state.items()}
    close(layer.forward(x, training=False).reshape(-1, channels), module(leaf))
    for name, array in before.items():
        np.testing.assert_array_equal(layer.state[name], array)


@pytest.mark.parametrize("pool", [False, True])
def test_a_block_of_two_values_a_channel_has_twice_their_variance_for_its_statistics(pool, engine):
    """Of two values the unbiased variance is (x_1 - x_2)^2 / 2, and the biased one half of that. The weights are 1."""
    block = set_up(ConvBlock(1, kernel=1, momentum=0.0, pool=pool), (2, 2, 1) if pool else (1, 1, 1))
    block.params["w"][...] = 1
    if pool:
        block.forward(np.float32([[[5, 5], [5, 5]], [[1, 1], [1, 1]]])[..., None])
        # Eight values, each 2 from the mean: 8 * 4 / 7.
        expected = 32 / 7
    else:
        block.forward(np.float32([5, 1]).reshape(2, 1, 1, 1))
        expected = 8
    np.testing.assert_allclose(block.state["variance"], expected, rtol=1e-5)
    np.testing.assert_allclose(block.state["mean"], 3, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"upsample": True}, {"pool": True}, {"kernel": 5, "upsample": True}])
def test_a_block_updates_its_running_statistics_by_those_of_the_convolution(options, engine):
    block, upsample = set_up(ConvBlock(3, momentum=0.75, **options), (4, 4, 2)), options.get("upsample")
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = normal(5, 4, 4, 2, seed=seed, dtype=np.float32)
        block.forward(x)
        convolved = Conv2d(3, options.get("kernel", 3), bias=False)
        convolved.setup((8, 8, 2) if upsample else (4, 4, 2), np.random.default_rng(0), np.dtype(np.float32))
        convolved.params = block.params
        values = convolved.forward(x.repeat(2, axis=1).repeat(2, axis=2) if upsample else x).reshape(-1, 3)
        mean = 0.75 * mean + 0.25 * values.mean(axis=0)
        variance = 0.75 * variance + 0.25 * values.var(axis=0, ddof=1)
    np.testing.assert_allclose(block.state["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(block.state["variance"], variance, rtol=1e-5)
    before = {name: array.copy() for name, array in block.state.items()}
    block.forward(x, training=False)
    for name, array in before.items():
        np.testing.assert_array_equal(block.state[name], array)


@pytest.mark.parametrize(
    ("make", "input_shape"), [(BatchNorm, (3,)), (BatchNorm, (1, 1, 3)), (lambda: ConvBlock(2), (1, 1, 3))]
)
def test_batch_norm_in_training_refuses_a_single_value(make, input_shape, engine):
    layer, x = set_up(make(), input_shape), np.zeros((1, *input_shape), np.float32)
    with pytest.raises(ValueError, match="at least 2 values of each channel.*larger batch"):
        layer.forward(x, training=True)
    assert np.isfinite(layer.forward(x, training=False)).all()


# ---- the others -----------------------------------------------------------------------------------------------------


def test_relu_passes_the_gradient_where_it_is_on(engine):
    layer = set_up(ReLU(), (3,), dtype=np.float64)
    np.testing.assert_array_equal(layer.forward(np.array([[-1.0, 0.0, 2.0]])), [[0, 0, 2]])
    np.testing.assert_array_equal(layer.backward(np.array([[5.0, 6.0, 7.0]])), [[0, 0, 7]])


def test_centre_subtracts_its_constant_without_being_set_up(engine):
    constant, x = normal(2, 3, 1, dtype=np.float32), normal(5, 2, 3, 1, dtype=np.float32)
    np.testing.assert_array_equal(build(Centre(constant)).forward(x), x - constant)


def test_sequential_applies_its_layers_in_order(engine):
    layer = set_up(Sequential(Dense(4), ReLU(), Dense(2)), (3,))
    assert layer.output_shape == (2,)
    x = normal(5, 3, dtype=np.float32)
    first, _, last = layer.layers
    hidden = np.maximum(x @ first.params["w"] + first.params["b"], 0)
    np.testing.assert_allclose(layer.forward(x), hidden @ last.params["w"] + last.params["b"], rtol=1e-5, atol=1e-6)


def test_an_engine_leaves_the_layer_that_it_builds_from_as_it_was(engine):
    reference = Sequential(Dense(4), ReLU())
    reference.setup((3,), np.random.default_rng(0), np.dtype(np.float32))
    built = build(reference)
    assert built is not reference
    assert [type(layer) for layer in reference.layers] == [Dense, ReLU]
    assert built.layers[0].params["w"] is reference.layers[0].params["w"]


# ---- bad arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -3, 2.5, "50", None])
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("units", Dense),
        ("filters", Conv2d),
        ("filters", ConvBlock),
        ("kernel", lambda value: Conv2d(3, kernel=value)),
        ("kernel", lambda value: ConvBlock(3, kernel=value)),
    ],
)
def test_a_size_that_is_no_whole_number_above_zero_is_named(argument, make, value):
    with pytest.raises(ValueError, match=f"{argument}={value!r} must be a whole number above 0"):
        make(value)


@pytest.mark.parametrize("kind", [BatchNorm, functools.partial(ConvBlock, 4)])
@pytest.mark.parametrize(
    "arguments",
    [{"momentum": 1.0}, {"momentum": -0.1}, {"momentum": np.nan}, {"eps": -1e-5}, {"eps": np.nan}, {"eps": np.inf}],
    ids=str,
)
def test_momentum_or_eps_out_of_range_is_named(kind, arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value!r} must be at least 0 and below"):
        kind(**arguments)


@pytest.mark.parametrize("make", [Conv2d, ConvBlock])
def test_an_even_kernel_is_refused(make):
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        make(3, kernel=4)


@pytest.mark.parametrize("make", [MaxPool2d, lambda: ConvBlock(2, pool=True), lambda: Sequential(ReLU(), MaxPool2d())])
@pytest.mark.parametrize("input_shape", [(3, 4, 2), (4, 5, 2)])
def test_an_image_with_odd_sides_cannot_be_pooled(make, input_shape):
    height, width, _ = input_shape
    with pytest.raises(ValueError, match=f"an image of {height}x{width} cannot be pooled by 2"):
        make().setup(input_shape, np.random.default_rng(0), np.dtype(np.float32))


def test_how_many_values_a_channel_has():
    assert layers.require_two_values(np.zeros((2, 3, 4, 5))) == 24
    with pytest.raises(ValueError, match="got 1"):
        layers.require_two_values(np.zeros((1, 5)))
