"""CUDA kernels of batch norm, alone and fused with ReLU and pooling, float32 on a GPU. See elementwise.py for what they have
in common.

The statistics of a channel are merged from those of parts, as in combine_statistics of fast/norm_relu_pool.py: first in
every thread, row by row (Welford 1962), then in a block, then over the blocks. So the largest arrays are read once for the
statistics, once for the normalization, and twice in the backward pass.

A block is `width` channels by THREADS / width rows, so that neighbouring threads read neighbouring addresses.
"""

from .. import norm_relu_pool, ops
from ..kernels import replacements_in
from .compiler import THREADS, KernelModule

MAX_WIDTH = 32

KERNELS = KernelModule(r"""
struct Moments { float count, mean, squares; };
struct Sums { float values, products; };

__device__ Moments welford_update(Moments m, float x)
{
    const float difference = x - m.mean;
    m.count += 1;
    m.mean += difference / m.count;
    m.squares += difference * (x - m.mean);
    return m;
}

__device__ Moments merge(Moments a, Moments b)
{
    if (b.count == 0)
        return a;
    const float count = a.count + b.count, fraction = b.count / count, difference = b.mean - a.mean;
    return {count, a.mean + fraction * difference, a.squares + b.squares + difference * difference * a.count * fraction};
}

__device__ Sums merge(Sums a, Sums b) { return {a.values + b.values, a.products + b.products}; }

// Merge over the rows of a block; every thread gets its column's result.
template <typename T>
__device__ T reduce_over_rows(T value)
{
    __shared__ T shared[THREADS];
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    shared[t] = value;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            shared[t] = merge(shared[t], shared[t + half * blockDim.x]);
        __syncthreads();
    }
    value = shared[threadIdx.x];
    __syncthreads();
    return value;
}

// The column of this thread, and how many rows of it there are: none outside of the array.
#define COLUMN(c, rows, columns) \
    const int c = blockIdx.x * blockDim.x + threadIdx.x, count = c < columns ? rows : 0; \
    const bool writes = c < columns && threadIdx.y == 0
// Block (., p) reads every gridDim.y-th group of rows.
#define FOR_EACH_ROW(row) \
    for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < count; row += gridDim.y * blockDim.y)

__device__ Moments column_moments(const float* x, int count, int columns, int c)
{
    Moments m = {0, 0, 0};
    FOR_EACH_ROW(row)
        m = welford_update(m, x[(long long)row * columns + c]);
    return reduce_over_rows(m);
}

// Merge the results (parts, columns) of the blocks.
template <typename T>
__device__ T merge_parts(const T* partial, int count, int columns, int c)
{
    T merged = {};
    FOR_EACH_ROW(part)
        merged = merge(merged, partial[(long long)part * columns + c]);
    return reduce_over_rows(merged);
}

// One block reads all rows of its columns: for arrays as small as a batch of codes.
KERNEL batch_norm_forward(const float* x, const float* gamma, const float* beta, float* mean, float* variance, float* rstd,
                          float* xhat, float* out, float eps, int rows, int columns)
{
    COLUMN(c, rows, columns);
    const Moments m = column_moments(x, count, columns, c);
    const float v = m.squares / rows, r = 1.0f / sqrtf(v + eps);
    if (writes) {
        mean[c] = m.mean; variance[c] = v; rstd[c] = r;
    }
    FOR_EACH_ROW(row) {
        const long long i = (long long)row * columns + c;
        const float normalized = (x[i] - m.mean) * r;
        xhat[i] = normalized;
        out[i] = normalized * gamma[c] + beta[c];
    }
}

KERNEL batch_norm_backward(const float* dout, const float* xhat, const float* gamma, const float* rstd, float* dx,
                           float* dgamma, float* dbeta, int rows, int columns)
{
    COLUMN(c, rows, columns);
    Sums sums = {0, 0};
    FOR_EACH_ROW(row) {
        const long long i = (long long)row * columns + c;
        sums = merge(sums, {dout[i], dout[i] * xhat[i]});
    }
    sums = reduce_over_rows(sums);
    if (writes) {
        dgamma[c] = sums.products; dbeta[c] = sums.values;
    }
    const float scale = count ? rstd[c] * gamma[c] : 0, inverse_rows = 1.0f / rows;
    FOR_EACH_ROW(row) {
        const long long i = (long long)row * columns + c;
        dx[i] = scale * (dout[i] - inverse_rows * (sums.values + xhat[i] * sums.products));
    }
}

KERNEL partial_statistics(const float* x, float* partial, int rows, int columns)
{
    COLUMN(c, rows, columns);
    const Moments m = column_moments(x, count, columns, c);
    if (writes)
        ((Moments*)partial)[blockIdx.y * columns + c] = m;
}

KERNEL statistics(const float* partial, float* mean, float* variance, int parts, int columns)
{
    COLUMN(c, parts, columns);
    const Moments m = merge_parts((const Moments*)partial, count, columns, c);
    if (writes) {
        mean[c] = m.mean; variance[c] = m.squares / m.count;
    }
}

// The maximum of a window's four values, or the minimum if gamma is negative.
KERNEL norm_relu_pool_forward(const float* x, const float* gamma, const float* beta, const float* mean, const float* rstd,
                              float* pooled, float* out, int relu, int pool, int width, int channels, int size)
{
    THREAD_INDEX(i, size);
    const int c = i % channels;
    float value;
    if (!pool)
        value = x[i];
    else {
        const int j = i / channels % width, row = i / channels / width;
        const float* top = x + ((long long)row * 2 * width + j) * 2 * channels + c;
        const float* bottom = top + 2 * width * channels;
        value = gamma[c] >= 0 ? fmaxf(fmaxf(top[0], top[channels]), fmaxf(bottom[0], bottom[channels]))
                              : fminf(fminf(top[0], top[channels]), fminf(bottom[0], bottom[channels]));
        pooled[i] = value;
    }
    const float scale = gamma[c] * rstd[c], result = value * scale + (beta[c] - scale * mean[c]);
    out[i] = relu && result < 0 ? 0.0f : result;
}

KERNEL partial_norm_gradient_sums(const float* dout, const float* pooled, const float* out, const float* mean, float* g,
                                  float* partial, int relu, int rows, int columns)
{
    COLUMN(c, rows, columns);
    Sums sums = {0, 0};
    FOR_EACH_ROW(row) {
        const long long i = (long long)row * columns + c;
        const float gradient = !relu || out[i] > 0 ? dout[i] : 0.0f;
        g[i] = gradient;
        sums = merge(sums, {gradient, gradient * (pooled[i] - mean[c])});
    }
    sums = reduce_over_rows(sums);
    if (writes)
        ((Sums*)partial)[blockIdx.y * columns + c] = sums;
}

KERNEL norm_gradient_sums(const float* partial, const float* rstd, float* dgamma, float* dbeta, int parts, int columns)
{
    COLUMN(c, parts, columns);
    const Sums sums = merge_parts((const Sums*)partial, count, columns, c);
    if (writes) {
        dbeta[c] = sums.values; dgamma[c] = sums.products * rstd[c];
    }
}

// One thread per window; the first extremum of the window gets the gradient.
KERNEL norm_relu_pool_backward(const float* g, const float* x, const float* pooled, const float* gamma, const float* mean,
                               const float* rstd, const float* dgamma, const float* dbeta, float* dx, float inverse_count,
                               int pool, int width, int channels, int size)
{
    THREAD_INDEX(i, size);
    const int c = i % channels;
    const float scale = gamma[c] * rstd[c], c1 = -scale * rstd[c] * dgamma[c] * inverse_count;
    const float c0 = -scale * dbeta[c] * inverse_count - c1 * mean[c];
    float remaining = g[i] * scale;
    if (!pool) {
        dx[i] = c1 * x[i] + c0 + remaining;
        return;
    }
    const int j = i / channels % width, row = i / channels / width;
    const long long corner = ((long long)row * 2 * width + j) * 2 * channels + c;
    for (int k = 0; k < 4; ++k) {
        const long long at = corner + k / 2 * 2 * width * channels + k % 2 * channels;
        const float taken = k == 3 || x[at] == pooled[i] ? remaining : 0.0f;
        dx[at] = c1 * x[at] + c0 + taken;
        remaining -= taken;
    }
}
""")


