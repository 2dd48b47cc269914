"""Two-dimensional convolution, NHWC; the textbook is ops/conv.py, which has stride 1 and 'same' padding only.

    out[n, i, j, f] = b[f] + sum over u, v, c of  pad(x)[n, s i + u, s j + v, c] * w[u, v, c, f]

with stride s and pad(x) = x between zeros: padding 'same' puts (KH - 1)/2 rows and (KW - 1)/2 columns of them on each
side, so that stride 1 keeps H and W and stride s leaves ceil(H/s) and ceil(W/s); 'valid' puts none. Kernels are odd.

Axis letters beside those of the package: F filters (channels of the output), KH and KW kernel height and width, OH and
OW output height and width, K = KH KW C values in a window. It is computed through matrix products:

    im2col      every window is copied to a row of a matrix (M, K), M = N OH OW; then out = matrix @ w. A few images at
                a time, so that the matrix stays in the cache (Chellapilla, Puri and Simard 2006).
    Winograd    for 3x3 kernels with many channels: two output rows share their products, 2/3 of the multiplications
                (Lavin and Gray 2016, arXiv:1509.09308, here F(2, 3) along H only).

Source: Goodfellow, Bengio, Courville, Deep Learning, chapter 9; Dumoulin and Visin 2016, arXiv:1603.07285.
"""
import numpy as np

from .. import backend
from ..backend import gemm
from .checks import require
from .windows import Im2col, WinogradWindows

PADDINGS = ("same", "valid")

# C * F from which Winograd saves more in the products than its additions cost (measured at 4x4 to 32x32 pixels:
# nothing at 1024, 1/10 of the time at 2048, 1/4 at 8192; all on a CPU, benchmarks/gpu_kernels.py measures both on a GPU).
WINOGRAD_FROM = 2048


def conv2d_output_shape(input_shape, w_shape, stride=1, padding="same"):
    """(N, OH, OW, F) for input_shape (N, H, W, C) and w_shape (KH, KW, C, F); ValueError for what does not fit."""
    if len(input_shape) != 4:
        raise ValueError(f"input_shape={tuple(input_shape)} must be (N, H, W, C)")
    if len(w_shape) != 4:
        raise ValueError(f"w_shape={tuple(w_shape)} must be (KH, KW, C, F)")
    if min(*input_shape, *w_shape) < 1:
        raise ValueError(f"input_shape={tuple(input_shape)}, w_shape={tuple(w_shape)}: every length must be at least 1")
    images, height, width, channels = input_shape
    kernel_height, kernel_width, kernel_channels, filters = w_shape
    if kernel_height % 2 == 0 or kernel_width % 2 == 0:
        raise ValueError(f"w_shape={tuple(w_shape)}: a kernel of {kernel_height}x{kernel_width} has no centre; "
                         "both sides must be odd")
    if kernel_channels != channels:
        raise ValueError(f"w_shape={tuple(w_shape)} is for {kernel_channels} channels, but the input "
                         f"{tuple(input_shape)} has {channels}")
    if not (isinstance(stride, int) and stride > 0):
        raise ValueError(f"stride={stride!r} must be a whole number above 0")
    above, left = _zeros_each_side(w_shape, padding)
    padded_height, padded_width = height + 2 * above, width + 2 * left
    if padded_height < kernel_height or padded_width < kernel_width:
        raise ValueError(f"w_shape={tuple(w_shape)} with padding={padding!r} does not fit into an input of "
                         f"{height}x{width}")
    return images, (padded_height - kernel_height) // stride + 1, (padded_width - kernel_width) // stride + 1, filters


