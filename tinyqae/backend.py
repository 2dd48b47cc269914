"""The array backend: NumPy on the CPU, CuPy on the GPU. The only file that imports CuPy.

Code elsewhere says `backend.xp.add(a, b, out=c)`, always through the module attribute, so that `use("cupy")` takes
effect everywhere. Nothing crosses between host and device by itself: `to_device` and `to_host` are the only bridges.
"""
import concurrent.futures
import contextlib
import importlib.util
import os
import platform

import numpy as np
import threadpoolctl

from .errors import BackendError

xp = np
name = "numpy"
# What multiplies matrices on a GPU (fast/cuda/gemm.py); None: xp.matmul does.
products = None

BACKENDS = ("auto", "numpy", "cupy")
threads = os.cpu_count() or 1
# The share of the GPU's free memory that a data set may take; the rest is the model's.
SHARE_FOR_DATA = 0.5
# What CUDA and CuPy call it, and what a person would like to read.
NO_MEMORY = "the GPU has no memory left; nvidia-smi tells who holds it"
SIGNS_OF_WHAT_IS_MISSING = {
    "cudaErrorInsufficientDriver": "there is no NVIDIA driver, or one too old for the CUDA of this CuPy; nvidia-smi tells",
    "cudaErrorNoDevice": "no CUDA device can be seen; nvidia-smi -L lists them, CUDA_VISIBLE_DEVICES hides them",
    "cudaErrorMemoryAllocation": NO_MEMORY, "OutOfMemoryError": NO_MEMORY, "CUBLAS_STATUS_ALLOC_FAILED": NO_MEMORY,
}
_pool = None
why_not_cupy = ""

# glibc returns large freed blocks to the system, and fetching them again costs page faults: most of the time of a small step
# that allocates its results. Once a block of up to 32 MiB has been freed, it keeps all that are smaller.
np.empty((1 << 25) - (1 << 16), np.uint8)


def use(which="auto"):
    """Choose the backend for everything built from now on and return its name.

    which: "numpy"; "cupy" (BackendError when there is no working GPU: one line that says what is missing); or "auto":
    CuPy when it works, else NumPy. `describe` says which one it is and, where CuPy is installed in vain, why.
    """
    global xp, name, products, why_not_cupy
    if which not in BACKENDS:
        raise ValueError(f"backend={which!r} is unknown; choose one of {', '.join(BACKENDS)}")
    wanted_threads = os.environ.get("TINYQAE_THREADS")
    if wanted_threads is not None:
        if not (wanted_threads.isdecimal() and int(wanted_threads) > 0):
            raise BackendError(f"TINYQAE_THREADS={wanted_threads!r} must be a whole number above 0")
        use_threads(int(wanted_threads))
    if which == "numpy" or (which == "auto" and importlib.util.find_spec("cupy") is None):
        xp, name, products, why_not_cupy = np, "numpy", None, ""
        return name
    try:
        xp, name, why_not_cupy = _working_cupy(), "cupy", ""
    except BackendError as error:
        if which == "cupy":
            raise BackendError(f"backend='cupy': {error}; or use backend='numpy'") from None
        xp, name, products, why_not_cupy = np, "numpy", None, str(error)
        return name
    from .fast.cuda.gemm import products_of  # Not above: that file builds on this one.
    products = products_of(xp.cuda.Device().id)
    return name


def _working_cupy():
    """The cupy module, once it has computed something; BackendError says which part is missing."""
    try:
        import cupy
    except Exception as error:  # A CuPy that does not fit its NumPy or the system fails in many ways.
        raise BackendError(f"CuPy cannot be imported ({_one_line(error)}); with an NVIDIA GPU and driver, pip install "
                           "cupy-cuda12x (or cupy-cuda13x)") from None
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            # What a step needs: memory, a kernel compiled just now, and a matrix product.
            ones = cupy.ones((2, 2), cupy.float32)
            float(cupy.matmul(ones, ones).sum())
            return cupy
        reason = "cudaErrorNoDevice"
    except Exception as error:  # CUDA's runtime, compiler and libraries raise what they like.
        reason = f"{type(error).__name__}: {_one_line(error)}"
    missing = [text for sign, text in SIGNS_OF_WHAT_IS_MISSING.items() if sign in reason]
    missing.append('CuPy is installed, but what it needs does not work; pip install "cupy-cuda12x[ctk]" (or cupy-cuda13x) '
                   "brings CUDA's libraries")
    raise BackendError(f"{missing[0]} ({reason})")