def _blocks(columns):
    """(number of blocks, (width, height) of a block) for this many columns."""
    width = min(MAX_WIDTH, 1 << (columns - 1).bit_length())
    return -(-columns // width), (width, THREADS // width)


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    blocks, block = _blocks(x.shape[1])
    KERNELS.launch(
        "batch_norm_forward", (blocks,), block, x, gamma, beta, mean, variance, rstd, xhat, out, float(eps), *x.shape
    )
    return out


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    blocks, block = _blocks(dout.shape[1])
    KERNELS.launch("batch_norm_backward", (blocks,), block, dout, xhat, gamma, rstd, dx, dgamma, dbeta, *dout.shape)
    return dx


def _launch_column_sums(kernel, last_kernel, rows, columns, scratch, arguments, last_arguments):
    """Sums over the rows of columns: `kernel` writes partial sums, `last_kernel` adds them."""
    blocks, block = _blocks(columns)
    parts = min(len(scratch.partial), -(-rows // block[1]))
    KERNELS.launch(kernel, (blocks, parts), block, *arguments, rows, columns)
    KERNELS.launch(last_kernel, (blocks,), block, scratch.partial, *last_arguments, parts, columns)


def batch_statistics(x, scratch, mean, variance):
    channels = x.shape[-1]
    _launch_column_sums(
        "partial_statistics", "statistics", x.size // channels, channels, scratch, (x, scratch.partial), (mean, variance)
    )


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    _, _, width, channels = out.shape
    KERNELS.launch_1d(
        "norm_relu_pool_forward", out.size, x, gamma, beta, mean, rstd, pooled, out, relu, pool, width, channels
    )
    return out


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    channels = len(mean)
    _launch_column_sums(
        "partial_norm_gradient_sums",
        "norm_gradient_sums",
        dout.size // channels,
        channels,
        scratch,
        (dout, pooled, out, mean, g, scratch.partial, relu),
        (rstd, dgamma, dbeta),
    )


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    _, _, width, channels = pooled.shape
    KERNELS.launch_1d(
        "norm_relu_pool_backward",
        pooled.size,
        g,
        x,
        pooled,
        gamma,
        mean,
        rstd,
        dgamma,
        dbeta,
        dx,
        1 / count,
        pool,
        width,
        channels,
    )
    return dx


REPLACEMENTS = replacements_in(globals(), norm_relu_pool, ops)
