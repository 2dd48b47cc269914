"""The fast engine's optimizers: one flat vector of parameters (P,), updated in place.

The plain functions work in chunks small enough for the CPU's cache. On a GPU the step counter, the learning rate and what
depends on them are one-element arrays, updated on the device, so that a replayed CUDA graph counts its steps.
"""

import math

from .. import backend, optim
from ..annotations import Function
from . import kernels

CHUNK_SIZE = 16384


class InPlaceOptimizer:
    """Applies an optimizer of tinyqae.optim to one vector of parameters. The state is stored in the optimizer.

    A subclass has an update(parameters, gradients, *state vectors, scratch, *constants).
    """

    state_names: tuple[str, ...] = ()
    update: Function

    def __init__(self, optimizer, parameters):
        xp, plain, self.optimizer = backend.xp, type(self).update, optimizer
        for name in self.state_names:
            optimizer.state.setdefault(name, xp.zeros_like(parameters))
        self._update = kernels.choose(plain, parameters.dtype)
        # Chunks do not help a fused kernel, which makes one pass over memory, nor a GPU.
        whole = self._update is not plain or backend.name != "numpy"
        self._chunk = len(parameters) if whole else min(CHUNK_SIZE, len(parameters))
        self._scratch = xp.empty(self._chunk, parameters.dtype)
        if backend.name != "numpy":
            optimizer.steps = xp.full(1, optimizer.steps, xp.float64)
            self._lr, self._lr_on_host = xp.zeros(1, parameters.dtype), None

    def set_lr(self, lr):
        """Set the learning rate of the following steps. On a GPU it is passed as a kernel argument, not copied."""
        if backend.name == "numpy":
            self._lr = lr
        elif lr != self._lr_on_host:
            self._lr.fill(lr)
            self._lr_on_host = lr

    def apply(self, parameters, gradients):
        """A step with the current learning rate; a CUDA graph can capture it."""
        self.optimizer.steps += 1
        constants = self._constants()
        vectors = (parameters, gradients, *(self.optimizer.state[name] for name in self.state_names))
        for start in range(0, len(parameters), self._chunk):
            chunks = [vector[start : start + self._chunk] for vector in vectors]
            self._update(*chunks, self._scratch[: len(chunks[0])], *constants)


def sgd_update(p, g, velocity, scratch, momentum, lr):
    """v = momentum v + g, p -= lr v, in place."""
    velocity *= momentum
    velocity += g
    p -= backend.xp.multiply(velocity, lr, out=scratch)


def rmsprop_update(p, g, mean_square, scratch, rho, lr, eps):
    """v = rho v + (1 - rho) g^2, p -= lr g / (sqrt(v) + eps), in place."""
    xp = backend.xp
    square = xp.multiply(g, g, out=scratch)
    square *= 1 - rho
    mean_square *= rho
    mean_square += square
    root = xp.sqrt(mean_square, out=scratch)
    root += eps
    change = xp.divide(g, root, out=scratch)
    change *= lr
    p -= change


def adam_update(p, g, scaled_mean, scaled_square, scratch, beta1, beta2, step, eps):
    """M = beta1 M + g, V = beta2 V + g^2, p -= step M / (sqrt(V) + eps), in place."""
    xp = backend.xp
    scaled_mean *= beta1
    scaled_mean += g
    scaled_square *= beta2
    scaled_square += xp.multiply(g, g, out=scratch)
    root = xp.sqrt(scaled_square, out=scratch)
    root += eps
    change = xp.divide(scaled_mean, root, out=scratch)
    change *= step
    p -= change


def adam_scales(steps, lr, beta1, beta2, eps, scratch, step, scaled_eps):
    """The constants of Adam._constants as arrays on the device: step = lr m / r and scaled_eps = eps / r, with
    m = (1 - beta1) / (1 - beta1^steps) and r^2 = (1 - beta2) / (1 - beta2^steps).

    steps (1,) and scratch (2,) are float64, since 1 - beta^t loses precision for beta near 1; lr, step, scaled_eps (1,).
    """
    xp = backend.xp
    m, r = scratch[:1], scratch[1:]
    for factor, beta in ((m, beta1), (r, beta2)):
        xp.subtract(1, xp.power(beta, steps, out=factor), out=factor)
        xp.divide(1 - beta, factor, out=factor)
    xp.sqrt(r, out=r)
    m /= r
    xp.copyto(step, m)
    step *= lr
    xp.copyto(scaled_eps, xp.divide(eps, r, out=r))


class SGD(InPlaceOptimizer):
    state_names = ("velocity",)
    update = staticmethod(sgd_update)

    def _constants(self):
        return self.optimizer.momentum, self._lr


class RMSprop(InPlaceOptimizer):
    state_names = ("mean_square",)
    update = staticmethod(rmsprop_update)

    def _constants(self):
        return self.optimizer.rho, self._lr, self.optimizer.eps


class Adam(InPlaceOptimizer):
    """See optim.Adam. The state is M = m / (1 - beta1) and V = v / (1 - beta2), which saves two passes over memory per step;
    the step size and eps compensate for the factors.
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
        """beta1, beta2, step and scaled eps, where lr m_hat / (sqrt(v_hat) + eps) = step M / (sqrt(V) + scaled eps)."""
        beta1, beta2, eps, steps = (getattr(self.optimizer, name) for name in ("beta1", "beta2", "eps", "steps"))
        if backend.name != "numpy":
            self._scales(steps, self._lr, beta1, beta2, eps, self._double, self._step, self._scaled_eps)
            return beta1, beta2, self._step, self._scaled_eps
        mean_factor = (1 - beta1) / (1 - beta1**steps)
        root_factor = math.sqrt((1 - beta2) / (1 - beta2**steps))
        return beta1, beta2, self._lr * mean_factor / root_factor, eps / root_factor


FAST_OPTIMIZERS = {optim.SGD: SGD, optim.RMSprop: RMSprop, optim.Adam: Adam}


def step(optimizer, parameters, gradients, lr):
    """One update of the vector `parameters` from `gradients`."""
    if type(optimizer) not in FAST_OPTIMIZERS:
        optimizer.update_all([parameters], [gradients], lr)
        return
    fast = fast_optimizer(optimizer, parameters)
    fast.set_lr(lr)
    fast.apply(parameters, gradients)


def fast_optimizer(optimizer, parameters):
    """The optimizer's InPlaceOptimizer, created at the first step."""
    if optimizer.tuned is None:
        optimizer.tuned = FAST_OPTIMIZERS[type(optimizer)](optimizer, parameters)
    return optimizer.tuned
