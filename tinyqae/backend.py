"""The array backend: NumPy on the CPU, CuPy on the GPU. The only file that imports CuPy.

Other modules call `backend.xp.add(a, b, out=c)`, always through the module attribute, so that `use("cupy")` takes effect
everywhere. Nothing is copied between host and device implicitly: only `to_device` and `to_host` do that.
"""

import concurrent.futures
import contextlib
import importlib.util
import math
import os
import platform
import threading
from pathlib import Path

import numpy as np
import threadpoolctl

from .errors import BackendError

xp = np
name = "numpy"
# cuBLAS on a GPU (fast/cuda/gemm.py). None on the CPU, and where cuBLAS is unavailable: then xp.matmul is used.
gpu_gemm = None

BACKENDS = ("auto", "numpy", "cupy")
# The fraction of the GPU's free memory that a data set may occupy; the rest is left for the model.
DATA_MEMORY_FRACTION = 0.5
OUT_OF_MEMORY = "the GPU is out of memory; nvidia-smi shows which processes use it"
# Hints for errors of CUDA or CuPy, by a word in the message.
CUDA_ERROR_HINTS = {
    "cudaErrorInsufficientDriver": "the NVIDIA driver is missing, or too old for this CuPy's CUDA version; check nvidia-smi",
    "cudaErrorNoDevice": "no CUDA device is visible; check nvidia-smi -L and CUDA_VISIBLE_DEVICES",
    "cudaErrorMemoryAllocation": OUT_OF_MEMORY,
    "OutOfMemoryError": OUT_OF_MEMORY,
    "CUBLAS_STATUS_ALLOC_FAILED": OUT_OF_MEMORY,
}
why_not_cupy = ""


def usable_cores(groups=Path("/sys/fs/cgroup"), own=Path("/proc/self/cgroup")):
    """The number of cores this process may use: those of its CPU affinity, limited by OMP_NUM_THREADS and the quotas of its
    cgroup (version 2) and the enclosing ones, which limit containers. groups, own: where Linux lists cgroups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, StopIteration):
        group = groups / next(line for line in own.read_text().splitlines() if line.startswith("0::"))[len("0::/") :]
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # The outermost has no such file, and "max" is not a number.
                quota, period = map(int, (folder / "cpu.max").read_text().split())
                cores = min(cores, math.ceil(quota / period))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(cores, max(1, int(asked))) if asked.isdecimal() and len(asked) < 4 else cores


threads = usable_cores()
# BLAS ignores quotas. A lower setting by the user is kept.
if threads < (os.cpu_count() or 1) and any(
    library["num_threads"] > threads for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
):
    threadpoolctl.threadpool_limits(limits=threads, user_api="blas")


def _new_threads():
    """Create the pool and lock; again after a fork, which copies the pool without its threads, and locks in any state."""
    global _thread_pool, _blas_lock, _blas_users, _blas_limits
    # Its threads start on demand.
    _thread_pool = concurrent.futures.ThreadPoolExecutor(max_workers=64, thread_name_prefix="tinyqae")
    _blas_lock, _blas_users, _blas_limits = threading.Lock(), 0, None


_new_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_threads)

# glibc returns large freed blocks to the operating system, and allocating them again causes page faults, which dominate a
# small training step. Once a block of just under 32 MiB has been freed, glibc keeps smaller ones for reuse.
np.empty((1 << 25) - (1 << 16), np.uint8)


def use(which="auto"):
    """Select the backend for everything built from now on. Returns its name, "numpy" or "cupy".

    Args:
        which: "numpy", "cupy", or "auto": CuPy if it works, otherwise NumPy; then `describe` says why not CuPy.

    Raises:
        BackendError: "cupy" was requested and no GPU is usable; one line says what is missing.
    """
    global xp, name, gpu_gemm, why_not_cupy
    if which not in BACKENDS:
        raise ValueError(f"backend={which!r} is unknown; choose one of {', '.join(BACKENDS)}")
    requested_threads = os.environ.get("TINYQAE_THREADS")
    if requested_threads is not None:
        if not (requested_threads.isdecimal() and len(requested_threads) < 4 and int(requested_threads) > 0):
            raise BackendError(f"TINYQAE_THREADS={requested_threads!r} must be a whole number from 1 to 999")
        use_threads(int(requested_threads))
    cupy, reason = None, ""
    if which == "cupy" or which == "auto" and importlib.util.find_spec("cupy") is not None:
        try:
            cupy = _import_cupy()
        except BackendError as error:
            if which == "cupy":
                raise BackendError(f"backend='cupy': {error}; or use backend='numpy'") from None
            reason = str(error)
    xp, name, gpu_gemm, why_not_cupy = cupy or np, "cupy" if cupy else "numpy", None, reason
    if cupy:
        from .fast.cuda.gemm import gemm_for_device  # Imported here, since that module imports this one.

        gpu_gemm = gemm_for_device(xp.cuda.Device().id)
    return name


def _import_cupy():
    """The cupy module, after a small computation with it has succeeded; BackendError says what is missing."""
    try:
        import cupy
    except Exception as error:  # An incompatible CuPy raises errors of many types on import.
        raise BackendError(
            f"CuPy cannot be imported ({_one_line(error)}); with an NVIDIA GPU and driver, pip install "
            "cupy-cuda12x (or cupy-cuda13x)"
        ) from None
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            # Try what a training step needs: memory, a kernel compiled at run time, and a matmul.
            ones = cupy.ones((2, 2), cupy.float32)
            float(cupy.matmul(ones, ones).sum())
            return cupy
        reason = "cudaErrorNoDevice"
    except Exception as error:  # CUDA's runtime, compiler and libraries raise errors of many types.
        reason = f"{type(error).__name__}: {_one_line(error)}"
    hints = [hint for word, hint in CUDA_ERROR_HINTS.items() if word in reason]
    hints.append(
        'CuPy is installed, but its dependencies do not work; pip install "cupy-cuda12x[ctk]" (or cupy-cuda13x) '
        "installs the CUDA libraries"
    )
    raise BackendError(f"{hints[0]} ({reason})")


def _one_line(error):
    """An exception's message, or that of its cause, in one line: a failed CuPy import prints a dozen."""
    return " ".join(str(error.__cause__ or error).split())


