"""The CUDA kernels: each against the plain function that it replaces, and compiled for several GPU architectures.

Without a GPU the kernels' source runs on the CPU (cuda_on_host.py), which checks formulas and indices. NVRTC, if it is
installed (it comes with CuPy), compiles the same source for several architectures, which needs no GPU. With a GPU the first
tests run there.
"""

import cuda_on_host
import numpy as np
import pytest
from cupy_device import use_fused
from random_arrays import SHAPES, logits, targets

from tinyqae import backend
from tinyqae import optim as reference_optim
from tinyqae.fast import kernels, losses, lstm, norm_relu_pool, ops, optim
from tinyqae.fast.cuda import compiler, elementwise
from tinyqae.fast.cuda import lstm as lstm_kernels
from tinyqae.fast.cuda import norm as norm_kernels

FAMILIES = elementwise, norm_kernels, lstm_kernels
SOURCES = {family.__name__.rpartition(".")[2]: family.KERNELS.source for family in FAMILIES}


@pytest.fixture
def kernel_of(device, monkeypatch):
    """From a plain function to the kernel that replaces it on the device."""
    use_fused(monkeypatch)
    monkeypatch.setattr(cuda_on_host, "both_orders", True)

    def kernel(plain):
        chosen = kernels.choose(plain, np.float32)
        assert chosen is not plain
        return chosen

    return kernel


def on_device(*arrays):
    return [backend.to_device(np.ascontiguousarray(array)) for array in arrays]


def empty(*shape, dtype=np.float32):
    """Not zero: what a kernel does not write shows."""
    return backend.xp.full(shape, np.nan if dtype == np.float32 else 0, dtype)


def normal(seed, *shape, mean=0.0):
    return (mean + np.random.default_rng((seed, *shape)).standard_normal(shape)).astype(np.float32)


def agree(plain, kernel, arguments, written, rtol=1e-5, atol=1e-6):
    """Call both with copies of `arguments` (arrays of NumPy, or what is passed as it is) and compare what they return and
    the arrays in the places `written`.
    """
    results = []
    for function in (plain, kernel):
        given = [backend.to_device(value.copy()) if isinstance(value, np.ndarray) else value for value in arguments]
        with np.errstate(all="ignore"):
            value = function(*given)
        value = backend.to_host(value) if getattr(value, "shape", None) == () else None
        results.append((value, [backend.to_host(given[i]) for i in written]))
    (expected, expected_arrays), (value, arrays) = results
    assert (value is None) == (expected is None)
    if value is not None:
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)
    for i, theirs, ours in zip(written, expected_arrays, arrays, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=f"argument {i}")


def nan(*shape, dtype=np.float32):
    return np.full(shape, np.nan if dtype == np.float32 else 0, dtype)


# Beside the shapes of the Numba kernels one that takes several rounds of all blocks.
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), pytest.param((300, 700), marks=pytest.mark.slow)])
def test_losses_of_images(shape, kernel_of):
    x, t = logits(*shape).clip(-1e4, 1e4), targets(*shape)
    agree(
        losses.bce_with_logits,
        kernel_of(losses.bce_with_logits),
        (x, t, nan(shape[1]), nan(*shape)),
        [3],
        atol=2e-6 / x.size,
    )
    agree(losses.binarize_and_commit, kernel_of(losses.binarize_and_commit), (x / 1e3, nan(*shape), nan(*shape)), [1, 2])


def test_the_threshold_is_above_one_half(kernel_of):
    half = np.float32(0.5)
    (a,), b = on_device(np.array([half, np.nextafter(half, half + 1), np.nextafter(half, half - 1)])), empty(3)
    kernel_of(losses.binarize_and_commit)(a, b, empty(3))
    assert backend.to_host(b).tolist() == [0, 1, 0]


