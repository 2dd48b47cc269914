"""Models as files, copies and IDs: everything that training changes, as arrays, and what is needed to rebuild the model."""

import hashlib
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .annotations import Array, FilePath
from .bottlenecks import KINDS, Bottleneck, make_bottleneck
from .checkpoint import CheckpointError, read_arrays, write_arrays
from .engine import Reference, choose
from .errors import in_one_line
from .initializers import at_most
from .layers import Layer

if TYPE_CHECKING:  # It imports this module.
    from .models.base import Autoencoder


class Stored:
    """What a model needs to be saved, loaded, copied and pickled; models.base.Autoencoder inherits it."""

    registry: dict[str, type[Any]] = {}
    engine: Reference  # Or an engine with the same methods.
    bottleneck: Bottleneck
    layers: list[Layer]  # In the order of their parameters.
    dtype: np.dtype
    latent_size: int  # The number of values (or bits) of a code.

    def __init_subclass__(cls) -> None:
        Stored.registry[cls.class_name()] = cls

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in files: a user's class has its module in it, so that it is never taken for ours."""
        ours = cls.__module__.partition(".")[0] == __package__
        return cls.__name__ if ours else f"{cls.__module__}.{cls.__name__}"

    def constants(self) -> dict[str, np.ndarray]:
        """The constructor's arguments that are arrays, by name, for saving."""
        return {}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data; each is an attribute of the same name. Excludes the bottleneck, the
        engine, the seed, and arrays, which are in `constants`.
        """
        names = sorted(signature(type(self)).parameters.keys() - {"bottleneck", "engine", "seed", "mean_image"})
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise TypeError(
                f"{type(self).__name__} has no attribute {missing[0]}; to be saved or copied, a model must keep its "
                "constructor's arguments as attributes of the same names"
            )
        return {name: _plain(getattr(self, name)) for name in names}

    def summary(self) -> str:
        """The layers with their output shapes and numbers of parameters, the bottleneck and the size of a code, as text."""
        # The fast engine wraps a layer that it has no version of.
        rows = [
            (
                type(getattr(layer, "layer", layer)).__name__,
                " x ".join(map(str, layer.output_shape)),
                sum(array.size for array in layer.params.values()),
            )
            for layer in self.layers
        ]
        lines = [f"{name:14} {shape:>16} {size:>12,}" for name, shape, size in rows]
        unit = "bits" if self.bottleneck.is_binary else "numbers"
        return "\n".join(
            [
                f"{type(self).__name__}, {self.engine.name} engine, {self.dtype}",
                f"{'layer':14} {'output':>16} {'parameters':>12}",
                *lines,
                f"{'sum':14} {'':>16} {sum(size for *_, size in rows):>12,}",
                f"code: {self.latent_size} {unit}, {self.bottleneck!r}",
            ]
        )

    __str__ = summary

    def _arrays(self) -> tuple[list[Array], dict[str, Array]]:
        """Every array that training changes: the parameters of all layers, and the layers' state by name in a file."""
        parameters = [layer.params[name] for layer in self.layers for name in layer.params]
        return parameters, {
            f"state.{i}.{name}": array for i, layer in enumerate(self.layers) for name, array in layer.state.items()
        }

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything that training changes, as NumPy arrays by name: all parameters as one vector, and the layers' state."""
        parameters, state = self._arrays()
        vector = np.concatenate([backend.to_host(array).ravel() for array in parameters])
        return {"parameters": vector, **{name: backend.to_host(array).copy() for name, array in state.items()}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what state_arrays returned, from either engine. CheckpointError for arrays that are not this model's."""
        parameters, state = self._arrays()
        shapes = {"parameters": (sum(array.size for array in parameters),), **{n: a.shape for n, a in state.items()}}
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else "nothing"
            if found != shape or arrays[name].dtype.kind != "f":
                raise CheckpointError(f"{name}: this model needs numbers of shape {shape}, the file has {found}")
        require_finite(arrays)
        vectors = np.split(arrays["parameters"], np.cumsum([array.size for array in parameters])[:-1])
        for array, values in zip(parameters, vectors, strict=True):
            array[...] = backend.to_device(values.reshape(array.shape))
        for name, array in state.items():
            array[...] = backend.to_device(arrays[name])

    def model_id(self) -> str:
        """The SHA-256 of the parameters and state, in hexadecimal, which identifies exactly these weights."""
        digest = hashlib.sha256()
        for name, array in sorted(self.state_arrays().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: FilePath) -> None:
        """Write the model to one .npz file, atomically."""
        write_arrays(path, *self.as_file())

    def __reduce__(self) -> tuple:
        """Copies and pickles are independent models, rebuilt with these weights."""
        # A user-defined bottleneck is copied as it is; tinyqae's own without the fast engine's buffers.
        bottleneck = self.bottleneck
        if self._has_known_bottleneck():
            bottleneck = KINDS[bottleneck.kind](**self.bottleneck.config())
            vars(bottleneck).update({name: vars(self.bottleneck)[name] for name in vars(bottleneck)})
        arguments = {"bottleneck": bottleneck, "engine": self.engine.name, **self.constants(), **self.config()}
        return _rebuilt, (type(self), arguments, self.state_arrays())

    def as_file(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `save` writes: (arrays by name, description)."""
        require_finite(self.state_arrays())
        arrays = self.state_arrays() | {f"constant.{name}": array for name, array in self.constants().items()}
        kind = self.bottleneck.kind
        if kind in KINDS and not self._has_known_bottleneck():  # A user's subclass must not be loaded as ours.
            kind = f"own {type(self.bottleneck).__name__}"
        return arrays, {
            "format": "tinyqae model",
            "version": 1,
            "model": self.class_name(),
            "config": self.config(),
            "bottleneck": {"kind": kind, **self.bottleneck.config()},
        }

    def _has_known_bottleneck(self) -> bool:
        """Whether it is one of KINDS itself, in either engine's version, not a user's subclass."""
        kind = KINDS.get(self.bottleneck.kind)
        return kind is not None and type(self.bottleneck) in (kind, type(self.engine.build(kind())))


def require_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """CheckpointError unless all weights are finite: with NaN, a model would decode every code to the same garbage."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(
                f"{name}: {np.count_nonzero(~np.isfinite(array)):,} of {array.size:,} values are NaN or "
                "infinite; its training diverged"
            )


def _plain(value):
    return list(value) if isinstance(value, tuple) else value.name if isinstance(value, np.dtype) else value


def _rebuilt(model_class: type[Any], arguments: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    model = model_class(**arguments)
    model.restore(arrays)
    return model


def _class_of(name: str) -> type[Any] | None:
    """The class that a file calls by this name. A user's module may have another name than on saving, for example a script
    that is now imported: then a class with a unique match of the class name is taken.
    """
    if name in Stored.registry or "." not in name:
        return Stored.registry.get(name)
    ending = "." + name.rpartition(".")[2]
    found = [known for key, known in Stored.registry.items() if key.endswith(ending)]
    return found[0] if len(found) == 1 else None


def load(path: FilePath, engine: str | None = None) -> "Autoencoder":
    """Load the model that Autoencoder.save wrote to `path`, on the backend in use. engine: see tinyqae.engine.
    CheckpointError if the file is missing, corrupt or not a model of this library, or its user-defined class is undefined.
    """
    choose(engine)  # Here, so that a wrong name is not reported as a fault of the file.
    arrays, meta = read_arrays(path)
    if meta.get("format") != "tinyqae model" or not isinstance(meta.get("model"), str):
        raise CheckpointError(
            f"{path} is not a tinyqae model: its format is {meta.get('format')!r}, its model {meta.get('model')!r}"
        )
    model_class = _class_of(meta["model"])
    if model_class is None:
        raise CheckpointError(
            f"{path} is a model of the class {meta['model']}, which is not defined here; import the "
            "module that defines it before loading"
        )
    try:
        constants = {name.removeprefix("constant."): array for name, array in arrays.items() if name.startswith("constant.")}
        for name, value in meta["config"].items():
            if isinstance(value, bool) is not isinstance(signature(model_class).parameters[name].default, bool):
                raise TypeError(f"its {name} is {value!r}")
        with at_most(arrays["parameters"].size):  # Sizes in a corrupt file could be arbitrarily large.
            model = model_class(make_bottleneck(**meta["bottleneck"]), engine=engine, **constants, **meta["config"])
        model.restore(arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        why = in_one_line(error)
        raise CheckpointError(f"{path} does not describe a model that this version can build: {why}") from error
    return model
