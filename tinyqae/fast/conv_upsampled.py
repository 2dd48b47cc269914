"""Nearest upsampling by 2 followed by a 3x3 convolution ('same', stride 1), without storing the upsampled image.

The upsampled image repeats every pixel, h[k] = x[k // 2] along an axis, so an output sees few different pixels and
weights can be added up beforehand. Along one axis, with output 2 i + a of phase a = 0 or 1,

    out[2i]     = w0 h[2i-1] + w1 h[2i]   + w2 h[2i+1] =  w0 x[i-1]      + (w1 + w2) x[i]
    out[2i + 1] = w0 h[2i]   + w1 h[2i+1] + w2 h[2i+2] = (w0 + w1) x[i]  +  w2 x[i+1]

    so phase 0 has the weights k0 = (w0, w1 + w2) on x[i-1], x[i], and phase 1 k1 = (w0 + w1, w2) on x[i], x[i+1]

The zeros that 'same' puts around h are zeros around x. On two axes that makes four phases (a, b), each a convolution of
x with a kernel 2x2: 16 products a pixel of x for each pair of channels in place of 36. The output 2 i + a reads the
window that begins at i + a in x with one row of zeros around it, so all phases share the (H + 1)(W + 1) windows 2x2,
and one matrix product computes them all: (M, 4 C) times (4 C, 4 F).

Laid out by q = 2 t + a for tap t and phase a, the folded weights are (w0, w0 + w1, w1 + w2, w2) along an axis: the
kernel convolved with (1, 1). That is the same map seen as a transposed convolution with stride 2 (Dumoulin and Visin
2016, arXiv:1603.07285, section 4); so its derivative is an ordinary one, with 4x4 windows of dout (see the backward).
"""
import numpy as np

from .. import backend
from ..backend import gemm
from .checks import require
from .conv import BiasRow, conv2d_output_shape, correlate_backward
from .windows import Im2col

# Row q = 2 t + a: which of the kernel's three rows weigh tap t of phase a.
FOLD = ((1, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 1))


class UpsampledConv2dPlan:
    """The shapes of one upsampling with convolution and the scratch space it needs, allocated once; as Conv2dPlan.

    input_shape (N, H, W, C), where N is the largest batch that will come; w_shape (3, 3, C, F); dtype of every array.
    `output_shape` is (N, 2 H, 2 W, F).
    """

    def __init__(self, input_shape, w_shape, dtype=np.float32):
        images, height, width, filters = conv2d_output_shape(input_shape, w_shape)
        if tuple(w_shape[:2]) != (3, 3):
            raise ValueError(f"w_shape={tuple(w_shape)}: the folding is for 3x3 kernels; "
                             "use upsample_forward and conv2d_forward for others")
        xp = backend.xp
        channels = input_shape[3]
        self.input_shape, self.w_shape, self.dtype = tuple(input_shape), tuple(w_shape), np.dtype(dtype)
        self.output_shape = images, 2 * height, 2 * width, filters
        self.bias = BiasRow(self.output_shape, self.dtype)
        self.x_windows = Im2col(input_shape, (2, 2), 1, (1, 1), 4 * filters, self.dtype)
        self.dout_windows = Im2col(self.output_shape, (4, 4), 2, (1, 1), channels, self.dtype)
        self.phases = xp.empty((self.x_windows.per_chunk, height + 1, width + 1, 2, 2, filters), self.dtype)
        fold = xp.asarray(FOLD, self.dtype)
        self.fold = xp.kron(fold, fold)
        self.folded = xp.empty((4, 4, channels, filters), self.dtype)
        self.by_phase = xp.empty((2, 2, channels, 2, 2, filters), self.dtype)
        self.turned = xp.empty((4, 4, filters, channels), self.dtype)

    def fold_weights(self, w):
        """Fill `folded` (q of rows, q of columns, C, F) from w (3, 3, C, F)."""
        gemm(self.fold, w.reshape(9, -1), self.folded.reshape(16, -1))


def conv2d_upsampled_forward(x, w, b, plan, out):
    """out = convolution of the upsampled x, without allocating an array.

    x (N, H, W, C), w (3, 3, C, F), b (F,) or None for no bias, out (N, 2 H, 2 W, F), of the plan's shapes and dtype,
    with any N up to the plan's. ValueError names an array that does not fit. Returns out.
    """
    images, xp = min(len(x), plan.input_shape[0]), backend.xp
    require("x", x, (images, *plan.input_shape[1:]), plan.dtype)
    require("w", w, plan.w_shape, plan.dtype)
    require("out", out, (images, *plan.output_shape[1:]), plan.dtype, written=True)
    if b is not None:
        require("b", b, plan.w_shape[3:], plan.dtype)
    _, height, width, _ = plan.input_shape
    plan.fold_weights(w)
    tap_phase_tap_phase = plan.folded.reshape(2, 2, 2, 2, *plan.w_shape[2:])
    xp.copyto(plan.by_phase, tap_phase_tap_phase.transpose(0, 2, 4, 1, 3, 5))
    windows = plan.x_windows
    weights = windows.prepare(plan.by_phase)
    for chunk in windows.chunks(images):
        windows.gather(x[chunk])
        phases, target = plan.phases[:chunk.stop - chunk.start], out[chunk]
        windows.correlate(weights, phases)
        for i in range(2):
            for j in range(2):
                xp.copyto(target[:, i::2, j::2], phases[:, i:i + height, j:j + width, i, j])
        if b is not None:
            plan.bias.add(b, target)
    return out


def conv2d_upsampled_backward(dout, x, w, plan, dx, dw, db):
    """The three derivatives, without allocating an array.

    By the formulas above, x[i] has a part in four outputs of an axis: with weight w2 in out[2i-1], w1 + w2 in out[2i],
    w0 + w1 in out[2i+1], w0 in out[2i+2]. These are the folded weights in reverse order, so

        dx[n, i, j, c] = sum over r, s in 0..3 and f of  dout[n, 2i-1+r, 2j-1+s, f] * folded[3-r, 3-s, c, f]

    a convolution of dout with stride 2. The same windows of dout, multiplied by x instead, give the derivative with
    respect to `folded`; and since folded = FOLD w on both axes, dw = FOLD^T dfolded.

    Shapes as in conv2d_upsampled_forward, dout as out; dx None where it is not wanted; db None where there is no bias.
    """
    images, xp = min(len(dout), plan.input_shape[0]), backend.xp
    require("dout", dout, (images, *plan.output_shape[1:]), plan.dtype)
    require("x", x, (images, *plan.input_shape[1:]), plan.dtype)
    require("w", w, plan.w_shape, plan.dtype)
    require("dw", dw, plan.w_shape, plan.dtype, written=True)
    if db is not None:
        require("db", db, plan.w_shape[3:], plan.dtype, written=True)
    if dx is not None:
        require("dx", dx, x.shape, plan.dtype, written=True)
    if db is not None:
        plan.bias.sum(dout, db)
    plan.fold_weights(w)
    folded_turned = plan.folded[::-1, ::-1].transpose(0, 1, 3, 2)
    xp.copyto(plan.turned, folded_turned)
    correlate_backward(plan.dout_windows, dout, x, plan.turned, dx, plan.turned)
    xp.copyto(folded_turned, plan.turned)
    gemm(plan.fold.T, plan.folded.reshape(16, -1), dw.reshape(9, -1))
    return dx
