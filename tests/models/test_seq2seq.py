"""The sentence autoencoder: gradients, PyTorch agreement, padding, codes, beam search, files, training. With both engines;
threads and memory are the fast engine's own.
"""

import itertools

import numpy as np
import pytest
from allocations import peak_of_second_call
from engines import flat, train_once

from tinyqae import SGD, Adam, Commit, Fence, Naive, Vanilla, backend, load
from tinyqae.data import synthetic_sentences
from tinyqae.errors import CheckpointError
from tinyqae.fast import kernels as fast_kernels
from tinyqae.gradcheck import check_directions
from tinyqae.history import LATENT_BINS
from tinyqae.layers import BatchNorm, Dense
from tinyqae.models.seq2seq import Seq2SeqAutoencoder
from tinyqae.recurrent import LSTM
from tinyqae.tokens import ALPHABET, DECODER_TOKENS, END, START, to_sentences
from tinyqae.train import fit

KINDS = {
    "vanilla": Vanilla,
    "linear": lambda **k: Vanilla(activation="linear", **k),
    "naive": Naive,
    "fence": lambda **k: Fence(weight=0.7, **k),
    "commit": lambda **k: Commit(weight=0.7, **k),
    "linear commit": lambda **k: Commit(weight=0.7, activation="linear", **k),
}
VARIANTS = {
    "plain": {},
    "no dense": {"dense_states": False},
    "norm": {"normalize_latent": True},
    "reverse": {"reverse": True},
    "padded": {"pad_to": 9},
    "context": {"code_every_step": True},
    "wide": {"units": 6},
    "all": {"normalize_latent": True, "reverse": True, "pad_to": 10, "code_every_step": True, "dense_states": False},
    "all ending": {"normalize_latent": True, "reverse": True, "code_every_step": True},
    "all wide": {"normalize_latent": True, "reverse": True, "code_every_step": True, "units": 5},
}
BINARY = ["naive", "fence", "commit"]


@pytest.fixture(autouse=True)
def one_blas_thread():
    """On small arrays more threads cost more than they do."""
    with backend.one_blas_thread():
        yield


@pytest.fixture
def use_threads(monkeypatch):
    """A function that sets the number of threads; the fast engine splits batches of any size. Undone after the test."""
    monkeypatch.setattr("tinyqae.fast.recurrent.THREADING_THRESHOLD", {"numba": 0, "numpy": 0})
    before = backend.threads
    yield backend.use_threads
    backend.use_threads(before)


def sentences(n, shortest=0, longest=8, seed=0):
    random = np.random.default_rng((seed, n))
    return ["".join(random.choice(list(ALPHABET), random.integers(shortest, longest + 1))) for _ in range(n)]


def small_model(kind="commit", variant="plain", *, signed=False, stir=0.5, **arguments):
    """A model whose weights are far enough from small that its gradients and sentences differ."""
    arguments = {"hidden": 4, **VARIANTS[variant], **arguments}
    model = Seq2SeqAutoencoder(KINDS[kind](signed=signed), **arguments)
    arrays = model.state_arrays()
    arrays["parameters"] += np.random.default_rng(1).normal(0, stir, arrays["parameters"].shape).astype(model.dtype)
    model.restore(arrays)
    return model


def weights(model):
    """All parameters as one vector, a copy."""
    return model.state_arrays()["parameters"]


def in_one_batch(model, examples):
    (batch,) = model.batches(examples, len(examples)).in_order()
    return batch


def solve(model, examples):
    """(loss terms, gradients as one vector) of these sentences in one batch; examples: sentences or a SentenceBatch."""
    batch = in_one_batch(model, examples) if isinstance(examples, list) else examples
    terms = train_once(model, batch)
    return {name: float(value) for name, value in terms.items()}, flat(model.gradients())


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        *(("vanilla", variant) for variant in VARIANTS),
        ("linear", "no dense"),
        ("linear", "all"),
        ("fence", "plain"),
        ("fence", "all ending"),
    ],
)
def test_gradient_of_the_whole_model(kind, variant, plain_engine):
    model = small_model(kind, variant, signed=variant == "context", dtype=np.float64)
    batch = in_one_batch(model, sentences(6))

    def total():
        return model.loss(batch)

    objective, terms = total(), dict(model.terms)
    assert objective == pytest.approx(terms["reconstruction"] + model.bottleneck.weight * terms.get(kind, 0), rel=1e-12)
    model.backward()
    # Copies, which the forward passes of the check leave alone.
    gradients = [{name: gradient.copy() for name, gradient in layer.grads.items()} for layer in model.layers]
    check_directions(total, model.parameters(), [gradient.copy() for gradient in model.gradients()], directions=5)
    # Array by array, so that none hides in the sum over all.
    for layer, gradient in zip(model.layers, gradients, strict=True):
        if model.norm and layer in (model.dense_h, model.dense_c):
            continue  # Batch norm takes away what their biases add: those gradients are 0 but for rounding.
        for name, array in layer.params.items():
            check_directions(total, array, gradient[name], directions=1, tolerance=1e-5)


