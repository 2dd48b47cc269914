"""The base class of image autoencoders: the forward and the backward pass, encode and decode."""
import numpy as np

from .. import backend, losses
from ..annotations import Array, DType, Scalar, Shape
from ..arguments import as_images, require_common, require_images
from ..batches import ImageBatches, as_floats
from ..bottlenecks import Bottleneck
from ..engine import choose
from ..layers import Centre, Sequential
from ..metrics import image as image_metrics
from ..ops.activations import sigmoid_forward
from .base import Autoencoder


class ImageAutoencoder(Autoencoder):
    """encoder -> bottleneck -> decoder, on images (N, H, W, C) with values in [0, 1].

    A subclass creates the encoder and the decoder, both Sequential, and calls build, as in examples/own_autoencoder.py.
    flatten: the encoder takes (N, pixels). mean_image (H, W, C) or None: subtracted from the inputs; the initial output.
    """

    def build(self, encoder: Sequential, bottleneck: Bottleneck, decoder: Sequential, *, input_shape: Shape,
              reconstruction: str = "bce", mean_image: np.ndarray | None = None, seed: int = 0, dtype: DType = np.float32,
              engine: str | None = None, flatten: bool = False) -> None:
        require_common(bottleneck, seed, dtype)
        mean_image = None if mean_image is None else np.asarray(mean_image)
        input_shape = require_images(input_shape, mean_image)
        if reconstruction not in losses.RECONSTRUCTION:
            raise ValueError(f"reconstruction={reconstruction!r} is unknown; choose 'bce' or 'mse'")
        self.engine, self.input_shape, self.reconstruction = choose(engine), input_shape, reconstruction
        random = backend.generator(seed)
        self.mean_image: np.ndarray | None = None
        latent_shape = encoder.setup((int(np.prod(input_shape)),) if flatten else input_shape, random, dtype)
        decoder.setup(latent_shape, random, dtype)
        encoder.layers[0].needs_dx = False
        self.latent_size = int(np.prod(latent_shape))
        self.encoder, self.decoder = self.engine.build(encoder), self.engine.build(decoder)
        self.criterion = self.engine.build(losses.Loss(*losses.RECONSTRUCTION[reconstruction]))
        self._assemble([*self.encoder.layers, *self.decoder.layers], bottleneck, dtype)
        if mean_image is not None:
            self.mean_image = mean_image.astype(self.dtype)
            self.centre = self.engine.build(Centre(backend.to_device(self.mean_image)))
            self.start_output_at(mean_image)

    def start_output_at(self, mean_image: np.ndarray) -> None:
        """Initialize the output bias, one per pixel or channel, to the logit of its mean."""
        *_, bias = self.decoder.layers[-1].params.values()  # Its beta with batch norm, or else its b.
        p = np.clip(mean_image, 1e-3, 1 - 1e-3).reshape(-1, bias.size).mean(axis=0)
        bias[...] = backend.to_device(np.log(p / (1 - p)).astype(self.dtype))

    def constants(self) -> dict[str, np.ndarray]:
        return {} if self.mean_image is None else {"mean_image": self.mean_image}

    def reconstruction_loss(self, images: Array) -> Scalar:
        """The forward pass: the mean loss over all pixels of images (N, H, W, C), floats in [0, 1]."""
        return self.criterion.forward(self.forward(images), images.reshape(len(images), -1))

    def forward(self, images: Array, training: bool = True) -> Array:
        """images (N, H, W, C), floats in [0, 1] -> logits of the reconstruction (N, pixels)."""
        code = self.bottleneck.forward(self.encoder_output(images, training), training)
        return self.decode_logits(code, training)

    def backward(self) -> None:
        """The gradients of the objective, after `loss`: from the logits back to the encoder's first layer."""
        dlogits = self.criterion.backward()
        dcode = self.decoder.backward(dlogits.reshape(-1, *self.decoder.output_shape))
        dh = self.bottleneck.backward(dcode.reshape(len(dcode), -1))
        self.encoder.backward(dh.reshape(-1, *self.encoder.output_shape))

    def encoder_output(self, images: Array, training: bool = False) -> Array:
        """The bottleneck's input h (N, latent_size)."""
        if images.shape[1:] != self.input_shape:
            raise ValueError(f"images have shape {images.shape}; this model takes (N, {str(self.input_shape)[1:]}")
        if images.dtype != self.dtype:
            raise TypeError(f"images are {images.dtype}; this model computes in {self.dtype}: "
                            f"images.astype('{self.dtype}') / 255 for bytes")
        x = images if self.mean_image is None else self.centre.forward(images)
        return self.encoder.forward(x.reshape(-1, *self.encoder.input_shape), training).reshape(len(x), -1)

    def decode_logits(self, code: Array, training: bool = False) -> Array:
        """A code as the bottleneck passes it to the decoder, (N, latent_size) -> logits (N, pixels)."""
        return self.decoder.forward(code.reshape(-1, *self.decoder.input_shape), training).reshape(len(code), -1)

    def batches(self, images: np.ndarray, batch_size: int) -> ImageBatches:
        """See Autoencoder; images (N, H, W, C), bytes 0..255 or floats in [0, 1]."""
        return self.engine.build(ImageBatches(as_images(images, self.input_shape), batch_size, self.dtype))

    def validate(self, images: np.ndarray) -> dict[str, float]:
        """{"val_psnr": mean PSNR in dB} of the reconstructions from stored codes. images as in batches."""
        images = as_images(images, self.input_shape)
        original = images if images.dtype == np.uint8 else image_metrics.to_uint8(images)
        return {"val_psnr": float(image_metrics.psnr(original, self.reconstruct(images)).mean())}

    def latent(self, images: np.ndarray) -> np.ndarray:
        """The values before the threshold, (N, latent_size), a NumPy array. images as in batches."""
        images = as_images(images, self.input_shape)
        a = np.empty((len(images), self.latent_size), self.dtype)
        with self.engine.working(self, self.inference_batch):
            for part in self._parts(len(images)):
                x = backend.to_device(as_floats(images[part], self.dtype))
                a[part] = backend.to_host(self.bottleneck.latent(self.encoder_output(x)))
        return a

    def decode(self, code: np.ndarray) -> np.ndarray:
        """Images uint8 (N, H, W, C) from what encode returned: bits, packed bits, or any code values in [0, 1]."""
        return self._decode(code, np.uint8, lambda pixels: np.rint(pixels * 255))

    def decode_floats(self, code: np.ndarray) -> np.ndarray:
        """Like decode, but with pixels as floats in [0, 1], not rounded to bytes."""
        return self._decode(code, self.dtype, lambda pixels: pixels)

    def _decode(self, code, dtype, finish):
        code = self.unpack(code)
        images = np.empty((len(code), *self.input_shape), dtype)
        with self.engine.working(self, self.inference_batch):
            for part in self._parts(len(code)):
                values = backend.to_device(code[part].astype(self.dtype))
                pixels = sigmoid_forward(self.decode_logits(self.bottleneck.for_decoder(values)))
                images[part] = finish(backend.to_host(pixels)).reshape(-1, *self.input_shape)
        return images

    def _parts(self, n):
        return [slice(start, start + self.inference_batch) for start in range(0, n, self.inference_batch)]
