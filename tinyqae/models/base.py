"""The base class of all autoencoders: the objective, the parameters, codes as bits."""
import numpy as np

from ..annotations import Array, Batch, Decoded, Examples, Function, Scalar, Tensor
from ..arguments import unpacked_code
from ..history import History
from ..model_files import Stored


class Autoencoder(Stored):
    """encoder -> bottleneck -> decoder. ImageAutoencoder is for images, Seq2SeqAutoencoder for sentences.

    A subclass (examples/own_autoencoder.py) builds its parts from reference layers, passes each to `engine.build`, calls
    `_assemble`, keeps its constructor's arguments as attributes of the same names, and defines what is declared here.
    """

    reconstruction_loss: Function  # Of a batch; runs the forward pass.
    backward: Function  # Computes the gradients of the objective.
    batches: Function  # The training batches of examples, of a given size.
    validate: Function  # {metric: value} on examples.
    latent: Function  # a (N, latent_size) of examples.
    decode: Function  # Examples from codes.
    terms: dict[str, Scalar]  # The terms of the last loss, unweighted, by name.
    history: History  # Of the last training run.
    inference_batch = 500  # Batch size outside training.

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
        """The trainable arrays, a list."""
        return self.engine.arrays(self.layers, "params")

    def gradients(self) -> list[Array]:
        """The gradients computed by the last `backward`, a list of arrays in the order of `parameters`."""
        return self.engine.arrays(self.layers, "grads")

    def encode(self, examples: Examples | Tensor, packed: bool = False) -> np.ndarray:
        """The code of each example, a NumPy array: bool (N, latent_size); with `packed`, eight bits per byte,
        uint8 (N, ceil(latent_size / 8)), most significant bit first; float32 (N, latent_size) for the vanilla bottleneck.

        Args:
            examples: images, bytes 0..255 or floats in [0, 1], (N, H, W, C) or another form that arguments.as_images
                takes (one image, grayscale without C, a torch.Tensor); or a list of sentences.
        """
        a = self.latent(examples)
        if self.bottleneck.is_binary:
            return np.packbits(a > 0.5, axis=1) if packed else a > 0.5
        if packed:
            raise ValueError("packed=True needs bits, but the vanilla bottleneck gives floats")
        return a.astype(np.float32)

    def reconstruct(self, examples: Examples | Tensor) -> Decoded:
        """decode(encode(examples))."""
        return self.decode(self.encode(examples))

    def unpack(self, code: np.ndarray) -> np.ndarray:
        """A code in any form that encode returns, as an array (N, latent_size) of bits or numbers; ValueError otherwise."""
        return unpacked_code(code, self.latent_size, *self.bottleneck.code_range)
