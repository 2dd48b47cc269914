"""Optimizers over one flat parameter vector, in place, and learning-rate schedules.

    optimizer = Adam(lr=1e-3)
    optimizer.step(parameters, gradients)

`parameters` and `gradients` are vectors (P,); the optimizer's own vectors are made at the first step. The work is done
in pieces small enough that all the vectors of a piece stay in the processor's cache.

On a GPU the step counter, the rate and all that follows from them are arrays of one value, which the device brings up to
date by itself: a step that was captured in a CUDA graph goes on counting when it is replayed.
"""
import math

import numpy as np

from . import backend, fused

PIECE = 16384


class Optimizer:
    """What the optimizers share: state vectors by name, a step counter, cache-sized pieces.

    A subclass names its state vectors and its update function, called as
    update(parameters, gradients, *state vectors, scratch, *constants) on vectors of one length.
    """

    state_names = ()
    update = None

    def __init__(self, lr):
        _check_range("lr", lr, 0, math.inf)
        self.lr = lr
        self.steps = 0
        self.state = {}
        self._rate = self._update = None

    def step(self, parameters, gradients, lr=None):
        """Update `parameters` in place. lr: this step's learning rate, where a schedule gives one."""
        self.set_rate(self.lr if lr is None else lr)
        self.advance(parameters, gradients)

    def set_rate(self, lr):
        """The learning rate of the steps that follow. On a GPU nothing is sent: the number goes with a launch."""
        if self._update is not None and backend.name != "numpy":
            if lr != self._rate_on_host:
                self._rate.fill(lr)
        else:
            self._rate = lr
        self._rate_on_host = lr

    def advance(self, parameters, gradients):
        """`step` at the rate that was set: what a CUDA graph can hold."""
        if self._update is None:
            self._build(parameters)
        self.steps += 1
        constants = self._constants()
        vectors = (parameters, gradients, *self.state.values())
        for start in range(0, len(parameters), self._piece):
            pieces = [vector[start:start + self._piece] for vector in vectors]
            self._update(*pieces, self._scratch[:len(pieces[0])], *constants)

    def _build(self, parameters):
        xp, plain = backend.xp, type(self).update
        if not self.state:
            self.state = {name: xp.zeros_like(parameters) for name in self.state_names}
        self._update = fused.choose(plain, parameters.dtype)
        # One pass over memory, or a GPU, has nothing to gain from pieces.
        whole = self._update is not plain or backend.name != "numpy"
        self._piece = len(parameters) if whole else PIECE
        self._scratch = xp.empty(min(self._piece, len(parameters)), parameters.dtype)
        if backend.name != "numpy":
            self.steps = xp.full(1, self.steps, xp.float64)
            self._rate = xp.full(1, self._rate, parameters.dtype)

    def __repr__(self):
        hidden = ("steps", "state")
        settings = {k: v for k, v in vars(self).items() if k not in hidden and not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def state_arrays(self):
        """The state as NumPy arrays, for a checkpoint."""
        steps = np.array(backend.to_host(self.steps), np.int64).reshape(())
        return {"steps": steps, **{k: backend.to_host(v) for k, v in self.state.items()}}

    def restore(self, arrays):
        """Take up the state that state_arrays gave."""
        self.steps = int(arrays["steps"])
        self.state = {name: backend.to_device(arrays[name].copy()) for name in self.state_names if name in arrays}
        self._rate = self._update = None


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


class SGD(Optimizer):
    """p -= lr v with v = momentum v + g. momentum 0 is plain gradient descent. Sutskever et al. 2013."""

    state_names = ("velocity",)
    update = staticmethod(sgd_update)

    def __init__(self, lr=0.1, momentum=0.0):
        super().__init__(lr)
        _check_range("momentum", momentum, 0, 1)
        self.momentum = momentum

    def _constants(self):
        return self.momentum, self._rate


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2, p -= lr g / (sqrt(v) + eps). Tieleman and Hinton 2012, lecture 6.5."""

    state_names = ("mean_square",)
    update = staticmethod(rmsprop_update)

    def __init__(self, lr=1e-3, rho=0.9, eps=1e-7):
        super().__init__(lr)
        _check_range("rho", rho, 0, 1)
        self.rho, self.eps = rho, eps

    def _constants(self):
        return self.rho, self._rate, self.eps


class Adam(Optimizer):
    """m and v are running means of g and g^2; p -= lr mhat / (sqrt(vhat) + eps), where the hats divide by 1 - beta^t
    to undo the start at zero. Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    The vectors kept are M = m / (1 - beta1) and V = v / (1 - beta2), which saves two passes over memory a step; the
    constants are put back in the step size and eps.
    """

    state_names = ("scaled_mean", "scaled_square")
    update = staticmethod(adam_update)

    def __init__(self, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        super().__init__(lr)
        _check_range("beta1", beta1, 0, 1)
        _check_range("beta2", beta2, 0, 1)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def _build(self, parameters):
        super()._build(parameters)
        if backend.name != "numpy":
            self._scales = fused.choose(adam_scales, parameters.dtype)
            self._double = backend.xp.empty(2, backend.xp.float64)
            self._step, self._scaled_eps = (backend.xp.empty(1, parameters.dtype) for _ in range(2))

    def _constants(self):
        """lr mhat / (sqrt(vhat) + eps) = step M / (sqrt(V) + scaled eps): the step and eps in terms of M and V."""
        if backend.name != "numpy":
            self._scales(self.steps, self._rate, self.beta1, self.beta2, self.eps, self._double, self._step,
                         self._scaled_eps)
            return self.beta1, self.beta2, self._step, self._scaled_eps
        mean_factor = (1 - self.beta1) / (1 - self.beta1 ** self.steps)
        root_factor = math.sqrt((1 - self.beta2) / (1 - self.beta2 ** self.steps))
        return self.beta1, self.beta2, self._rate * mean_factor / root_factor, self.eps / root_factor


def clip_by_norm(gradients, max_norm):
    """Scale `gradients` (P,) in place by min(1, max_norm / |gradients|), the length of the whole vector.

    One steep place cannot then throw the weights far away. Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063.
    The factor stays on the device.
    """
    xp = backend.xp
    norm = xp.sqrt(xp.vdot(gradients, gradients))
    xp.multiply(gradients, max_norm / xp.maximum(norm, max_norm), out=gradients)


OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


def constant():
    """A schedule that keeps the learning rate: a function of the step that returns the factor 1."""
    return lambda step: 1.0


def cosine(total_steps, warmup_steps=0):
    """A schedule: linear rise over `warmup_steps`, then half a cosine from 1 down to 0 at `total_steps`.

    Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts. Steps count from 0.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps={warmup_steps} must be at least 0 and below total_steps={total_steps}")

    def factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / (total_steps - warmup_steps)
        return (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return factor


def _check_range(argument, value, low, high):
    if not low <= value < high:
        raise ValueError(f"{argument}={value!r} must be at least {low} and below {high}")
