"""What every autoencoder shares: bottleneck and flat parameters, codes as bits, save and load."""
import contextlib
import hashlib

import numpy as np

from .. import backend
from ..bottleneck import Bottleneck, make_bottleneck
from ..checkpoint import CheckpointError, read_arrays, write_arrays
from ..layers import flatten_parameters

# Multiplications in a matrix product from which a second BLAS thread pays.
PRODUCTS_WORTH_THREADS = 2e6


class Autoencoder:
    """encoder -> bottleneck -> decoder. ImageAutoencoder is the one for images, Seq2SeqAutoencoder for sentences.

    A subclass builds its layers and calls _adopt. It has

        config(), constants()             the constructor's arguments for saving: plain data, and arrays
        batches(examples, batch_size)     what fit draws its batches from: len() is the batches of an epoch,
                                          epoch(random) gives them one after the other, checksum() names the data
        loss_and_gradients(batch)         {loss term: value}, and `gradients` overwritten
        validate(examples)                {figure: value} of held-out examples, as read from storage
        latent(examples)                  the values before the threshold, (N, latent_size), a NumPy array
        decode(code)                      examples from codes

    Attributes: `parameters` and `gradients`, flat vectors (P,) of which every layer holds views; `latent_size`, the
    numbers (or bits) of a code.
    """

    registry = {}
    # Examples at a time outside training.
    inference_batch = 500
    # Whether the model splits a batch among threads itself, and BLAS should not.
    splits_batches = False

    def __init_subclass__(cls):
        Autoencoder.registry[cls.__name__] = cls

    def _adopt(self, layers, bottleneck, dtype):
        """Take up layers that are set up already; their parameters become views of one vector."""
        self.layers, self.bottleneck, self.dtype = layers, bottleneck, np.dtype(dtype)
        self.parameters, self.gradients = flatten_parameters(layers)

    def constants(self):
        """The constructor's arguments that are arrays, by name, for saving."""
        return {}

    def use_random(self, random):
        """Draw the noise of training, if any, from this NumPy generator."""
        self.bottleneck.random = random

    def working(self, batch_size):
        """The context to train and infer in: with as many BLAS threads as serve this model and batch size best."""
        largest = max((array.size for layer in self.layers for array in layer.params.values()), default=0)
        if self.splits_batches or batch_size * largest < PRODUCTS_WORTH_THREADS:
            return backend.blas_threads(1)
        return contextlib.nullcontext()

    # ---- codes --------------------------------------------------------------------------------------------------

    def encode(self, examples, packed=False):
        """The code of each example, a NumPy array: bool (N, latent_size); with `packed` eight bits in a byte,
        uint8 (N, ceil(latent_size / 8)), first bit highest; float32 (N, latent_size) for the vanilla bottleneck.

        examples: images (N, H, W, C), bytes 0..255 or floats in [0, 1]; or a list of sentences.
        """
        values = self.latent(examples)
        if not self.bottleneck.is_binary:
            if packed:
                raise ValueError("packed=True needs bits, and the vanilla bottleneck makes floats")
            return values.astype(np.float32)
        bits = values > 0.5
        return np.packbits(bits, axis=1) if packed else bits

    def reconstruct(self, examples):
        """decode(encode(examples)): what comes back from storage."""
        return self.decode(self.encode(examples))

    def _unpacked(self, code):
        """A code of any form that encode gives, as an array (N, latent_size) of bits or numbers; ValueError for others."""
        code = np.asarray(code)
        if code.dtype == np.uint8 and code.ndim == 2 and code.shape[1] == -(-self.latent_size // 8):
            code = np.unpackbits(code, axis=1, count=self.latent_size)
        if code.ndim != 2 or code.shape[1] != self.latent_size:
            raise ValueError(f"code has shape {code.shape}; this model decodes (N, {self.latent_size}), or packed "
                             f"bytes (N, {-(-self.latent_size // 8)})")
        low, high = self.bottleneck.code_range
        if code.dtype.kind not in "biuf" or (code.size and not (code.min() >= low and code.max() <= high)):
            raise ValueError(f"code ({code.dtype}) must hold bits or numbers in [{low}, {high}]" + (
                f", not values from {code.min()} to {code.max()}" if code.dtype.kind in "biuf" else ""))
        return code

    # ---- files --------------------------------------------------------------------------------------------------

    def state_arrays(self):
        """Everything that training changes, as NumPy arrays by name: the parameters and the layers' state."""
        arrays = {"parameters": backend.to_host(self.parameters)}
        for i, layer in enumerate(self.layers):
            for name, array in layer.state.items():
                arrays[f"state.{i}.{name}"] = backend.to_host(array)
        return arrays

    def restore(self, arrays):
        """Take up what state_arrays gave."""
        self._restore_one("parameters", self.parameters, arrays)
        for i, layer in enumerate(self.layers):
            for name, array in layer.state.items():
                self._restore_one(f"state.{i}.{name}", array, arrays)

    def _restore_one(self, name, destination, arrays):
        if name not in arrays or arrays[name].shape != destination.shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise CheckpointError(f"{name}: this model needs shape {destination.shape}, the file has {found}")
        destination[...] = backend.to_device(arrays[name])

    def model_id(self):
        """The SHA-256 of the parameters and state, in hexadecimal: the name of exactly these weights."""
        digest = hashlib.sha256()
        for name, array in sorted(self.state_arrays().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path):
        """Write the model to one .npz file, whole or not at all."""
        write_arrays(path, *self.as_file())

    def as_file(self):
        """What `save` writes: (arrays by name, description)."""
        arrays = self.state_arrays() | {f"constant.{name}": array for name, array in self.constants().items()}
        bottleneck = {"kind": self.bottleneck.kind, **self.bottleneck.config()}
        return arrays, {"format": "tinyqae model", "version": 1, "model": type(self).__name__, "config": self.config(),
                        "bottleneck": bottleneck}


def load(path):
    """The model that Autoencoder.save wrote to `path`, on the backend in use.

    Raises CheckpointError when the file is missing, corrupt, or not a model of this library.
    """
    arrays, meta = read_arrays(path)
    if meta.get("format") != "tinyqae model" or meta.get("model") not in Autoencoder.registry:
        raise CheckpointError(f"{path} is not a tinyqae model: it says format {meta.get('format')!r}, "
                              f"model {meta.get('model')!r}")
    try:
        constants = {name.removeprefix("constant."): array for name, array in arrays.items()
                     if name.startswith("constant.")}
        model = Autoencoder.registry[meta["model"]](bottleneck=make_bottleneck(**meta["bottleneck"]), **constants,
                                                    **meta["config"])
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not describe a model that this version can build: {error}") from error
    model.restore(arrays)
    return model


def positive_integers(argument, values):
    """`values`, one whole number or several, as a tuple; ValueError unless all are above 0."""
    numbers = values if isinstance(values, list | tuple | np.ndarray) else (values,)
    if not len(numbers) or not all(isinstance(n, int | np.integer) and n > 0 for n in numbers):
        raise ValueError(f"{argument}={values!r} must be one or more whole numbers above 0")
    return tuple(int(n) for n in numbers)


def require_common(bottleneck, seed, dtype):
    """TypeError or ValueError unless these arguments of every autoencoder are what they should be."""
    if not isinstance(bottleneck, Bottleneck):
        raise TypeError(f"bottleneck={bottleneck!r} must be a bottleneck object, such as Commit(weight=1.0)")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype={np.dtype(dtype).name!r} must be float32 or float64")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")