def test_naive_trains_exactly_as_vanilla(plain_engine):
    (terms, gradient), (expected_terms, expected) = (solve(small_model(kind), sentences(8)) for kind in ("naive", "vanilla"))
    assert terms == expected_terms
    np.testing.assert_array_equal(gradient, expected)


def test_gradients_are_overwritten_not_added(engine):
    model, batch = small_model(variant="all ending"), sentences(8)
    np.testing.assert_array_equal(solve(model, batch)[1], solve(model, batch)[1])


# ---- PyTorch --------------------------------------------------------------------------------------------------------


class TorchModel:
    """The same model of PyTorch's own modules, by packed sequences and ignored targets; commit by the detach trick."""

    def __init__(self, torch, model):
        self.torch, self.model = torch, model
        self.dtype = getattr(torch, model.dtype.name)
        self.modules = {id(layer): self._module(layer) for layer in model.layers}

    def _module(self, layer):
        nn = self.torch.nn
        p = {name: self.torch.tensor(array) for name, array in layer.params.items()}
        if isinstance(layer, BatchNorm):
            module = nn.BatchNorm1d(layer.input_shape[-1], eps=layer.eps)
            values = {"weight": p["gamma"], "bias": p["beta"]}
        elif isinstance(layer, Dense):
            module = nn.Linear(*layer.input_shape, layer.units)
            values = {"weight": p["w"].T, "bias": p["b"]}
        else:
            # What comes after the one-hot inputs is added to the gates as it is.
            module = nn.LSTM(layer.input_shape[0] + 4 * layer.units, layer.units)
            values = {
                "weight_ih_l0": self.torch.cat([p["wx"], self.torch.eye(4 * layer.units)]).T,
                "weight_hh_l0": p["wh"].T,
                "bias_ih_l0": p["b"],
                "bias_hh_l0": 0 * p["b"],
            }
        module.to(self.dtype)
        with self.torch.no_grad():
            for name, value in values.items():
                getattr(module, name).copy_(value)
        return module

    def _inputs(self, rows, context):
        """Packed one-hot rows, each with its sentence's context beside it."""
        torch, F = self.torch, self.torch.nn.functional
        onehot = [F.one_hot(torch.tensor(row), size).to(self.dtype) for row, size in rows]
        each = [torch.cat([x, c.expand(len(x), -1)], dim=1) for x, c in zip(onehot, context, strict=True)]
        return torch.nn.utils.rnn.pack_sequence(each, enforce_sorted=False)

    def run(self, examples):
        """(loss terms, gradients as one vector, in the order of model.gradients())."""
        torch, model, modules = self.torch, self.model, self.modules
        read = [s.ljust(model.pad_to) if model.pad_to else s for s in examples]
        read = [s[::-1] if model.reverse else s for s in read]
        written = [
            [*map(ALPHABET.index, s), END] + [0] * (model.pad_to + 1 - len(s) if model.pad_to else 0) for s in examples
        ]
        no_context = torch.zeros(len(examples), 4 * model.units, dtype=self.dtype)
        packed = self._inputs([([ALPHABET.index(a) for a in s], len(ALPHABET)) for s in read], no_context)
        _, (h, c) = modules[id(model.encoder.lstm)](packed)
        states = [h[0], c[0]]
        if model.dense_states:
            states = [modules[id(model.dense_h)](h[0]), modules[id(model.dense_c)](c[0])]
        latent = torch.cat(states, dim=1)
        if model.norm:
            latent = modules[id(model.norm)](latent)
        bottleneck = model.bottleneck
        a = latent if bottleneck.activation == "linear" else torch.sigmoid(latent)
        terms, code = {}, a
        if bottleneck.kind == "fence":
            terms["fence"] = torch.minimum(a, 1 - a).mean()
        if bottleneck.kind == "commit":
            b = (a > 0.5).to(a.dtype)
            terms["commit"] = ((b - a) ** 2).mean()
            code = a + (b - a).detach()
        code = 2 * code - 1 if bottleneck.signed else code
        start = modules[id(model.to_state)](code) if model.to_state else code
        h0, c0 = start[None].split(model.units, dim=-1)
        context = modules[id(model.to_context)](code) if model.to_context else no_context
        packed = self._inputs([([START, *row[:-1]], DECODER_TOKENS) for row in written], context)
        out, _ = modules[id(model.decoder.lstm)](packed, (h0.contiguous(), c0.contiguous()))
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
        targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in written], padding_value=-100)
        logits = modules[id(model.decoder.output)](out)
        terms["reconstruction"] = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        added = sum(value for name, value in terms.items() if name != "reconstruction")
        (terms["reconstruction"] + bottleneck.weight * added).backward()
        return {name: value.item() for name, value in terms.items()}, np.concatenate(
            [self._gradient(layer, name).ravel() for layer in model.layers for name in layer.params]
        )

    def _gradient(self, layer, name):
        names = {
            "wx": "weight_ih_l0",
            "wh": "weight_hh_l0",
            "w": "weight",
            "gamma": "weight",
            "beta": "bias",
            "b": "bias_ih_l0" if isinstance(layer, LSTM) else "bias",
        }
        gradient = getattr(self.modules[id(layer)], names[name]).grad.numpy().T
        return np.ascontiguousarray(gradient[: layer.input_shape[0]] if name == "wx" else gradient)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_agree_with_torch(kind, variant, torch, plain_engine):
    model, examples = small_model(kind, variant, signed=variant == "context", dtype=np.float64), sentences(9, shortest=1)
    terms, gradient = solve(model, examples)
    expected_terms, expected = TorchModel(torch, model).run(examples)
    assert terms.keys() == expected_terms.keys()
    for name, value in terms.items():
        np.testing.assert_allclose(value, expected_terms[name], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("variant", ["plain", "all", "all ending"])
def test_float32_agrees_with_torch_and_stays_float32(variant, torch, engine):
    model, examples = small_model("commit", variant, hidden=24, stir=0.1), sentences(30, shortest=1)
    batch = in_one_batch(model, examples)
    terms = train_once(model, batch)
    arrays = [*model.parameters(), *model.gradients(), model.latent(examples), batch.weights]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    if engine == "reference" or fast_kernels.kernels() == "numpy":  # A compiled kernel returns Python's float.
        assert all(value.dtype == np.float32 for value in terms.values())
    expected_terms, expected = TorchModel(torch, model).run(examples)
    for name, value in terms.items():
        np.testing.assert_allclose(value, expected_terms[name], rtol=1e-5)
    np.testing.assert_allclose(flat(model.gradients()), expected, rtol=1e-4, atol=1e-6)


# ---- padding and order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["plain", "reverse", "context", "padded"])
def test_a_batch_is_the_weighted_mean_of_its_sentences_alone(variant, plain_engine):
    model = small_model("vanilla", variant, dtype=np.float64)
    examples = ["", "a", *sentences(6)]
    terms, gradient = solve(model, examples)
    loss = total = characters = 0
    for sentence in examples:
        batch = in_one_batch(model, [sentence])
        own_terms, own_gradient = solve(model, batch)
        assert batch.characters == (11 if variant == "padded" else len(sentence) + 1)
        loss, total = loss + batch.characters * own_terms["reconstruction"], total + batch.characters * own_gradient
        characters += batch.characters
    np.testing.assert_allclose(terms["reconstruction"], loss / characters, rtol=1e-12)
    np.testing.assert_allclose(gradient, total / characters, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("variant", ["plain", "no dense", "all ending"])
def test_what_stands_in_the_padding_does_not_matter(variant, engine):
    model, examples = small_model("commit", variant), ["", "a long one", *sentences(6)]
    batch = in_one_batch(model, examples)
    terms, gradient = solve(model, batch)
    random = np.random.default_rng(0)
    read = np.arange(len(batch.tokens))[:, None] >= batch.lengths
    written = np.arange(len(batch.targets))[:, None] > batch.lengths
    assert read.any() and written.any()
    np.testing.assert_array_equal(batch.weights == 0, written)
    batch.tokens[read] = random.integers(0, len(ALPHABET), read.sum())
    for tokens in (batch.inputs, batch.targets):
        tokens[written] = random.integers(0, DECODER_TOKENS, written.sum())
    other_terms, other_gradient = solve(model, batch)
    assert other_terms == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_within_a_batch_does_not_matter(variant, plain_engine):
    model, examples = small_model("commit", variant, dtype=np.float64), sentences(10)
    terms, gradient = solve(model, examples)
    other_terms, other_gradient = solve(model, [examples[i] for i in np.random.default_rng(0).permutation(10)])
    assert other_terms == pytest.approx(terms, rel=1e-12)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-9, atol=1e-14)


def test_smaller_batches_and_inference_between_steps_leave_no_trace(engine):
    used, fresh = small_model(variant="all ending"), small_model(variant="all ending")
    solve(used, sentences(30, longest=20))
    fresh.restore(used.state_arrays())
    for n in (7, 30, 3):
        used.reconstruct(sentences(40, seed=2))
        (terms, gradient), (expected_terms, expected) = (solve(m, sentences(n, seed=1)) for m in (used, fresh))
        assert terms == expected_terms
        np.testing.assert_array_equal(gradient, expected)


# ---- sentences that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lambda m, s: m.encode(s), lambda m, s: m.batches(s, 2), lambda m, s: m.validate(s)])
def test_a_sentence_longer_than_the_padding_is_refused_by_name(call, plain_engine):
    model = small_model(pad_to=4)
    call(model, ["abcd", ""])
    with pytest.raises(ValueError, match="'too long' has 8 characters; this model takes up to 4"):
        call(model, ["ab", "too long", "abcde"])


@pytest.mark.parametrize("call", [lambda m, s: m.encode(s), lambda m, s: m.batches(s, 2), lambda m, s: m.validate(s)])
def test_what_are_not_sentences_is_refused(call, plain_engine):
    with pytest.raises(ValueError, match="sentence 1, 'Where', holds 'W'"):
        call(small_model(), ["where", "Where"])
    with pytest.raises(TypeError, match="sentences must be a list of str"):
        call(small_model(), "where")


# ---- encode and decode ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BINARY)
def test_encode_gives_bits_and_packed_bits_hold_the_same(kind, engine):
    model, x = small_model(kind, hidden=5), sentences(20)
    bits, packed = model.encode(x), model.encode(x, packed=True)
    assert bits.dtype == np.bool_ and bits.shape == (20, 10)
    assert packed.dtype == np.uint8 and packed.shape == (20, 2)
    np.testing.assert_array_equal(bits, model.latent(x) > 0.5)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1, count=10), bits)
    assert 0 < bits.mean() < 1
    decoded = model.decode(bits)
    assert len(decoded) == 20 and len(set(decoded)) > 1
    for code in (packed, bits.astype(np.float32), bits.astype(np.int64)):
        assert model.decode(code) == decoded
    assert model.reconstruct(x) == decoded


