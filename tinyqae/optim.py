"""Optimizers, as in their papers. Usage: loss = model.loss(batch), model.backward(), optimizer.step(model)."""
import numpy as np

from . import backend
from .annotations import Array, Function
from .errors import require_range
from .models import Autoencoder

__all__ = ["OPTIMIZERS", "SGD", "Adam", "Optimizer", "RMSprop", "clip_by_norm"]


class Optimizer:
    """A rule that updates a parameter p from its gradient g, `update(p, g, lr, *state)`, written as in its paper."""

    state_names: tuple[str, ...] = ()  # The arrays of p's shape that the rule keeps between steps, initially zero.
    update: Function

    def __init__(self, lr: float):
        require_range("lr", lr, 0, np.inf)
        self.lr, self.steps, self.tuned = lr, 0, None
        self.model: Autoencoder | None = None
        self.state: dict[str, Array] = {}

    def step(self, model: Autoencoder, lr: float | None = None) -> None:
        """Update the parameters of `model` in place. lr: this step's learning rate, if a schedule sets one."""
        if self.state and self.model not in (None, model):
            raise ValueError("this optimizer has the state of another model's training: create a new one")
        self.model = model
        model.engine.step(self, model, self.lr if lr is None else lr)

    def update_all(self, parameters: list[Array], gradients: list[Array], lr: float) -> None:
        """Update all parameters by one step. parameters, gradients: lists of equal length."""
        self.steps += 1
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            names = [f"{name}.{i}" for name in self.state_names]
            for name in names:
                if name not in self.state:
                    self.state[name] = backend.xp.zeros_like(p)
            self.update(p, g, lr, *(self.state[name] for name in names))

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The state as NumPy arrays, for a checkpoint."""
        steps = np.array(backend.to_host(self.steps), np.int64).reshape(())
        return {"steps": steps, **{name: backend.to_host(array) for name, array in self.state.items()}}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what state_arrays returned."""
        self.steps, self.tuned = int(arrays["steps"]), None
        self.state = {name: backend.to_device(array.copy()) for name, array in arrays.items() if name != "steps"}

    def __repr__(self) -> str:
        settings = {name: value for name, value in vars(self).items() if name not in ("steps", "state", "model", "tuned")}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


class SGD(Optimizer):
    """Gradient descent with momentum; momentum 0 is plain gradient descent. Sutskever et al. 2013."""

    state_names = ("v",)

    def __init__(self, lr: float = 0.1, momentum: float = 0.0):
        super().__init__(lr)
        require_range("momentum", momentum, 0, 1)
        self.momentum = momentum

    def update(self, p: Array, g: Array, lr: float, v: Array) -> None:
        """v is the velocity."""
        v[...] = self.momentum * v + g
        p -= lr * v


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square. Tieleman and Hinton 2012, lecture 6.5."""

    state_names = ("v",)

    def __init__(self, lr: float = 1e-3, rho: float = 0.9, eps: float = 1e-7):
        super().__init__(lr)
        require_range("rho", rho, 0, 1)
        require_range("eps", eps, 0, np.inf)
        self.rho, self.eps = rho, eps

    def update(self, p: Array, g: Array, lr: float, v: Array) -> None:
        """v is the running mean of g^2."""
        v[...] = self.rho * v + (1 - self.rho) * g**2
        p -= lr * g / (backend.xp.sqrt(v) + self.eps)


class Adam(Optimizer):
    """Kingma and Ba 2015, arXiv:1412.6980, algorithm 1."""

    state_names = ("m", "v")

    def __init__(self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        super().__init__(lr)
        require_range("beta1", beta1, 0, 1)
        require_range("beta2", beta2, 0, 1)
        require_range("eps", eps, 0, np.inf)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def update(self, p: Array, g: Array, lr: float, m: Array, v: Array) -> None:
        """m and v are the running means of g and g^2; the hats correct their bias towards zero."""
        m[...] = self.beta1 * m + (1 - self.beta1) * g
        v[...] = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat = m / (1 - self.beta1**self.steps)
        v_hat = v / (1 - self.beta2**self.steps)
        p -= lr * m_hat / (backend.xp.sqrt(v_hat) + self.eps)


OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


def clip_by_norm(gradients: list[Array], max_norm: float) -> None:
    """Scale the gradients, a list of arrays, in place by min(1, max_norm / norm), with the norm of all as one vector.

    A single steep region then cannot throw the weights far away. Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063.
    """
    norm = backend.xp.sqrt(sum(backend.xp.vdot(g, g) for g in gradients))
    for g in gradients:
        g *= max_norm / backend.xp.maximum(norm, max_norm)
