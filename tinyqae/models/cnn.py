"""The report's third model: convolutions with pooling down to a small map of bits, and upsampling back (section 3.3)."""
import numpy as np

from ..annotations import DType, Shape, Sizes
from ..arguments import positive_integers, require_levels
from ..bottlenecks import Bottleneck
from ..layers import BatchNorm, ConvBlock, Layer, Sequential
from .images import ImageAutoencoder


class CNNAutoencoder(ImageAutoencoder):
    """(conv3x3, BN, ReLU, pool) for each width, conv1x1 to the latent map; decoder: (conv3x3, BN, ReLU), then (upsample,
    conv3x3, BN, ReLU) for each width but the innermost, and an upsampling conv3x3 to the image, with a sigmoid at the end.

    Args:
        widths: channels of the encoder's levels, outermost first; each level halves the image.
        latent_channels: channels of the latent map, (H / 2^levels, W / 2^levels, latent_channels) numbers or bits.
        decoder_widths: channels of the decoder's levels, outermost first; None for the encoder's.
        input_shape: (H, W, C) of the images, H and W divisible by 2^levels.
        normalize_output: batch norm on the output layer too, as in the report's code.
        norm_momentum, norm_eps: of every batch norm; Keras uses 0.99 and 1e-3.
        bottleneck, normalize_latent, reconstruction, mean_image, seed, dtype, engine: as in MLPAutoencoder.
    """

    inference_batch = 100

    def __init__(self, bottleneck: Bottleneck, widths: Sizes = (64, 32, 16), latent_channels: int = 16,
                 input_shape: Shape = (32, 32, 3), *, decoder_widths: Sizes | None = None,
                 normalize_latent: bool = False, normalize_output: bool = False, norm_momentum: float = 0.9,
                 norm_eps: float = 1e-5, reconstruction: str = "bce", mean_image: np.ndarray | None = None,
                 seed: int = 0, dtype: DType = np.float32, engine: str | None = None):
        widths = positive_integers("widths", widths)
        decoder_widths = widths if decoder_widths is None else positive_integers("decoder_widths", decoder_widths)
        (latent_channels,) = positive_integers("latent_channels", latent_channels)
        *_, channels = require_levels(input_shape, widths, decoder_widths)
        self.widths, self.decoder_widths, self.latent_channels = widths, decoder_widths, latent_channels
        self.normalize_latent, self.normalize_output = normalize_latent, normalize_output
        self.norm_momentum, self.norm_eps = norm_momentum, norm_eps
        constants: dict = {"momentum": norm_momentum, "eps": norm_eps}
        encoder: list[Layer] = [ConvBlock(n, pool=True, **constants) for n in widths]
        encoder.append(ConvBlock(latent_channels, kernel=1, norm=False, relu=False))
        encoder += [BatchNorm(**constants)] * normalize_latent
        innermost, *outer = reversed(decoder_widths)
        decoder = [ConvBlock(innermost, **constants), *(ConvBlock(n, upsample=True, **constants) for n in outer)]
        decoder.append(ConvBlock(channels, upsample=True, norm=normalize_output, relu=False, **constants))
        self.build(Sequential(*encoder), bottleneck, Sequential(*decoder), input_shape=input_shape,
                   reconstruction=reconstruction, mean_image=mean_image, seed=seed, dtype=dtype, engine=engine)