@pytest.mark.parametrize("kind", ["vanilla", "linear"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vanilla_code_is_float32_and_cannot_be_packed(kind, dtype, plain_engine):
    model, x = small_model(kind, dtype=dtype), sentences(20)
    code = model.encode(x)
    assert code.dtype == np.float32 and code.shape == (20, 8)
    np.testing.assert_array_equal(code, model.latent(x).astype(np.float32))
    assert ((code < 0) | (code > 1)).any() == (kind == "linear")
    assert model.decode(code) == model.reconstruct(x)
    with pytest.raises(ValueError, match="packed"):
        model.encode(x, packed=True)


def talkative_model(variant="plain", **arguments):
    """A model that writes different sentences, long and short, from different codes."""
    model = small_model("commit", variant, **{"signed": True, "stir": 1, "max_length": 10, **arguments})
    model.decoder.output.params["w"] *= 4
    model.decoder.output.params["b"] *= 0.5
    model.decoder.output.params["b"][END] += 3
    return model


def codes(n, seed=0):
    return np.random.default_rng(seed).random((n, 8)) > 0.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch", [3, 500])
def test_a_sentences_code_is_the_same_in_any_company(batch, variant, engine):
    model, x = small_model("commit", variant), ["", *sentences(12)]
    solve(model, x)
    model.inference_batch = batch
    latent = model.latent(x)
    assert 0.05 < latent.std(axis=0).max()
    for i, sentence in enumerate(x):
        np.testing.assert_allclose(model.latent([sentence]), latent[[i]], atol=1e-6)
        np.testing.assert_array_equal(model.encode([sentence]), latent[[i]] > 0.5)


@pytest.mark.parametrize("variant", ["plain", "all ending"])
@pytest.mark.parametrize("batch", [3, 500])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_code_is_decoded_the_same_in_any_company(beam, batch, variant, engine):
    model, some = talkative_model(variant), codes(12)
    model.inference_batch = batch
    decoded = model.decode(some, beam)
    assert len(set(decoded)) > 5 and len(set(map(len, decoded))) > 1
    for i in range(12):
        assert model.decode(some[[i]], beam) == decoded[i : i + 1]


def test_no_sentences_and_no_codes_are_fine(plain_engine):
    for variant in VARIANTS:
        model = small_model(variant=variant)
        assert model.encode([]).shape == (0, 8) and model.encode([], packed=True).shape == (0, 1)
        assert model.decode(np.zeros((0, 8))) == []


@pytest.mark.parametrize("beam", [1, 4])
def test_decoding_ends_at_the_end_token_or_the_longest_length(beam, engine):
    model = talkative_model()
    tokens = model.decode_tokens(codes(40), beam)
    assert tokens.shape == (40, 10) and not (tokens == START).any()
    ended = (tokens == END).cumsum(axis=1) > 0
    np.testing.assert_array_equal(tokens[ended], END)
    assert 0 < ended[:, -1].sum() < 40
    assert model.decode(codes(40), beam) == to_sentences(tokens)
    for bias, length in ((1e3, 0), (-1e3, 10)):
        model.decoder.output.params["b"][END] = bias
        assert {len(sentence) for sentence in model.decode(codes(40), beam)} == {length}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (np.zeros((3, 7)), r"\(3, 7\).*\(N, 8\)"),
        (np.zeros(8), r"\(8,\)"),
        (np.zeros((3, 2), np.uint8), r"\(3, 2\)"),
        (np.full((3, 8), 2.0), r"\[0, 1\].*2\.0"),
        (np.full((3, 8), np.nan), "nan"),
        (["a sentence"], r"\(1,\)"),
    ],
    ids=["width", "one code", "packed width", "2", "nan", "sentence"],
)
def test_bad_code_is_refused(code, message, plain_engine):
    with pytest.raises(ValueError, match=message):
        small_model().decode(code)