def test_losses_of_nan_are_nan_so_that_training_stops(kernel_of):
    x, t = logits(4, 5).clip(-9, 9), targets(4, 5)
    x[2, 3] = np.nan
    x, t = on_device(x, t)
    assert np.isnan(backend.to_host(kernel_of(losses.bce_with_logits)(x, t, empty(5), empty(4, 5))))
    assert np.isnan(backend.to_host(kernel_of(losses.binarize_and_commit)(x, empty(4, 5), empty(4, 5))))
    labels, weights = on_device(np.array([0, 1, 2, 3]), np.ones(4, np.float32))
    scratch = losses.CrossEntropyScratch(4, 5, np.float32)
    cross_entropy = kernel_of(losses.cross_entropy_with_logits)
    assert np.isnan(backend.to_host(cross_entropy(x, labels, weights, scratch, empty(4, 5))))


@pytest.mark.parametrize("shape", [(1,), (255,), (3, 4, 100)])
def test_sigmoid(shape, kernel_of):
    x = logits(int(np.prod(shape)), 1).reshape(shape)
    agree(ops.sigmoid_forward, kernel_of(ops.sigmoid_forward), (x, nan(*shape)), [1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 39), (20, 39), (200, 33), (9, 70)])
def test_cross_entropy(shape, kernel_of):
    random, x = np.random.default_rng(shape), logits(*shape).clip(-1e4, 1e4)
    labels, weights = random.integers(0, shape[1], shape[0]), random.uniform(-0.5, 2, shape[0]).clip(0).astype(np.float32)
    scratch = losses.CrossEntropyScratch(shape[0] + 3, shape[1], np.float32)
    for kind in (np.int64, np.int32):  # int32 falls back to the plain function.
        agree(
            losses.cross_entropy_with_logits,
            kernel_of(losses.cross_entropy_with_logits),
            (x, labels.astype(kind), weights, scratch, nan(*shape)),
            [4],
            atol=3e-6,
        )


@pytest.mark.parametrize("size", [1, 256, 5000])
@pytest.mark.parametrize(
    ("plain", "states", "before", "changing", "after"),
    [
        (optim.adam_update, 2, (0.9, 0.999), (1e-3, 1e-8), ()),
        (optim.adam_update, 2, (0.0, 0.5), (10.0, 1e-3), ()),
        (optim.rmsprop_update, 1, (0.9,), (1e-3,), (1e-7,)),
        (optim.rmsprop_update, 1, (0.0,), (10.0,), (1e-3,)),
    ],
    ids=["adam", "adam-odd", "rmsprop", "rmsprop-odd"],
)
def test_optimizer_updates(plain, states, before, changing, after, size, kernel_of):
    random = np.random.default_rng(size)
    vectors = [random.standard_normal(size).astype(np.float32) for _ in range(2)]
    vectors += [random.uniform(0, 1, size).astype(np.float32) for _ in range(states)]
    vectors[1].flat[:6] = np.array([0, 1e-30, -1e-15, 1e4, -1e4, 1e15], np.float32)[:size]
    changing = [np.array([value], np.float32) for value in changing]
    agree(plain, kernel_of(plain), (*vectors, nan(size), *before, *changing, *after), [0, 1, 2, states + 1])


@pytest.mark.parametrize("steps", [1, 2, 1000, 10**6])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_adams_step_and_eps_equal_those_on_the_cpu(steps, betas, kernel_of):
    with backend.temporarily("numpy"):
        adam = optim.Adam(reference_optim.Adam(1e-3, *betas), np.zeros(1, np.float32))
        adam.set_lr(2e-3)
        adam.optimizer.steps = steps
        *_, step, eps = adam._constants()
    for function in (optim.adam_scales, kernel_of(optim.adam_scales)):
        counter, rate = on_device(np.array([steps], np.float64), np.array([2e-3], np.float32))
        ours, our_eps = empty(1), empty(1)
        function(counter, rate, *betas, 1e-8, empty(2, dtype=np.float64), ours, our_eps)
        assert backend.to_host(ours)[0] == pytest.approx(step, rel=1e-6)
        assert backend.to_host(our_eps)[0] == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 1), (16, 50), (128, 33), (700, 3), (37, 64)])