def _zeros_each_side(w_shape, padding):
    """(rows above and below, columns left and right) of zeros around an image."""
    if padding not in PADDINGS:
        raise ValueError(f"padding={padding!r} is unknown; choose one of {', '.join(PADDINGS)}")
    return (w_shape[0] // 2, w_shape[1] // 2) if padding == "same" else (0, 0)


class Conv2dPlan:
    """The shapes of one convolution and the scratch space it needs, allocated once.

    input_shape (N, H, W, C), where N is the largest batch that will come; w_shape (KH, KW, C, F); stride a whole
    number; padding 'same' or 'valid'; dtype of every array; needs_dx False where nobody needs the input's gradient (a
    first layer). `output_shape` is (N, OH, OW, F). A plan holds no values between calls, but serves one call at a time:
    threads need one each.
    """

    def __init__(self, input_shape, w_shape, stride=1, padding="same", dtype=np.float32, needs_dx=True):
        self.output_shape = conv2d_output_shape(input_shape, w_shape, stride, padding)
        self.input_shape, self.w_shape = tuple(input_shape), tuple(w_shape)
        self.stride, self.padding, self.dtype, self.needs_dx = stride, padding, np.dtype(dtype), needs_dx
        channels, kernel, filters = self.w_shape[2], self.w_shape[:2], self.w_shape[3]
        zeros = _zeros_each_side(w_shape, padding)
        self.bias = BiasRow(self.output_shape, self.dtype)
        # Only with stride 1 is the backward pass a convolution of dout, and only then can Winograd serve both passes.
        self.backward_gathers_dout = needs_dx and stride == 1
        winograd = (self.backward_gathers_dout and kernel == (3, 3) and channels * filters >= WINOGRAD_FROM
                    and self.output_shape[1] % 2 == input_shape[1] % 2 == 0)
        if winograd:
            self.x_windows = WinogradWindows(input_shape, zeros, filters, self.dtype)
        else:
            # Where both passes gather x, the bias comes with the weights.
            self.x_windows = Im2col(input_shape, kernel, stride, zeros, filters, self.dtype,
                                    with_bias=not self.backward_gathers_dout)
        if self.backward_gathers_dout:
            self.turned = backend.xp.empty((*kernel, filters, channels), self.dtype)
            full = kernel[0] - 1 - zeros[0], kernel[1] - 1 - zeros[1]
            if winograd:
                self.dout_windows = WinogradWindows(self.output_shape, full, channels, self.dtype)
            else:
                self.dout_windows = Im2col(self.output_shape, kernel, 1, full, channels, self.dtype)


def conv2d_forward(x, w, b, plan, out):
    """The formula above through matrix products, without allocating an array.

    x (N, H, W, C), w (KH, KW, C, F), b (F,) or None for no bias, out (N, OH, OW, F), of the plan's shapes and dtype,
    with any N up to the plan's. ValueError names an array that does not fit. Returns out.
    """
    images = min(len(x), plan.input_shape[0])
    require("x", x, (images, *plan.input_shape[1:]), plan.dtype)
    require("w", w, plan.w_shape, plan.dtype)
    require("out", out, (images, *plan.output_shape[1:]), plan.dtype, written=True)
    if b is not None:
        require("b", b, plan.w_shape[3:], plan.dtype)
    windows = plan.x_windows
    weights = windows.prepare(w)
    if windows.with_bias:
        windows.set_bias(b)
    for chunk in windows.chunks(images):
        windows.gather(x[chunk])
        windows.correlate(weights, out[chunk])
        if b is not None and not windows.with_bias:
            plan.bias.add(b, out[chunk])
    return out


def conv2d_backward(dout, x, w, plan, dx, dw, db):
    """The three derivatives through matrix products, without allocating an array.

    With stride 1, an input pixel (k, l) has a part in the outputs (i, j) = (k + p - u, l + p - v), p the padding, so

        dx[n, k, l, c] = sum over u, v, f of  dout[n, k + p - u, l + p - v, f] * w[u, v, c, f]

    which is itself a convolution: of dout, padded by KH - 1 - p, with the kernel turned by 180 degrees and its
    channels and filters exchanged. The same windows of dout, multiplied by x instead of w, give

        dw[u, v, c, f] = sum over n, k, l of  x[n, k, l, c] * dout[n, k + p - u, l + p - v, f]

    so dout is gathered once, for both, and x not at all. With a larger stride, or where dx is not wanted, the windows
    of x are gathered as in the forward pass: dw = windows^T dout, and dx adds dout w^T back to where they came from.

    Shapes as in conv2d_forward, dout as out; dx None where it is not wanted; db None where there is no bias.
    """
    images = min(len(dout), plan.input_shape[0])
    require("dout", dout, (images, *plan.output_shape[1:]), plan.dtype)
    require("x", x, (images, *plan.input_shape[1:]), plan.dtype)
    require("w", w, plan.w_shape, plan.dtype)
    require("dw", dw, plan.w_shape, plan.dtype, written=True)
    if db is not None:
        require("db", db, plan.w_shape[3:], plan.dtype, written=True)
    if dx is not None:
        if not plan.needs_dx:
            raise ValueError("dx is given, but the plan was made with needs_dx=False; pass dx=None")
        require("dx", dx, x.shape, plan.dtype, written=True)
    windows = plan.x_windows
    if db is not None and not windows.with_bias:
        plan.bias.sum(dout, db)
    if plan.backward_gathers_dout:
        xp = backend.xp
        xp.copyto(plan.turned, _turned(w))
        correlate_backward(plan.dout_windows, dout, x, plan.turned, dx, plan.turned)
        xp.copyto(dw, _turned(plan.turned))
        return dx
    weights = windows.prepare(w)
    windows.clear_weight_gradient()
    for chunk in windows.chunks(images):
        windows.gather(x[chunk])
        windows.add_weight_gradient(dout[chunk])
        if dx is not None:
            windows.correlate_adjoint(weights, dout[chunk], dx[chunk])
    windows.weight_gradient(dw)
    if db is not None and windows.with_bias:
        windows.bias_gradient(db)
    return dx


def correlate_backward(windows, dout, x, w, dx, dw):
    """dx and dw of a convolution whose backward pass gathers dout: see conv2d_backward.

    windows: those of dout. w turns windows of dout into dx; dw (which may be w itself) takes the gradient in that form.
    """
    weights = windows.prepare(w)
    windows.clear_weight_gradient()
    for chunk in windows.chunks(len(dout)):
        windows.gather(dout[chunk])
        if dx is not None:
            windows.correlate(weights, dx[chunk])
        windows.add_weight_gradient(x[chunk])
    windows.weight_gradient(dw)


def _turned(w):
    """The kernel (KH, KW, C, F) turned by 180 degrees, channels and filters exchanged: a view (KH, KW, F, C)."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


class BiasRow:
    """Adds a bias to every pixel of arrays (N, H, W, F), and sums over all pixels."""

    def __init__(self, shape, dtype):
        images, height, width, filters = shape
        # One addition for each row of pixels instead of one for each pixel.
        self.row = backend.xp.empty((width, filters), dtype)
        self.ones = backend.xp.ones(images * height * width, dtype)

    def add(self, b, out):
        """out += b."""
        xp = backend.xp
        xp.copyto(self.row, b)
        rows = out.reshape(-1, self.row.size)
        xp.add(rows, self.row.reshape(-1), out=rows)

    def sum(self, dout, db):
        """db = sum of dout over all pixels, as a product with ones."""
        pixels = dout.reshape(-1, len(db))
        gemm(self.ones[:len(pixels)], pixels, db)
