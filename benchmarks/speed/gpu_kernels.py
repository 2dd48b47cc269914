"""Time the parts of a training step on the GPU in several implementations: matmuls, and the CNN's convolutions.

    python benchmarks/speed/gpu_kernels.py

Matmuls with shapes of the three models, eager and as a CUDA graph of twenty: by CuPy (which cannot be captured), by cuBLAS
with our own handle (as tinyqae does it), by cuTENSOR (through cupyx.cutensor) and by nvmath-python's cublasLt. Convolutions,
forward and backward: windows copied to a matrix (im2col) and multiplied, Winograd, and, as a yardstick, PyTorch's, which
are cuDNN's implicit GEMMs. Whatever does not run is listed with its error. float32 without TF32; microseconds, the median
of rounds timed by CUDA events. Writes benchmarks/results/gpu_kernels-CARD.md.
"""

import functools
import re
import statistics
import sys
import time

import numpy as np
from gpu import elapsed, versions
from train_step import RESULTS

from tinyqae import backend
from tinyqae.checkpoint import write_atomically
from tinyqae.errors import BackendError
from tinyqae.fast import conv

ROUNDS, REPEATED = 9, 20
# Description and (M, K, N).
PRODUCTS = (
    ("MLP, batch 16, forward", 16, 784, 50),
    ("MLP, batch 128, gradient of the weights", 784, 128, 50),
    ("LSTM 128, batch 64, one gate", 64, 128, 128),
    ("LSTM 128, gradient of the weights", 128, 1536, 512),
    ("CNN small, batch 128, windows of the last layer", 131072, 256, 12),
    ("a large square matrix", 4096, 4096, 4096),
)
# Description, (N, H, W, C) and F.
CONVOLUTIONS = (
    ("CNN small, first layer", (128, 32, 32, 3), 64),
    ("CNN small, second layer", (128, 16, 16, 64), 32),
    ("CNN large, second layer", (128, 16, 16, 192), 96),
)


def product_by_cupy(a, b, out):
    """out = a b by CuPy."""
    backend.xp.matmul(a, b, out=out)


def product_by_cutensor(a, b, out):
    """out = a b as a cuTENSOR contraction."""
    from cupyx import cutensor

    cutensor.contraction(1.0, a, ("m", "k"), b, ("k", "n"), 0.0, out, ("m", "n"))


class ProductByNvmath:
    """out = a b by cublasLt, planned at the first call with these arrays."""

    def __init__(self):
        self._planned = {}

    def __call__(self, a, b, out):
        from nvmath.linalg import advanced

        key = a.data.ptr, b.data.ptr
        if key not in self._planned:
            # It allocates an array for every result; beta c would be read.
            self._planned[key] = advanced.Matmul(a, b)
            self._planned[key].plan()
        out[...] = self._planned[key].execute()


def microseconds(function, captured):
    """Return the microseconds of one call of function, eager or in a graph of REPEATED calls."""
    xp = backend.xp
    with xp.cuda.Stream(non_blocking=True) as stream:
        function()
        if captured:
            with xp.cuda.using_allocator(xp.cuda.MemoryPool().malloc):
                stream.begin_capture()
                try:
                    for _ in range(REPEATED):
                        function()
                finally:
                    graph = stream.end_capture()
            run, calls = graph.launch, REPEATED
        else:
            run, calls = function, 1
        for _ in range(10):
            run()
        return 1e6 * statistics.median(elapsed(run, 20) / 20 / calls for _ in range(ROUNDS))


def told(function, *arguments):
    """Return the microseconds as text, or the error."""
    try:
        return f"{microseconds(function, *arguments):.1f}"
    except Exception as error:  # noqa: BLE001  whatever a candidate fails with, the others are still worth timing
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:80]


def product_rows():
    """Yield the lines of the table of matmuls."""
    xp = backend.xp
    candidates = {
        "CuPy": product_by_cupy,
        "tinyqae (cuBLAS)": backend.gemm,
        "cuTENSOR": product_by_cutensor,
        "nvmath cublasLt": ProductByNvmath(),
    }
    yield "| matmul | (M, K, N) | implementation | eager | in a CUDA graph | correct |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for what, m, k, n in PRODUCTS:
        a, b, out = (xp.asarray(np.random.default_rng(0).random(shape, np.float32)) for shape in ((m, k), (k, n), (m, n)))
        expected = xp.matmul(a, b)
        for name, multiply in candidates.items():
            out.fill(0)
            eager, captured = (told(functools.partial(multiply, a, b, out), way) for way in (False, True))
            right = "yes" if bool(xp.allclose(out, expected, rtol=1e-4)) else "no"
            yield f"| {what} | ({m}, {k}, {n}) | {name} | {eager} | {captured} | {right} |"


def our_convolution(shape, filters, winograd):
    """Return a function that runs a 3x3 convolution forward and backward, by Winograd or im2col."""
    xp, before = backend.xp, conv.WINOGRAD_FROM
    conv.WINOGRAD_FROM = 0 if winograd else float("inf")
    try:
        plan = conv.Conv2dPlan(shape, (3, 3, shape[-1], filters))
    finally:
        conv.WINOGRAD_FROM = before
    x, w = (xp.asarray(np.random.default_rng(0).random(size, np.float32)) for size in (shape, plan.w_shape))
    out, dx, dw = xp.empty(plan.output_shape, xp.float32), xp.empty_like(x), xp.empty_like(w)

    def both():
        conv.conv2d_forward(x, w, None, plan, out)
        conv.conv2d_backward(out, x, w, plan, dx, dw, None)

    return both


def torch_convolution(shape, filters):
    """The same in PyTorch, channels last, on CuPy's stream."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    n, height, width, channels = shape
    x = torch.rand(n, channels, height, width, device="cuda").to(memory_format=torch.channels_last).requires_grad_()
    layer = torch.nn.Conv2d(channels, filters, 3, padding=1, bias=False).cuda().to(memory_format=torch.channels_last)

    def both():
        with torch.cuda.stream(torch.cuda.ExternalStream(backend.xp.cuda.get_current_stream().ptr)):
            out = layer(x)
            out.backward(out.detach())

    return both


def convolution_rows():
    """Yield the lines of the table of convolutions."""
    yield "| convolution 3x3, forward and backward | input | filters | implementation | eager |"
    yield "| --- | --- | --- | --- | --- |"
    for what, shape, filters in CONVOLUTIONS:
        for name, make in (
            ("im2col", functools.partial(our_convolution, winograd=False)),
            ("Winograd", functools.partial(our_convolution, winograd=True)),
            ("cuDNN, by PyTorch", torch_convolution),
        ):
            # A failure to build is reported like a failure to run.
            yield f"| {what} | {shape} | {filters} | {name} | {told(_made_once(make, shape, filters), False)} |"


def _made_once(make, *arguments):
    made = []

    def run():
        if not made:
            made.append(make(*arguments))
        made[0]()

    return run


def main():
    if "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
        return
    try:
        backend.use("cupy")
    except BackendError as error:
        sys.exit(f"error: {error}")
    lines = [
        "# Matmuls and convolutions on a GPU",
        "",
        f"`python benchmarks/speed/gpu_kernels.py` on {backend.describe()}; TF32: off; {', '.join(versions())}; "
        f"{time.strftime('%Y-%m-%d')}. Times in microseconds.",
        "",
        *product_rows(),
        "",
        *convolution_rows(),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    card = re.sub(r"\W+", "-", backend.describe().split(" on ")[1].split(",")[0].lower())
    write_atomically(RESULTS / f"gpu_kernels-{card}.md", lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
