"""The backend switch, and what the package imports."""

import ast
import contextlib
import importlib.abc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinyqae
from tinyqae import backend
from tinyqae.errors import BackendError, TinyqaeError

PACKAGE = Path(tinyqae.__file__).parent
without_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")


@pytest.fixture(autouse=True)
def backend_as_before(monkeypatch):
    monkeypatch.setattr(backend, "xp", backend.xp)
    monkeypatch.setattr(backend, "name", backend.name)
    monkeypatch.setattr(backend, "why_not_cupy", "")


@without_cupy
def test_missing_cupy_asked_for_is_one_clear_error():
    with pytest.raises(BackendError, match="backend='cupy'.*pip install.*backend='numpy'") as caught:
        backend.use("cupy")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TinyqaeError)
    assert backend.xp is np and backend.name == "numpy"


@without_cupy
def test_auto_without_cupy_is_numpy():
    assert backend.use("auto") == backend.use() == "numpy"
    assert backend.xp is np


def test_an_installed_cupy_without_a_gpu_says_what_is_missing():
    cupy = pytest.importorskip("cupy", reason="needs CuPy, but no GPU")
    with contextlib.suppress(Exception):
        if cupy.cuda.runtime.getDeviceCount() > 0:
            pytest.skip("there is a GPU")
    missing = "(the NVIDIA driver is missing|no CUDA device)"
    with pytest.raises(BackendError, match=f"^backend='cupy': {missing}.*'numpy'$") as caught:
        backend.use("cupy")
    assert "\n" not in str(caught.value)
    assert backend.use("auto") == "numpy" and backend.why_not_cupy in backend.describe()


def test_auto_with_a_cupy_that_does_not_work_is_numpy(monkeypatch):
    def broken():
        raise BackendError("no GPU works")

    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(backend, "_import_cupy", broken)
    assert backend.use("auto") == "numpy"
    with pytest.raises(BackendError):
        backend.use("cupy")


class OutOfMemoryError(MemoryError):
    """CuPy has one of this name."""


def cupy_that_finds(devices, error=None):
    """A module that fails as CuPy does: `error` where it computes, or already where it counts devices, if that is None."""

    def count():
        if devices is None:
            raise error
        return devices

    def compute(*_):
        raise error

    return SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count)), ones=compute, float32=None)


@pytest.mark.parametrize(
    ("devices", "error", "named"),
    [
        (
            None,
            RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
            "the NVIDIA driver is missing, or too old .*nvidia-smi.*cudaErrorInsufficientDriver",
        ),
        (
            None,
            RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"),
            "no CUDA device .*CUDA_VISIBLE_DEVICES",
        ),
        (0, None, "no CUDA device .*CUDA_VISIBLE_DEVICES"),
        (1, OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes)."), "out of memory.*512 bytes"),
        (1, RuntimeError("cudaErrorMemoryAllocation: out of memory"), "the GPU is out of memory"),
        (1, RuntimeError("CuPy failed to load libnvrtc.so.12:\n  no such file"), r"\[ctk\].*libnvrtc.so.12: no such file"),
    ],
    ids=["driver", "no device", "none of them", "memory", "memory by CUDA", "library"],
)
def test_what_is_missing_is_said_in_one_line(devices, error, named, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_that_finds(devices, error))
    with pytest.raises(BackendError, match=f"^backend='cupy': .*{named}.*use backend='numpy'$") as caught:
        backend.use("cupy")
    assert "\n" not in str(caught.value)
    assert backend.xp is np


def test_an_import_that_explains_itself_at_length_is_one_line(monkeypatch):
    cause = ImportError("libcublas.so.12: cannot open shared object file")

    class Importer(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ImportError("====\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: ...\n====") from cause

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Importer(), *sys.meta_path])
    with pytest.raises(BackendError, match=r"cannot be imported \(libcublas.so.12: cannot open.*pip install") as caught:
        backend.use("cupy")
    assert "\n" not in str(caught.value) and "====" not in str(caught.value)


def test_auto_says_what_it_uses_and_why_not_the_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_that_finds(0))
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: object())
    assert backend.use("auto") == "numpy"
    assert backend.describe().startswith("numpy") and "no CUDA device is visible" in backend.describe()
    assert "\n" not in backend.describe()
    backend.use("numpy")
    assert "CUDA" not in backend.describe()


def test_numpy_is_numpy():
    assert backend.use("numpy") == "numpy"
    assert backend.xp is np


@pytest.mark.parametrize("which", ["torch", "", None, "CuPy"])
def test_unknown_backend_is_named(which):
    with pytest.raises(ValueError, match=f"backend={which!r}.*auto, numpy, cupy"):
        backend.use(which)


def test_temporarily_returns_to_the_previous_backend_even_after_an_error(monkeypatch):
    other = object()
    monkeypatch.setattr(backend, "xp", other)
    monkeypatch.setattr(backend, "name", "other")
    with pytest.raises(KeyError), backend.temporarily("numpy"):
        assert backend.xp is np and backend.name == "numpy"
        raise KeyError
    assert backend.xp is other and backend.name == "other"


def test_generator_depends_on_every_number_of_its_seed():
    draws = {seed: backend.generator(*seed).random() for seed in ((0,), (1,), (1, 2), (2, 1), (1, 2, 3))}
    assert len(set(draws.values())) == 5
    assert backend.generator(1, 2).random() == draws[1, 2]


