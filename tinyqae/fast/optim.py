"""The fast engine's optimizers: one flat vector of parameters (P,), updated in place.

The work is done in pieces small enough that all the vectors of a piece stay in the processor's cache. On a GPU the step
counter, the rate and all that follows from them are arrays of one value, which the device brings up to date by itself: a
step that was captured in a CUDA graph goes on counting when it is replayed.
"""
import math

from .. import backend, optim
from . import kernels

PIECE = 16384


class InPlace:
    """An optimizer of tinyqae.optim at work on one vector of parameters. Its state is the optimizer's, under other names.

    A subclass names its state vectors and its update function, called as
    update(parameters, gradients, *state vectors, scratch, *constants) on vectors of one length.
    """

    state_names = ()
    update = None

    def __init__(self, optimizer, parameters):
        xp, plain = backend.xp, type(self).update
        self.optimizer = optimizer
        for name in self.state_names:
            if name not in optimizer.state:
                optimizer.state[name] = xp.zeros_like(parameters)
        self._update = kernels.choose(plain, parameters.dtype)
        # One pass over memory, or a GPU, has nothing to gain from pieces.
        whole = self._update is not plain or backend.name != "numpy"
        self._piece = len(parameters) if whole else PIECE
        self._scratch = xp.empty(min(self._piece, len(parameters)), parameters.dtype)
        if backend.name != "numpy":
            optimizer.steps = xp.full(1, optimizer.steps, xp.float64)
            self._rate, self._rate_on_host = xp.zeros(1, parameters.dtype), None

    def set_rate(self, lr):
        """The learning rate of the steps that follow. On a GPU nothing is sent: the number goes with a launch."""
        if backend.name == "numpy":
            self._rate = lr
        elif lr != self._rate_on_host:
            self._rate.fill(lr)
            self._rate_on_host = lr

    def advance(self, parameters, gradients):
        """A step at the rate that was set: what a CUDA graph can hold."""
        self.optimizer.steps += 1
        constants = self._constants()
        vectors = (parameters, gradients, *(self.optimizer.state[name] for name in self.state_names))
        for start in range(0, len(parameters), self._piece):
            pieces = [vector[start:start + self._piece] for vector in vectors]
            self._update(*pieces, self._scratch[:len(pieces[0])], *constants)


def sgd_update(p, g, velocity, scratch, momentum, lr):
    """v = momentum v + g, p -= lr v, in place on vectors of one length."""
    xp = backend.xp
    xp.multiply(velocity, momentum, out=velocity)
    xp.add(velocity, g, out=velocity)
    xp.multiply(velocity, lr, out=scratch)
    xp.subtract(p, scratch, out=p)


def rmsprop_update(p, g, mean_square, scratch, rho, lr, eps):
    """v = rho v + (1 - rho) g^2, p -= lr g / (sqrt(v) + eps), in place on vectors of one length."""
    xp = backend.xp
    xp.multiply(g, g, out=scratch)
    xp.multiply(scratch, 1 - rho, out=scratch)
    xp.multiply(mean_square, rho, out=mean_square)
    xp.add(mean_square, scratch, out=mean_square)
    xp.sqrt(mean_square, out=scratch)
    xp.add(scratch, eps, out=scratch)
    xp.divide(g, scratch, out=scratch)
    xp.multiply(scratch, lr, out=scratch)
    xp.subtract(p, scratch, out=p)


def adam_update(p, g, scaled_mean, scaled_square, scratch, beta1, beta2, step, eps):
    """M = beta1 M + g, V = beta2 V + g^2, p -= step M / (sqrt(V) + eps), in place on vectors of one length."""
    xp = backend.xp
    xp.multiply(scaled_mean, beta1, out=scaled_mean)
    xp.add(scaled_mean, g, out=scaled_mean)
    xp.multiply(scaled_square, beta2, out=scaled_square)
    xp.multiply(g, g, out=scratch)
    xp.add(scaled_square, scratch, out=scaled_square)
    xp.sqrt(scaled_square, out=scratch)
    xp.add(scratch, eps, out=scratch)
    xp.divide(scaled_mean, scratch, out=scratch)
    xp.multiply(scratch, step, out=scratch)
    xp.subtract(p, scratch, out=p)


