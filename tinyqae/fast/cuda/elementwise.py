"""CUDA kernels of activations, losses and optimizers, float32 on a GPU. Each replaces the plain function of the same name,
which documents what is computed, and is tested against it: on the CPU, for which the same source is compiled as C++, and on
a GPU if there is one.

A loss takes two launches: every block writes a partial sum, then one block adds them. Values that change from step to step
(the learning rate and what depends on it) are read from one-element arrays, so that a CUDA graph can be replayed.
"""

import functools

import numpy as np

from ... import backend
from .. import losses, ops, optim
from ..kernels import replacements_in
from .compiler import MAX_BLOCKS, THREADS, KernelModule

KERNELS = KernelModule(r"""
KERNEL sigmoid_forward(const float* x, float* out, int size)
{
    THREAD_INDEX(i, size);
    out[i] = 1.0f / (1.0f + expf(-x[i]));
}

KERNEL bce_partial_sums(const float* logits, const float* target, float* dlogits, float* partial, float scale, int size)
{
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const float l = logits[i], t = target[i], e = expf(-fabsf(l)), s = 1.0f / (1.0f + e);
        dlogits[i] = ((l >= 0 ? s : e * s) - t) * scale;
        sum += l * ((l > 0 ? 1.0f : 0.0f) - t) + log1pf(e);
    }
    store_block_sum(partial + blockIdx.x, sum);
}

KERNEL binarize_and_commit_partial_sums(const float* a, float* b, float* da, float* partial, float scale, int size)
{
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const float bit = a[i] > 0.5f ? 1.0f : 0.0f, difference = a[i] - bit;
        b[i] = bit;
        da[i] = difference * scale;
        sum += difference * difference;
    }
    store_block_sum(partial + blockIdx.x, sum);
}

// One thread, in double precision: 1 - beta^t would lose precision for beta near 1.
KERNEL adam_scales(const double* steps, const float* lr, float* step, float* scaled_eps, double beta1, double beta2,
                   double eps)
{
    const double mean_factor = (1 - beta1) / (1 - pow(beta1, steps[0]));
    const double root_factor = sqrt((1 - beta2) / (1 - pow(beta2, steps[0])));
    step[0] = (float)(lr[0] * mean_factor / root_factor);
    scaled_eps[0] = (float)(eps / root_factor);
}

KERNEL adam_update(float* p, const float* g, float* scaled_mean, float* scaled_square, const float* step, const float* eps,
                   float beta1, float beta2, int size)
{
    THREAD_INDEX(i, size);
    const float mean = beta1 * scaled_mean[i] + g[i], square = beta2 * scaled_square[i] + g[i] * g[i];
    scaled_mean[i] = mean;
    scaled_square[i] = square;
    p[i] -= step[0] * (mean / (sqrtf(square) + eps[0]));
}

KERNEL rmsprop_update(float* p, const float* g, float* mean_square, const float* lr, float rho, float eps, int size)
{
    THREAD_INDEX(i, size);
    const float square = rho * mean_square[i] + (1.0f - rho) * (g[i] * g[i]);
    mean_square[i] = square;
    p[i] -= lr[0] * (g[i] / (sqrtf(square) + eps));
}
""")


def sigmoid_forward(x, out):
    KERNELS.launch_1d("sigmoid_forward", x.size, x, out)
    return out


def bce_with_logits(logits, target, row, dlogits):
    return _mean("bce_partial_sums", logits.size, logits, target, dlogits, 1 / logits.size)


def binarize_and_commit(a, b, da):
    return _mean("binarize_and_commit_partial_sums", a.size, a, b, da, 2 / a.size)


def _mean(kernel, size, *arguments):
    """The mean over `size` values, a 0-dimensional array, from a kernel that writes partial sums."""
    *arrays, scale = arguments
    partial, blocks = _partial_sums(backend.xp), min(-(-size // THREADS), MAX_BLOCKS)
    value = backend.xp.empty((), arrays[0].dtype)
    KERNELS.launch(kernel, (blocks,), (THREADS,), *arrays, partial, scale, size)
    KERNELS.launch("add_partial_sums", (1,), (THREADS,), partial, value, 1 / size, blocks)
    return value


@functools.cache
def _partial_sums(xp):
    """The buffer of partial sums, allocated once and never freed, since CUDA graphs keep its address."""
    return xp.empty(MAX_BLOCKS, xp.float32)


def adam_scales(steps, lr, beta1, beta2, eps, scratch, step, scaled_eps):
    KERNELS.launch("adam_scales", (1,), (1,), steps, lr, step, scaled_eps, *map(np.float64, (beta1, beta2, eps)))


def adam_update(p, g, scaled_mean, scaled_square, scratch, beta1, beta2, step, eps):
    KERNELS.launch_1d("adam_update", p.size, p, g, scaled_mean, scaled_square, step, eps, float(beta1), float(beta2))


def rmsprop_update(p, g, mean_square, scratch, rho, lr, eps):
    KERNELS.launch_1d("rmsprop_update", p.size, p, g, mean_square, lr, float(rho), float(eps))


REPLACEMENTS = replacements_in(globals(), losses, ops, optim)
