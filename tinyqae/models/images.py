"""What the autoencoders of images share: the training step, batches, encode and decode."""
import zlib

import numpy as np

from .. import backend, fused, losses
from ..metrics import image as image_metrics
from ..ops.activations import sigmoid_forward
from .base import Autoencoder, positive_integers, require_common

RECONSTRUCTION_LOSSES = ("bce", "mse")


class ImageAutoencoder(Autoencoder):
    """encoder -> bottleneck -> decoder, on images (N, H, W, C) with values in [0, 1].

    A subclass builds `encoder` and `decoder` (layers) and calls _assemble. `mean_image` (H, W, C) or None: inputs are
    centred on it, and the output starts at it.
    """

    def _assemble(self, encoder, bottleneck, decoder, *, input_shape, reconstruction, mean_image, seed, dtype):
        require_common(bottleneck, seed, dtype)
        input_shape = positive_integers("input_shape", input_shape)
        if len(input_shape) != 3:
            raise ValueError(f"input_shape={input_shape!r} must be (H, W, C)")
        if reconstruction not in RECONSTRUCTION_LOSSES:
            raise ValueError(f"reconstruction={reconstruction!r} is unknown; "
                             f"choose one of {', '.join(RECONSTRUCTION_LOSSES)}")
        self.encoder, self.decoder = encoder, decoder
        self.input_shape, self.reconstruction = tuple(input_shape), reconstruction
        self.pixels = int(np.prod(self.input_shape))
        random = backend.generator(seed)
        latent_shape = encoder.setup(self._encoder_input_shape(), random, np.dtype(dtype))
        self.latent_size = int(np.prod(latent_shape))
        decoder.setup(latent_shape, random, np.dtype(dtype))
        layers = [*encoder.layers, *decoder.layers]
        layers[0].needs_dx = False
        self._adopt(layers, bottleneck, dtype)
        self.mean_image = None
        if mean_image is not None:
            self._start_at(np.asarray(mean_image))
        self._capacity = 0

    def constants(self):
        """See Autoencoder."""
        return {} if self.mean_image is None else {"mean_image": backend.to_host(self.mean_image)}

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

    # ---- what fit needs -----------------------------------------------------------------------------------------

    def batches(self, images, batch_size):
        """See Autoencoder; images (N, H, W, C), bytes 0..255 or floats in [0, 1], moved to the device once."""
        return ImageBatches(np.asarray(images), batch_size, self.dtype)

    def validate(self, images):
        """{"val_psnr": mean PSNR in dB} of what comes back from storage. images as in batches."""
        original = images if images.dtype == np.uint8 else image_metrics.to_uint8(images)
        return {"val_psnr": float(image_metrics.psnr(original, self.reconstruct(images)).mean())}

    # ---- using a trained model ----------------------------------------------------------------------------------

    def latent(self, images):
        """The values before the threshold, (N, latent_size), as a NumPy array.

        images: (N, H, W, C), bytes 0..255 or floats in [0, 1].
        """
        return self._in_batches(images, lambda x: self.bottleneck.latent(self._hidden(x)))

    def decode(self, code):
        """Images uint8 (N, H, W, C) from what encode gave: bits, packed bits, or any code values in [0, 1]."""
        code = self._unpacked(code)
        images = np.empty((len(code), *self.input_shape), np.uint8)
        for part, pixels in self._decoded(code):
            # While a batch is in the cache: a pass over all images as floats takes as long as the decoder itself.
            pixels = backend.to_host(pixels)
            np.multiply(pixels, 255, out=pixels)
            images[part] = np.rint(pixels, out=pixels)
        return images

    def decode_floats(self, code):
        """As decode, but pixels as floats in [0, 1] before they are rounded to bytes."""
        code = self._unpacked(code)
        images = np.empty((len(code), *self.input_shape), self.dtype)
        for part, pixels in self._decoded(code):
            images[part] = backend.to_host(pixels)
        return images

    def _decoded(self, code):
        """Batch after batch of a code (N, latent_size): (a slice of it, its pixels (n, H, W, C) in [0, 1] on the device, in
        the model's own buffer).
        """
        with self.working(self.inference_batch):
            for start in range(0, len(code), self.inference_batch):
                part = slice(start, start + self.inference_batch)
                values = backend.to_device(code[part].astype(self.dtype))
                logits = self.decode_logits(self.bottleneck.for_decoder(values, values))
                yield part, sigmoid_forward(logits, logits).reshape(-1, *self.input_shape)

    def _hidden(self, images):
        h = self.encoder.forward(self._centred(images), training=False)
        return h.reshape(len(h), -1)

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


class ImageBatches:
    """Batches of a data set that lives on the device, gathered into one buffer of floats in [0, 1].

    A data set too large for the device stays on the host, and each batch is gathered there and sent.

    One example is no batch for batch norm: a last batch of one is left out (another one each epoch).
    """

    def __init__(self, images, batch_size, dtype):
        xp = backend.xp
        self.batch_size = batch_size
        self.is_bytes = images.dtype == np.uint8
        self.host_images = images
        self.images = images if self.is_bytes else as_floats(images, dtype)
        self.rows = xp.empty((min(batch_size, len(images)), *images.shape[1:]), self.images.dtype)
        self.on_device = backend.fits(self.images.nbytes)
        if self.on_device:
            self.images = backend.to_device(self.images)
        else:
            self.host_rows = np.empty(self.rows.shape, self.rows.dtype)
        self.floats = xp.empty(self.rows.shape, dtype) if self.is_bytes else self.rows
        self.scale = np.dtype(dtype).type(1 / 255)

    def __len__(self):
        images = len(self.images)
        return max(1, -(-images // self.batch_size) - (images % self.batch_size == 1))

    def checksum(self):
        """A number that other images would hardly have."""
        return zlib.crc32(np.ascontiguousarray(self.host_images))

    def epoch(self, random):
        """One epoch's batches in an order drawn from `random`; each is overwritten by the next."""
        order = random.permutation(len(self.images))
        if self.on_device:
            order = backend.to_device(order)
        for i in range(len(self)):
            yield self._gather(order[i * self.batch_size:(i + 1) * self.batch_size])

    def _gather(self, index):
        rows, floats = self.rows[:len(index)], self.floats[:len(index)]
        if self.on_device:
            backend.gather(self.images, index, rows)
        else:
            chosen = np.take(self.images, index, axis=0, out=self.host_rows[:len(index)], mode="clip")
            backend.to_device(chosen, rows)
        if self.is_bytes:
            backend.xp.multiply(rows, self.scale, out=floats)
        return floats


def as_floats(images, dtype=np.float32):
    """Bytes 0..255 -> floats in [0, 1] (times 1/255); floats are checked and converted. images (N, ...), NumPy."""
    if images.dtype == np.uint8:
        return np.multiply(images, np.dtype(dtype).type(1 / 255))
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images are {images.dtype}; give bytes (uint8) or floats in [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"image values run from {images.min()} to {images.max()}; floats must be in [0, 1]")
    return images.astype(dtype, copy=False)
