"""Two-dimensional convolution, NHWC, stride 1, 'same' padding, through matmuls.

    im2col      every window is copied to a row of a matrix (M, K), M = N H W, K = KH KW C; then out = matrix @ w. A few
                images at a time, so that the matrix stays in the cache (Chellapilla, Puri and Simard 2006).
    Winograd    for 3x3 kernels with many channels: 2/3 of the multiplications (Lavin and Gray 2016, arXiv:1509.09308; here
                F(2, 3) along H only).

See ops/conv.py for the formula.
"""

import numpy as np

from .. import backend
from ..backend import gemm
from .windows import Im2col, WinogradWindows

# The threshold for Winograd: the C * F from which it saves more in the matmuls than its additions cost. On a CPU, at 4x4 to
# 32x32 pixels, it saves nothing at 1024, 1/10 of the time at 2048 and 1/4 at 8192.
WINOGRAD_FROM = 2048


class Conv2dPlan:
    """Scratch space of one convolution, allocated once. It holds no values between calls; every thread needs its own.

    Args:
        input_shape: (N, H, W, C), where N is the largest batch size.
        w_shape: (KH, KW, C, F), where KH and KW are odd.
        dtype: of every array.
        needs_dx: False for a first layer, whose input needs no gradient.
    """

    def __init__(self, input_shape, w_shape, dtype=np.float32, needs_dx=True):
        images, height, width, channels = input_shape
        *kernel, _, filters = w_shape
        output_shape, padding = (images, height, width, filters), (kernel[0] // 2, kernel[1] // 2)
        self.needs_dx = needs_dx
        self.channel_ops = ChannelOps(output_shape, dtype)
        # Without dx, the backward pass gathers windows of x; Winograd would then serve the forward pass only.
        if needs_dx and kernel == [3, 3] and channels * filters >= WINOGRAD_FROM and height % 2 == 0:
            self.x_windows = WinogradWindows(input_shape, padding, filters, dtype)
            self.dout_windows = WinogradWindows(output_shape, padding, channels, dtype)
        else:
            self.x_windows = Im2col(input_shape, kernel, 1, padding, filters, dtype, with_bias=not needs_dx)
            self.dout_windows = Im2col(output_shape, kernel, 1, padding, channels, dtype) if needs_dx else None
        self.rotated_w = backend.xp.empty((*kernel, filters, channels), dtype) if needs_dx else None


def conv2d_forward(x, w, b, plan, out):
    """The convolution of x (N, H, W, C) by w (KH, KW, C, F), plus b (F,) or None, in out (N, H, W, F). N is at most that of
    the plan.
    """
    windows = plan.x_windows
    weights = windows.transform_weights(w, b)
    for chunk in windows.chunks(len(x)):
        windows.gather(x[chunk])
        windows.convolve(weights, out[chunk])
        if b is not None and not windows.with_bias:
            plan.channel_ops.apply(backend.xp.add, out[chunk], b, out[chunk])
    return out


def conv2d_backward(dout, x, w, plan, dx, dw, db):
    """The gradients of conv2d_forward.

    dx is a convolution of dout with the kernel rotated by 180 degrees, its channels and filters exchanged (ops/conv.py).
    The same windows of dout, multiplied by x instead of w, give

        dw[u, v, c, f] = sum over n, k, l of  x[n, k, l, c] * dout[n, k + p - u, l + q - v, f]

    with (p, q) the padding. So dout is gathered once, for both, and x not at all. Where dx is not needed, the windows of x
    are gathered as in the forward pass, and dw = windows^T dout. dx and db are None where they are not needed.
    """
    windows = plan.x_windows
    if db is not None and not windows.with_bias:
        plan.channel_ops.sum(dout, db)
    if not plan.needs_dx:
        return backward_from_windows(windows, x, dout, None, None, dw, db if windows.with_bias else None)
    backend.xp.copyto(plan.rotated_w, _rotate(w))
    backward_from_windows(plan.dout_windows, dout, x, plan.rotated_w, dx, plan.rotated_w)
    backend.xp.copyto(dw, _rotate(plan.rotated_w))
    return dx


def backward_from_windows(windows, source, other, w, dx, dw, db=None):
    """dw = windows^T other and dx = windows w, from windows of `source` that are gathered once; see conv2d_backward.

    dw may be w itself. dx None: not needed. db: the gradient of the bias, if the windows include one. Returns dx.
    """
    weights = None if dx is None else windows.transform_weights(w)
    windows.gradient.fill(0)
    for chunk in windows.chunks(len(source)):
        windows.gather(source[chunk])
        if dx is not None:
            windows.convolve(weights, dx[chunk])
        windows.accumulate_weight_gradient(other[chunk])
    windows.weight_gradient(dw, db)
    return dx


def _rotate(w):
    """A view (KH, KW, F, C) of the kernel (KH, KW, C, F), rotated by 180 degrees, channels and filters exchanged."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


class ChannelOps:
    """Operations per channel on arrays (N, H, W, C) of up to this shape.

    Arrays are treated as rows of W C values, and a vector (C,) is repeated W times to such a row, because operations on long
    rows run at memory bandwidth. A sum over pixels is a matmul with a vector of ones.
    """

    def __init__(self, shape, dtype):
        images, height, width, channels = shape
        self.row = backend.xp.empty((width, channels), dtype)
        self.ones = backend.xp.ones(images * height * width, dtype)

    def apply(self, operation, x, vector, out):
        """out = operation(x, vector), where operation is a ufunc, such as xp.add."""
        row = self.row[: x.shape[2]]
        backend.xp.copyto(row, vector)
        operation(x.reshape(-1, row.size), row.reshape(-1), out=out.reshape(-1, row.size))

    def sum(self, x, out):
        """out (C,) = the sum of x over all pixels. Returns out."""
        pixels = x.reshape(-1, len(out))
        return gemm(self.ones[: len(pixels)], pixels, out)
