"""The report's second model: one LSTM encodes a sentence as bits, another decodes it from them (section 3.2)."""
import numpy as np

from .. import backend
from ..annotations import Array, DType, Scalar, Sentences
from ..arguments import require_common
from ..batches import SentenceBatch, SentenceBatches, tokenize
from ..beam_search import beam_search
from ..bottlenecks import Bottleneck
from ..engine import choose
from ..errors import require_positive
from ..layers import BatchNorm, Dense
from ..recurrent import LSTM, SentenceDecoder, SentenceEncoder, SideBySide
from ..tokens import DECODER_TOKENS, ENCODER_TOKENS, to_sentences
from .base import Autoencoder


class Seq2SeqAutoencoder(Autoencoder):
    """characters -> encoder LSTM -> its last (h, c) -> [dense each] -> [batch norm] -> bottleneck of 2 hidden values ->
    [dense] -> initial (h, c) of the decoder LSTM -> dense -> softmax over the next character.

    In training, the decoder's input is the sentence itself, one step late (teacher forcing), and the loss is the mean
    cross-entropy over all characters and the end token. At inference, its input is its own output.

    Args:
        hidden: the code of a sentence has 2 hidden values or bits, half of them for each of the two states.
        units: of each LSTM; None for hidden, so that the code is the decoder's initial state. Any other number requires
            dense_states, and adds a dense layer after the bottleneck.
        dense_states: a dense layer on each of the two states before the bottleneck.
        code_every_step: the decoder gets the code, through a dense layer, as a bias of its gates at every step.
        reverse: the encoder reads from the end, so that it reads the first character last (Sutskever 2014, arXiv:1409.3215).
        splice: the fraction of an epoch's training sentences that are replaced by the head of one and the tail of another
            (tinyqae.data.splice_sentences), to prevent memorization.
        pad_to: None, or the length to which sentences are padded with spaces, which count as characters (see tokenize).
        max_length: the maximum number of characters that decode writes.
        beam: the default beam width of decode; 1 is greedy.
        bottleneck, normalize_latent, seed, dtype, engine: as in MLPAutoencoder.
    """

    def __init__(self, bottleneck: Bottleneck, hidden: int = 64, *, units: int | None = None, dense_states: bool = True,
                 normalize_latent: bool = False, code_every_step: bool = False, reverse: bool = False, splice: float = 0.0,
                 pad_to: int | None = None, max_length: int = 40, beam: int = 1, seed: int = 0, dtype: DType = np.float32,
                 engine: str | None = None):
        require_common(bottleneck, seed, dtype)
        self.hidden = require_positive("hidden", hidden)
        self.units = self.hidden if units is None else require_positive("units", units)
        if self.units != hidden and not dense_states:
            raise ValueError(f"units={units} and hidden={hidden} differ, which requires dense_states=True")
        self.max_length, self.beam = require_positive("max_length", max_length), require_positive("beam", beam)
        self.pad_to = None if pad_to is None else require_positive("pad_to", pad_to)
        if not 0 <= splice <= 1:
            raise ValueError(f"splice={splice!r} must be from 0 to 1")
        self.dense_states, self.normalize_latent, self.code_every_step = dense_states, normalize_latent, code_every_step
        self.reverse, self.splice, self.latent_size = reverse, splice, 2 * self.hidden
        self.engine, random, u, code = choose(engine), backend.generator(seed), self.units, (self.latent_size,)

        def layer(wanted, kind, input_shape):
            if wanted:
                kind.setup(input_shape, random, dtype)
                return self.engine.build(kind)

        self.encoder = layer(True, SentenceEncoder(LSTM(u, tokens=True)), (ENCODER_TOKENS,))
        self.dense_h = layer(dense_states, Dense(self.hidden), (u,))
        self.dense_c = layer(dense_states, Dense(self.hidden), (u,))
        self.joined = self.engine.build(SideBySide())
        self.norm = layer(normalize_latent, BatchNorm(), code)
        self.to_state = layer(u != self.hidden, Dense(2 * u), code)
        self.to_context = layer(code_every_step, Dense(4 * u), code)
        self.decoder = layer(True, SentenceDecoder(LSTM(u, tokens=True), Dense(DECODER_TOKENS)), (DECODER_TOKENS,))
        middle = (self.dense_h, self.dense_c, self.norm, self.to_state, self.to_context)
        self._assemble([*self.encoder.layers, *filter(None, middle), *self.decoder.layers], bottleneck, dtype)

    def reconstruction_loss(self, batch: SentenceBatch, training: bool = True) -> Scalar:
        """The forward pass: the mean cross-entropy of a SentenceBatch's characters, in nats."""
        code = self.bottleneck.forward(self.encoder_output(batch.tokens, batch.lengths, training), training)
        start, context = self.decoder_start(code, training)
        return self.decoder.forward(batch.inputs, batch.targets, batch.weights, start, context)

    def encoder_output(self, tokens: Array, lengths: Array | None, training: bool = False) -> Array:
        """The bottleneck's input (N, 2 hidden): the encoder's last h and c, each through its layers."""
        h, c = self.encoder.forward(tokens, lengths)
        if self.dense_states:
            h, c = self.dense_h.forward(h, training), self.dense_c.forward(c, training)
        joined = self.joined.forward(h, c)
        return self.norm.forward(joined, training) if self.norm else joined

    def decoder_start(self, code: Array, training: bool = False) -> tuple[Array, Array | None]:
        """The decoder's initial state (N, 2 units), h and c side by side, and its context (N, 4 units) or None."""
        return (self.to_state.forward(code, training) if self.to_state else code,
                self.to_context.forward(code, training) if self.to_context else None)

    def backward(self) -> None:
        """The gradients of the objective, after `loss`: from the decoder's characters back to the encoder's."""
        dcode, dcontext = self.decoder.backward()
        if self.to_state:
            dcode = self.to_state.backward(dcode)
        if self.to_context:
            dcode += self.to_context.backward(dcontext)
        djoined = self.bottleneck.backward(dcode)
        if self.norm:
            djoined = self.norm.backward(djoined)
        dh, dc = self.joined.backward(djoined)
        if self.dense_states:
            dh, dc = self.dense_h.backward(dh), self.dense_c.backward(dc)
        self.encoder.backward(dh, dc)

    def batches(self, sentences: Sentences, batch_size: int) -> SentenceBatches:
        """See Autoencoder; sentences: a list of str over the alphabet of tinyqae.tokens."""
        return SentenceBatches(sentences, batch_size, self.dtype, pad_to=self.pad_to, reverse=self.reverse,
                               splice=self.splice)

    def validate(self, sentences: Sentences) -> dict[str, float]:
        """{"val_loss": nats per character with the stored code, "val_exact": share exactly right with greedy decoding}."""
        with self.engine.working(self, self.inference_batch):
            found = [(self.reconstruction_loss(batch, training=False), batch.characters)
                     for batch in self.batches(sentences, self.inference_batch).in_order()]
        losses, characters = zip(*((float(backend.to_host(loss)), n) for loss, n in found), strict=True)
        exact = [a == b for a, b in zip(sentences, self.decode(self.encode(sentences), beam=1), strict=True)]
        return {"val_loss": float(np.average(losses, weights=characters)), "val_exact": sum(exact) / len(exact)}

    def latent(self, sentences: Sentences) -> np.ndarray:
        """The values before the threshold, (N, 2 hidden), a NumPy array. sentences: a list of str."""
        tokens, lengths, _ = tokenize(sentences, self.pad_to, self.reverse)
        values = np.empty((len(tokens), self.latent_size), self.dtype)
        with self.engine.working(self, self.inference_batch):
            for start in range(0, len(tokens), self.inference_batch):
                rows = slice(start, start + self.inference_batch)
                part = np.ascontiguousarray(tokens[rows, :int(lengths[rows].max(initial=1))].T)
                h = self.encoder_output(backend.to_device(part), backend.to_device(lengths[rows]))
                values[rows] = backend.to_host(self.bottleneck.latent(h))
        return values

    def decode(self, code: np.ndarray, beam: int | None = None) -> list[str]:
        """The sentences, a list of str, from what encode returned: bits, packed bits, or any code values of the bottleneck.

        Args:
            beam: the beam width, 1 for greedy decoding; None for the model's own `beam`.
        """
        return to_sentences(self.decode_tokens(code, beam))

    def decode_tokens(self, code: np.ndarray, beam: int | None = None) -> np.ndarray:
        """Like decode, but as tokens (N, max_length), with end tokens from the end of each sentence onwards."""
        beam, code = self.beam if beam is None else require_positive("beam", beam), self.unpack(code)
        tokens, step = np.empty((len(code), self.max_length), np.intp), max(1, self.inference_batch // beam)
        with self.engine.working(self, self.inference_batch):
            for start in range(0, len(code), step):
                part = self.bottleneck.for_decoder(backend.to_device(code[start:start + step].astype(self.dtype)))
                state, context = self.decoder_start(backend.xp.repeat(part, beam, axis=0))
                written = beam_search(self.decoder, state, context, beam, self.max_length)
                tokens[start:start + step] = backend.to_host(written)
        return tokens
