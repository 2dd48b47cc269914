"""Batches for training: every example once an epoch in a random order; tokens, padding and weights of sentences."""

import itertools

import numpy as np
import pytest
from engines import build
from hypothesis import given
from hypothesis import strategies as st

from tinyqae import backend
from tinyqae.batches import Batches, ImageBatches, SentenceBatches, as_floats, tokenize
from tinyqae.tokens import ALPHABET, END, START, to_sentences


def generator(seed=0):
    return np.random.default_rng(seed)


# ---- batches of anything --------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 50))
def test_batches_hold_every_example_once_but_for_a_last_batch_of_one(n, batch_size):
    batches = Batches(n, batch_size)
    parts = batches.indices(np.arange(n))
    assert len(parts) == len(batches) == max(1, sum(size > 1 or batch_size == 1 for size in map(len, parts)))
    left_out = 1 if n % batch_size == 1 < n and batch_size > 1 else 0
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n - left_out))
    assert all(len(part) == batch_size for part in parts[:-1])


# ---- images ---------------------------------------------------------------------------------------------------------


def bytes_images(n, seed=0):
    """Images no two of which are alike."""
    images = generator(seed).integers(0, 256, (n, 3, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return images


def float_images(n, dtype=np.float32):
    return (bytes_images(n) / 255).astype(dtype)


def copies(batches, seed=0):
    """One epoch, as the fast engine overwrites each batch by the next."""
    return [backend.to_host(batch).copy() for batch in batches.epoch(generator(seed))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_become_floats_from_0_to_1(dtype):
    floats = as_floats(np.arange(256, dtype=np.uint8), dtype)
    assert floats.dtype == dtype and floats[0] == 0 and floats[-1] == 1
    np.testing.assert_allclose(floats, np.arange(256) / 255, rtol=1e-6)


def test_floats_are_converted_and_those_of_the_right_type_kept():
    floats = float_images(5)
    assert as_floats(floats) is floats
    double = as_floats(floats, np.float64)
    assert double.dtype == np.float64
    np.testing.assert_array_equal(double, floats)
    assert as_floats(np.zeros((0, 3, 2, 1), np.float32)).shape == (0, 3, 2, 1)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 2), np.int64), TypeError, "images are int64; give bytes"),
        (np.zeros((2, 2), bool), TypeError, "images are bool"),
        (np.array([0.5, 1.5]), ValueError, r"run from 0\.5 to 1\.5; floats must be in \[0, 1\]"),
        (np.array([-0.5, 0.5]), ValueError, r"run from -0\.5 to 0\.5"),
        (np.array([np.nan, 0.5]), ValueError, "run from nan"),
    ],
    ids=["integers", "bool", "above 1", "below 0", "nan"],
)
def test_images_of_another_kind_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        as_floats(images)
    with pytest.raises(error, match=message):
        ImageBatches(images, 2, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [bytes_images, float_images])
def test_an_epoch_has_every_image_once_in_a_random_order(make, dtype, plain_engine):
    images = make(23)
    batches = build(ImageBatches(images, 5, dtype))
    first, again, second = copies(batches), copies(batches), copies(batches, seed=1)
    assert [len(batch) for batch in first] == [5, 5, 5, 5, 3] and len(batches) == 5
    joined, other = np.concatenate(first), np.concatenate(second)
    assert joined.dtype == dtype
    np.testing.assert_array_equal(joined, np.concatenate(again))
    assert (joined != other).any()
    for epoch in (joined, other):
        np.testing.assert_array_equal(epoch[epoch[:, 0, 0, 0].argsort()], as_floats(images, dtype))


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(21, 5, [5, 5, 5, 5]), (22, 5, [5, 5, 5, 5, 2]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1])],
)
def test_a_last_batch_of_one_image_is_left_out(n, batch_size, sizes, plain_engine):
    assert [len(batch) for batch in copies(build(ImageBatches(bytes_images(n), batch_size, np.float32)))] == sizes


def test_images_are_not_changed_by_an_epoch(plain_engine):
    for images in (bytes_images(9), float_images(9)):
        before = images.copy()
        copies(build(ImageBatches(images, 4, np.float32)))
        np.testing.assert_array_equal(images, before)