def adam_scales(steps, rate, beta1, beta2, eps, scratch, step, scaled_eps):
    """What Adam._constants computes from the number of steps and the rate, in arrays: step = rate m / r and
    scaled_eps = eps / r, with m = (1 - beta1) / (1 - beta1^steps) and r^2 = (1 - beta2) / (1 - beta2^steps).

    steps (1,) and scratch (2,) of float64, since 1 - beta^t of a beta near 1 loses its digits; rate, step, scaled_eps (1,).
    """
    xp = backend.xp
    m, r = scratch[:1], scratch[1:]
    for factor, beta in ((m, beta1), (r, beta2)):
        xp.power(beta, steps, out=factor)
        xp.subtract(1, factor, out=factor)
        xp.divide(1 - beta, factor, out=factor)
    xp.sqrt(r, out=r)
    xp.divide(m, r, out=m)
    xp.copyto(step, m)
    xp.multiply(step, rate, out=step)
    xp.divide(eps, r, out=r)
    xp.copyto(scaled_eps, r)


class SGD(InPlace):
    """See optim.SGD."""

    state_names = ("velocity",)
    update = staticmethod(sgd_update)

    def _constants(self):
        return self.optimizer.momentum, self._rate


class RMSprop(InPlace):
    """See optim.RMSprop."""

    state_names = ("mean_square",)
    update = staticmethod(rmsprop_update)

    def _constants(self):
        return self.optimizer.rho, self._rate, self.optimizer.eps


class Adam(InPlace):
    """See optim.Adam. The vectors kept are M = m / (1 - beta1) and V = v / (1 - beta2), which saves two passes over memory a
    step; the constants are put back in the step size and eps.
    """

    state_names = ("scaled_mean", "scaled_square")
    update = staticmethod(adam_update)

    def __init__(self, optimizer, parameters):
        super().__init__(optimizer, parameters)
        if backend.name != "numpy":
            self._scales = kernels.choose(adam_scales, parameters.dtype)
            self._double = backend.xp.empty(2, backend.xp.float64)
            self._step, self._scaled_eps = (backend.xp.empty(1, parameters.dtype) for _ in range(2))

    def _constants(self):
        """lr m_hat / (sqrt(v_hat) + eps) = step M / (sqrt(V) + scaled eps): the step and eps in terms of M and V."""
        beta1, beta2, eps, steps = (getattr(self.optimizer, name) for name in ("beta1", "beta2", "eps", "steps"))
        if backend.name != "numpy":
            self._scales(steps, self._rate, beta1, beta2, eps, self._double, self._step, self._scaled_eps)
            return beta1, beta2, self._step, self._scaled_eps
        mean_factor = (1 - beta1) / (1 - beta1 ** steps)
        root_factor = math.sqrt((1 - beta2) / (1 - beta2 ** steps))
        return beta1, beta2, self._rate * mean_factor / root_factor, eps / root_factor


TUNED = {optim.SGD: SGD, optim.RMSprop: RMSprop, optim.Adam: Adam}


def step(optimizer, parameters, gradients, lr):
    """One update of the vector `parameters` from `gradients`."""
    if type(optimizer) not in TUNED:
        optimizer.update_all([parameters], [gradients], lr)
        return
    tuned = prepared(optimizer, parameters)
    tuned.set_rate(lr)
    tuned.advance(parameters, gradients)


def prepared(optimizer, parameters):
    """What does the optimizer's work in place, made at its first step."""
    if optimizer.tuned is None:
        optimizer.tuned = TUNED[type(optimizer)](optimizer, parameters)
    return optimizer.tuned
