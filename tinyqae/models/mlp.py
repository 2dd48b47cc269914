"""The report's first model: dense layers on flattened images (section 3.1)."""
import numpy as np

from ..annotations import DType, Shape, Sizes
from ..arguments import positive_integers
from ..bottlenecks import Bottleneck
from ..layers import BatchNorm, Dense, Layer, ReLU, Sequential
from .images import ImageAutoencoder


class MLPAutoencoder(ImageAutoencoder):
    """pixels -> hidden... -> latent -> ...hidden -> pixels, ReLU between dense layers, sigmoid at the end.

    Args:
        bottleneck: an object of tinyqae.bottlenecks, such as Commit(weight=0.1).
        hidden: widths of the encoder, the last one the latent size; the decoder mirrors the others.
            50 or (50,) is the report's 784-50-784; (256, 50) is 784-256-50-256-784.
        input_shape: (H, W, C) of the images.
        normalize_hidden: batch norm before each ReLU; without it, the bits of deep encoders die.
        normalize_latent: batch norm as the encoder's last layer, so that every latent unit starts out on both sides of the
            threshold and none can drift to one side and die; its learned scale lets the losses drive the values apart.
        reconstruction: "bce" (binary cross-entropy, as in the report) or "mse".
        seed, dtype: of the initial weights; float32, or float64 for gradient checks.
        mean_image, engine: see ImageAutoencoder and tinyqae.engine.
    """

    def __init__(self, bottleneck: Bottleneck, hidden: Sizes = (50,), input_shape: Shape = (28, 28, 1), *,
                 normalize_hidden: bool = False, normalize_latent: bool = False, reconstruction: str = "bce",
                 mean_image: np.ndarray | None = None, seed: int = 0, dtype: DType = np.float32,
                 engine: str | None = None):
        self.hidden = positive_integers("hidden", hidden)
        self.normalize_hidden, self.normalize_latent = normalize_hidden, normalize_latent
        *middle, latent = self.hidden

        def layers(widths) -> list[Layer]:
            return [layer for units in widths for layer in (Dense(units), *[BatchNorm()] * normalize_hidden, ReLU())]

        encoder = [*layers(middle), Dense(latent), *[BatchNorm()] * normalize_latent]
        decoder = [*layers(reversed(middle)), Dense(int(np.prod(input_shape)))]
        self.build(Sequential(*encoder), bottleneck, Sequential(*decoder), input_shape=input_shape, flatten=True,
                   reconstruction=reconstruction, mean_image=mean_image, seed=seed, dtype=dtype, engine=engine)