def test_other_images_have_another_checksum():
    images = bytes_images(9)
    one, same, other = (ImageBatches(x, 4, np.float32).checksum() for x in (images, images.copy(), images[::-1]))
    assert one == same != other


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [bytes_images, float_images])
def test_the_fast_engine_yields_the_same_batches_in_one_buffer(make, dtype, monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")
    reference = ImageBatches(make(23), 5, dtype)
    fast, before = build(reference), None
    assert type(fast) is not ImageBatches and isinstance(fast, ImageBatches)
    assert len(fast) == len(reference) and fast.checksum() == reference.checksum()
    for ours, expected in zip(fast.epoch(generator(3)), reference.epoch(generator(3)), strict=True):
        assert ours.dtype == expected.dtype == dtype
        np.testing.assert_array_equal(ours, expected)
        assert before is None or np.shares_memory(ours, before)
        before = ours


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("make", [bytes_images, float_images])
def test_both_engines_yield_the_same_batches_on_a_device_that_may_be_too_small(make, fits, device, monkeypatch):
    monkeypatch.setattr(backend, "fits", lambda size: fits)
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")
    reference = ImageBatches(make(23), 5, np.float32)
    fast = build(reference)
    assert fast.on_device == fits
    for ours, expected in zip(copies(fast), copies(reference), strict=True):
        # A device may round a product by 1/255 otherwise than the host.
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


# ---- tokens of sentences --------------------------------------------------------------------------------------------


def sentences(n, shortest=0, longest=8, seed=0):
    random = np.random.default_rng((seed, n))
    return ["".join(random.choice(list(ALPHABET), random.integers(shortest, longest + 1))) for _ in range(n)]


def in_one_batch(examples, **arguments):
    (batch,) = SentenceBatches(examples, len(examples), np.float32, **arguments).in_order()
    return batch


def test_targets_are_the_sentence_and_one_end_token():
    tokens, lengths, targets = tokenize(["ab", "", "c9z"])
    assert lengths.tolist() == [2, 0, 3]
    assert tokens.tolist() == [[1, 2, 0], [0, 0, 0], [3, 36, 26]]
    assert targets.shape == (3, 4)
    assert [row[: n + 1] for row, n in zip(targets.tolist(), lengths, strict=True)] == [[1, 2, END], [END], [3, 36, 26, END]]


def test_padded_targets_are_the_sentence_the_end_token_and_spaces():
    tokens, lengths, targets = tokenize(["ab", "", "abcd"], pad_to=4)
    assert lengths.tolist() == [4, 4, 4]
    assert tokens.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert targets.tolist() == [[1, 2, END, 0, 0, 0], [END, 0, 0, 0, 0, 0], [1, 2, 3, 4, END, 0]]


@pytest.mark.parametrize("pad_to", [None, 5])
def test_the_encoder_alone_reads_each_sentence_from_its_own_end(pad_to):
    examples = ["abc", "d", "", "wxyz"]
    tokens, lengths, targets = tokenize(examples, pad_to, reverse=True)
    for row, n, sentence in zip(tokens, lengths, examples, strict=True):
        assert to_sentences(row[None])[0][:n] == sentence.ljust(pad_to or 0)[::-1]
        assert not row[n:].any()
    np.testing.assert_array_equal(targets, tokenize(examples, pad_to)[2])


@given(st.lists(st.text(ALPHABET, max_size=9), max_size=8), st.sampled_from([None, 9, 12]), st.booleans())
def test_targets_spell_the_sentences_whatever_the_encoder_reads(examples, pad_to, reverse):
    tokens, lengths, targets = tokenize(examples, pad_to, reverse)
    assert to_sentences(targets) == examples
    assert len(tokens) == len(lengths) == len(targets) == len(examples)
    if pad_to is not None:
        assert ((targets == END).sum(axis=1) == 1).all()
        assert tokens.shape == (len(examples), pad_to) and targets.shape == (len(examples), pad_to + 2)


def test_a_sentence_longer_than_the_padding_is_refused_by_name():
    with pytest.raises(ValueError, match="'too long' has 8 characters; this model takes up to 4"):
        tokenize(["ab", "too long", "abcde"], pad_to=4)


def test_characters_outside_the_alphabet_and_what_are_not_sentences_are_refused():
    with pytest.raises(ValueError, match="sentence 1, 'Where', holds 'W'"):
        tokenize(["where", "Where"])
    with pytest.raises(TypeError, match="sentences must be a list of str"):
        tokenize("where")


# ---- batches of sentences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_to", [None, 6])
def test_the_decoder_is_given_its_targets_one_step_late(pad_to):
    batch = in_one_batch(["abc", "", "wxyz"], pad_to=pad_to)
    np.testing.assert_array_equal(batch.inputs[0], START)
    np.testing.assert_array_equal(batch.inputs[1:], batch.targets[:-1])
    np.testing.assert_allclose(batch.weights.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_is_as_long_as_its_longest_sentence_and_weighs_padding_0(dtype):
    (batch, *_) = SentenceBatches(["abc", "", "a long one"], 2, dtype).in_order()
    assert len(batch) == 2 and batch.characters == 5 and batch.lengths.tolist() == [3, 0]
    assert batch.tokens.shape == (3, 2) and batch.inputs.shape == batch.targets.shape == (4, 2)
    assert batch.weights.dtype == dtype
    np.testing.assert_allclose(batch.weights.T, [[0.2] * 4, [0.2, 0, 0, 0]], rtol=1e-6)


def test_padded_sentences_all_have_one_length_and_every_character_counts():
    batch = in_one_batch(["abc", "", "wxyz"], pad_to=6)
    assert batch.lengths is None and batch.tokens.shape == (6, 3) and batch.targets.shape == (8, 3)
    assert batch.characters == 24
    np.testing.assert_allclose(batch.weights, np.full((8, 3), 1 / 24), rtol=1e-6)


def test_an_empty_sentence_alone_gives_the_encoder_one_step_to_skip():
    batch = in_one_batch([""])
    assert batch.tokens.shape == (1, 1) and batch.lengths.tolist() == [0] and batch.targets.tolist() == [[END]]
    steps = [len(batch.tokens) for batch in SentenceBatches(["", "a", "abc"], 1, np.float32).in_order()]
    assert steps == [1, 1, 3]


def test_arrays_of_a_batch_are_time_first_and_contiguous():
    batch = in_one_batch(sentences(12), reverse=True)
    for array in (batch.tokens, batch.inputs, batch.targets, batch.weights):
        assert array.flags.c_contiguous and array.shape[1] == 12


def read_by_encoder(batch):
    """The sentences that a batch's encoder reads."""
    return [sentence[:n] for sentence, n in zip(to_sentences(batch.tokens.T), batch.lengths, strict=True)]


def test_an_epoch_has_every_sentence_once_among_others_of_any_length():
    examples = sentences(100, longest=20)
    batches = SentenceBatches(examples, 16, np.float32)
    epochs = [[read_by_encoder(batch) for batch in batches.epoch(generator(seed))] for seed in (0, 0, 1)]
    for epoch in epochs:
        assert len(epoch) == len(batches) == 7
        assert sorted(map(len, epoch)) == [4] + [16] * 6
        assert sorted(itertools.chain(*epoch)) == sorted(examples)
        assert all(len(set(map(len, batch))) > 3 for batch in epoch if len(batch) == 16)
    assert epochs[0] == epochs[1] != epochs[2]
    assert {frozenset(batch) for batch in epochs[0]} != {frozenset(batch) for batch in epochs[2]}


def test_sentences_in_order_are_in_the_order_given():
    examples = sentences(10)
    assert [s for batch in SentenceBatches(examples, 4, np.float32).in_order() for s in read_by_encoder(batch)] == examples


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (65, 32, [32, 32]),
        (66, 32, [2, 32, 32]),
        (33, 32, [32]),
        (20, 32, [20]),
        (64, 32, [32, 32]),
        (1, 32, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_sentence_is_left_out(n, batch_size, sizes):
    batches = SentenceBatches(sentences(n), batch_size, np.float32)
    assert sorted(len(batch) for batch in batches.epoch(generator())) == sizes
    assert len(batches) == len(sizes)
    assert sum(map(len, batches.in_order())) == n


def test_splicing_gives_other_sentences_each_epoch_and_the_same_from_the_same_seed():
    examples = ["tom is here", "mary sang", "i like green tea", "we were at home"] * 10
    batches = SentenceBatches(examples, 10, np.float32, splice=0.5)
    first, again, second = (
        sorted(s for batch in batches.epoch(generator(seed)) for s in read_by_encoder(batch)) for seed in (0, 0, 1)
    )
    assert first == again != second
    for epoch in (first, second):
        assert len(epoch) == 40 and 0 < sum(s not in examples for s in epoch) < 40
    assert batches.checksum() == SentenceBatches(examples, 10, np.float32).checksum()


def test_each_epoch_is_spliced_from_the_sentences_themselves_not_from_splices():
    """Each sentence repeats one letter, so that a splice has two at most."""
    examples = [letter * length for letter, length in zip("abcdefghijkl", range(4, 16), strict=True)] * 5
    batches = SentenceBatches(examples, 10, np.float32, splice=0.9)
    for seed in range(8):
        letters = [
            len(set(sentence) - {" "}) for batch in batches.epoch(generator(seed)) for sentence in read_by_encoder(batch)
        ]
        assert max(letters) == 2 and 1 in letters


def test_other_sentences_have_another_checksum():
    examples = sentences(20)
    one, same, other, joined = (
        SentenceBatches(s, 4, np.float32).checksum() for s in (examples, examples[:], examples[::-1], ["".join(examples)])
    )
    assert one == same and len({one, other, joined}) == 3