# ---- beam search ----------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def next_log_p(model, code, written):
    """(len(written) + 1, V): the log-probabilities of every next token after a start of these tokens, step by step."""
    p, output = model.decoder.lstm.params, model.decoder.output.params
    code = np.asarray(code, np.float64)
    code = 2 * code - 1 if model.bottleneck.signed else code
    context = code @ model.to_context.params["w"] + model.to_context.params["b"] if model.to_context else 0
    (h, c), rows = np.split(code, 2), []
    for token in (START, *written):
        i, f, g, o = np.split(p["wx"][token] + h @ p["wh"] + p["b"] + context, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = h @ output["w"] + output["b"]
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.array(rows)


def score(model, code, row):
    """The log-probability of what decode_tokens wrote, up to its end token."""
    row = row[: np.argmax(row == END) + 1] if (row == END).any() else row
    return next_log_p(model, code, row[:-1])[np.arange(len(row)), row].sum()


@pytest.mark.parametrize("every_step", [False, True])
def test_a_beam_of_one_is_greedy(every_step, plain_engine):
    model = talkative_model(max_length=6, code_every_step=every_step, dtype=np.float64)
    for code, row in zip(codes(12), model.decode_tokens(codes(12), beam=1), strict=True):
        written = []
        while len(written) < 6 and END not in written:
            log_p = next_log_p(model, code, written)[-1]
            log_p[START] = -np.inf
            written.append(int(log_p.argmax()))
        assert row.tolist() == written + [END] * (6 - len(written))


def beam_search(model, code, beam):
    """The tokens that beam search finds, up to the end token, written down without regard to speed."""
    kept = [([], 0.0)]
    for _ in range(model.max_length):
        longer = [(written, s) for written, s in kept if END in written]
        for written, s in kept:
            if END not in written:
                log_p = next_log_p(model, code, written)[-1]
                longer += [([*written, v], s + log_p[v]) for v in range(DECODER_TOKENS) if v != START]
        kept = sorted(longer, key=lambda pair: -pair[1])[:beam]
    return kept[0][0]


@pytest.mark.parametrize("beam", [2, 3, 6])
def test_a_beam_keeps_the_likeliest_beginnings(beam, plain_engine):
    model = talkative_model(max_length=5, dtype=np.float64)
    model.decoder.output.params["w"] /= 4
    for code, row in zip(codes(12), model.decode_tokens(codes(12), beam), strict=True):
        expected = beam_search(model, code, beam)
        assert row.tolist() == expected + [END] * (5 - len(expected))


def test_a_model_decodes_by_its_own_beam_unless_it_is_told(plain_engine):
    model = small_model(beam=5)
    own, five, greedy = (model.decode_tokens(codes(12), beam) for beam in (None, 5, 1))
    np.testing.assert_array_equal(own, five)
    assert (own != greedy).any()
    assert model.config()["beam"] == 5


def test_a_wider_beam_finds_likelier_sentences(plain_engine):
    model = talkative_model(code_every_step=True, dtype=np.float64)
    scores = np.array(
        [
            [score(model, code, row) for code, row in zip(codes(12), model.decode_tokens(codes(12), beam), strict=True)]
            for beam in (1, 4, 40)
        ]
    )
    assert (scores[1:] >= scores[0] - 1e-9).all()
    assert (scores[2] > scores[0] + 1e-3).any()
    assert (scores[2] >= scores[1] - 1e-9).all()


@pytest.mark.parametrize("beam", [38, 100])
def test_a_beam_as_wide_as_the_choices_finds_the_likeliest_of_all_sentences(beam, plain_engine):
    model = talkative_model(max_length=2, dtype=np.float64)
    model.decoder.output.params["w"] /= 4
    different_from_greedy = 0
    for code, row, greedy in zip(codes(8), *(model.decode_tokens(codes(8), b) for b in (beam, 1)), strict=True):
        scores = {(END, END): next_log_p(model, code, [])[0, END]}
        for first in range(START):
            log_p = next_log_p(model, code, [first])
            scores |= {(first, s): log_p[0, first] + log_p[1, s] for s in range(DECODER_TOKENS) if s != START}
        best = max(scores, key=scores.get)
        assert tuple(row.tolist()) == best
        np.testing.assert_allclose(score(model, code, row), scores[best], rtol=1e-12)
        different_from_greedy += best != tuple(greedy.tolist())
    assert different_from_greedy > 0


@pytest.mark.parametrize("beam", [0, -1, 1.5])
def test_a_bad_beam_is_named(beam, plain_engine):
    with pytest.raises(ValueError, match=f"beam={beam!r}"):
        small_model().decode(np.zeros((2, 8)), beam)


# ---- validation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "fence", "commit"])
def test_validation_measures_the_stored_code(kind, plain_engine):
    model, examples = small_model(kind, dtype=np.float64, max_length=8), sentences(30)
    codes = model.latent(examples) if kind == "linear" else model.encode(examples)
    log_p = [score(model, code, np.array([*map(ALPHABET.index, s), END])) for code, s in zip(codes, examples, strict=True)]
    expected = -sum(log_p) / sum(len(s) + 1 for s in examples)
    for batch in (500, 7, 1):
        model.inference_batch = batch
        assert model.validate(examples)["val_loss"] == pytest.approx(expected, rel=1e-9)
    written = model.reconstruct(examples)
    assert model.validate(examples + written)["val_exact"] == np.mean(
        [a == b for a, b in zip(examples + written, written + model.reconstruct(written), strict=True)]
    )


def test_exact_sentences_are_counted(plain_engine):
    model = small_model()
    model.decoder.output.params["w"][...] = 0
    model.decoder.output.params["b"][END] = 1e3
    assert model.validate(["", "a", "", "b"])["val_exact"] == 0.5


# ---- files and seeds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "variant"), [*(("commit", variant) for variant in VARIANTS), ("linear", "plain"), ("fence", "plain")]
)
def test_loaded_model_is_the_saved_one(kind, variant, tmp_path, engine):
    model, x = small_model(kind, variant, signed=True, seed=5, max_length=9), sentences(20)
    for step in range(3):
        solve(model, sentences(8, seed=step))
    model.save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert type(again) is Seq2SeqAutoencoder and again.model_id() == model.model_id()
    assert again.config() == model.config() and repr(again.bottleneck) == repr(model.bottleneck)
    np.testing.assert_array_equal(again.encode(x), model.encode(x))
    assert again.reconstruct(x) == model.reconstruct(x)
    assert again.decode(again.encode(x), beam=2) == model.decode(model.encode(x), beam=2)
    (terms, gradient), (expected_terms, expected) = (solve(m, sentences(8)) for m in (again, model))
    assert terms == expected_terms
    np.testing.assert_array_equal(gradient, expected)