def test_batch_norm(shape, kernel_of):
    x, channels = normal(0, *shape, mean=50.0), shape[1]
    gamma, beta = normal(1, channels), normal(2, channels)
    forward = (x, gamma, beta, 1e-5, *(nan(channels) for _ in range(3)), nan(*shape), nan(*shape))
    agree(ops.batch_norm_forward, kernel_of(ops.batch_norm_forward), forward, [4, 5, 6, 7, 8], rtol=2e-4, atol=2e-4)
    xhat, rstd = normal(3, *shape), np.abs(normal(4, channels))
    backward = (normal(5, *shape), xhat, gamma, rstd, nan(*shape), nan(channels), nan(channels))
    agree(ops.batch_norm_backward, kernel_of(ops.batch_norm_backward), backward, [4, 5, 6], rtol=1e-4, atol=1e-4)


def test_statistics_do_not_lose_digits_where_the_mean_is_large(kernel_of):
    x = normal(0, 9, 8, 8, 5, mean=1e4)
    (on_it,), mean, variance = on_device(x), empty(5), empty(5)
    kernel_of(norm_relu_pool.batch_statistics)(on_it, norm_relu_pool.NormScratch(x.shape, False, np.float32), mean, variance)
    exact = x.astype(np.float64).reshape(-1, 5)
    np.testing.assert_allclose(backend.to_host(mean), exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(backend.to_host(variance), exact.var(axis=0), rtol=1e-3)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (3, 4, 6, 5), (2, 8, 8, 33), (40, 32, 32, 3)])
