"""The windows of a convolution: im2col and Winograd, gathered a few images at a time and multiplied by the weights.

conv.py and conv_upsampled.py say what is computed and name the axes. The two classes here have one interface:

    transform_weights, gather, convolve                    windows times weights
    gather, accumulate_weight_gradient, weight_gradient    windows^T times dout, summed over chunks in `gradient`
"""

import numpy as np

from .. import backend
from ..backend import gemm

# Bytes of window matrix and result per chunk: on the CPU a few images, for the cache; on a GPU a few large matmuls.
CHUNK_BYTES = {"numpy": 2**21, "cupy": 2**28}

# A row of a window is KW C contiguous values. Copying rows shorter than this is slow, so the matrix is then stored
# transposed, where neighbouring pixels are contiguous.
SHORT_ROW = 32


class Windows:
    """The base of both classes: per_chunk, the number of images in a chunk, and gradient, the sum over chunks."""

    def chunks(self, images):
        """Slices of at most per_chunk images."""
        return [slice(start, min(start + self.per_chunk, images)) for start in range(0, images, self.per_chunk)]


class Im2col(Windows):
    """The windows of a chunk as the rows of a matrix (M, K), K = KH KW C.

    Args:
        source_shape: (N, H, W, C).
        kernel: (KH, KW).
        stride: of the windows.
        padding: (rows above and below, columns left and right), filled with zeros.
        filters: F, the channels of the result.
        with_bias: append a column of ones to the matrix, and the bias to the weights: [w; b], (K + 1, F). Then one matmul
            adds the bias, and the gradient of the bias is computed with that of the weights.
    """

    def __init__(self, source_shape, kernel, stride, padding, filters, dtype, with_bias=False):
        xp = backend.xp
        images, height, width, channels = source_shape
        (kernel_height, kernel_width), (above, left) = kernel, padding
        padded_height, padded_width = height + 2 * above, width + 2 * left
        out_height = (padded_height - kernel_height) // stride + 1
        out_width = (padded_width - kernel_width) // stride + 1
        self.pixels, self.size = out_height * out_width, kernel_height * kernel_width * channels
        # 1x1 windows at every pixel are the image itself: nothing is copied.
        self.copies = (kernel_height, kernel_width, stride) != (1, 1, 1)
        self.with_bias = with_bias and self.copies
        rows = self.size + self.with_bias
        self.step, self.gradient, self.weights = (xp.empty((rows, filters), dtype) for _ in range(3))
        self.per_chunk = images
        if not self.copies:
            return
        self.per_chunk = n = images_per_chunk(images, self.pixels * (rows + filters), dtype)
        # Copies are fast along long contiguous runs: along channels, or, if there are few channels, along pixels.
        if kernel_width * channels >= SHORT_ROW:
            self.padded = xp.zeros((n, padded_height, padded_width, channels), dtype)
            self.columns = xp.ones((n * self.pixels, rows), dtype)
        else:
            self.padded = xp.zeros((channels, n, padded_height, padded_width), dtype).transpose(1, 2, 3, 0)
            self.columns = xp.ones((rows, n * self.pixels), dtype).T
        self.interior = self.padded[:, above : above + height, left : left + width]
        self.windows = windows_view(self.padded, kernel, stride, (out_height, out_width))
        self.columns_by_window = self.columns[:, : self.size].reshape(self.windows.shape)

    def transform_weights(self, w, b=None):
        """The weights (KH, KW, C, F) as a matrix (K, F), or with the bias (F,) as (K + 1, F)."""
        matrix = w.reshape(self.size, -1)
        if not self.with_bias:
            return matrix
        backend.xp.copyto(self.weights[:-1], matrix)
        backend.xp.copyto(self.weights[-1], 0 if b is None else b)
        return self.weights

    def gather(self, source):
        """Fill the matrix with the windows of source (n, H, W, C)."""
        n = len(source)
        if not self.copies:
            self.matrix = source.reshape(-1, self.size)
            return
        backend.xp.copyto(self.interior[:n], source)
        backend.xp.copyto(self.columns_by_window[:n], self.windows[:n])
        self.matrix = self.columns[: n * self.pixels]

    def convolve(self, weights, out):
        """out (n, OH, OW, F) = windows weights."""
        gemm(self.matrix, weights, out.reshape(len(self.matrix), -1))

    def accumulate_weight_gradient(self, dout):
        """Add windows^T dout of this chunk. dout (n, OH, OW, F)."""
        self.gradient += gemm(self.matrix.T, dout.reshape(len(self.matrix), -1), self.step)

    def weight_gradient(self, dw, db=None):
        """Write the sum to dw (KH, KW, C, F), and with a bias to db (F,)."""
        backend.xp.copyto(dw, self.gradient[: self.size].reshape(dw.shape))
        if db is not None:
            backend.xp.copyto(db, self.gradient[-1])


