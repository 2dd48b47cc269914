"""The trained models that come with the package, by name, so that `tinyqae compress` works out of the box.

The files contain float16 weights with 8 significant bits, deflated. benchmarks/shipped_models.py trained the models and
wrote models.json, which describes the training, the data and the results of each.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations import FilePath
from ..checkpoint import write_arrays
from ..errors import CheckpointError
from ..models import Autoencoder, load
from .parents import Parents

FOLDER = Path(__file__).parent / "shipped"
_SIGNIFICANT_BITS = 8


@functools.cache
def shipped_models() -> dict[str, dict[str, Any]]:
    """{name: {"model_id", "file", "about", and the rest of models.json}} for every model that comes with the package."""
    return json.loads((FOLDER / "models.json").read_text())


def shipped(name: str, engine: str | None = None) -> Autoencoder:
    """A new instance of the shipped model `name`, on the current backend. CheckpointError for an unknown name."""
    if name not in shipped_models():
        raise CheckpointError(f"no model called {name!r} comes with tinyqae; choose one of {', '.join(shipped_models())}")
    return load(FOLDER / shipped_models()[name]["file"], engine)


def find(name_or_path: FilePath, engine: str | None = None) -> Autoencoder:
    """The shipped model of this name, or the one in this file. engine: see tinyqae.engine. CheckpointError if neither."""
    if str(name_or_path) in shipped_models():
        return shipped(str(name_or_path), engine)
    if not Path(name_or_path).is_file():
        raise CheckpointError(
            f"{name_or_path}: neither a file nor a model that comes with tinyqae ({', '.join(shipped_models())})"
        )
    return load(name_or_path, engine)


def name_of(model_id: bytes) -> str | None:
    """The name of the shipped model whose SHA-256 begins with these bytes, or None."""
    return next((name for name, entry in shipped_models().items() if entry["model_id"].startswith(model_id.hex())), None)


def parents_of(model_id: bytes) -> Parents | None:
    """The parents for payload.encode_bits of a shipped model, chosen on its training data; None for other models."""
    name = name_of(model_id)
    return shipped_models()[name]["parents"] if name else None


def round_weights(model: Autoencoder) -> None:
    """Round a model's weights in place to 8 significant bits, which fit in float16 and deflate well."""
    scale = 2**_SIGNIFICANT_BITS
    for array in model.parameters():
        mantissa, exponent = np.frexp(array)
        array[...] = np.ldexp(np.rint(mantissa * scale) / scale, exponent).astype(np.float16)


def save_small(model: Autoencoder, path: FilePath) -> None:
    """Like model.save, with deflated float16 weights. ValueError if the weights have not been rounded before."""
    arrays, meta = model.as_file()
    parameters = arrays["parameters"].astype(np.float16)
    if not np.array_equal(parameters, arrays["parameters"]):
        raise ValueError("the weights are not exact in float16; call round_weights(model) first")
    write_arrays(path, arrays | {"parameters": parameters}, meta, deflated=True)
