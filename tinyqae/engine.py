"""The one switch between the two engines.

    reference   the textbook: ops, layers, bottlenecks, losses and optimizers exactly as written, on NumPy or CuPy
    fast        tinyqae/fast: the same contracts with preallocated buffers, fused kernels, threads and CUDA graphs

A model builds itself from reference parts and passes each to its engine's `build`, which returns a part with the same
contract. The default engine is that in the environment variable TINYQAE_ENGINE, or else the fast one.
"""

import copy
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from . import backend
from .annotations import Array
from .errors import BackendError

if TYPE_CHECKING:
    from .models import Autoencoder
    from .optim import Optimizer

Part = TypeVar("Part")
ENGINES = ("reference", "fast")
DEFAULT = "fast"


def choose(name: str | None = None) -> "Reference":
    """The engine called `name`: "reference", "fast", or None for the default. ValueError for another name, BackendError for
    another name in the environment.
    """
    error, source = (ValueError, "engine") if name else (BackendError, "TINYQAE_ENGINE")
    name = name or os.environ.get("TINYQAE_ENGINE") or DEFAULT
    if name not in ENGINES:
        raise error(f"{source}={name!r} is unknown; choose one of {', '.join(ENGINES)}")
    if name == "reference":
        return Reference()
    from .fast import Fast  # Not at the top: the reference engine does not need it.

    return Fast()


def environment(engine: "Reference") -> dict[str, Any]:
    """What the weights of a run depend on besides its arguments, by name."""
    return {"engine": engine.name, "backend": backend.name, "kernels": engine.kernels(), "threads": backend.threads}


class Reference:
    """The reference engine: every part is used as it is."""

    name = "reference"

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def build(self, part: Part) -> Part:
        """Return this engine's version of `part` (a layer, a bottleneck, a loss, batches)."""
        return copy.copy(part)

    def register_layers(self, layers: Sequence[Any]) -> None:
        """Called once with all of a model's layers, when they are built."""

    def arrays(self, layers: Sequence[Any], kind: str) -> list[Array]:
        """The parameters (kind "params") or gradients ("grads") of these layers, as a list of arrays."""
        return [getattr(layer, kind)[name] for layer in layers for name in layer.params]

    def step(self, optimizer: "Optimizer", model: "Autoencoder", lr: float) -> None:
        """One update of the model's parameters."""
        optimizer.update_all(model.parameters(), model.gradients(), lr)

    def working(self, model: "Autoencoder", batch_size: int) -> AbstractContextManager:
        """A context for training and inference with batches of this size: one thread at a time, since layers have state."""
        return self._lock

    def kernels(self) -> str:
        """The kernels that it computes with."""
        return "numpy"
