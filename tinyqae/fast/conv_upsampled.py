"""Nearest-neighbour upsampling by 2 followed by a 3x3 convolution ('same', stride 1), without storing the upsampled image.

The upsampled image repeats every pixel, h[k] = x[k // 2] along an axis, so an output depends on few distinct pixels, and
weights can be summed in advance. Along one axis, for the output 2 i + a of phase a = 0 or 1,

    out[2i]     = w0 h[2i-1] + w1 h[2i]   + w2 h[2i+1] =  w0 x[i-1]      + (w1 + w2) x[i]
    out[2i + 1] = w0 h[2i]   + w1 h[2i+1] + w2 h[2i+2] = (w0 + w1) x[i]  +  w2 x[i+1]

    so phase 0 has the weights k0 = (w0, w1 + w2) on x[i-1], x[i], and phase 1 k1 = (w0 + w1, w2) on x[i], x[i+1]

The zero padding of h is zero padding of x. On two axes that makes four phases (a, b), each a convolution of x with a 2x2
kernel: 16 multiplications per pixel of x and pair of channels instead of 36. The output 2 i + a depends on the window that
begins at i + a in x with one row of zeros around it, so all phases share the (H + 1)(W + 1) windows 2x2, and one matmul
computes them all: (M, 4 C) times (4 C, 4 F).

Ordered by q = 2 t + a for tap t and phase a, the folded weights are (w0, w0 + w1, w1 + w2, w2) along an axis: the kernel
convolved with (1, 1). The same map is a transposed convolution with stride 2 (Dumoulin and Visin 2016, arXiv:1603.07285,
section 4), so its derivative is an ordinary convolution, with 4x4 windows of dout (see the backward pass).
"""

import numpy as np

from .. import backend
from ..backend import gemm
from .conv import ChannelOps, backward_from_windows
from .windows import Im2col

# Row q = 2 t + a: which of the kernel's three rows are summed for tap t of phase a.
FOLD = ((1, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 1))


class UpsampledConv2dPlan:
    """Scratch space of upsampling with convolution, allocated once; see Conv2dPlan. w_shape must be (3, 3, C, F)."""

    def __init__(self, input_shape, w_shape, dtype=np.float32):
        xp = backend.xp
        images, height, width, channels = input_shape
        filters = w_shape[3]
        output_shape = images, 2 * height, 2 * width, filters
        self.channel_ops = ChannelOps(output_shape, dtype)
        self.x_windows = Im2col(input_shape, (2, 2), 1, (1, 1), 4 * filters, dtype)
        self.dout_windows = Im2col(output_shape, (4, 4), 2, (1, 1), channels, dtype)
        self.phases = xp.empty((self.x_windows.per_chunk, height + 1, width + 1, 2, 2, filters), dtype)
        fold = xp.asarray(FOLD, dtype)
        self.fold = xp.kron(fold, fold)
        self.folded = xp.empty((4, 4, channels, filters), dtype)
        self.by_phase = xp.empty((2, 2, channels, 2, 2, filters), dtype)
        self.rotated_w = xp.empty((4, 4, filters, channels), dtype)

    def fold_weights(self, w):
        """Fill `folded` (q of rows, q of columns, C, F) from w (3, 3, C, F)."""
        gemm(self.fold, w.reshape(9, -1), self.folded.reshape(16, -1))


def conv2d_upsampled_forward(x, w, b, plan, out):
    """Upsampling and convolution. x (N, H, W, C), w (3, 3, C, F), b (F,) or None; out (N, 2H, 2W, F), written."""
    xp = backend.xp
    _, height, width, channels = x.shape
    plan.fold_weights(w)
    tap_phase_tap_phase = plan.folded.reshape(2, 2, 2, 2, channels, -1)
    xp.copyto(plan.by_phase, tap_phase_tap_phase.transpose(0, 2, 4, 1, 3, 5))
    windows = plan.x_windows
    weights = windows.transform_weights(plan.by_phase)
    for chunk in windows.chunks(len(x)):
        windows.gather(x[chunk])
        phases, target = plan.phases[: chunk.stop - chunk.start], out[chunk]
        windows.convolve(weights, phases)
        for i in range(2):
            for j in range(2):
                xp.copyto(target[:, i::2, j::2], phases[:, i : i + height, j : j + width, i, j])
        if b is not None:
            plan.channel_ops.apply(xp.add, target, b, target)
    return out


def conv2d_upsampled_backward(dout, x, w, plan, dx, dw, db):
    """The gradients of conv2d_upsampled_forward.

    By the formulas above, x[i] contributes to four outputs along an axis: with weight w2 to out[2i-1], w1 + w2 to out[2i],
    w0 + w1 to out[2i+1], w0 to out[2i+2]. These are the folded weights in reverse order, so

        dx[n, i, j, c] = sum over r, s in 0..3 and f of  dout[n, 2i-1+r, 2j-1+s, f] * folded[3-r, 3-s, c, f]

    a convolution of dout with stride 2. The same windows of dout, multiplied by x instead, give the gradient with respect
    to `folded`; and since folded = FOLD w along both axes, dw = FOLD^T dfolded. dx and db are None where not needed.
    """
    xp = backend.xp
    if db is not None:
        plan.channel_ops.sum(dout, db)
    plan.fold_weights(w)
    rotated_view = plan.folded[::-1, ::-1].transpose(0, 1, 3, 2)
    xp.copyto(plan.rotated_w, rotated_view)
    backward_from_windows(plan.dout_windows, dout, x, plan.rotated_w, dx, plan.rotated_w)
    xp.copyto(rotated_view, plan.rotated_w)
    gemm(plan.fold.T, plan.folded.reshape(16, -1), dw.reshape(9, -1))
    return dx
