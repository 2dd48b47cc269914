"""CUDA kernels for batch norm, alone and with ReLU and pooling after a convolution, float32 on a GPU. See elementwise.py for
what they have in common.

A column's statistics are put together from those of its parts, as combine_statistics in fast/norm_relu_pool.py does it:
first in every thread, row by row (Welford 1962), then in a block, then over the blocks. So the largest arrays are read once
for their statistics, once to be normalized, and twice on the way back.

A block is `width` columns by THREADS / width rows, so that neighbouring threads read neighbouring numbers.
"""
from .. import norm, norm_relu_pool
from .compiler import THREADS, Kernels

WIDEST = 32

KERNELS = Kernels(r"""
struct Moments { float count, mean, squares; };

__device__ Moments with_value(Moments m, float x)
{
    const float difference = x - m.mean;
    m.count += 1;
    m.mean += difference / m.count;
    m.squares += difference * (x - m.mean);
    return m;
}

__device__ Moments merged(Moments a, Moments b)
{
    if (b.count == 0)
        return a;
    const float count = a.count + b.count, share = b.count / count, difference = b.mean - a.mean;
    Moments m = {count, a.mean + share * difference, a.squares + b.squares + difference * difference * a.count * share};
    return m;
}

// Over the rows of a block, for each of its columns; every thread gets its column's.
__device__ Moments merged_over_rows(Moments m)
{
    __shared__ Moments shared[THREADS];
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    shared[t] = m;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            shared[t] = merged(shared[t], shared[t + half * blockDim.x]);
        __syncthreads();
    }
    m = shared[threadIdx.x];
    __syncthreads();
    return m;
}

__device__ float added_over_rows(float value)
{
    __shared__ float shared[THREADS];
    const int t = threadIdx.y * blockDim.x + threadIdx.x;
    shared[t] = value;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            shared[t] += shared[t + half * blockDim.x];
        __syncthreads();
    }
    value = shared[threadIdx.x];
    __syncthreads();
    return value;
}

// One block goes down all rows of its columns: for the few values of a code.
extern "C" __global__ void batch_norm_forward(const float* x, const float* gamma, const float* beta, float* mean,
                                              float* variance, float* rstd, float* xhat, float* out, float eps, int rows,
                                              int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments m = {0, 0, 0};
    if (c < columns)
        for (int row = threadIdx.y; row < rows; row += blockDim.y)
            m = with_value(m, x[(long long)row * columns + c]);
    m = merged_over_rows(m);
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
        out[i] = gamma ? normalized * gamma[c] + beta[c] : normalized;
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
    sum = added_over_rows(sum);
    sum_xhat = added_over_rows(sum_xhat);
    if (c >= columns)
        return;
    if (threadIdx.y == 0) {
        dgamma[c] = sum_xhat; dbeta[c] = sum;
    }
    const float scale = gamma ? rstd[c] * gamma[c] : rstd[c], share = 1.0f / rows;
    for (int row = threadIdx.y; row < rows; row += blockDim.y) {
        const long long i = (long long)row * columns + c;
        dx[i] = scale * (dout[i] - share * (sum + xhat[i] * sum_xhat));
    }
}

// Block (., p) has every gridDim.y-th group of rows. partial (parts, 3, columns).
extern "C" __global__ void statistics_of_parts(const float* x, float* partial, int rows, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments m = {0, 0, 0};
    if (c < columns)
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y)
            m = with_value(m, x[(long long)row * columns + c]);
    m = merged_over_rows(m);
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
            Moments of_part = {part[0], part[columns], part[2 * columns]};
            m = merged(m, of_part);
        }
    m = merged_over_rows(m);
    if (c < columns && threadIdx.y == 0) {
        mean[c] = m.mean; variance[c] = m.squares / m.count;
    }
}

// Of a window's four values the largest, or, where the normalization turns the order around, the smallest.
extern "C" __global__ void norm_relu_pool_forward(const float* x, const float* gamma, const float* beta, const float* mean,
                                                  const float* rstd, float* pooled, float* out, int relu, int pool,
                                                  int width, int channels, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    const int c = i % channels;
    float value;
    if (pool == 1)
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

extern "C" __global__ void norm_gradient_sums_of_parts(const float* dout, const float* pooled, const float* out,
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
    sum = added_over_rows(sum);
    sum_centred = added_over_rows(sum_centred);
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
    sum = added_over_rows(sum);
    sum_centred = added_over_rows(sum_centred);
    if (c < columns && threadIdx.y == 0) {
        dbeta[c] = sum; dgamma[c] = sum_centred * rstd[c];
    }
}

// A thread for each pooled value, and so for all of its window, whose first extreme takes the gradient.
extern "C" __global__ void norm_relu_pool_backward(const float* g, const float* x, const float* pooled, const float* gamma,
                                                   const float* mean, const float* rstd, const float* dgamma,
                                                   const float* dbeta, float* dx, float share, int pool, int width,
                                                   int channels, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size)
        return;
    const int c = i % channels;
    const float scale = gamma[c] * rstd[c], c1 = -scale * rstd[c] * dgamma[c] * share;
    const float c0 = -scale * dbeta[c] * share - c1 * mean[c];
    float remaining = g[i] * scale;
    if (pool == 1) {
        dx[i] = c1 * x[i] + c0 + remaining;
        return;
    }
    const int j = i / channels % width, row = i / channels / width;
    const long long corner = ((long long)row * 2 * width + j) * 2 * channels + c;
    for (int place = 0; place < 4; ++place) {
        const long long at = corner + place / 2 * 2 * width * channels + place % 2 * channels;
        const float taken = place == 3 || x[at] == pooled[i] ? remaining : 0.0f;
        dx[at] = c1 * x[at] + c0 + taken;
        remaining -= taken;
    }
}
""")


