"""What every image autoencoder shares: the training step, encode and decode, save and load."""
import contextlib
import hashlib

import numpy as np

from .. import backend, fused, losses
from ..bottleneck import Bottleneck, make_bottleneck
from ..checkpoint import CheckpointError, read_arrays, write_arrays
from ..layers import flatten_parameters
from ..ops.activations import sigmoid_forward

# Multiplications in a matrix product from which a second BLAS thread pays.
PRODUCTS_WORTH_THREADS = 2e6
RECONSTRUCTION_LOSSES = ("bce", "mse")


class Autoencoder:
    """encoder -> bottleneck -> decoder, on images (N, H, W, C) with values in [0, 1].

    A subclass builds `encoder` and `decoder` (layers) and calls _assemble. Attributes: `parameters` and `gradients`,
    flat vectors (P,) of which every layer holds views; `latent_size`, the numbers (or bits) of a code;
    `mean_image` (H, W, C) or None: inputs are centred on it, and the output starts at it.
    """

    registry = {}
    # Images at a time outside training.
    inference_batch = 500
    # Whether the layers split a batch among threads themselves, and BLAS should not.
    splits_batches = False

    def __init_subclass__(cls):
        Autoencoder.registry[cls.__name__] = cls

    def _assemble(self, encoder, bottleneck, decoder, *, input_shape, reconstruction, mean_image, seed, dtype):
        if not isinstance(bottleneck, Bottleneck):
            raise TypeError(f"bottleneck={bottleneck!r} must be a bottleneck object, such as Commit(weight=1.0)")
        input_shape = positive_integers("input_shape", input_shape)
        if len(input_shape) != 3:
            raise ValueError(f"input_shape={input_shape!r} must be (H, W, C)")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype={np.dtype(dtype).name!r} must be float32 or float64")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")
        if reconstruction not in RECONSTRUCTION_LOSSES:
            raise ValueError(f"reconstruction={reconstruction!r} is unknown; "
                             f"choose one of {', '.join(RECONSTRUCTION_LOSSES)}")
        self.encoder, self.bottleneck, self.decoder = encoder, bottleneck, decoder
        self.input_shape, self.reconstruction, self.dtype = tuple(input_shape), reconstruction, np.dtype(dtype)
        self.pixels = int(np.prod(self.input_shape))
        random = backend.generator(seed)
        latent_shape = encoder.setup(self._encoder_input_shape(), random, self.dtype)
        self.latent_size = int(np.prod(latent_shape))
        decoder.setup(latent_shape, random, self.dtype)
        self.layers = [*encoder.layers, *decoder.layers]
        self.layers[0].needs_dx = False
        self.parameters, self.gradients = flatten_parameters(self.layers)
        self.mean_image = None
        if mean_image is not None:
            self._start_at(np.asarray(mean_image))
        self._capacity = 0

    def _encoder_input_shape(self):
        return self.input_shape

    def _start_at(self, mean_image):
        if mean_image.shape != self.input_shape:
            raise ValueError(f"mean_image has shape {mean_image.shape}, the model's images {self.input_shape}")
        if not (mean_image.min() >= 0 and mean_image.max() <= 1):
            raise ValueError(f"mean_image runs from {mean_image.min()} to {mean_image.max()}; it must be in [0, 1]")
        self.mean_image = backend.to_device(mean_image.astype(self.dtype))
        # A pixel that is 0 in every image would start at -infinity.
        clipped = np.clip(mean_image, 1e-3, 1 - 1e-3)
        self._set_output_bias(np.log(clipped / (1 - clipped)).astype(self.dtype))

    # ---- the training step --------------------------------------------------------------------------------------

    def forward(self, images, training=True):
        """images (N, H, W, C), floats in [0, 1] -> logits of the reconstruction (N, pixels), the model's own buffer."""
        h = self.encoder.forward(self._centred(images), training)
        code = self.bottleneck.forward(h.reshape(len(h), -1), training)
        return self.decode_logits(code, training)

    def decode_logits(self, code, training=False):
        """A code as the bottleneck gives it to the decoder, (N, latent_size), -> logits (N, pixels)."""
        shaped = code.reshape(len(code), *self.decoder.input_shape)
        return self.decoder.forward(shaped, training).reshape(len(code), -1)

    def backward(self, dlogits):
        """Overwrite `gradients` with the derivatives of the loss, the bottleneck's added term included.

        dlogits (N, pixels): the derivative of the reconstruction loss with respect to forward's result.
        """
        n = len(dlogits)
        dcode = self.decoder.backward(dlogits.reshape(n, *self.decoder.output_shape))
        dh = self.bottleneck.backward(dcode.reshape(n, -1))
        self.encoder.backward(dh.reshape(n, *self.encoder.output_shape))

    def reconstruction_loss(self, logits, images):
        """(value, dlogits): the mean loss over all pixels, and its derivative (N, pixels) in the model's own buffer."""
        n, target = len(logits), images.reshape(len(images), -1)
        if self.reconstruction == "bce":
            bce = fused.choose(losses.bce_with_logits, self.dtype)
            return bce(logits, target, self._row, self._dlogits[:n]), self._dlogits[:n]
        squared_error = fused.choose(losses.squared_error_with_logits, self.dtype)
        return squared_error(logits, target, self._probability[:n], self._dlogits[:n]), self._dlogits[:n]

    def loss_and_gradients(self, images):
        """One whole pass, forward and backward. Returns the loss terms, each without its weight:
        {"reconstruction": ..., and "fence" or "commit" where the bottleneck adds one}.
        """
        logits = self.forward(images, training=True)
        reconstruction, dlogits = self.reconstruction_loss(logits, images)
        self.backward(dlogits)
        terms = {"reconstruction": reconstruction}
        if self.bottleneck.loss_name:
            terms[self.bottleneck.loss_name] = self.bottleneck.extra_loss
        return terms

    def _centred(self, images):
        if images.shape[1:] != self.input_shape:
            raise ValueError(f"images have shape {images.shape}; this model takes (N, "
                             f"{', '.join(map(str, self.input_shape))})")
        if images.dtype != self.dtype:
            raise TypeError(f"images are {images.dtype}; this model computes in {self.dtype}: "
                            f"images.astype('{self.dtype}') / 255 for bytes")
        if len(images) > self._capacity:
            self._build(len(images))
        if self.mean_image is None:
            return images.reshape(-1, *self.encoder.input_shape)
        centred = backend.xp.subtract(images, self.mean_image, out=self._input[:len(images)])
        return centred.reshape(-1, *self.encoder.input_shape)

    def _build(self, capacity):
        empty = backend.xp.empty
        self._capacity = capacity
        self._dlogits = empty((capacity, self.pixels), self.dtype)
        self._row = empty(self.pixels, self.dtype)
        self._probability = empty((capacity, self.pixels), self.dtype) if self.reconstruction == "mse" else None
        self._input = empty((capacity, *self.input_shape), self.dtype)

    # ---- using a trained model ----------------------------------------------------------------------------------

    def latent(self, images):
        """The values before the threshold, (N, latent_size), as a NumPy array.

        images: (N, H, W, C), bytes 0..255 or floats in [0, 1].
        """
        return self._in_batches(images, lambda x: self.bottleneck.latent(self._hidden(x)))

    def encode(self, images, packed=False):
        """The code of each image, a NumPy array: bool (N, latent_size); with `packed` eight bits in a byte,
        uint8 (N, ceil(latent_size / 8)), first bit highest; float32 (N, latent_size) for the vanilla bottleneck.

        images: (N, H, W, C), bytes 0..255 or floats in [0, 1].
        """
        values = self.latent(images)
        if not self.bottleneck.is_binary:
            if packed:
                raise ValueError("packed=True needs bits, and the vanilla bottleneck makes floats")
            return values.astype(np.float32)
        bits = values > 0.5
        return np.packbits(bits, axis=1) if packed else bits

    def decode(self, code):
        """Images uint8 (N, H, W, C) from what encode gave: bits, packed bits, or any code values in [0, 1]."""
        return np.rint(self.decode_floats(code) * 255).astype(np.uint8)

    def decode_floats(self, code):
        """As decode, but pixels as floats in [0, 1] before they are rounded to bytes."""
        code = np.asarray(code)
        if code.dtype == np.uint8 and code.ndim == 2 and code.shape[1] == -(-self.latent_size // 8):
            code = np.unpackbits(code, axis=1, count=self.latent_size)
        if code.ndim != 2 or code.shape[1] != self.latent_size:
            raise ValueError(f"code has shape {code.shape}; this model decodes (N, {self.latent_size}), or packed "
                             f"bytes (N, {-(-self.latent_size // 8)})")
        if code.dtype.kind not in "biuf" or (code.size and not (code.min() >= 0 and code.max() <= 1)):
            raise ValueError(f"code ({code.dtype}) must hold bits or numbers in [0, 1]" + (
                f", not values from {code.min()} to {code.max()}" if code.dtype.kind in "biuf" else ""))
        images = np.empty((len(code), *self.input_shape), self.dtype)
        with self.working(self.inference_batch):
            for start in range(0, len(code), self.inference_batch):
                part = backend.to_device(code[start:start + self.inference_batch].astype(self.dtype))
                logits = self.decode_logits(self.bottleneck.for_decoder(part, part))
                sigmoid_forward(logits, logits)
                images[start:start + len(part)] = backend.to_host(logits).reshape(-1, *self.input_shape)
        return images

    def reconstruct(self, images):
        """decode(encode(images)): what comes back from storage, uint8 (N, H, W, C)."""
        return self.decode(self.encode(images))

    def _hidden(self, images):
        h = self.encoder.forward(self._centred(images), training=False)
        return h.reshape(len(h), -1)

    def working(self, batch_size):
        """The context to train and infer in: with as many BLAS threads as serve this model and batch size best."""
        largest = max((array.size for layer in self.layers for array in layer.params.values()), default=0)
        if self.splits_batches or batch_size * largest < PRODUCTS_WORTH_THREADS:
            return backend.blas_threads(1)
        return contextlib.nullcontext()

    def _in_batches(self, images, function):
        images = np.asarray(images)
        if images.shape[1:] != self.input_shape:
            raise ValueError(f"images have shape {images.shape}; this model takes (N, "
                             f"{', '.join(map(str, self.input_shape))})")
        if len(images) == 0:
            return np.empty((0, self.latent_size), self.dtype)
        with self.working(self.inference_batch):
            step = self.inference_batch
            parts = [backend.to_host(function(backend.to_device(as_floats(images[i:i + step], self.dtype)))).copy()
                     for i in range(0, len(images), step)]
        return np.concatenate(parts)

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
        arrays = self.state_arrays()
        if self.mean_image is not None:
            arrays["mean_image"] = backend.to_host(self.mean_image)
        bottleneck = {"kind": self.bottleneck.kind, **self.bottleneck.config()}
        write_arrays(path, arrays, {"format": "tinyqae model", "version": 1, "model": type(self).__name__,
                                    "config": self.config(), "bottleneck": bottleneck})


def load(path):
    """The model that Autoencoder.save wrote to `path`, on the backend in use.

    Raises CheckpointError when the file is missing, corrupt, or not a model of this library.
    """
    arrays, meta = read_arrays(path)
    if meta.get("format") != "tinyqae model" or meta.get("model") not in Autoencoder.registry:
        raise CheckpointError(f"{path} is not a tinyqae model: it says format {meta.get('format')!r}, "
                              f"model {meta.get('model')!r}")
    try:
        model = Autoencoder.registry[meta["model"]](bottleneck=make_bottleneck(**meta["bottleneck"]),
                                                    mean_image=arrays.get("mean_image"), **meta["config"])
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


def as_floats(images, dtype=np.float32):
    """Bytes 0..255 -> floats in [0, 1] (times 1/255); floats are checked and converted. images (N, ...), NumPy."""
    if images.dtype == np.uint8:
        return np.multiply(images, np.dtype(dtype).type(1 / 255))
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images are {images.dtype}; give bytes (uint8) or floats in [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"image values run from {images.min()} to {images.max()}; floats must be in [0, 1]")
    return images.astype(dtype, copy=False)