def test_a_file_that_describes_another_size_is_refused(tmp_path, plain_engine):
    model = small_model()
    model.hidden = 6
    model.save(tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="parameters"):
        load(tmp_path / "model.npz")


@pytest.mark.parametrize("variant", ["plain", "all"])
def test_same_seed_same_weights_other_seed_other_weights(variant, plain_engine):
    a, b, c = (small_model(variant=variant, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(weights(a), weights(b))
    assert a.model_id() == b.model_id() != c.model_id()
    double = small_model(variant=variant, seed=3, dtype=np.float64, stir=0)
    np.testing.assert_array_equal(weights(double).astype(np.float32), weights(small_model(variant=variant, seed=3, stir=0)))


def test_sizes_of_the_reports_model(plain_engine):
    u = 64
    with_denses, without = (Seq2SeqAutoencoder(Commit(), hidden=u, dense_states=dense) for dense in (True, False))
    assert with_denses.latent_size == 128
    assert weights(without).size == (37 + u + 1) * 4 * u + (39 + u + 1) * 4 * u + (u + 1) * 39
    assert weights(with_denses).size == weights(without).size + 2 * (u + 1) * u


def test_units_beside_the_codes_size(plain_engine):
    wide, w, u = Seq2SeqAutoencoder(Commit(), hidden=32, units=96), 96, 32
    assert wide.encode(["a sentence"]).shape == (1, 2 * u)
    lstms, output = (37 + w + 1) * 4 * w + (39 + w + 1) * 4 * w, (w + 1) * 39
    assert weights(wide).size == lstms + output + 2 * (w + 1) * u + (2 * u + 1) * 2 * w
    same = Seq2SeqAutoencoder(Commit(), hidden=32, units=32)
    assert weights(same).size == weights(Seq2SeqAutoencoder(Commit(), hidden=32)).size


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden": 0}, ValueError, "hidden=0"),
        ({"hidden": 2.5}, ValueError, "hidden=2.5"),
        ({"hidden": "64"}, ValueError, "hidden='64'"),
        ({"max_length": 0}, ValueError, "max_length=0"),
        ({"max_length": None}, ValueError, "max_length=None"),
        ({"pad_to": 0}, ValueError, "pad_to=0"),
        ({"pad_to": -3}, ValueError, "pad_to=-3"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"beam": 0}, ValueError, "beam=0"),
        ({"dtype": np.float16}, ValueError, "dtype='float16' must be float32 or float64"),
        ({"dtype": ",float32"}, ValueError, "dtype=',float32' must be float32 or float64"),
        ({"bottleneck": "commit"}, TypeError, "bottleneck='commit' must be a bottleneck object"),
        ({"bottleneck": Commit}, TypeError, "bottleneck=.*Commit.*must be a bottleneck object"),
        ({"hidden": (4, 5)}, ValueError, r"hidden=\(4, 5\)"),
        ({"units": 0}, ValueError, "units=0"),
        ({"hidden": 4, "units": 5, "dense_states": False}, ValueError, "units=5 and hidden=4 differ.*dense_states=True"),
    ],
    ids=str,
)
def test_bad_model_argument_is_named(arguments, error, message, plain_engine):
    with pytest.raises(error, match=message):
        Seq2SeqAutoencoder(**{"bottleneck": Commit(), **arguments})


