"""The Numba kernels against the plain functions that they replace and the reference, and how they are chosen.

Those of the LSTM, of pooling and of batch norm with ReLU are in the tests of these.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_arrays import SHAPES, logits, targets

from tinyqae import backend
from tinyqae import losses as reference
from tinyqae.errors import BackendError
from tinyqae.fast import kernels, losses, ops, optim
from tinyqae.ops import activations as activation_ops
from tinyqae.ops import norm as norm_op
from tinyqae.ops.binarize import binarize


@pytest.fixture
def replacements():
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    from tinyqae.fast.numba import elementwise

    return elementwise.REPLACEMENTS


def empty(*shape):
    return np.full(shape, np.nan, np.float32)


def check_loss(plain, kernel, x, t, scratch):
    """Plain function, kernel and reference (whose names are the same) agree."""
    with np.errstate(all="ignore"):
        (expected, dexpected), (value, dx) = (
            (f(x, t, scratch(), d), d) for f, d in ((plain, empty(*x.shape)), (kernel, empty(*x.shape)))
        )
        function, gradient = (getattr(reference, plain.__name__ + suffix) for suffix in ("", "_backward"))
        others = (expected, dexpected), (function(x, t), gradient(x, t))
    for right, dright in others:
        np.testing.assert_allclose(value, right, rtol=1e-5)
        np.testing.assert_allclose(dx * x.size, dright * x.size, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_bce(shape, replacements):
    # 3e38 is near the largest float32, where a sum of such numbers overflows in any order of summing.
    x = logits(*shape).clip(-1e4, 1e4)
    check_loss(losses.bce_with_logits, replacements[losses.bce_with_logits], x, targets(*shape), lambda: empty(shape[1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_squared_error(shape, replacements):
    plain = losses.squared_error_with_logits
    check_loss(plain, replacements[plain], logits(*shape), targets(*shape), lambda: empty(*shape))


@pytest.fixture
def cross_entropies(replacements):
    """The plain function and its kernel, each from (logits, labels, weights) to (value, gradient)."""
    from tinyqae.fast.numba.lstm import REPLACEMENTS

    plain = losses.cross_entropy_with_logits

    def with_arrays(function):
        def run(x, labels, weights):
            dx = empty(*x.shape)
            return function(x, labels, weights, losses.CrossEntropyScratch(*x.shape, np.float32), dx), dx

        return run

    return with_arrays(plain), with_arrays(REPLACEMENTS[plain])


@pytest.mark.parametrize("shape", [(1, 1), (1, 39), (20, 39), (200, 33)])
def test_cross_entropy(shape, cross_entropies):
    random, x = np.random.default_rng(shape), logits(*shape).clip(-1e4, 1e4)
    labels, weights = random.integers(0, shape[1], shape[0]), random.uniform(-0.5, 2, shape[0]).clip(0).astype(np.float32)
    plain, (value, dx) = (f(x, labels, weights) for f in cross_entropies)
    by_definition = tuple(
        f(x, labels, weights) for f in (reference.cross_entropy_with_logits, reference.cross_entropy_with_logits_backward)
    )
    for expected, dexpected in (plain, by_definition):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(dx, dexpected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_cross_entropy_of_nan_is_nan_so_that_training_stops(place, cross_entropies):
    x = logits(4, 5).clip(-9, 9)
    x[2, place] = np.nan
    for f in cross_entropies:
        assert np.isnan(f(x, np.array([0, 1, 2, 3]), np.ones(4, np.float32))[0])


@pytest.mark.parametrize("shape", [(20,), (65, 20), (3, 4, 5, 6)])
def test_sigmoid(shape, replacements):
    x, out = logits(np.prod(shape), 1).reshape(shape), empty(*shape)
    assert replacements[ops.sigmoid_forward](x, out) is out
    exact = 1 / (1 + np.exp(-x.astype(np.float64).clip(-700, 700)))
    np.testing.assert_allclose(out, ops.sigmoid_forward(x, empty(*shape)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, activation_ops.sigmoid_forward(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, exact, rtol=1e-6, atol=1e-37)
    assert (out >= 0).all() and (out <= 1).all()


def test_sigmoid_of_nan_is_nan(replacements):
    out = replacements[ops.sigmoid_forward](np.array([np.nan, 1], np.float32), empty(2))
    assert np.isnan(out[0]) and out[1] > 0.7


def test_losses_of_nan_are_nan_so_that_training_stops(replacements):
    x, t = logits(4, 5).clip(-9, 9), targets(4, 5)
    x[2, 3] = np.nan
    assert np.isnan(replacements[losses.bce_with_logits](x, t, empty(5), empty(4, 5)))
    assert np.isnan(replacements[losses.squared_error_with_logits](x, t, empty(4, 5), empty(4, 5)))
    assert np.isnan(replacements[losses.binarize_and_commit](x, empty(4, 5), empty(4, 5)))


@pytest.mark.parametrize("shape", SHAPES)
def test_binarize_and_commit(shape, replacements):
    a = logits(*shape).clip(-1e4, 1e4) / 4
    a.flat[:3] = 0.5, np.nextafter(np.float32(0.5), np.float32(1)), np.nextafter(np.float32(0.5), np.float32(0))
    results = []
    for function in (losses.binarize_and_commit, replacements[losses.binarize_and_commit]):
        b, da = empty(*shape), empty(*shape)
        results.append((function(a, b, da), b, da))
    (expected, bits, gradient), (value, b, da) = results
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(value, reference.commitment_loss(a, bits), rtol=1e-5)
    np.testing.assert_array_equal(b, bits)
    np.testing.assert_array_equal(b, binarize(a))
    np.testing.assert_allclose(da, gradient, rtol=1e-6)
    np.testing.assert_allclose(da, reference.commitment_loss_backward(a, bits), rtol=1e-6)
    assert b.flat[0] == 0 and b.flat[1] == 1 and b.flat[2] == 0


@pytest.mark.parametrize("size", [1, 17, 5000])
@pytest.mark.parametrize(
    ("plain", "states", "arguments"),
    [
        (optim.adam_update, 2, (0.9, 0.999, 1e-3, 1e-8)),
        (optim.adam_update, 2, (0.0, 0.5, 10.0, 1e-3)),
        (optim.rmsprop_update, 1, (0.9, 1e-3, 1e-7)),
        (optim.rmsprop_update, 1, (0.0, 10.0, 1e-3)),
    ],
    ids=["adam", "adam-odd", "rmsprop", "rmsprop-odd"],
)
def test_optimizer_updates(plain, states, arguments, size, replacements):
    random = np.random.default_rng(size)
    vectors = [random.standard_normal(size).astype(np.float32) for _ in range(2)]
    vectors += [random.uniform(0, 1, size).astype(np.float32) for _ in range(states)]
    vectors[1].flat[:6] = np.array([0, 1e-30, -1e-15, 1e4, -1e4, 1e15], np.float32)[:size]
    expected, ours = [v.copy() for v in vectors], [v.copy() for v in vectors]
    # Twice, so that a state left wrong shows in the parameters.
    for _ in range(2):
        plain(*expected, empty(size), *arguments)
        replacements[plain](*ours, empty(size), *arguments)
    for mine, right in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours[1], vectors[1])


@pytest.mark.parametrize(("rows", "channels"), [(5, 1), (7, 3), (64, 16), (1001, 24)])
def test_batch_norm(rows, channels):
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    from tinyqae.fast.numba.norm import REPLACEMENTS

    random = np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    # A mean far from 0 would show a variance computed as the difference of two large sums.
    x, dout = 100 + normal(rows, channels), normal(rows, channels)
    gamma, beta = normal(channels), normal(channels)

    def run(functions, dtype):
        arrays = [a.astype(dtype) for a in (x, gamma, beta)]
        mean, variance, rstd, dgamma, dbeta = (np.empty(channels, dtype) for _ in range(5))
        xhat, out, dx = (np.empty(x.shape, dtype) for _ in range(3))
        forward, backward = (functions.get(f, f) for f in (ops.batch_norm_forward, ops.batch_norm_backward))
        forward(*arrays, 1e-5, mean, variance, rstd, xhat, out)
        backward(dout.astype(dtype), xhat, arrays[1], rstd, dx, dgamma, dbeta)
        return mean, variance, rstd, xhat, out, dx, dgamma, dbeta

    def by_definition():
        scale, shift = gamma.astype(np.float64), beta.astype(np.float64)
        out, xhat, mean, variance = norm_op.batch_norm_forward(x.astype(np.float64), scale, shift, 1e-5)
        dx, dgamma, dbeta = norm_op.batch_norm_backward(dout.astype(np.float64), xhat, scale, variance, 1e-5)
        return mean, variance, 1 / np.sqrt(variance + 1e-5), xhat, out, dx, dgamma, dbeta

    for expected in (run({}, np.float64), by_definition()):
        for result, right in zip(run(REPLACEMENTS, np.float32), expected, strict=True):
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, right, rtol=0, atol=1e-4 * np.abs(right).max())


def test_every_elementwise_replacement_is_tested_here(replacements):
    assert {f.__name__ for f in replacements} == {
        "sigmoid_forward",
        "binarize_and_commit",
        "bce_with_logits",
        "squared_error_with_logits",
        "adam_update",
        "rmsprop_update",
    }


def test_choose_gives_the_kernel_for_float32_only(replacements, monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "auto")
    monkeypatch.setattr(kernels, "_replacements", {})
    for plain, kernel in replacements.items():
        assert kernels.choose(plain, np.float32) is kernel
        assert kernels.choose(plain, np.float64) is plain
    assert kernels.choose(losses.fence_loss, np.float32) is losses.fence_loss


def test_choose_gives_the_plain_function_when_told_so(monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    monkeypatch.setattr(kernels, "_replacements", {})
    assert kernels.kernels() == "numpy"
    for plain in (losses.bce_with_logits, optim.adam_update, ops.sigmoid_forward):
        assert kernels.choose(plain, np.float32) is plain


def test_unknown_kernels_are_refused(monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "fortran")
    with pytest.raises(BackendError, match="TINYQAE_KERNELS='fortran'.*auto, numpy, numba"):
        kernels.kernels()


@pytest.mark.parametrize(("name", "wanted", "fitting"), [("numpy", "cupy", "numba"), ("cupy", "numba", "cupy")])
def test_kernels_of_the_other_backend_are_refused(name, wanted, fitting, monkeypatch):
    monkeypatch.setattr(backend, "name", name)
    monkeypatch.setenv("TINYQAE_KERNELS", wanted)
    message = f"TINYQAE_KERNELS={wanted} is unavailable with the backend {name}.*numpy, {fitting}"
    with pytest.raises(BackendError, match=message):
        kernels.kernels()
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    assert kernels.kernels() == "numpy"


def test_plain_kernels_never_import_numba():
    code = (
        "import sys, numpy as np; from tinyqae import MLPAutoencoder, Commit, Adam\n"
        "m = MLPAutoencoder(Commit(), (3,), (4, 4, 1), engine='fast'); m.loss(np.zeros((2, 4, 4, 1), np.float32))\n"
        "m.backward(); Adam().step(m); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TINYQAE_KERNELS": "numpy"})


def test_the_reference_engine_imports_neither_numba_nor_the_fast_engine():
    code = (
        "import sys, numpy as np; from tinyqae import MLPAutoencoder, Commit, Adam\n"
        "m = MLPAutoencoder(Commit(), (3,), (4, 4, 1), engine='reference'); m.loss(np.zeros((2, 4, 4, 1), np.float32))\n"
        "m.backward(); Adam().step(m)\n"
        "assert not [name for name in sys.modules if name == 'numba' or name.startswith('tinyqae.fast')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place where not even root can make directories")
def test_where_nothing_can_be_written_kernels_are_compiled_uncached_with_one_warning(tmp_path):
    pytest.importorskip("numba", reason="the fused kernels need Numba (extra `fast`)")
    ignored = shutil.ignore_patterns("__pycache__", "shipped", "cuda")
    shutil.copytree(Path(kernels.__file__).parents[1], tmp_path / "tinyqae", ignore=ignored)
    (tmp_path / "tinyqae/fast/numba/__pycache__").touch()  # Where Numba would make a directory.
    code = (
        "import numpy as np\nfrom tinyqae.fast.numba.norm import REPLACEMENTS\n"
        "from tinyqae.fast.numba.elementwise import exp_up_to_88, compiled\n"
        "print(compiled(lambda x: exp_up_to_88(x))(np.float32(0)))"
    )
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/none")
    environment = {**os.environ, **home, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "1.0\n"
    assert done.stderr.count("UserWarning: Numba recompiles its kernels") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("auto", "UserWarning: Numba cannot be imported (Numba needs another NumPy); training continues with NumPy"),
        ("numba", "BackendError: TINYQAE_KERNELS=numba, but Numba cannot be imported (Numba needs another NumPy): pip"),
    ],
)
def test_numba_that_cannot_be_imported_is_said_in_one_line(asked, words, tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs another\\nNumPy')")
    environment = {
        **os.environ,
        "TINYQAE_KERNELS": asked,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(kernels.__file__).parents[2])]),
    }
    code = "from tinyqae.fast import kernels\nprint([kernels.kernels() for _ in range(3)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stderr.count(words) == 1
    assert done.stdout == ("['numpy', 'numpy', 'numpy']\n" if asked == "auto" else "")