class WinogradWindows(Windows):
    """The interface of Im2col for 3x3 kernels, stride 1 and an even output height, with 2/3 of the multiplications.

    Two outputs y0, y1 of a filter g = (g0, g1, g2) over four inputs d0..d3 take six multiplications. Winograd's F(2, 3)
    takes four, m = (G g) * (B^T d), y = A^T m, where

        B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)                    input transform
        G g   = (g0, (g0 + g1 + g2)/2, (g0 - g1 + g2)/2, g2)            filter transform
        A^T m = (m0 + m1 + m2, m1 - m2 - m3)                            output transform

    Expanded: m1 + m2 = d1 g1 + d2 (g0 + g2), m0 = (d0 - d2) g0, so y0 = d0 g0 + d1 g1 + d2 g2; y1 likewise.

    Here d are four image rows, g the kernel's three rows, and each multiplication is a matmul of the 1x3xC windows of the
    transformed rows with the transformed kernel rows. In float32 the error is within a factor of about two of im2col's.

    The weight gradient is the chain rule through the three lines: dm = A dy, d(G g) = (B^T d)^T dm, dg = G^T d(G g).
    """

    with_bias = False
    G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))

    def __init__(self, source_shape, padding, filters, dtype):
        xp = backend.xp
        images, height, width, channels = source_shape
        above, left = padding
        padded_height, padded_width = height + 2 * above, width + 2 * left
        pairs, out_width = (padded_height - 2) // 2, padded_width - 2
        self.pixels = pairs * out_width
        self.per_chunk = n = images_per_chunk(images, 4 * self.pixels * (3 * channels + filters), dtype)
        self.G = xp.asarray(self.G, dtype)
        self.padded = xp.zeros((n, padded_height, padded_width, channels), dtype)
        self.interior = self.padded[:, above : above + height, left : left + width]
        self.four_rows = [self.padded[:, r : r + 2 * pairs : 2] for r in range(4)]
        self.transformed = xp.empty((4, n, pairs, padded_width, channels), dtype)
        self.windows = windows_view(self.transformed, (1, 3), 1, (pairs, out_width))
        self.columns = xp.empty((4, n * self.pixels, 3 * channels), dtype)
        self.columns_by_window = self.columns.reshape(self.windows.shape)
        # m in the forward pass, dm in the backward pass.
        self.m = xp.empty((4, n * self.pixels, filters), dtype)
        self.m_by_row = self.m.reshape(4, n, pairs, out_width * filters)
        self.weights, self.step, self.gradient = (xp.empty((4, 3 * channels, filters), dtype) for _ in range(3))

    def transform_weights(self, w, b=None):
        """G g: the weights (3, 3, C, F) as four matrices (3 C, F). The bias is not included."""
        gemm(self.G, w.reshape(3, -1), self.weights.reshape(4, -1))
        return self.weights

    def gather(self, source):
        """B^T d of source (n, H, W, C), and its 1x3 windows."""
        xp, n = backend.xp, len(source)
        xp.copyto(self.interior[:n], source)
        d0, d1, d2, d3 = (rows[:n] for rows in self.four_rows)
        transformed = self.transformed[:, :n]
        xp.subtract(d0, d2, out=transformed[0])
        xp.add(d1, d2, out=transformed[1])
        xp.subtract(d2, d1, out=transformed[2])
        xp.subtract(d1, d3, out=transformed[3])
        xp.copyto(self.columns_by_window[:, :n], self.windows[:, :n])
        self.matrices = self.columns[:, : n * self.pixels]

    def convolve(self, weights, out):
        """out (n, OH, OW, F) = A^T m."""
        n = len(out)
        gemm(self.matrices, weights, self.m[:, : n * self.pixels])
        m0, m1, m2, m3 = self.m_by_row[:, :n]
        y0, y1 = _even_and_odd_rows(out)
        backend.xp.add(m0, m1, out=y0)
        y0 += m2
        backend.xp.subtract(m1, m2, out=y1)
        y1 -= m3

    def accumulate_weight_gradient(self, dout):
        """Add (B^T d)^T A dy of this chunk. dout (n, OH, OW, F)."""
        xp, n = backend.xp, len(dout)
        dm = self.m_by_row[:, :n]
        dy0, dy1 = _even_and_odd_rows(dout)
        xp.copyto(dm[0], dy0)
        xp.add(dy0, dy1, out=dm[1])
        xp.subtract(dy0, dy1, out=dm[2])
        xp.negative(dy1, out=dm[3])
        self.gradient += gemm(self.matrices.transpose(0, 2, 1), self.m[:, : n * self.pixels], self.step)

    def weight_gradient(self, dw, db=None):
        """Write G^T of the sum to dw (3, 3, C, F)."""
        gemm(self.G.T, self.gradient.reshape(4, -1), dw.reshape(3, -1))


def _even_and_odd_rows(images):
    """Two views (n, H/2, W F) of images (n, H, W, F)."""
    n, height, width, filters = images.shape
    pairs = images.reshape(n, height // 2, 2, width * filters)
    return pairs[:, :, 0], pairs[:, :, 1]


def windows_view(padded, kernel, stride, out_size):
    """All windows of padded (..., H, W, C) as a view (..., OH, OW, KH, KW, C)."""
    *outer, row, column, channel = padded.strides
    shape = (*padded.shape[:-3], *out_size, *kernel, padded.shape[-1])
    strides = (*outer, row * stride, column * stride, row, column, channel)
    return backend.xp.lib.stride_tricks.as_strided(padded, shape, strides)


def images_per_chunk(images, values, dtype):
    """The number of images in a chunk, for this many values of matrix and result per image."""
    return min(images, max(1, CHUNK_BYTES[backend.name] // (values * np.dtype(dtype).itemsize)))