# ---- training -------------------------------------------------------------------------------------------------------


def train(model, examples, optimizer=None, **arguments):
    return fit(model, examples, optimizer or Adam(1e-2), progress=False, **{"epochs": 4, "batch_size": 16, **arguments})


@pytest.mark.parametrize("variant", ["plain", "all ending", "padded"])
def test_training_lowers_the_loss(variant, engine):
    pad_to = {"pad_to": 24} if variant == "padded" else {}
    model = small_model("commit", variant, stir=0, hidden=16, **pad_to)
    rows = train(model, list(synthetic_sentences(200).sentences), Adam(0.02), epochs=3).rows
    assert rows[2]["reconstruction"] < rows[1]["reconstruction"] < rows[0]["reconstruction"] < np.log(39)
    assert rows[2]["reconstruction"] < 2.9


def test_a_model_can_memorize_a_few_sentences(plain_engine):
    examples = ["tom is here", "mary sang", "no", "i like green tea"]
    model = Seq2SeqAutoencoder(Commit(signed=True), 16, normalize_latent=True, code_every_step=True)
    train(model, examples, Adam(0.03), epochs=240, clip_norm=1.0)
    assert model.validate(examples)["val_exact"] == 1
    assert model.decode(model.encode(examples, packed=True), beam=3) == examples