def test_gemm_writes_into_its_destination_also_from_transposed_views():
    random = np.random.default_rng(0)
    a, b, out = random.random((3, 4)), random.random((5, 3)), np.empty((4, 5))
    assert backend.gemm(a.T, b.T, out) is out
    np.testing.assert_allclose(out, np.einsum("km,nk->mn", a, b))


def test_gather_picks_rows_into_its_destination():
    array, out = np.arange(12).reshape(4, 3), np.empty((3, 3), int)
    assert backend.gather(array, np.array([3, 0, 3]), out) is out
    np.testing.assert_array_equal(out, [[9, 10, 11], [0, 1, 2], [9, 10, 11]])


def test_numpy_arrays_cross_the_bridges_uncopied():
    array = np.ones(3)
    assert backend.to_device(array) is array and backend.to_host(array) is array
    assert backend.to_device(array, np.empty(3)) is array
    number = np.float32(2)
    assert backend.to_host(number) is number and backend.to_host(2.5) == 2.5


def test_describe_names_numpy_and_its_version():
    assert backend.describe().startswith(f"numpy {np.__version__} (")


# ---- imports --------------------------------------------------------------------------------------------------------


def imported_modules(path):
    """The top-level names of all modules that a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def importers(*modules):
    return {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if set(imported_modules(path)) & set(modules)
    }


def test_only_backend_imports_cupy():
    assert importers("cupy", "cupyx") == {"backend.py"}


def test_no_autodiff_library_is_imported():
    assert importers("torch", "jax", "tensorflow", "keras", "autograd", "theano", "mxnet") == set()


def test_numba_is_imported_by_its_kernels_only():
    assert all(name.startswith("fast/numba/") for name in importers("numba"))


def test_package_works_without_numba_cupy_and_torch():
    code = """
import importlib.abc, importlib.util, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "cupy", "torch", "cupyx"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ("numba", "cupy", "torch") else find_spec(name, *a)

import numpy as np
import tinyqae, tinyqae.train, tinyqae.experiment
from tinyqae.fast import kernels
assert tinyqae.backend.use("auto") == "numpy" and kernels.kernels() == "numpy"
model = tinyqae.MLPAutoencoder(tinyqae.Commit(), (5,), (4, 4, 1))
images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
history = tinyqae.train.fit(model, images, tinyqae.Adam(), epochs=1, progress=False)
assert len(history.rows) == 1
print("works")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "works\n"


def test_the_environment_sets_the_threads_when_a_backend_is_chosen(monkeypatch):
    monkeypatch.setattr(backend, "threads", 7)
    chosen = []
    monkeypatch.setattr(backend, "use_threads", chosen.append)
    monkeypatch.delenv("TINYQAE_THREADS", raising=False)
    backend.use("numpy")
    monkeypatch.setenv("TINYQAE_THREADS", "3")
    backend.use("numpy")
    assert chosen == [3]


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "9" * 20, "9" * 5000])
def test_a_number_of_threads_that_is_none_is_one_clear_error(text, monkeypatch):
    monkeypatch.setenv("TINYQAE_THREADS", text)
    with pytest.raises(BackendError, match="TINYQAE_THREADS='.*' must be a whole number from 1 to 999"):
        backend.use("numpy")


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")  # Newer Pythons warn of forks beside threads.
from tinyqae import Adam, CNNAutoencoder, Commit, backend, fit, synthetic_shapes
backend.use_threads(2)
images = synthetic_shapes(train=64, test=1, seed=0).train_images
def train():
    model = CNNAutoencoder(Commit(), (8, 4), 2, seed=1)
    fit(model, images, Adam(), epochs=1, batch_size=32, progress=False)
    return model.model_id()
expected = train()
child = os.fork()
if not child:
    os._exit(train() != expected)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_after_training_trains_as_well():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=100)


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, 8),
        ({"outer/inner": "max 100000"}, 8),
        ({"outer/inner": "200000 100000"}, 2),
        ({"outer": "150000 100000"}, 2),
        ({"outer": "300000 100000", "outer/inner": "50000 100000"}, 1),
        ({".": "400000 100000"}, 4),
        ({"other": "100000 100000"}, 8),
        ({"outer": "1600000 100000"}, 8),
        ({"outer/inner": "?"}, 8),
    ],
)
def test_a_quota_of_a_container_limits_the_cores(quotas, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for group, text in quotas.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "cpu.max").write_text(text + "\n")
    (tmp_path / "own").write_text("1:cpu:/\n0::/outer/inner\n")
    assert backend.usable_cores(tmp_path / "groups", tmp_path / "own") == cores
    assert backend.usable_cores(tmp_path / "groups", tmp_path / "missing") == 8


def test_without_affinities_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert backend.usable_cores(tmp_path, tmp_path / "missing") == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinities on this system")
def test_a_process_on_one_core_has_one_thread():
    code = """if True:
        import os, numpy, threadpoolctl
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # After NumPy has counted them.
        from tinyqae import backend
        blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        print(backend.threads, max(blas, default=1), "1 cores" in backend.describe())"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1 1 True\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes on this system")
@pytest.mark.parametrize(("setting", "count"), [("1", 1), ("1,4", 1), ("0", 1), ("nonsense", None), ("9" * 30, None)])
def test_threads_are_as_many_as_the_process_may_use(setting, count):
    def threads(**settings):
        code = "from tinyqae import backend; print(backend.threads)"
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | settings
        return int(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True).stdout
        )

    allowed = os.sched_getaffinity(0)
    assert threads(OMP_NUM_THREADS=setting) == (count or threads())
    assert 1 <= threads() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})  # Which child processes inherit.
        assert threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)