def _one_line(error):
    """What an exception says, in one line. CuPy's failed import explains itself in a dozen and is raised from the cause."""
    return " ".join(str(error.__cause__ or error).split())


def gemm(a, b, out):
    """out = a @ b for matrices a (M, K) and b (K, N); transposed views go to BLAS as they are, without a copy.

    A vector a (K,) is one row, with out (N,). Either or both may be stacks of matrices (B, ., .), with out (B, M, N).
    """
    if products is None:
        return xp.matmul(a, b, out=out)
    return products.gemm(a, b, out)


def gather(array, index, out):
    """out[i] = array[index[i]] along the first axis; every index must be in range (it is not checked on the GPU)."""
    if name == "numpy":
        # The default mode would check first and write through a temporary copy of `out`.
        return np.take(array, index, axis=0, out=out, mode="clip")
    return xp.take(array, index, axis=0, out=out)


def to_device(array, out=None):
    """A NumPy array as an array of the backend in use: itself under NumPy, else a copy, in `out` (which has its shape and
    dtype) where that is given.
    """
    if out is None or name == "numpy":
        return xp.asarray(array)
    out.set(array)
    return out


def to_host(array):
    """An array of any backend as a NumPy array; what is on the host already, array or number, is returned as it is."""
    return array.get() if hasattr(array, "get") else array


def fits(size):
    """Whether a data set of `size` bytes should live on the device, rather than be sent there batch by batch."""
    if name == "numpy":
        return True
    free, _ = xp.cuda.runtime.memGetInfo()
    return size <= SHARE_FOR_DATA * (free + xp.get_default_memory_pool().free_bytes())


def generator(*seed):
    """A NumPy random generator from one or more non-negative integers, on every backend.

    Initial weights and the order of the data are drawn with it on the host, so that one seed means one training run.
    """
    return np.random.default_rng(list(seed))


def blas_threads(count):
    """A context in which BLAS uses `count` threads."""
    return threadpoolctl.threadpool_limits(limits=count, user_api="blas")


def use_threads(count):
    """From now on let a step use up to `count` threads of the CPU: BLAS inside a product, or `split_work` around many.

    The default is every core. The order of some sums depends on it, so for the very same weights on another machine use
    the same number. The environment variable TINYQAE_THREADS sets it too, when `use` chooses the backend.
    """
    global threads
    if not (isinstance(count, int) and count > 0):
        raise ValueError(f"threads={count!r} must be a whole number above 0")
    threads = count
    threadpoolctl.threadpool_limits(limits=count, user_api="blas")


def split_work(function, parts):
    """function(i) for i in 0..parts-1, side by side in threads; NumPy and compiled kernels let go of the interpreter.

    Products of many small matrices run faster so than with BLAS's own threads, which should be 1 meanwhile
    (`blas_threads`). The first part runs in the calling thread. An error in any part is raised here.
    """
    global _pool
    if _pool is None:
        _pool = concurrent.futures.ThreadPoolExecutor(max_workers=64, thread_name_prefix="tinyqae")
    others = [_pool.submit(function, i) for i in range(1, parts)]
    function(0)
    for other in others:
        other.result()


@contextlib.contextmanager
def temporarily(which):
    """Use a backend inside a `with` block and return to the previous one after it."""
    global xp, name, products, why_not_cupy
    before = xp, name, products, why_not_cupy
    use(which)
    try:
        yield
    finally:
        xp, name, products, why_not_cupy = before


def describe():
    """One line for logs and results: the backend, its version, the processor or card; and why it is not CuPy, where
    "auto" found one that does not work.
    """
    if name == "cupy":
        card = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
        return f"cupy {xp.__version__} on {card}, matrix products by {products.name}"
    blas = "+".join(sorted({f"{lib['internal_api']} {lib['version']}" for lib in threadpoolctl.threadpool_info()
                            if lib["user_api"] == "blas"}))
    without = f"; without a GPU, since {why_not_cupy}" if why_not_cupy else ""
    return f"numpy {np.__version__} ({blas}) on {processor()}, {os.cpu_count()} cores{without}"


def processor():
    """The processor's model name as the system tells it."""
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
