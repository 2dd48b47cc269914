"""CUDA kernels of batch norm, alone and fused with ReLU and pooling, float32 on a GPU. See elementwise.py for what they have
in common.

The statistics of a channel are merged from those of parts, as in combine_statistics of fast/norm_relu_pool.py: first in
every thread, row by row (Welford 1962), then in a block, then over the blocks. So the largest arrays are read once for the
statistics, once for the normalization, and twice in the backward pass.

A block is `width` channels by THREADS / width rows, so that neighbouring threads read neighbouring addresses.
"""
from .. import norm, norm_relu_pool
from .compiler import THREADS, KernelModule

MAX_WIDTH = 32

KERNELS = KernelModule(r"""
struct Moments { float count, mean, squares; };

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

__device__ float merge(float a, float b) { return a + b; }

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

// One block reads all rows of its columns: for arrays as small as a batch of codes.
extern "C" __global__ void batch_norm_forward(const float* x, const float* gamma, const float* beta, float* mean,
                                              float* variance, float* rstd, float* xhat, float* out, float eps, int rows,
                                              int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments m = {0, 0, 0};
    if (c < columns)
        for (int row = threadIdx.y; row < rows; row += blockDim.y)
            m = welford_update(m, x[(long long)row * columns + c]);
    m = reduce_over_rows(m);
    if (c >= columns)
        return;
    const float v = m.squares / rows, r = 1.0f / sqrtf(v + eps);
    if (threadIdx.y == 0) {
        mean[c] = m.mean; variance[c] = v; rstd[c] = r;
    }
    for (int row = threadIdx.y; row < rows; row += blockDim.y) {
        const long long i = (long long)row * columns + c;
        const float normalized = (x[i] - m.mean) * r;
        xhat[i] = normalized;
        out[i] = normalized * gamma[c] + beta[c];
    }
}

extern "C" __global__ void batch_norm_backward(const float* dout, const float* xhat, const float* gamma, const float* rstd,
                                               float* dx, float* dgamma, float* dbeta, int rows, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, sum_xhat = 0;
    if (c < columns)
        for (int row = threadIdx.y; row < rows; row += blockDim.y) {
            const long long i = (long long)row * columns + c;
            sum += dout[i];
            sum_xhat += dout[i] * xhat[i];
        }
    sum = reduce_over_rows(sum);
    sum_xhat = reduce_over_rows(sum_xhat);
    if (c >= columns)
        return;
    if (threadIdx.y == 0) {
        dgamma[c] = sum_xhat; dbeta[c] = sum;
    }
    const float scale = rstd[c] * gamma[c], inverse_rows = 1.0f / rows;
    for (int row = threadIdx.y; row < rows; row += blockDim.y) {
        const long long i = (long long)row * columns + c;
        dx[i] = scale * (dout[i] - inverse_rows * (sum + xhat[i] * sum_xhat));
    }
}

// Block (., p) reads every gridDim.y-th group of rows and writes part p of partial (parts, 3, columns).
extern "C" __global__ void partial_statistics(const float* x, float* partial, int rows, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments m = {0, 0, 0};
    if (c < columns)
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y)
            m = welford_update(m, x[(long long)row * columns + c]);
    m = reduce_over_rows(m);
    if (c < columns && threadIdx.y == 0) {
        float* part = partial + (long long)blockIdx.y * 3 * columns + c;
        part[0] = m.count; part[columns] = m.mean; part[2 * columns] = m.squares;
    }
}

extern "C" __global__ void statistics(const float* partial, float* mean, float* variance, int parts, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments m = {0, 0, 0};
    if (c < columns)
        for (int p = threadIdx.y; p < parts; p += blockDim.y) {
            const float* part = partial + (long long)p * 3 * columns + c;
            Moments other = {part[0], part[columns], part[2 * columns]};
            m = merge(m, other);
        }
    m = reduce_over_rows(m);
    if (c < columns && threadIdx.y == 0) {
        mean[c] = m.mean; variance[c] = m.squares / m.count;
    }
}

// The maximum of a window's four values, or the minimum if gamma is negative.
extern "C" __global__ void norm_relu_pool_forward(const float* x, const float* gamma, const float* beta, const float* mean,
                                                  const float* rstd, float* pooled, float* out, int relu, int pool,
                                                  int width, int channels, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
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

extern "C" __global__ void partial_norm_gradient_sums(const float* dout, const float* pooled, const float* out,
                                                       const float* mean, float* g, float* partial, int relu, int rows,
                                                       int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, sum_centred = 0;
    if (c < columns)
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y) {
            const long long i = (long long)row * columns + c;
            const float gradient = !relu || out[i] > 0 ? dout[i] : 0.0f;
            g[i] = gradient;
            sum += gradient;
            sum_centred += gradient * (pooled[i] - mean[c]);
        }
    sum = reduce_over_rows(sum);
    sum_centred = reduce_over_rows(sum_centred);
    if (c < columns && threadIdx.y == 0) {
        float* part = partial + (long long)blockIdx.y * 3 * columns + c;
        part[0] = sum; part[columns] = sum_centred;
    }
}

extern "C" __global__ void norm_gradient_sums(const float* partial, const float* rstd, float* dgamma, float* dbeta,
                                              int parts, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, sum_centred = 0;
    if (c < columns)
        for (int p = threadIdx.y; p < parts; p += blockDim.y) {
            sum += partial[(long long)p * 3 * columns + c];
            sum_centred += partial[(long long)p * 3 * columns + columns + c];
        }
    sum = reduce_over_rows(sum);
    sum_centred = reduce_over_rows(sum_centred);
    if (c < columns && threadIdx.y == 0) {
        dbeta[c] = sum; dgamma[c] = sum_centred * rstd[c];
    }
}

// One thread per window; the first extremum of the window gets the gradient.
extern "C" __global__ void norm_relu_pool_backward(const float* g, const float* x, const float* pooled, const float* gamma,
                                                   const float* mean, const float* rstd, const float* dgamma,
                                                   const float* dbeta, float* dx, float inverse_count, int pool, int width,
                                                   int channels, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
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
    width = 1
    while width < min(columns, MAX_WIDTH):
        width *= 2
    return -(-columns // width), (width, THREADS // width)


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    rows, columns = x.shape
    blocks, block = _blocks(columns)
    KERNELS.launch("batch_norm_forward", (blocks,), block, x, gamma, beta, mean, variance, rstd, xhat, out, float(eps), rows,
                   columns)
    return out


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    rows, columns = dout.shape
    blocks, block = _blocks(columns)
    KERNELS.launch("batch_norm_backward", (blocks,), block, dout, xhat, gamma, rstd, dx, dgamma, dbeta, rows, columns)
    return dx


def _launch_column_sums(kernel, last_kernel, rows, columns, scratch, arguments, last_arguments):
    """Sums over the rows of columns: `kernel` writes partial sums, `last_kernel` adds them."""
    blocks, block = _blocks(columns)
    parts = min(len(scratch.partial), -(-rows // block[1]))
    KERNELS.launch(kernel, (blocks, parts), block, *arguments, rows, columns)
    KERNELS.launch(last_kernel, (blocks,), block, scratch.partial, *last_arguments, parts, columns)


def batch_statistics(x, scratch, mean, variance):
    channels = x.shape[-1]
    _launch_column_sums("partial_statistics", "statistics", x.size // channels, channels, scratch, (x, scratch.partial),
                        (mean, variance))


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    _, _, width, channels = out.shape
    KERNELS.launch_1d("norm_relu_pool_forward", out.size, x, gamma, beta, mean, rstd, pooled, out, relu, pool, width,
                      channels)
    return out


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    channels = len(mean)
    _launch_column_sums("partial_norm_gradient_sums", "norm_gradient_sums", dout.size // channels, channels, scratch,
                        (dout, pooled, out, mean, g, scratch.partial, relu), (rstd, dgamma, dbeta))


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    _, _, width, channels = pooled.shape
    KERNELS.launch_1d("norm_relu_pool_backward", pooled.size, g, x, pooled, gamma, mean, rstd, dgamma, dbeta, dx,
                        1 / count, pool, width, channels)
    return dx


REPLACEMENTS = {
    norm.batch_norm_forward: batch_norm_forward,
    norm.batch_norm_backward: batch_norm_backward,
    norm_relu_pool.batch_statistics: batch_statistics,
    norm_relu_pool.norm_relu_pool_forward: norm_relu_pool_forward,
    norm_relu_pool.norm_gradient_sums: norm_gradient_sums,
    norm_relu_pool.norm_relu_pool_backward: norm_relu_pool_backward,
}
