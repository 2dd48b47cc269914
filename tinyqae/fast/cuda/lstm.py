"""CUDA kernels of the LSTM, float32 on a GPU: a time step without its matmul, in one launch; and the softmax cross-entropy.
See elementwise.py for what they have in common.
"""

import numpy as np

from ... import backend
from .. import losses, lstm
from ..kernels import replacements_in
from .compiler import THREADS, KernelModule

ROWS_PER_BLOCK = 8
LANES = 32

KERNELS = KernelModule(
    f"#define ROWS {ROWS_PER_BLOCK}\n#define LANES {LANES}\n"
    + r"""
// inputs (4, T, N, U) and gates (4, N, U) hold two summands of the exponents -a_i, -a_f, -2 a_g, -a_o. An exponential may
// overflow to infinity: then sigma is 0, as it should be.
KERNEL gates_forward(const float* inputs, const float* c_prev, const float* h_prev, const bool* finished, float* gates,
                     float* c, float* tanh_c, float* h, int t, int steps, int units, int size)
{
    THREAD_INDEX(k, size);
    const long long block = (long long)steps * size;
    const float* x = inputs + (long long)t * size + k;
    const bool ended = finished && finished[k / units];
    float i = 0, f = 1, g = 0, o = 0;
    if (!ended) {
        i = 1.0f / (1.0f + expf(x[0] + gates[k]));
        f = 1.0f / (1.0f + expf(x[block] + gates[size + k]));
        g = 2.0f / (1.0f + expf(x[2 * block] + gates[2 * size + k])) - 1.0f;
        o = 1.0f / (1.0f + expf(x[3 * block] + gates[3 * size + k]));
    }
    const float cell = f * c_prev[k] + i * g, squashed = tanhf(cell);
    c[k] = cell;
    tanh_c[k] = squashed;
    h[k] = ended ? h_prev[k] : o * squashed;
    gates[k] = i; gates[size + k] = f; gates[2 * size + k] = g; gates[3 * size + k] = o;
}

KERNEL gates_backward(const float* dh, float* dc, const float* c_prev, const float* gates, const float* tanh_c, float* da,
                      int units, int size)
{
    THREAD_INDEX(k, size);
    const float i = gates[k], f = gates[size + k], g = gates[2 * size + k], o = gates[3 * size + k];
    const float dhidden = dh[k], squashed = tanh_c[k];
    const float dcell = dc[k] + dhidden * o * (1.0f - squashed * squashed);
    float* row = da + (long long)(k / units) * 4 * units + k % units;
    row[0] = dcell * g * i * (1.0f - i);
    row[units] = dcell * c_prev[k] * f * (1.0f - f);
    row[2 * units] = dcell * i * (1.0f - g * g);
    row[3 * units] = dhidden * squashed * o * (1.0f - o);
    dc[k] = dcell * f;
}

// The maximum or the sum over the LANES threads of a row; every thread gets its row's.
template <bool MAXIMUM>
__device__ float reduce_row(float value)
{
    __shared__ float shared[ROWS][LANES];
    float* row = shared[threadIdx.y];
    row[threadIdx.x] = value;
    __syncthreads();
    for (int half = LANES / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const float other = row[threadIdx.x + half];
            row[threadIdx.x] = MAXIMUM ? fmaxf(row[threadIdx.x], other) : row[threadIdx.x] + other;
        }
        __syncthreads();
    }
    value = row[0];
    __syncthreads();
    return value;
}

KERNEL cross_entropy_rows(const float* logits, const long long* labels, const float* weights, float* dlogits, float* loss,
                          int vocabulary, int rows)
{
    const int m = blockIdx.x * ROWS + threadIdx.y, count = m < rows ? vocabulary : 0;
    const float* l = logits + (long long)m * vocabulary;
    float largest = -3.4e38f, normalizer = 0;
    for (int v = threadIdx.x; v < count; v += LANES)
        largest = fmaxf(largest, l[v]);  // This drops a NaN, but the sum below does not.
    largest = reduce_row<true>(largest);
    for (int v = threadIdx.x; v < count; v += LANES)
        normalizer += expf(l[v] - largest);
    normalizer = reduce_row<false>(normalizer);
    if (m >= rows)
        return;
    const float weight = weights[m];
    const int label = (int)labels[m];
    for (int v = threadIdx.x; v < vocabulary; v += LANES)
        dlogits[(long long)m * vocabulary + v] = weight * (expf(l[v] - largest) / normalizer - (v == label ? 1.0f : 0.0f));
    if (threadIdx.x == 0)
        loss[m] = weight * (logf(normalizer) + (largest - l[label]));
}
"""
)


def lstm_gates_forward(inputs, t, c_prev, h_prev, finished, gates, c, tanh_c, h):
    KERNELS.launch_1d(
        "gates_forward", c.size, inputs, c_prev, h_prev, finished, gates, c, tanh_c, h, t, inputs.shape[1], c.shape[1]
    )


def lstm_gates_backward(dh, dc, c_prev, gates, tanh_c, scratch, da):
    KERNELS.launch_1d("gates_backward", dh.size, dh, dc, c_prev, gates, tanh_c, da, dh.shape[1])


def cross_entropy_with_logits(logits, labels, weights, scratch, dlogits):
    if labels.dtype != np.int64:
        return losses.cross_entropy_with_logits(logits, labels, weights, scratch, dlogits)
    rows, vocabulary = logits.shape
    value, loss = backend.xp.empty((), logits.dtype), scratch.chosen[:rows]
    KERNELS.launch(
        "cross_entropy_rows",
        (-(-rows // ROWS_PER_BLOCK),),
        (LANES, ROWS_PER_BLOCK),
        logits,
        labels,
        weights,
        dlogits,
        loss,
        vocabulary,
        rows,
    )
    KERNELS.launch("add_partial_sums", (1,), (THREADS,), loss, value, 1.0, rows)
    return value


REPLACEMENTS = replacements_in(globals(), losses, lstm)
