"""CUDA kernels of activations, losses and optimizers, float32 on a GPU. Each replaces the plain function named in
REPLACEMENTS, whose docstring says what is computed; only how it is computed is said here. Tests hold each against its
reference: on the processor, for which the same source is compiled as C++, and on a GPU where there is one.

A loss takes two launches: every block leaves the sum of its part, then one block adds those. What changes from step to
step (the optimizers' rate and what follows from it) is read from arrays of one value, so that a CUDA graph goes on by
itself.
"""
import numpy as np

from ... import backend
from .. import activations, losses, optim
from .compiler import MOST_PARTS, THREADS, Kernels

KERNELS = Kernels(r"""
extern "C" __global__ void sigmoid_forward(const float* x, float* out, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size)
        out[i] = sigmoid(x[i]);
}

extern "C" __global__ void bce_parts(const float* logits, const float* target, float* dlogits, float* partial, float scale,
                                     int size)
{
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const float l = logits[i], t = target[i], e = expf(-fabsf(l)), s = 1.0f / (1.0f + e);
        dlogits[i] = ((l >= 0 ? s : e * s) - t) * scale;
        sum += fmaxf(l, 0.0f) - t * l + log1pf(e);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

extern "C" __global__ void binarize_and_commit_parts(const float* a, float* b, float* da, float* partial, float scale,
                                                     int size)
{
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const float bit = a[i] > 0.5f ? 1.0f : 0.0f, difference = a[i] - bit;
        b[i] = bit;
        da[i] = difference * scale;
        sum += difference * difference;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

extern "C" __global__ void add_parts(const float* partial, float* value, float scale, int parts)
{
    float sum = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x)
        sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        value[0] = sum * scale;
}

// One thread; in double precision, since 1 - beta^t of a beta near 1 would lose its digits.
extern "C" __global__ void adam_scales(const double* steps, const float* rate, float* step, float* scaled_eps, double beta1,
                                       double beta2, double eps)
{
    const double mean_factor = (1 - beta1) / (1 - pow(beta1, steps[0]));
    const double root_factor = sqrt((1 - beta2) / (1 - pow(beta2, steps[0])));
    step[0] = (float)(rate[0] * mean_factor / root_factor);
    scaled_eps[0] = (float)(eps / root_factor);
}

extern "C" __global__ void adam_update(float* p, const float* g, float* scaled_mean, float* scaled_square, const float* step,
                                       const float* eps, float beta1, float beta2, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    const float mean = beta1 * scaled_mean[i] + g[i], square = beta2 * scaled_square[i] + g[i] * g[i];
    scaled_mean[i] = mean;
    scaled_square[i] = square;
    p[i] -= step[0] * (mean / (sqrtf(square) + eps[0]));
}

extern "C" __global__ void rmsprop_update(float* p, const float* g, float* mean_square, const float* rate, float rho,
                                          float eps, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    const float square = rho * mean_square[i] + (1.0f - rho) * (g[i] * g[i]);
    mean_square[i] = square;
    p[i] -= rate[0] * (g[i] / (sqrtf(square) + eps));
}
""")
_partial = None, None


def sigmoid_forward(x, out):
    """As the plain function of this name; see REPLACEMENTS."""
    KERNELS.launch_each("sigmoid_forward", x.size, x, out)
    return out


def bce_with_logits(logits, target, row, dlogits):
    """As the plain function of this name; see REPLACEMENTS."""
    return _mean("bce_parts", logits.size, logits, target, dlogits, 1 / logits.size)


def binarize_and_commit(a, b, da):
    """As the plain function of this name; see REPLACEMENTS."""
    return _mean("binarize_and_commit_parts", a.size, a, b, da, 2 / a.size)


def _mean(kernel, size, *arguments):
    """The mean over `size` values, an array without axes, of what the kernel leaves the sums of."""
    *arrays, scale = arguments
    partial, parts = _scratch(), min(-(-size // THREADS), MOST_PARTS)
    value = backend.xp.empty((), arrays[0].dtype)
    KERNELS.launch(kernel, (parts,), (THREADS,), *arrays, partial, scale, size)
    KERNELS.launch("add_parts", (1,), (THREADS,), partial, value, 1 / size, parts)
    return value


def _scratch():
    """Room for partial sums, made once and never freed, since graphs hold its address. Kernels run one after another."""
    global _partial
    owner, partial = _partial
    if owner is not backend.xp:
        partial = backend.xp.empty(MOST_PARTS, backend.xp.float32)
        _partial = backend.xp, partial
    return partial


def adam_scales(steps, rate, beta1, beta2, eps, scratch, step, scaled_eps):
    """As the plain function of this name; see REPLACEMENTS."""
    KERNELS.launch("adam_scales", (1,), (1,), steps, rate, step, scaled_eps, *map(np.float64, (beta1, beta2, eps)))


def adam_update(p, g, scaled_mean, scaled_square, scratch, beta1, beta2, step, eps):
    """As the plain function of this name; step and eps are arrays of one value. See REPLACEMENTS."""
    KERNELS.launch_each("adam_update", p.size, p, g, scaled_mean, scaled_square, step, eps, float(beta1), float(beta2))


def rmsprop_update(p, g, mean_square, scratch, rho, lr, eps):
    """As the plain function of this name; lr is an array of one value. See REPLACEMENTS."""
    KERNELS.launch_each("rmsprop_update", p.size, p, g, mean_square, lr, float(rho), float(eps))


REPLACEMENTS = {
    activations.sigmoid_forward: sigmoid_forward,
    losses.binarize_and_commit: binarize_and_commit,
    losses.bce_with_logits: bce_with_logits,
    optim.adam_scales: adam_scales,
    optim.adam_update: adam_update,
    optim.rmsprop_update: rmsprop_update,
}
