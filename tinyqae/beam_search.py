"""Beam search for the most likely sentence that a decoder can write from its initial state."""

from . import backend
from .annotations import Array
from .recurrent import SentenceDecoder
from .tokens import END, START


def beam_search(decoder: SentenceDecoder, state: Array, context: Array | None, beam: int, max_length: int) -> Array:
    """Tokens (N, max_length), with end tokens from the end of each sentence onwards. Graves 2012, arXiv:1211.3711.

    The `beam` candidates of each code are in consecutive rows; one that has ended continues with end tokens at no cost.
    With beam = 1 this is greedy decoding.

    Args:
        decoder: a SentenceDecoder.
        state: its initial h and c side by side, (N beam, 2 units), equal for the candidates of a code.
        context: (N beam, 4 units) or None.
    """
    xp = backend.xp
    rows, n, units = len(state), len(state) // beam, state.shape[1] // 2
    h, c = state[:, :units], state[:, units:]
    written, last = xp.full((rows, max_length), END), xp.full(rows, START)
    # At first all candidates of a code are the same.
    score = xp.full((n, beam), -xp.inf, state.dtype)
    score[:, 0] = 0
    for t in range(max_length):
        log_p, h, c = decoder.step(last, h, c, context)
        vocabulary = log_p.shape[1]
        log_p[:, START] = -xp.inf
        if t > 0:
            ended = last == END
            xp.copyto(log_p, -xp.inf, where=ended[:, None])
            xp.copyto(log_p[:, END], 0, where=ended)
        totals = (score[:, :, None] + log_p.reshape(n, beam, -1)).reshape(n, -1)
        best = totals.argmax(axis=1)[:, None] if beam == 1 else xp.argsort(-totals, axis=1)[:, :beam]
        score = xp.take_along_axis(totals, best, axis=1)
        parent = (xp.arange(n)[:, None] * beam + best // vocabulary).ravel()
        last = (best % vocabulary).ravel()
        written, h, c = written[parent], h[parent], c[parent]
        written[:, t] = last
        # The most likely candidate of each code comes first, and no other can overtake one that has ended.
        if bool(backend.to_host((last[::beam] == END).all())):
            break
    return written[::beam]