def test_history_has_the_loss_terms_the_validation_and_every_latent_value(plain_engine):
    history = train(small_model(), sentences(40), validation=sentences(9, seed=1), epochs=2)
    for row in history.rows:
        assert list(row) == ["epoch", "lr", "reconstruction", "commit", "seconds", "val_loss", "val_exact"]
        assert all(np.isfinite(value) for value in row.values())
    assert [epoch for epoch, _ in history.latents] == [0, 1, 2]
    for _, counts in history.latents:
        assert len(counts) == LATENT_BINS and sum(counts) == 9 * 8


@pytest.mark.parametrize("variant", ["plain", "all ending"])
@pytest.mark.parametrize("kind", ["naive", "commit"])
def test_same_seed_same_training_bitwise_other_seed_another(kind, variant, engine):
    ids = []
    for seed, validation in ((5, None), (5, sentences(9)), (6, None)):
        model = small_model(kind, variant)
        model.bottleneck.noise = 0.2
        train(model, sentences(40), seed=seed, validation=validation, epochs=2)
        ids.append(model.model_id())
    assert ids[0] == ids[1] != ids[2]


class Stop(Exception):
    """Ends a run as Ctrl-C would."""


@pytest.mark.parametrize("make_optimizer", [lambda: Adam(1e-2), lambda: SGD(0.1, momentum=0.9)])
@pytest.mark.parametrize("threads", [1, 2])
def test_resumed_run_ends_at_the_very_same_weights(threads, make_optimizer, use_threads, tmp_path, monkeypatch, engine):
    use_threads(threads)
    examples, arguments = sentences(40), {"schedule": "cosine", "clip_norm": 0.5, "validation": sentences(9), "seed": 3}
    whole, begun, resumed = (small_model("commit", "all ending") for _ in range(3))
    expected = train(whole, examples, make_optimizer(), **arguments)
    original, steps = begun.loss, itertools.count()

    def until_the_middle_of_the_third_epoch(batch):
        if next(steps) == 7:
            raise Stop
        return original(batch)

    monkeypatch.setattr(begun, "loss", until_the_middle_of_the_third_epoch)
    arguments |= {"checkpoint": tmp_path / "c.npz"}
    with pytest.raises(Stop):
        train(begun, examples, make_optimizer(), **arguments)
    history = train(resumed, examples, make_optimizer(), resume=True, **arguments)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert resumed.model_id() == whole.model_id() and history.latents == expected.latents
    with pytest.raises(CheckpointError, match="checksum of the examples"):
        train(small_model("commit", "all ending"), examples[::-1], make_optimizer(), resume=True, **arguments)


