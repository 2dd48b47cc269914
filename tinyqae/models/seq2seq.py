"""The report's second model: an LSTM reads a sentence into bits, another one writes it again from them (section 3.2)."""
import numpy as np

from .. import backend, fused, losses
from ..layers import BatchNorm, Dense
from ..recurrent import LSTM, replica
from ..symbols import DECODER_SYMBOLS, ENCODER_SYMBOLS, END, SPACE, START, to_sentences, to_symbols
from .base import Autoencoder, positive_integers, require_common
from .sentence_batches import SentenceBatches


class Seq2SeqAutoencoder(Autoencoder):
    """characters -> encoder LSTM -> its last (h, c) -> [dense each] -> [batch norm] -> bottleneck of 2 hidden values ->
    [dense] -> initial (h, c) of the decoder LSTM -> dense -> softmax over the next character.

    In training the decoder is given the sentence itself, one step late (teacher forcing), and the loss is the mean
    cross-entropy of all characters and of the end symbol. In use it is given what it wrote.

    bottleneck: an object of tinyqae.bottleneck, such as Commit(weight=0.1).
    hidden: the code of a sentence has 2 hidden values or bits, half of them for each of the two states.
    units: of each LSTM; None: hidden, and the code is the decoder's initial state. Another number takes dense_states, and
    a dense layer behind the bottleneck as well.
    dense_states: a dense layer on each of the two states before the bottleneck.
    normalize_latent: batch norm before the bottleneck, as in MLPAutoencoder.
    code_every_step: the decoder sees the code, through a dense layer, as a bias of its gates at every step, and need not
    keep it in its state.
    reverse: the encoder reads from the end, so that what the decoder must write first is what was read last
    (Sutskever, Vinyals and Le 2014, arXiv:1409.3215).
    splice: the share of an epoch's training sentences that are replaced by the head of one and the tail of another
    (tinyqae.data.splice_sentences), against learning by heart.
    pad_to: None: a sentence ends where it ends. A number: every sentence is filled up to this many characters with
    spaces, which count as characters, as in the report's code; longer sentences are refused.
    max_length: the most characters that decode writes.
    beam: how many sentences decode keeps in the running unless it is told; 1 is greedy.
    seed: of the initial weights. dtype: float32, or float64 for gradient checks.
    """

    splits_batches = True

    def __init__(self, bottleneck, hidden=64, *, units=None, dense_states=True, normalize_latent=False,
                 code_every_step=False, reverse=False, splice=0.0, pad_to=None, max_length=40, beam=1, seed=0,
                 dtype=np.float32):
        require_common(bottleneck, seed, dtype)
        hidden = _positive_integer("hidden", hidden)
        units = hidden if units is None else _positive_integer("units", units)
        if units != hidden and not dense_states:
            raise ValueError(f"units={units} and hidden={hidden} differ, which takes dense_states=True")
        max_length = _positive_integer("max_length", max_length)
        self.beam = _positive_integer("beam", beam)
        if pad_to is not None:
            pad_to = _positive_integer("pad_to", pad_to)
        if not 0 <= splice <= 1:
            raise ValueError(f"splice={splice!r} must be from 0 to 1")
        self.splice = splice
        self.hidden, self.units = hidden, units
        self.dense_states, self.normalize_latent = dense_states, normalize_latent
        self.code_every_step, self.reverse = code_every_step, reverse
        self.pad_to, self.max_length, self.latent_size = pad_to, max_length, 2 * hidden
        random, dtype = backend.generator(seed), np.dtype(dtype)
        self.encoder, self.decoder = LSTM(units, symbols=True), LSTM(units, symbols=True)
        self.denses = (Dense(hidden), Dense(hidden)) if dense_states else ()
        self.norm = BatchNorm() if normalize_latent else None
        self.to_state = Dense(2 * units) if units != hidden else None
        self.to_context = Dense(4 * units) if code_every_step else None
        self.output = Dense(DECODER_SYMBOLS)
        self.encoder.setup((ENCODER_SYMBOLS,), random, dtype)
        for dense in self.denses:
            dense.setup((units,), random, dtype)
        if self.norm:
            self.norm.setup((2 * hidden,), random, dtype)
        for dense in (self.to_state, self.to_context):
            if dense:
                dense.setup((2 * hidden,), random, dtype)
        self.decoder.setup((DECODER_SYMBOLS,), random, dtype)
        self.output.setup((units,), random, dtype)
        middle = [layer for layer in (*self.denses, self.norm, self.to_state, self.to_context) if layer]
        self._adopt([self.encoder, *middle, self.decoder, self.output], bottleneck, dtype)
        self._threads = [_Thread(self.encoder, self.decoder, self.output)]
        self._capacity = 0

    def config(self):
        """The constructor's arguments but for the bottleneck, for saving."""
        return {"hidden": self.hidden, "units": self.units, "dense_states": self.dense_states,
                "normalize_latent": self.normalize_latent, "code_every_step": self.code_every_step, "reverse": self.reverse,
                "splice": self.splice, "pad_to": self.pad_to, "max_length": self.max_length, "beam": self.beam,
                "dtype": self.dtype.name}

    # ---- the training step --------------------------------------------------------------------------------------

    def loss_and_gradients(self, batch):
        """One whole pass, forward and backward, over a Batch. Returns the loss terms, each without its weight:
        {"reconstruction": cross-entropy in nats a character, and "fence" or "commit" where the bottleneck adds one}.

        A batch's parts go through the LSTMs side by side, one thread each; all of it meets in the bottleneck.
        """
        reconstruction = self.forward(batch, training=True)
        self._each(batch, lambda thread, part: thread.backward_decoder(part))
        dcode = self._dstart[:len(batch)]
        for thread, part in zip(self._threads, batch.parts, strict=False):
            dcode[part.rows, :self.units] = thread.decoder.dh0
            dcode[part.rows, self.units:] = thread.decoder.dc0
            if self.to_context:
                self._dcontext[part.rows] = thread.decoder.dcontext
        if self.to_state:
            dcode = self.to_state.backward(dcode)
        if self.to_context:
            backend.xp.add(dcode, self.to_context.backward(self._dcontext[:len(batch)]), out=dcode)
        dh, dc = self._backward_states(self.bottleneck.backward(dcode))
        self._each(batch, lambda thread, part: thread.encoder.backward(None, dh[part.rows], dc[part.rows]))
        for thread in self._threads[1:len(batch.parts)]:
            for original, own in zip(self._threads[0].layers, thread.layers, strict=True):
                for name, gradient in original.grads.items():
                    backend.xp.add(gradient, own.grads[name], out=gradient)
        terms = {"reconstruction": reconstruction}
        if self.bottleneck.loss_name:
            terms[self.bottleneck.loss_name] = self.bottleneck.extra_loss
        return terms

    def forward(self, batch, training=True):
        """The mean cross-entropy of a Batch's characters, in nats. Outside training the code is the stored one."""
        for _ in range(len(self._threads), len(batch.parts)):
            self._threads.append(self._threads[0].replica())
        self._each(batch, lambda thread, part: thread.encoder.forward(part.symbols, part.lengths))
        h, c = self._states(len(batch))
        for thread, part in zip(self._threads, batch.parts, strict=False):
            h[part.rows], c[part.rows] = thread.encoder.h_last, thread.encoder.c_last
        code = self.bottleneck.forward(self._latent_of(h, c, training), training)
        start, context = self._start_of(code, training)
        self._each(batch, lambda thread, part: thread.forward_decoder(part, start, context))
        return sum(thread.loss for thread in self._threads[:len(batch.parts)])

    def _each(self, batch, work):
        """work(thread, part) for every part of the batch, side by side."""
        if len(batch.parts) == 1:
            work(self._threads[0], batch.parts[0])
        else:
            backend.split_work(lambda i: work(self._threads[i], batch.parts[i]), len(batch.parts))

    def _states(self, n):
        """Room for the encoder's last states, two arrays (n, units)."""
        if n > self._capacity:
            self._capacity = n
            empty, u, half = backend.xp.empty, self.units, self.hidden
            self._last, self._dlast = empty((2, n, u), self.dtype), empty((2, n, half), self.dtype)
            self._joined, self._dstart = empty((n, 2 * half), self.dtype), empty((n, 2 * u), self.dtype)
            self._dcontext = empty((n, 4 * u), self.dtype) if self.to_context else None
        return self._last[:, :n]

    def _latent_of(self, h, c, training):
        """The encoder's last states (n, units) -> the bottleneck's input (n, 2 hidden)."""
        if self.denses:
            h, c = (dense.forward(state, training) for dense, state in zip(self.denses, (h, c), strict=True))
        joined, u = self._joined[:len(h)], self.hidden
        joined[:, :u], joined[:, u:] = h, c
        return self.norm.forward(joined, training) if self.norm else joined

    def _backward_states(self, djoined):
        """The gradients at the encoder's last states, two arrays (n, units), from the one at the bottleneck's input."""
        if self.norm:
            djoined = self.norm.backward(djoined)
        u, dlast = self.hidden, self._dlast[:, :len(djoined)]
        dlast[0], dlast[1] = djoined[:, :u], djoined[:, u:]
        if self.denses:
            return [dense.backward(d) for dense, d in zip(self.denses, dlast, strict=True)]
        return dlast

    def _start_of(self, code, training):
        """What the decoder LSTM starts from, (n, 2 units), h and c side by side, and its context (n, 4 units) or None."""
        return (self.to_state.forward(code, training) if self.to_state else code,
                self.to_context.forward(code, training) if self.to_context else None)

    # ---- what fit needs -----------------------------------------------------------------------------------------

    def batches(self, sentences, batch_size):
        """See Autoencoder; sentences: a list of str over the alphabet of tinyqae.symbols."""
        return SentenceBatches(self, sentences, batch_size)

    def validate(self, sentences):
        """{"val_loss": cross-entropy in nats a character with the stored code, "val_exact": the share of sentences that
        come back exactly, decoded greedily}.
        """
        batches = SentenceBatches(self, sentences, self.inference_batch)
        losses, characters = [], []
        with self.working(self.inference_batch):
            for batch in batches.in_order():
                losses.append(self.forward(batch, training=False))
                characters.append(batch.characters)
        # Read after the last batch, so that no batch waits for the one before.
        loss = np.average([float(backend.to_host(loss)) for loss in losses], weights=characters)
        exact = [a == b for a, b in zip(sentences, self.decode(self.encode(sentences), beam=1), strict=True)]
        return {"val_loss": float(loss), "val_exact": sum(exact) / len(exact)}

    def prepare(self, sentences):
        """(symbols (N, T) as the encoder reads them, lengths (N,), targets (N, T') of the decoder), NumPy arrays.

        ValueError for a character outside the alphabet, and with pad_to for a longer sentence.
        """
        symbols, lengths = to_symbols(sentences)
        n, steps = symbols.shape
        if self.pad_to is not None:
            if steps > self.pad_to:
                longest = max(sentences, key=len)
                raise ValueError(f"{longest!r} has {len(longest)} characters; this model takes up to {self.pad_to}")
            symbols = np.pad(symbols, ((0, 0), (0, self.pad_to - steps)), constant_values=SPACE)
        after = END if self.pad_to is None else SPACE
        # The report's decoder writes a space more than the longest sentence and its end symbol.
        targets = np.pad(symbols, ((0, 0), (0, 1 if self.pad_to is None else 2)), constant_values=SPACE)
        places = np.arange(targets.shape[1])
        targets[places > lengths[:, None]] = after
        targets[np.arange(n), lengths] = END
        if self.pad_to is not None:
            lengths = np.full_like(lengths, self.pad_to)
        if self.reverse:
            places = np.arange(symbols.shape[1])
            symbols = np.take_along_axis(symbols, np.where(places < lengths[:, None], lengths[:, None] - 1 - places, places),
                                         axis=1)
        return symbols, lengths, targets

    # ---- using a trained model ----------------------------------------------------------------------------------

    def latent(self, sentences):
        """The values before the threshold, (N, 2 hidden), as a NumPy array. sentences: a list of str."""
        symbols, lengths, _ = self.prepare(sentences)
        values = np.empty((len(symbols), self.latent_size), self.dtype)
        with self.working(self.inference_batch):
            for start in range(0, len(symbols), self.inference_batch):
                rows = slice(start, start + self.inference_batch)
                steps = int(lengths[rows].max(initial=1))
                part = backend.to_device(np.ascontiguousarray(symbols[rows, :steps].T))
                self.encoder.forward(part, backend.to_device(lengths[rows]))
                h, c = self._states(part.shape[1])
                h[...], c[...] = self.encoder.h_last, self.encoder.c_last
                values[rows] = backend.to_host(self.bottleneck.latent(self._latent_of(h, c, training=False)))
        return values

    def decode(self, code, beam=None):
        """The sentences, a list of str, from what encode gave: bits, packed bits, or any code values of the bottleneck.

        beam: 1 writes the likeliest next character each time (greedy); a larger number keeps that many sentences in the
        running and returns the likeliest, at as many times the cost; None takes the model's own `beam`.
        """
        return to_sentences(self.decode_symbols(code, beam))

    def decode_symbols(self, code, beam=None):
        """As decode, but the symbols as they come: (N, max_length), with end symbols from the sentence's end on."""
        beam = self.beam if beam is None else _positive_integer("beam", beam)
        code = self._unpacked(code)
        symbols = np.empty((len(code), self.max_length), np.intp)
        step = max(1, self.inference_batch // beam)
        with self.working(self.inference_batch):
            for start in range(0, len(code), step):
                part = backend.to_device(code[start:start + step].astype(self.dtype))
                written = self._write(self.bottleneck.for_decoder(part, part), beam)
                symbols[start:start + len(part)] = backend.to_host(written)
        return symbols

    def _write(self, code, beam):
        """Symbols (n, max_length) from codes as the decoder sees them, by beam search (Graves 2012, arXiv:1211.3711).

        `beam` sentences of each code stand in rows one after another; a sentence that has ended goes on with end symbols
        at no cost. With one sentence each this is greedy decoding.
        """
        xp, u, n = backend.xp, self.units, len(code)
        start, context = self._start_of(xp.repeat(code, beam, axis=0), training=False)
        h, c = start[:, :u], start[:, u:]
        written = xp.full((n * beam, self.max_length), END)
        last = xp.full(n * beam, START)
        # At first all of a code's sentences are one and the same.
        score = xp.full((n, beam), -xp.inf, self.dtype)
        score[:, 0] = 0
        for t in range(self.max_length):
            self.decoder.forward(last[None], None, h, c, context)
            logits = self.output.forward(self.decoder.h_last, training=False)
            log_p = logits - xp.log(xp.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
            log_p -= logits.max(axis=1, keepdims=True)
            log_p[:, START] = -xp.inf
            if t > 0:
                ended = last == END
                xp.copyto(log_p, -xp.inf, where=ended[:, None])
                xp.copyto(log_p[:, END], 0, where=ended)
            totals = (score[:, :, None] + log_p.reshape(n, beam, -1)).reshape(n, -1)
            best = totals.argmax(axis=1)[:, None] if beam == 1 else xp.argsort(-totals, axis=1)[:, :beam]
            score = xp.take_along_axis(totals, best, axis=1)
            rows = (xp.arange(n)[:, None] * beam + best // DECODER_SYMBOLS).ravel()
            last = (best % DECODER_SYMBOLS).ravel()
            written, h, c = written[rows], self.decoder.h_last[rows], self.decoder.c_last[rows]
            written[:, t] = last
            # The likeliest sentence of each code comes first, and no other can overtake one that has ended.
            if backend.name == "numpy" and (last[::beam] == END).all():
                break
        return written[::beam]


def _positive_integer(argument, value):
    """`value` as an int; ValueError unless it is one whole number above 0."""
    if isinstance(value, list | tuple | np.ndarray):
        raise ValueError(f"{argument}={value!r} must be one whole number above 0")
    return positive_integers(argument, value)[0]


class _Thread:
    """The layers that work on one part of a batch, and what they need beside."""

    def __init__(self, encoder, decoder, output):
        self.encoder, self.decoder, self.output = encoder, decoder, output
        self.layers = encoder, decoder, output
        self.capacity = 0

    def replica(self):
        """The same weights, for another thread."""
        return _Thread(*map(replica, self.layers))

    def forward_decoder(self, part, start, context):
        """`loss` and its gradient at the logits, by teacher forcing; start (n, 2 units), the decoder's initial h and c side
        by side, and context (n, 4 units) or None: the whole batch's.
        """
        u, rows = self.decoder.units, part.inputs.size
        if rows > self.capacity:
            self.capacity = rows
            self.dlogits = backend.xp.empty((rows, DECODER_SYMBOLS), self.decoder.dtype)
            self.scratch = losses.CrossEntropyScratch(rows, DECODER_SYMBOLS, self.decoder.dtype)
        h = self.decoder.forward(part.inputs, None, start[part.rows, :u], start[part.rows, u:],
                                 None if context is None else context[part.rows])
        logits = self.output.forward(h.reshape(rows, u))
        cross_entropy = fused.choose(losses.cross_entropy_with_logits, self.decoder.dtype)
        self.loss = cross_entropy(logits, part.targets.reshape(-1), part.weights.reshape(-1), self.scratch,
                                  self.dlogits[:rows])

    def backward_decoder(self, part):
        """The gradients of the decoder and of its initial state."""
        dh = self.output.backward(self.dlogits[:part.inputs.size])
        self.decoder.backward(dh.reshape(*part.inputs.shape, -1))
