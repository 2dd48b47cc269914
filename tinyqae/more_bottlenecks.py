"""Four bottlenecks that the report did not try. The contract is that of tinyqae.bottleneck.

    kind        what the decoder sees in training       what is added to the loss       what goes back is the derivative of
    Clipped     b = 1[a > 1/2]                          nothing                         a surrogate, clip(a)
    Stochastic  b = 1 with probability a, else 0        nothing                         the mean of b
    Annealed    z = sigma(s h), s from 1 upwards        nothing                         the forward pass itself
    Entropy     b = 1[a > 1/2]                          weight * entropy_loss           a surrogate, a itself

All four store the bits 1[a > 1/2], which are 1[h > 0] for a = sigma(h): they differ in training only.
"""
import numpy as np

from . import backend
from .bottleneck import Bottleneck
from .ops.binarize import binarize_forward, straight_through_backward


class Clipped(Bottleneck):
    """Threshold in training, with a gradient for the values near the threshold only:

        forward     b = 1[a > 1/2],  a = sigma(h) or h itself
        backward    da = db where |a - 1/2| <= window, else 0

    This is *not* the derivative of the forward pass, which is 0 wherever it exists. It is the derivative of the surrogate
    clip(a, 1/2 - window, 1/2 + window): a straight-through estimator (Bengio, Leonard and Courville 2013, arXiv:1308.3432)
    that leaves alone the values whose bit no small step could turn.

    With the linear activation and window 1/2 it is the estimator of binarized networks, sign(x) forward and 1[|x| <= 1]
    backward for x = 2a - 1 (Courbariaux, Hubara et al. 2016, arXiv:1602.02830, equation 4), whose surrogate is the hard
    tanh. With the sigmoid |a - 1/2| <= window means |h| <= log((1 + 2 window) / (1 - 2 window)), and sigma'(h) follows; a
    window of 1/2 or more leaves nothing out then.

    It is Commit without the commit loss. Nothing pulls a towards its bit, so a value that has left the window stays there
    until the weights that it shares with other values bring it back.

    h, the code and its gradient (N, F). window: a number above 0.
    """

    kind = "clipped"
    activations = ("sigmoid", "linear")

    def __init__(self, weight=0.0, activation="sigmoid", signed=False, noise=0.0, window=0.4):
        super().__init__(weight, activation, signed, noise)
        if not window > 0:
            raise ValueError(f"window={window!r} must be a number above 0")
        self.window = window

    def config(self):
        """The constructor's arguments, for saving."""
        return {**super().config(), "window": self.window}

    def _training_code(self, a, code):
        super()._training_code(a, code)
        binarize_forward(code, code)

    def _code_backward(self, dcode, a, da):
        straight_through_backward(dcode, a, self.window, da)


class Stochastic(Bottleneck):
    """In training each bit is drawn, and on with probability a = sigma(h):

        forward     b = 1[u < a],  u uniform in [0, 1)       E b = a,  Var b = a (1 - a)
        backward    da = db

    Toderici et al. 2016, arXiv:1511.06085: their tanh(x) + noise, -1 or +1, is 2b - 1 here, and their tanh(x)
    is 2 sigma(2x) - 1. The estimator for stochastic units is that of Bengio, Leonard and Courville 2013, arXiv:1308.3432.

    For fixed u the forward pass is a step, and its derivative is 0. What goes back is the derivative of the *mean*:
    dE b / da = 1. For a loss that is linear in the code it is unbiased, since then E loss(b) = loss(E b). For any other it
    is biased: the derivative of E loss(b) by one bit's a is the mean difference loss(b = 1) - loss(b = 0), for which this
    takes the slope of the loss at the bits drawn.

    No term is added to the loss, and none is needed: the variance a (1 - a) is noise of which the decoder is rid only when
    a is near 0 or 1, where the stored bit 1[a > 1/2] is the one that is nearly always drawn.

    h, the code and its gradient (N, F). u comes from `random`, on the host.
    """

    kind = "stochastic"
    activations = ("sigmoid",)
    draws = True

    def _training_code(self, a, code):
        super()._training_code(a, code)
        backend.xp.less(self._draw(self.random.random, code), code, out=code)