def test_batches_of_one_work_without_batch_norm_and_are_refused_with_it(plain_engine):
    assert len(train(small_model(), sentences(3), batch_size=1, epochs=2).rows) == 2
    with pytest.raises(ValueError, match="batch norm in training needs at least 2"):
        train(small_model(variant="norm"), sentences(3), batch_size=1)


@pytest.mark.parametrize(
    ("examples", "error", "message"),
    [
        ([], ValueError, "examples is empty"),
        (["fine", "Not fine"], ValueError, "'Not fine', holds 'N'"),
        ("a string", TypeError, "list of str"),
        (np.zeros((3, 4)), TypeError, "list of str"),
        (["short", "far too long"], ValueError, "'far too long' has 12 characters; this model takes up to 9"),
    ],
    ids=["empty", "alphabet", "string", "array", "long"],
)
def test_bad_examples_are_named(examples, error, message, plain_engine):
    with pytest.raises(error, match=message):
        train(small_model(variant="padded"), examples)


# ---- threads and memory of the fast engine --------------------------------------------------------------------------


@pytest.fixture
def fast_engine(monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("variant", ["plain", "all", "all ending"])
def test_threads_give_the_gradients_of_one(variant, threads, use_threads, kernels, fast_engine):
    dtype = np.float64 if kernels == "numpy" else np.float32
    model, examples = small_model("commit", variant, dtype=dtype), sorted(sentences(10), key=len)
    use_threads(1)
    terms, gradient = solve(model, examples)
    use_threads(threads)
    batch = in_one_batch(model, examples)
    for _ in range(2):
        other_terms, other_gradient = solve(model, batch)
        assert len(model.encoder.slices) == len(model.decoder.slices) == threads and len(batch) == 10
        tolerance, atol = (1e-10, 1e-12) if dtype == np.float64 else (1e-5, 1e-6)
        assert other_terms == pytest.approx(terms, rel=tolerance)
        np.testing.assert_allclose(other_gradient, gradient, rtol=tolerance, atol=atol)


def test_threads_see_new_parameters_and_batches_of_one_sentence_still_work(use_threads, fast_engine):
    model, expected = small_model("vanilla", dtype=np.float64), small_model("vanilla", dtype=np.float64)
    for n in (9, 1, 2, 6):
        for changed in (model, expected):
            for array in changed.parameters():
                array += 0.01
        use_threads(2)
        gradient = solve(model, sentences(n))[1]
        assert len(model.encoder.slices) == len(model.decoder.slices) == min(n, 2)
        use_threads(1)
        np.testing.assert_allclose(gradient, solve(expected, sentences(n))[1], rtol=1e-9, atol=1e-14)


def test_a_small_batch_is_not_split(kernels, fast_engine):
    before = backend.threads
    backend.use_threads(2)
    try:
        for model, n, parts in ((small_model(), 10, 1), (Seq2SeqAutoencoder(Commit(), hidden=64), 100, 2)):
            solve(model, sentences(n))
            assert len(model.encoder.slices) == len(model.decoder.slices) == parts
    finally:
        backend.use_threads(before)


@pytest.mark.parametrize(("variant", "threads"), [("plain", 1), ("all", 1), ("all ending", 2), ("all wide", 1)])
def test_a_fast_training_step_allocates_no_array_after_the_first(variant, threads, use_threads, kernels, fast_engine):
    use_threads(threads)
    model, optimizer = small_model("commit", variant, hidden=64, stir=0), Adam()
    if model.pad_to:
        model.pad_to = 3
    batch = in_one_batch(model, sentences(2048 * threads, longest=3))

    def step():
        train_once(model, batch)
        optimizer.step(model)

    with backend.one_blas_thread():  # use_threads has set another number.
        step()
        peak = peak_of_second_call(step)
    assert len(model.encoder.slices) == threads
    # NumPy's own buffers, in each thread; the states of a thread's part alone take 524,288 bytes.
    assert peak < 250_000 * threads


def test_parameters_and_gradients_stay_views_of_one_vector(fast_engine):
    model, optimizer = small_model(variant="all"), Adam()
    solve(model, sentences(8))
    optimizer.step(model)
    (parameters,), (gradients,) = model.parameters(), model.gradients()
    for layer in model.layers:
        for name in layer.params:
            assert np.shares_memory(layer.params[name], parameters)
            assert np.shares_memory(layer.grads[name], gradients)
    assert sum(layer.params[name].size for layer in model.layers for name in layer.params) == parameters.size
