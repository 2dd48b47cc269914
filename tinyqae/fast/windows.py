"""How convolutions meet their windows: im2col and Winograd, gathered a few images at a time and multiplied.

conv.py and conv_upsampled.py say what is computed and name the axes; the two classes here have one interface and are how.
"""
import numpy as np

from .. import backend
from ..backend import gemm

# Bytes of window matrix and product at a time: on the CPU a few images, for the cache; on a GPU a few large products.
CHUNK_BYTES = {"numpy": 2**21, "cupy": 2**28}

# A window's row is KW C values side by side in memory. Fewer than this are copied slowly one row at a time, so that the
# matrix is stored transposed: then the values side by side are those of neighbouring pixels.
SHORT_RUN = 32


class Im2col:
    """The windows of a few images at a time as rows of a matrix, and the products with it.

    source_shape (N, H, W, C); kernel (KH, KW); zeros (rows above and below, columns left and right) around an image;
    with_bias: the weights are [w; b], (K + 1, F), and the matrix has a column of ones after its K others, so that the
    product adds the bias and its derivative comes with that of the weights.

    `gather` fills the matrix (M, K or K + 1); the other methods multiply by it. They are what a convolution, its
    derivatives, and the convolution of an upsampled image are made of.
    """

    def __init__(self, source_shape, kernel, stride, zeros, filters, dtype, with_bias=False):
        xp = backend.xp
        images, height, width, channels = source_shape
        (kernel_height, kernel_width), (above, left) = kernel, zeros
        padded_height, padded_width = height + 2 * above, width + 2 * left
        out_height = (padded_height - kernel_height) // stride + 1
        out_width = (padded_width - kernel_width) // stride + 1
        self.pixels, self.size = out_height * out_width, kernel_height * kernel_width * channels
        # Windows 1x1 at every pixel are the image itself.
        self.copies = (kernel, stride, zeros) != ((1, 1), 1, (0, 0))
        self.with_bias = with_bias and self.copies
        rows = self.size + self.with_bias
        self.step, self.gradient = xp.empty((rows, filters), dtype), xp.empty((rows, filters), dtype)
        if self.with_bias:
            self.weights = xp.empty((rows, filters), dtype)
        self.per_chunk = images
        if not self.copies:
            return
        self.per_chunk = n = images_per_chunk(images, self.pixels * (rows + filters), dtype)
        # Copies are fast along long stretches of memory: along channels, or, where they are few, along pixels.
        if kernel_width * channels >= SHORT_RUN:
            self.padded = xp.zeros((n, padded_height, padded_width, channels), dtype)
            self.columns = xp.ones((n * self.pixels, rows), dtype)
        else:
            self.padded = xp.zeros((channels, n, padded_height, padded_width), dtype).transpose(1, 2, 3, 0)
            self.columns = xp.ones((rows, n * self.pixels), dtype).T
        self.interior = self.padded[:, above:above + height, left:left + width]
        self.windows = windows_view(self.padded, kernel, stride, (out_height, out_width))
        self.by_window = self.columns[:, :self.size].reshape(self.windows.shape)

    def chunks(self, images):
        """Slices of a batch of so many images."""
        return chunks(images, self.per_chunk)

    def prepare(self, w):
        """The weights (KH, KW, C, F) as a matrix (K, F), or the first K rows of one with the bias."""
        matrix = w.reshape(self.size, -1)
        if not self.with_bias:
            return matrix
        backend.xp.copyto(self.weights[:-1], matrix)
        return self.weights

    def set_bias(self, b):
        """The last row of the weights: b (F,), or None for zeros."""
        backend.xp.copyto(self.weights[-1], 0 if b is None else b)

    def gather(self, source):
        """Fill the matrix with the windows of source (n, H, W, C)."""
        n = len(source)
        if not self.copies:
            self.matrix = source.reshape(-1, self.size)
            return
        backend.xp.copyto(self.interior[:n], source)
        backend.xp.copyto(self.by_window[:n], self.windows[:n])
        self.matrix = self.columns[:n * self.pixels]

    def correlate(self, weights, out):
        """out (n, OH, OW, F) = windows weights."""
        gemm(self.matrix, weights, out.reshape(len(self.matrix), -1))

    def correlate_adjoint(self, weights, dout, dsource):
        """dsource (n, H, W, C): every window of dout weights^T added to where `gather` took it from (col2im).

        Overwrites the gathered windows.
        """
        xp = backend.xp
        n, (kernel_height, kernel_width) = len(dout), self.windows.shape[3:5]
        gemm(dout.reshape(len(self.matrix), -1), weights[:self.size].T, self.matrix[:, :self.size])
        padded = self.padded[:n]
        padded.fill(0)
        for u in range(kernel_height):
            for v in range(kernel_width):
                part = self.windows[:n, :, :, u, v]
                xp.add(part, self.by_window[:n, :, :, u, v], out=part)
        xp.copyto(dsource, self.interior[:n])
        # The next gather writes the interior only, and needs zeros around it.
        padded.fill(0)

    def clear_weight_gradient(self):
        """Start a sum over the chunks of a batch."""
        self.gradient.fill(0)

    def add_weight_gradient(self, dout):
        """Add this chunk's windows^T dout, dout (n, OH, OW, F)."""
        gemm(self.matrix.T, dout.reshape(len(self.matrix), -1), self.step)
        backend.xp.add(self.gradient, self.step, out=self.gradient)

    def weight_gradient(self, dw):
        """The sum, as dw (KH, KW, C, F)."""
        backend.xp.copyto(dw, self.gradient[:self.size].reshape(dw.shape))

    def bias_gradient(self, db):
        """The sum's last row, as db (F,), if the bias is with the weights."""
        backend.xp.copyto(db, self.gradient[-1])