def _blocks(columns):
    """(blocks side by side, (width, height) of a block) for so many columns."""
    width = 1
    while width < min(columns, WIDEST):
        width *= 2
    return -(-columns // width), (width, THREADS // width)


def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    """As the plain function of this name; see REPLACEMENTS."""
    rows, columns = x.shape
    blocks, block = _blocks(columns)
    KERNELS.launch("batch_norm_forward", (blocks,), block, x, gamma, beta, mean, variance, rstd, xhat, out, float(eps), rows,
                   columns)
    return out


def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    """As the plain function of this name; see REPLACEMENTS."""
    rows, columns = dout.shape
    blocks, block = _blocks(columns)
    KERNELS.launch("batch_norm_backward", (blocks,), block, dout, xhat, gamma, rstd, dx, dgamma, dbeta, rows, columns)
    return dx


def _launch_in_parts(kernel, last, rows, columns, scratch, arguments, last_arguments):
    """A sum down the columns: `kernel` for parts of the rows, then `last` for what these leave."""
    blocks, block = _blocks(columns)
    parts = min(len(scratch.partial), -(-rows // block[1]))
    KERNELS.launch(kernel, (blocks, parts), block, *arguments, rows, columns)
    KERNELS.launch(last, (blocks,), block, scratch.partial, *last_arguments, parts, columns)


def batch_statistics(x, scratch, mean, variance):
    """As the plain function of this name; see REPLACEMENTS."""
    channels = x.shape[-1]
    _launch_in_parts("statistics_of_parts", "statistics", x.size // channels, channels, scratch, (x, scratch.partial),
                     (mean, variance))


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    """As the plain function of this name; see REPLACEMENTS."""
    _, _, width, channels = out.shape
    KERNELS.launch_each("norm_relu_pool_forward", out.size, x, gamma, beta, mean, rstd, pooled, out, relu, pool, width,
                        channels)
    return out


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    """As the plain function of this name; see REPLACEMENTS."""
    channels = len(mean)
    _launch_in_parts("norm_gradient_sums_of_parts", "norm_gradient_sums", dout.size // channels, channels, scratch,
                     (dout, pooled, out, mean, g, scratch.partial, relu), (rstd, dgamma, dbeta))


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    """As the plain function of this name; see REPLACEMENTS."""
    _, _, width, channels = pooled.shape
    KERNELS.launch_each("norm_relu_pool_backward", pooled.size, g, x, pooled, gamma, mean, rstd, dgamma, dbeta, dx,
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
