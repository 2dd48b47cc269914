"""What every autoencoder shares: the objective, its parameters, codes as bits."""
import numpy as np

from ..annotations import Array, Batch, Decoded, Examples, Function, Scalar, Tensor
from ..arguments import unpacked_code
from ..history import History
from ..model_files import Stored


class Autoencoder(Stored):
    """encoder -> bottleneck -> decoder. ImageAutoencoder is the one for images, Seq2SeqAutoencoder for sentences.

    A subclass (examples/own_autoencoder.py is one) passes each of its parts to `engine.build`, calls `_assemble`, keeps its
    constructor's arguments as attributes of the same names, for saving, and has what is declared here.
    """

    reconstruction_loss: Function  # Of a batch, after a forward pass.
    backward: Function  # The gradients of the objective.
    batches: Function  # Of examples, so many in each, for training.
    validate: Function  # {figure: value} of examples.
    latent: Function  # a (N, latent_size) of examples.
    decode: Function  # Examples from codes.
    terms: dict[str, Scalar]  # The summands of the last loss, without weights, by name.
    history: History  # Of the last training.
    inference_batch = 500  # Examples at a time outside training.

    def _assemble(self, layers, bottleneck, dtype) -> None:
        self.layers, self.dtype, self.terms = layers, np.dtype(dtype), {}
        self.bottleneck = self.engine.build(bottleneck)
        self.engine.register_layers(layers)

    def loss(self, batch: Batch) -> Scalar:
        """The objective: the reconstruction loss plus weight times the bottleneck's loss. A scalar."""
        reconstruction, added = self.reconstruction_loss(batch), self.bottleneck.loss()
        name = self.bottleneck.loss_name
        self.terms = {"reconstruction": reconstruction, name: added} if name else {"reconstruction": reconstruction}
        return reconstruction + self.bottleneck.weight * added

    def parameters(self) -> list[Array]:
        """The arrays that training changes, a list."""
        return self.engine.arrays(self.layers, "params")

    def gradients(self) -> list[Array]:
        """The gradients that the last `backward` left, a list of arrays in the order of `parameters`."""
        return self.engine.arrays(self.layers, "grads")

    def encode(self, examples: Examples | Tensor, packed: bool = False) -> np.ndarray:
        """The code of each example, a NumPy array: bool (N, latent_size); with `packed` eight bits in a byte,
        uint8 (N, ceil(latent_size / 8)), first bit highest; float32 (N, latent_size) for the vanilla bottleneck.

        examples: images, bytes 0..255 or floats in [0, 1], (N, H, W, C) or in another form that arguments.as_images takes:
        one image, grayscale without C, a torch.Tensor; or a list of sentences.
        """
        a = self.latent(examples)
        if self.bottleneck.is_binary:
            return np.packbits(a > 0.5, axis=1) if packed else a > 0.5
        if packed:
            raise ValueError("packed=True needs bits, and the vanilla bottleneck makes floats")
        return a.astype(np.float32)

    def reconstruct(self, examples: Examples | Tensor) -> Decoded:
        """decode(encode(examples))."""
        return self.decode(self.encode(examples))

    def unpack(self, code: np.ndarray) -> np.ndarray:
        """A code of any form that encode gives, as an array (N, latent_size) of bits or numbers; ValueError for others."""
        return unpacked_code(code, self.latent_size, *self.bottleneck.code_range)