class Annealed(Bottleneck):
    """Train as Naive with a sigmoid that grows steeper from step to step and ends near the threshold:

        forward     z = sigma(s h)                s = 1 + (slope - 1) * progress,  progress from 0 to 1
        backward    dh = dz * s z (1 - z)

    This *is* the derivative of the forward pass. For s = 1 it is Naive; for s -> infinity z -> 1[h > 0], the stored bit,
    and dh -> 0 wherever h is not 0. In between it trades one against the other: the steeper the sigmoid, the less the
    threshold will change, and the fewer values still learn (those with |s h| of a few units at most). So it starts flat,
    while the bits are still to be found, and is steep once they are. An encoder that shrinks h while s grows escapes it, so
    the loss in training can promise more than the stored bits keep.

    Annealing the slope, linearly as here, is from Chung, Ahn and Bengio 2017, arXiv:1609.01704; there the
    steepening function is only the surrogate behind a hard threshold. To use it in the forward pass as well is HashNet's
    continuation (Cao et al. 2017, arXiv:1702.00758), with tanh(s h / 2) = 2z - 1.

    h, the code and its gradient (N, F). slope: s at the end of training, 1 or more. `fit` tells the progress through `at`;
    a bottleneck that was never told is at the end, and so is a loaded one. latent(h) is sigma(s h).
    """

    kind = "annealed"
    activations = ("sigmoid",)

    def __init__(self, weight=0.0, activation="sigmoid", signed=False, noise=0.0, slope=10.0):
        super().__init__(weight, activation, signed, noise)
        if not 1 <= slope < float("inf"):
            raise ValueError(f"slope={slope!r} must be a finite number, 1 or more")
        self.slope, self._factor = float(slope), None
        self.at(1)

    def config(self):
        """The constructor's arguments, for saving."""
        return {**super().config(), "slope": self.slope}

    def at(self, progress):
        """See Bottleneck."""
        self._slope_now = 1 + (self.slope - 1) * progress
        if self._factor is not None:
            self._factor.fill(self._slope_now)

    def build(self, shape, dtype):
        """Allocate buffers for codes of shape (N, F)."""
        super().build(shape, dtype)
        # An array, so that a CUDA graph sees it change.
        self._factor = backend.xp.full(1, self._slope_now, dtype)

    def _activate(self, h, out):
        return super()._activate(backend.xp.multiply(h, self._factor, out=out), out)

    def _activate_backward(self, da, a, dh):
        super()._activate_backward(da, a, dh)
        return backend.xp.multiply(dh, self._factor, out=dh)


class Entropy(Bottleneck):
    """Threshold in training, and a term that wants each bit decided for every example and on for half of them:

        forward     b = 1[a > 1/2],  a = sigma(h)
        backward    da = db, plus the weighted derivative of entropy_loss

    The first summand is *not* the derivative of the forward pass but of the identity, as in Commit; the second is a true
    derivative. Lookup-free quantization (Yu et al. 2024, arXiv:2310.05737, after Jansen et al. 2020, arXiv:1911.05894)
    trains bits so, with a commit loss beside. Here the entropy term takes the commit loss's place, since half of it does
    the same work.

    h, the code and its gradient (N, F).
    """

    kind = "entropy"
    loss_name = "entropy"
    activations = ("sigmoid",)

    def __init__(self, weight=0.1, activation="sigmoid", signed=False, noise=0.0):
        super().__init__(weight, activation, signed, noise)

    def build(self, shape, dtype):
        """Allocate buffers for codes of shape (N, F)."""
        super().build(shape, dtype)
        self._rows = backend.xp.empty((2, shape[1]), dtype)

    def _training_code(self, a, code):
        super()._training_code(a, code)
        binarize_forward(code, code)
        # _da is free until backward.
        self.extra_loss = entropy_loss(a, self._da[:len(a)], self._rows, self._dextra[:len(a)])


def entropy_loss(a, scratch, rows, da):
    """How undecided the bits are for each example, less how much each is in use: the mean over n and f of H(a_nf), minus
    the mean over f of H(m_f), where a_nf is the probability that bit f of example n is on, m_f = (1/N) sum_n a_nf, and

        H(p) = -p log p - (1 - p) log(1 - p) = -log(1 - p) - p logit(p),        logit(p) = log(p / (1 - p))

    is the entropy of a bit in nats. As dH/dp = -logit(p) and dm_f/da_nf = 1/N, the derivative is

        da_nf = (logit(m_f) - logit(a_nf)) / (N F)

    so that a step against it moves a value away from its bit's mean: apart from the other examples' values rather than to
    the nearer end, which is what the commit and fence losses do and how a bit comes to be the same for all.

    H is concave, so the loss is at most 0 (Jensen). It is 0 where a bit has one value for all examples, and -log 2 where
    all bits are decided and on for half the batch. Lookup-free quantization has the entropy of whole codes in the second
    place, a sum over 2^F of them; the sum of its bits' entropies is an upper bound, equal for independent bits, so two
    bits that always agree go unnoticed. m is the mean over the batch: the larger the batch, the better the estimate, and a
    batch of one tells nothing.

    a (N, F) in [0, 1] and da (N, F); scratch (N, F) and rows (2, F) are scratch space.
    """
    xp, (mean, logit_of_mean) = backend.xp, rows
    undecided = _entropy_and_logit(a, scratch, da) / a.size
    xp.mean(a, axis=0, out=mean)
    in_use = _entropy_and_logit(mean, scratch[0], logit_of_mean) / mean.size
    xp.subtract(logit_of_mean, da, out=da)
    xp.multiply(da, 1 / a.size, out=da)
    return undecided - in_use


def _entropy_and_logit(p, scratch, logit):
    """The sum of H(p); writes logit(p). A p of 0 or 1 is moved by the dtype's eps, for a finite logarithm.

    No training notices: the logit meets the factor p (1 - p) of the sigmoid's derivative. p, scratch, logit: one shape.
    """
    xp = backend.xp
    eps = float(np.finfo(p.dtype).eps)
    xp.clip(p, eps, 1 - eps, out=logit)
    xp.subtract(1, logit, out=scratch)
    xp.log(scratch, out=scratch)
    xp.log(logit, out=logit)
    xp.subtract(logit, scratch, out=logit)
    return -(scratch.sum() + xp.vdot(p, logit))


MORE_KINDS = {bottleneck.kind: bottleneck for bottleneck in (Clipped, Stochastic, Annealed, Entropy)}