class WinogradWindows:
    """The interface of Im2col for 3x3 kernels, stride 1 and an even output height, with 2/3 of the multiplications.

    Two outputs y0, y1 of a filter g = (g0, g1, g2) over four inputs d0..d3 take six products. Winograd's F(2, 3) takes
    four, m = (G g) * (B^T d), y = A^T m, where

        B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
        G g   = (g0, (g0 + g1 + g2)/2, (g0 - g1 + g2)/2, g2)
        A^T m = (m0 + m1 + m2, m1 - m2 - m3)

    Multiply out: m1 + m2 = d1 g1 + d2 (g0 + g2), m0 = (d0 - d2) g0, so y0 = d0 g0 + d1 g1 + d2 g2; y1 likewise.

    Here d are four image rows, g the kernel's three rows, and each product is a matrix product: of the windows 1x3xC
    of the combined rows with the combined kernel rows. Rows lie one after another in memory, so the combinations run
    over long stretches. In float32 the result is as accurate as im2col's to about a factor of two.

    The weight gradient is the chain rule through the three lines: dm = A dy, d(G g) = (B^T d)^T dm, dg = G^T d(G g).
    """

    with_bias = False
    G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))

    def __init__(self, source_shape, zeros, filters, dtype):
        xp = backend.xp
        images, height, width, channels = source_shape
        above, left = zeros
        padded_height, padded_width = height + 2 * above, width + 2 * left
        pairs, out_width = (padded_height - 2) // 2, padded_width - 2
        self.pixels = pairs * out_width
        self.per_chunk = n = images_per_chunk(images, 4 * self.pixels * (3 * channels + filters), dtype)
        self.G = xp.asarray(self.G, dtype)
        self.padded = xp.zeros((n, padded_height, padded_width, channels), dtype)
        self.interior = self.padded[:, above:above + height, left:left + width]
        self.four_rows = [self.padded[:, r:r + 2 * pairs:2] for r in range(4)]
        self.combined = xp.empty((4, n, pairs, padded_width, channels), dtype)
        self.windows = windows_view(self.combined, (1, 3), 1, (pairs, out_width))
        self.columns = xp.empty((4, n * self.pixels, 3 * channels), dtype)
        self.by_window = self.columns.reshape(self.windows.shape)
        # m of one set of pixels, and dm of the other: of `filters` channels both.
        self.products = xp.empty((4, n * self.pixels, filters), dtype)
        self.products_by_row = self.products.reshape(4, n, pairs, out_width * filters)
        self.weights, self.step, self.gradient = (xp.empty((4, 3 * channels, filters), dtype) for _ in range(3))

    def chunks(self, images):
        """Slices of a batch of so many images."""
        return chunks(images, self.per_chunk)

    def prepare(self, w):
        """G g: the weights (3, 3, C, F) as four matrices (3 C, F)."""
        gemm(self.G, w.reshape(3, -1), self.weights.reshape(4, -1))
        return self.weights

    def gather(self, source):
        """B^T d of source (n, H, W, C), and its windows 1x3."""
        xp = backend.xp
        n = len(source)
        xp.copyto(self.interior[:n], source)
        d0, d1, d2, d3 = (rows[:n] for rows in self.four_rows)
        combined = self.combined[:, :n]
        xp.subtract(d0, d2, out=combined[0])
        xp.add(d1, d2, out=combined[1])
        xp.subtract(d2, d1, out=combined[2])
        xp.subtract(d1, d3, out=combined[3])
        xp.copyto(self.by_window[:, :n], self.windows[:, :n])
        self.matrices = self.columns[:, :n * self.pixels]

    def correlate(self, weights, out):
        """A^T m, out (n, OH, OW, F)."""
        xp = backend.xp
        n = len(out)
        gemm(self.matrices, weights, self.products[:, :n * self.pixels])
        m0, m1, m2, m3 = self.products_by_row[:, :n]
        y0, y1 = _even_and_odd_rows(out)
        xp.add(m0, m1, out=y0)
        xp.add(y0, m2, out=y0)
        xp.subtract(m1, m2, out=y1)
        xp.subtract(y1, m3, out=y1)

    def clear_weight_gradient(self):
        """Start a sum over the chunks of a batch."""
        self.gradient.fill(0)

    def add_weight_gradient(self, dout):
        """Add this chunk's (B^T d)^T A dy, dout (n, OH, OW, F)."""
        xp = backend.xp
        n = len(dout)
        dm = self.products_by_row[:, :n]
        dy0, dy1 = _even_and_odd_rows(dout)
        xp.copyto(dm[0], dy0)
        xp.add(dy0, dy1, out=dm[1])
        xp.subtract(dy0, dy1, out=dm[2])
        xp.negative(dy1, out=dm[3])
        gemm(self.matrices.transpose(0, 2, 1), self.products[:, :n * self.pixels], self.step)
        xp.add(self.gradient, self.step, out=self.gradient)

    def weight_gradient(self, dw):
        """G^T of the sum, as dw (3, 3, C, F)."""
        gemm(self.G.T, self.gradient.reshape(4, -1), dw.reshape(3, -1))


def _even_and_odd_rows(images):
    """Two views (n, H/2, W F) of images (n, H, W, F)."""
    n, height, width, filters = images.shape
    pairs = images.reshape(n, height // 2, 2, width * filters)
    return pairs[:, :, 0], pairs[:, :, 1]


def windows_view(padded, kernel, stride, out_size):
    """All windows of padded (..., H, W, C) as a view (..., OH, OW, KH, KW, C) without a copy."""
    *outer, row, column, channel = padded.strides
    shape = (*padded.shape[:-3], *out_size, *kernel, padded.shape[-1])
    strides = (*outer, row * stride, column * stride, row, column, channel)
    return backend.xp.lib.stride_tricks.as_strided(padded, shape, strides)


def images_per_chunk(images, values, dtype):
    """How many of a batch's images to work on at a time, with so many values of an image in the matrix and product."""
    return min(images, max(1, CHUNK_BYTES[backend.name] // (values * np.dtype(dtype).itemsize)))


def chunks(images, per_chunk):
    """A batch of so many images in slices of at most `per_chunk`."""
    return [slice(start, min(start + per_chunk, images)) for start in range(0, images, per_chunk)]