def gemm(a, b, out):
    """out = a @ b, without copying transposed views. Returns out.

    a: (M, K), a vector (K,), or a batch of matrices (B, M, K). b: (K, N), or a batch (B, K, N). out: (M, N), (N,) if a is a
    vector, or (B, M, N) if a or b is a batch.
    """
    return xp.matmul(a, b, out=out) if gpu_gemm is None else gpu_gemm.gemm(a, b, out)


def gather(array, index, out):
    """out[i] = array[index[i]] along the first axis. Indices must be in range: they are not checked."""
    if name == "numpy":
        # The default mode checks the indices and writes through a temporary copy of `out`.
        return np.take(array, index, axis=0, out=out, mode="clip")
    return xp.take(array, index, axis=0, out=out)


def to_device(array, out=None):
    """A NumPy array as an array of the backend: itself with NumPy, a copy with CuPy, written to `out` (of its shape and
    dtype) if given.
    """
    if out is None or name == "numpy":
        return xp.asarray(array)
    out.set(array)
    return out


def to_host(array):
    """An array of any backend as a NumPy array. Arrays and numbers on the host are returned unchanged."""
    return array.get() if hasattr(array, "get") else array


def fits(size):
    """Whether to keep a data set of `size` bytes in device memory, rather than copy it batch by batch."""
    if name == "numpy":
        return True
    free, _ = xp.cuda.runtime.memGetInfo()
    return size <= DATA_MEMORY_FRACTION * (free + xp.get_default_memory_pool().free_bytes())


def generator(*seed):
    """A NumPy random generator seeded with one or more non-negative integers. Initial weights and the order of the data are
    drawn with it on the host, so that runs with one seed are the same on every backend.
    """
    return np.random.default_rng(list(seed))


def _release_blas():
    """Let any thread set BLAS's number of threads: since threadpoolctl 3.7, only the thread that set it first can."""
    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release:
        release(force=True)


@contextlib.contextmanager
def one_blas_thread():
    """A context manager in which BLAS uses one thread. The last thread of the process to leave it restores the setting."""
    global _blas_users, _blas_limits
    with _blas_lock:
        if _blas_users == 0:
            _release_blas()
            _blas_limits = threadpoolctl.threadpool_limits(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _release_blas()
                _blas_limits.restore_original_limits()
                _release_blas()


def use_threads(count):
    """Set the number of CPU threads of a training step, for BLAS and for `parallel_for`. Default: usable_cores(). `use` sets
    it to the environment variable TINYQAE_THREADS. Bit-identical weights need the same number, since sums depend on it.
    """
    global threads
    if not (isinstance(count, int) and count > 0):
        raise ValueError(f"threads={count!r} must be a whole number above 0")
    threads = count
    threadpoolctl.threadpool_limits(limits=count, user_api="blas")


def parallel_for(function, count):
    """[function(i) for i in 0..count-1], in parallel threads; NumPy and compiled kernels release the GIL.

    For many small matmuls this is faster than BLAS's own threads, which should be limited to 1 meanwhile
    (`one_blas_thread`). function(0) runs in the calling thread. An exception in any thread is raised here.
    """
    futures = [_thread_pool.submit(function, i) for i in range(1, count)]
    return [function(0), *(future.result() for future in futures)]


@contextlib.contextmanager
def temporarily(which):
    """A context manager that uses a backend and restores the previous one."""
    global xp, name, gpu_gemm, why_not_cupy
    before = xp, name, gpu_gemm, why_not_cupy
    use(which)
    try:
        yield
    finally:
        xp, name, gpu_gemm, why_not_cupy = before


def describe():
    """One line for logs and results: the backend, its version, the CPU or GPU; and why an installed CuPy is not used."""
    if name == "cupy":
        gpu = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
        return f"cupy {xp.__version__} on {gpu}, GEMM: {'cuBLAS' if gpu_gemm else 'CuPy, without CUDA graphs'}"
    blas = "+".join(
        sorted(
            {
                f"{lib['internal_api']} {lib['version']}"
                for lib in threadpoolctl.threadpool_info()
                if lib["user_api"] == "blas"
            }
        )
    )
    no_gpu = f"; no GPU: {why_not_cupy}" if why_not_cupy else ""
    return f"numpy {np.__version__} ({blas or 'another BLAS'}) on {processor()}, {usable_cores()} cores{no_gpu}"


def processor():
    """The CPU's model name as the operating system reports it."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
