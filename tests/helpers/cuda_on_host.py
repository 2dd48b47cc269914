"""CUDA kernels on the processor: their very source, compiled as C++ with a few lines that stand for the GPU.

`Module` has the interface of `cupy.RawModule` as far as the library uses it. A kernel's threads run one after another;
where they wait for each other (`__syncthreads`), each is a coroutine with a stack of its own, and waiting is the next one's
turn. So the formulas and the indices of a kernel are checked without a GPU; and with `both_orders` that its results are the
same bits when the last thread goes first, which they are not where a wait is missing. How fast it is shows only on a GPU.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

COMPILER = shutil.which("g++")
both_orders = False

SHIM = r"""
#include <math.h>
#include <ucontext.h>
#include <vector>

struct dim3_ { int x, y, z; };
static dim3_ threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__ static inline
#define __shared__ static
#define __forceinline__
#define __restrict__

static ucontext_t scheduler;
static std::vector<ucontext_t> threads;
static std::vector<std::vector<char>> stacks;
static std::vector<bool> finished;
static int running;
static bool backwards;
static void (*body)();
extern "C" void set_order(bool last_first) { backwards = last_first; }

static void place(int t) {
    threadIdx.x = t % blockDim.x; threadIdx.y = t / blockDim.x % blockDim.y; threadIdx.z = t / blockDim.x / blockDim.y;
}
static void __syncthreads() { swapcontext(&threads[running], &scheduler); }
static void one_thread() { body(); finished[running] = true; }

static void one_block_of_waiting_threads(int count) {
    threads.resize(count); stacks.resize(count); finished.assign(count, false);
    for (int t = 0; t < count; ++t) {
        stacks[t].resize(1 << 16);
        getcontext(&threads[t]);
        threads[t].uc_stack.ss_sp = stacks[t].data();
        threads[t].uc_stack.ss_size = stacks[t].size();
        threads[t].uc_link = &scheduler;
        makecontext(&threads[t], one_thread, 0);
    }
    for (bool left = true; left;) {
        left = false;
        for (int k = 0; k < count; ++k) {
            const int t = backwards ? count - 1 - k : k;
            if (!finished[t]) {
                running = t; place(t);
                swapcontext(&scheduler, &threads[t]);
                left = left || !finished[t];
            }
        }
    }
}

static void all_blocks(const int* grid, const int* block, bool waits) {
    gridDim = {grid[0], grid[1], grid[2]}; blockDim = {block[0], block[1], block[2]};
    const int count = block[0] * block[1] * block[2];
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                if (waits) one_block_of_waiting_threads(count);
                else for (int t = 0; t < count; ++t) { place(t); body(); }
}
"""

KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
C_TYPES = {"float": ctypes.c_float, "double": ctypes.c_double, "int": ctypes.c_int, "long long": ctypes.c_longlong}
NUMPY_TYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "long long": np.int64, "bool": np.bool_}


def kernels_of(source):
    """{kernel: [(C type, whether it is a pointer)]} of CUDA source, preprocessed or not."""
    found = {}
    for name, arguments in KERNEL.findall(source):
        parts = [argument.replace("const ", "").strip() for argument in arguments.split(",")]
        found[name] = [
            (part.rsplit("*", 1)[0].strip(), True) if "*" in part else (part.rsplit(" ", 1)[0].strip(), False)
            for part in parts
        ]
    return found


@functools.cache
def compiled(source):
    """(library through ctypes, its kernels' arguments)."""
    if COMPILER is None:
        pytest.skip("needs g++, to compile the CUDA kernels for the processor")
    preprocessed = subprocess.run(
        [COMPILER, "-E", "-P", "-x", "c++", "-"], input=source, text=True, capture_output=True, check=True
    ).stdout
    kernels = kernels_of(" ".join(preprocessed.split()))
    entries = []
    for name, arguments in kernels.items():
        types = [f"{kind}{'*' if pointer else ''}" for kind, pointer in arguments]
        declared = ", ".join(f"{kind} a{i}" for i, kind in enumerate(types))
        entries += [
            *(f"static {kind} {name}_{i};" for i, kind in enumerate(types)),
            f"static void {name}_body() {{ {name}({', '.join(f'{name}_{i}' for i in range(len(types)))}); }}",
            f'extern "C" void launch_{name}(const int* grid, const int* block, {declared}) {{',
            *(f"    {name}_{i} = a{i};" for i in range(len(types))),
            f"    body = {name}_body; all_blocks(grid, block, {str('__syncthreads' in source).lower()}); }}",
        ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernels.cpp"
        path.write_text(SHIM + source + "\n".join(entries))
        library = path.with_suffix(".so")
        subprocess.run([COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-o", library, path], check=True)
        return ctypes.CDLL(str(library)), kernels


class Module:
    """What cupy.RawModule is, for arrays whose `data.ptr` points into the host's memory."""

    def __init__(self, *, code):
        self._library, self._kernels = compiled(code)

    def get_function(self, name):
        """The kernel, called with (grid, block, arguments); their types must be the kernel's very own."""
        launch, types = getattr(self._library, f"launch_{name}"), self._kernels[name]

        def kernel(grid, block, arguments):
            assert len(arguments) == len(types), f"{name} takes {len(types)} arguments, not {len(arguments)}"
            assert 0 < np.prod(block) <= 1024 and min(grid) > 0 and max((*grid, 1, 1)[1:3]) < 65536
            given = [_argument(name, value, *kind) for value, kind in zip(arguments, types, strict=True)]
            hosts = [value.host for value in arguments if not isinstance(value, np.generic)]
            before = [host.copy() for host in hosts] if both_orders else []
            launch(_three(grid), _three(block), *given)
            if not both_orders:
                return
            after = [host.tobytes() for host in hosts]
            for host, values in zip(hosts, before, strict=True):
                host[...] = values
            self._library.set_order(ctypes.c_bool(True))
            launch(_three(grid), _three(block), *given)
            self._library.set_order(ctypes.c_bool(False))
            assert after == [host.tobytes() for host in hosts], f"{name}: the result depends on the order of the threads"

        return kernel


def _three(sizes):
    return (ctypes.c_int * 3)(*(*sizes, 1, 1)[:3])


def _argument(kernel, value, kind, is_pointer):
    if not is_pointer:
        assert isinstance(value, NUMPY_TYPES[kind]), f"{kernel}: {value!r} is passed where {kind} is expected"
        return C_TYPES[kind](value.item())
    if isinstance(value, np.uintp):
        assert value == 0
        return ctypes.c_void_p(None)
    assert value.dtype == NUMPY_TYPES[kind], f"{kernel}: an array of {value.dtype} is passed where {kind}* is expected"
    return ctypes.c_void_p(value.data.ptr)