def test_norm_relu_pool(shape, pool, relu, kernel_of):
    images, height, width, channels = shape
    coarse = (images, height // 2, width // 2, channels) if pool else shape
    x, gamma, beta = np.round(normal(0, *shape), 1), normal(1, channels), normal(2, channels)  # Rounded: there are ties.
    mean, rstd = normal(3, channels), np.abs(normal(4, channels)) + 0.5
    scratch = norm_relu_pool.NormScratch((images + 1, *shape[1:]), pool, np.float32)
    statistics = (x, scratch, nan(channels), nan(channels))
    agree(norm_relu_pool.batch_statistics, kernel_of(norm_relu_pool.batch_statistics), statistics, [2, 3], rtol=1e-4)

    # Without pooling, pooled is x itself.
    forward = (x, gamma, beta, mean, rstd, relu, pool, scratch, nan(*coarse) if pool else x, nan(*coarse))
    agree(norm_relu_pool.norm_relu_pool_forward, kernel_of(norm_relu_pool.norm_relu_pool_forward), forward, [8, 9])

    pooled, out = nan(*coarse), nan(*coarse)
    with backend.temporarily("numpy"):
        host_scratch = norm_relu_pool.NormScratch(shape, pool, np.float32)
        norm_relu_pool.norm_relu_pool_forward(
            x, gamma, beta, mean, rstd, relu, pool, host_scratch, pooled if pool else x, out
        )
    pooled = pooled if pool else x
    sums = (normal(5, *coarse), pooled, out, mean, rstd, relu, scratch, nan(*coarse), nan(channels), nan(channels))
    agree(
        norm_relu_pool.norm_gradient_sums,
        kernel_of(norm_relu_pool.norm_gradient_sums),
        sums,
        [7, 8, 9],
        rtol=1e-4,
        atol=1e-4,
    )
    backward = (
        normal(6, *coarse),
        x,
        pooled,
        gamma,
        mean,
        rstd,
        normal(7, channels),
        normal(8, channels),
        images * height * width,
        pool,
        scratch,
        nan(*shape),
    )
    agree(
        norm_relu_pool.norm_relu_pool_backward,
        kernel_of(norm_relu_pool.norm_relu_pool_backward),
        backward,
        [11],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("some_ended", [True, False])
@pytest.mark.parametrize(("examples", "units"), [(1, 1), (5, 7), (64, 32)])
def test_lstm_gates(examples, units, some_ended, kernel_of):
    steps, t, state = 3, 1, (examples, units)
    finished = np.arange(examples)[:, None] % 2 == 0 if some_ended else None
    inputs, gates = 3 * normal(0, 4, steps, *state), 3 * normal(1, 4, *state)
    inputs.flat[:4] = 200, -200, 90, -90
    forward = (inputs, t, normal(2, *state), normal(3, *state), finished, gates, *(nan(*state) for _ in range(3)))
    agree(lstm.lstm_gates_forward, kernel_of(lstm.lstm_gates_forward), forward, [5, 6, 7, 8])
    gates = np.random.default_rng(4).random((4, *state), np.float32)
    backward = (
        normal(5, *state),
        normal(6, *state),
        normal(7, *state),
        gates,
        np.tanh(normal(8, *state)),
        nan(4, *state),
        nan(examples, 4 * units),
    )
    agree(lstm.lstm_gates_backward, kernel_of(lstm.lstm_gates_backward), backward, [1, 6])


def test_every_replacement_is_tested_here():
    assert {plain.__name__ for family in FAMILIES for plain in family.REPLACEMENTS} == {
        "sigmoid_forward",
        "binarize_and_commit",
        "bce_with_logits",
        "adam_scales",
        "adam_update",
        "rmsprop_update",
        "batch_norm_forward",
        "batch_norm_backward",
        "batch_statistics",
        "norm_relu_pool_forward",
        "norm_gradient_sums",
        "norm_relu_pool_backward",
        "cross_entropy_with_logits",
        "lstm_gates_forward",
        "lstm_gates_backward",
    }


def test_sums_are_the_same_bits_every_time(kernel_of):
    x, t = on_device(logits(40, 784).clip(-9, 9), targets(40, 784))
    bce, dlogits = kernel_of(losses.bce_with_logits), empty(40, 784)
    assert len({float(backend.to_host(bce(x, t, empty(784), dlogits))) for _ in range(2)}) == 1


def test_an_array_that_is_not_contiguous_is_refused(kernel_of):
    x = backend.xp.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="must be contiguous"):
        kernel_of(ops.sigmoid_forward)(x[:, ::2], backend.xp.ones((4, 2), np.float32))


# ---- compiled for real GPUs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["compute_70", "compute_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("source", SOURCES)
def test_nvrtc_compiles_the_kernels(source, architecture):
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs NVRTC, as it comes with CuPy; but no GPU")
    if int(architecture.partition("_")[2]) not in nvrtc.getSupportedArchs():
        pytest.skip(f"this NVRTC does not support {architecture}")
    program = nvrtc.createProgram(SOURCES[source], f"{source}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", "--std=c++11"))
        log = nvrtc.getProgramLog(program)
        compiled = nvrtc.getCUBIN(program) if architecture.startswith("sm") else nvrtc.getPTX(program)
    except nvrtc.NVRTCError as error:
        pytest.fail(f"{error}: {nvrtc.getProgramLog(program)}")
    finally:
        nvrtc.destroyProgram(program)
    assert "error" not in log and len(compiled) > 1000


def test_a_block_of_a_sum_has_the_threads_that_it_needs():
    # The halves of a block are added until one is left.
    assert compiler.THREADS & (compiler.THREADS - 1) == 0
    assert lstm_kernels.LANES * lstm_kernels.ROWS_PER_BLOCK <= 1024
    for columns in (1, 3, 32, 33, 200):
        blocks, (width, height) = norm_kernels._blocks(columns)
        assert width * height == compiler.THREADS and blocks * width >= columns
