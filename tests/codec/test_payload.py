"""Bits to bytes and back: exactly, never larger than packed, smaller where bits can be foreseen, and damage is noticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.codec import CODED, PACKED, decode_bits, encode_bits, parents, payload
from tinyqae.codec.payload import LARGEST_BLOCK, MAX_CODE_SIZE, MAX_CODED_BITS
from tinyqae.errors import CodecError, TinyqaeError
from tinyqae.metrics.rate import bit_entropy

SHAPES = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6)))


def random_bits(count, size, probability, seed=0):
    return np.random.default_rng(seed).random((count, size)) < probability


def round_trip(bits, shape):
    """The method and payload, after asserting what holds of all."""
    method, payload = encode_bits(bits, shape)
    assert len(payload) <= -(-bits.size // 8)
    decoded = decode_bits(payload, method, len(bits), shape)
    assert decoded.dtype == np.bool_ and decoded.shape == bits.shape
    assert (decoded == bits).all()
    return method, payload


@settings(deadline=None)
@given(st.data(), SHAPES, st.integers(0, 130), st.sampled_from([0, 0.01, 0.2, 0.5, 1]))
def test_round_trip(data, shape, count, probability):
    bits = random_bits(count, int(np.prod(shape)), probability, data.draw(st.integers(0, 99)))
    if data.draw(st.booleans(), "every second bit repeats the one before"):
        bits[:, 1::2] = bits[:, 0 : bits.shape[1] // 2 * 2 : 2]
    round_trip(bits, shape)


@pytest.mark.parametrize("count", [2**k + d for k in (5, 10, 11) for d in (-1, 0, 1)] + [3 * LARGEST_BLOCK + 1])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 2)])
def test_round_trip_at_the_edges_of_blocks(count, shape):
    method, _ = round_trip(random_bits(count, int(np.prod(shape)), 0.03), shape)
    assert method == CODED


@pytest.mark.parametrize("shape", [(1,), (50,), (4, 4, 16), (1, 1, 1)])
def test_small_batches_do_not_cost_more_than_their_bits(shape):
    size = int(np.prod(shape))
    for probability in (0, 0.5, 1):
        assert round_trip(np.zeros((0, size), bool), shape) == (PACKED, b"")
        method, payload = round_trip(random_bits(1, size, probability), shape)
        assert len(payload) <= -(-size // 8)


def test_packed_bits_are_one_stream_without_gaps():
    bits = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], bool)
    assert encode_bits(bits, (3,)) == (PACKED, bytes([0b10111000, 0b10000000]))


def test_bits_that_cannot_be_foreseen_are_packed():
    assert encode_bits(random_bits(2000, 20, 0.5), (20,))[0] == PACKED


@pytest.mark.parametrize("shape", [(50,), (2, 5, 5)])
def test_skewed_bits_take_their_entropy(shape):
    # Channels have probabilities of their own, alike at all places.
    channels = shape[-1]
    probability = np.tile(np.linspace(0.02, 0.98, channels), 50 // channels)
    bits = random_bits(4000, 50, probability)
    entropy = bits.size * bit_entropy(bits.reshape(-1, channels)).mean()
    method, payload = round_trip(bits, shape)
    assert method == CODED
    # Krichevsky-Trofimov: log2(n) / 2 bits a count more; blocks, the parents' numbers (3 bits), checksum and last words.
    assert entropy < 8 * len(payload) < entropy + channels * (0.5 * np.log2(bits.size / channels) + 8) + 128


def test_bits_that_follow_from_others_cost_almost_nothing():
    source = random_bits(4000, 10, 0.5)
    bits = np.concatenate([source, source[:, :5] ^ source[:, 5:], source[:, ::-1]], axis=1)
    method, payload = round_trip(bits, (25,))
    # No single bit tells a sum, so the greedy choice leaves the 5 of them; the 10 copies are free but for their learning.
    assert 8 * len(payload) < 4000 * 15 + 25 * 40 + 96


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0)])
def test_the_bits_to_the_left_and_above_are_made_use_of(down, right):
    maps = random_bits(500, 64, 0.5).reshape(500, 4, 4, 4)
    if right:
        maps[:, :, 1:] = maps[:, :, :1, ::-1]  # from another channel
        maps[:, :, 2:] = maps[:, :, 1:2, ::-1]
        maps[:, :, 3:] = maps[:, :, 2:3, ::-1]
    else:
        maps[:, 1:] = maps[:, :1]
    _, payload = round_trip(maps.reshape(500, 64), (4, 4, 4))
    assert 8 * len(payload) < 500 * 64 / 2
    # The same bits as a flat code have their parents among all 64, and no neighbours.
    round_trip(maps.reshape(500, 64), (64,))


def test_a_stream_that_never_changes_is_a_few_bytes():
    _, payload = round_trip(np.ones((20_000, 50), bool), (50,))
    assert len(payload) < 100


# ---- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coded():
    bits = random_bits(120, 8, [0.1, 0.9, 0.5, 0.02, 0.1, 0.1, 0.5, 0.5])
    bits[:, 7] = bits[:, 6]
    method, payload = encode_bits(bits, (1, 2, 4))
    assert method == CODED
    return bits, payload


def refuses(payload, method, count, shape):
    """The payload's damage is noticed, in one line."""
    with pytest.raises(CodecError) as caught:
        decode_bits(payload, method, count, shape)
    assert str(caught.value) and "\n" not in str(caught.value)


def is_refused_or_right(payload, bits, shape):
    """Whether a payload made from that of `bits` is refused. Where it is not, the bits are right: the range coder's last
    word has bits that mean nothing, and words of zeros behind it are what the decoder reads there anyway.
    """
    try:
        decoded = decode_bits(payload, CODED, len(bits), shape)
    except CodecError as error:
        assert str(error) and "\n" not in str(error)
        return True
    assert (decoded == bits).all()
    return False


def test_cut_and_padded_payloads_are_refused(coded):
    bits, payload = coded
    for length in range(len(payload) - 4):
        assert is_refused_or_right(payload[:length], bits, (1, 2, 4))
    is_refused_or_right(payload[:-4], bits, (1, 2, 4))
    is_refused_or_right(payload + bytes(4), bits, (1, 2, 4))
    for more in (b"\0", bytes(12), b"\xff" * 12, payload):
        refuses(payload + more, CODED, 120, (1, 2, 4))
    packed = np.packbits(bits[:5, :7]).tobytes()
    for wrong in (packed[:-1], packed + b"\0", b"", packed[:-1] + bytes([packed[-1] | 1])):
        refuses(wrong, PACKED, 5, (7,))


def test_no_flipped_bit_of_a_coded_payload_gives_other_bits(coded):
    bits, payload = coded
    for position in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[position // 8] ^= 1 << position % 8
        assert is_refused_or_right(bytes(flipped), bits, (1, 2, 4)) or position >= 8 * len(payload) - 32


@settings(deadline=None)
@given(st.data(), st.integers(80, 600), st.sampled_from([(8,), (2, 2, 3)]))
def test_no_damage_of_any_kind_gives_other_bits(data, count, shape):
    bits = random_bits(count, int(np.prod(shape)), 0.05, data.draw(st.integers(0, 99)))
    method, payload = encode_bits(bits, shape)
    assert method == CODED
    start = data.draw(st.integers(0, len(payload)))
    removed, added = data.draw(st.integers(0, 16)), data.draw(st.binary(max_size=16))
    is_refused_or_right(payload[:start] + added + payload[start + removed :], bits, shape)


def test_a_decoder_that_computes_other_probabilities_notices(coded, monkeypatch):
    _, coded_payload = coded
    monkeypatch.setattr(payload, "LARGEST_BLOCK", 16)
    refuses(coded_payload, CODED, 120, (1, 2, 4))


def test_what_a_step_holds_makes_no_difference_to_the_payload(monkeypatch):
    bits = random_bits(300, 24, np.tile([0.02, 0.3, 0.9], 8))
    for shape in ((24,), (2, 2, 6)):
        before = encode_bits(bits, shape)
        monkeypatch.setattr(payload, "_STEP_BITS", 100)
        assert encode_bits(bits, shape) == before
        assert (decode_bits(before[1], before[0], 300, shape) == bits).all()
        monkeypatch.undo()


def test_garbage_that_promises_much_is_refused_before_all_of_it_is_decoded(monkeypatch):
    reached = []

    def watched(count, blocks=payload._blocks):
        for items in blocks(count):
            reached.append(items.stop)
            yield items

    monkeypatch.setattr(payload, "_blocks", watched)
    count = 1 << 21
    # Words of zeros say that no channel has parents, and what follows is garbage.
    garbage = bytes(4 + 4 * 24) + np.random.default_rng(0).bytes(400)
    refuses(garbage, CODED, count, (256,))
    assert 0 < reached[-1] < count / 100


@pytest.mark.parametrize("seed", [0, 2])
def test_a_stream_that_would_decode_to_anything_is_stopped_when_its_words_are_used_up(seed, monkeypatch):
    """Nothing else stops these: the range decoder reads zeros behind the last word for as long as it is asked to."""
    reached = []

    def watched(count, blocks=payload._blocks):
        for items in blocks(count):
            reached.append(items.stop)
            yield items

    monkeypatch.setattr(payload, "_blocks", watched)
    garbage = bytes(4 + 4 * 6) + np.random.default_rng(seed).bytes(4)
    with pytest.raises(CodecError, match="it is too short for its bits"):
        decode_bits(garbage, CODED, 1 << 13, (64,))
    assert reached[-1] <= 16


@settings(deadline=None, max_examples=300)
@given(st.binary(min_size=4, max_size=64), SHAPES, st.integers(0, 200))
def test_random_bytes_give_bits_or_one_clear_line(payload, shape, count):
    for method in (PACKED, CODED, 2, -1):
        try:
            bits = decode_bits(payload[: len(payload) // 4 * 4], method, count, shape)
        except CodecError as error:
            assert "\n" not in str(error)
        else:
            assert bits.shape == (count, np.prod(shape))


@pytest.mark.parametrize("method", [PACKED, CODED])
@pytest.mark.parametrize("count", [2**60, MAX_CODED_BITS // 8 + 1])
def test_promises_are_refused_before_memory_is_taken(method, count):
    refuses(bytes(400), method, count, (8,))


def test_wrong_arguments_are_refused():
    for shape in ((), (2, 2), (0,), (-1, 1, 1), (MAX_CODE_SIZE + 1,), (2**40, 2**40, 1)):
        with pytest.raises(ValueError, match=r"expected \(L,\) or \(h, w, c\)"):
            encode_bits(np.zeros((1, 4), bool), shape)
    for shape in (8, (8.0,), "8", None):
        with pytest.raises(TypeError, match="expected whole numbers"):
            decode_bits(b"", PACKED, 0, shape)
    with pytest.raises(TypeError, match="bits is uint8, expected a bool NumPy array"):
        encode_bits(np.zeros((1, 4), np.uint8), (4,))
    with pytest.raises(TypeError, match="bits is list"):
        encode_bits([[True]], (1,))
    for bits in (np.zeros((1, 5), bool), np.zeros(4, bool)):
        with pytest.raises(ValueError, match=r"expected \(N, 4\) for codes of shape \(2, 1, 2\)"):
            encode_bits(bits, (2, 1, 2))
    assert issubclass(CodecError, TinyqaeError)


def length_given(target, columns):
    """Bits for `target` with `columns` as parents: zeros and ones counted in every context, without any trick."""
    contexts = {}
    for *context, bit in zip(*(column.tolist() for column in columns), target.tolist(), strict=True):
        contexts.setdefault(tuple(context), [0, 0])[bit] += 1
    zeros, ones = np.array(list(contexts.values())).T
    return parents._description_length(len(target))(zeros, ones).sum()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.integers(1, 700), st.integers(1, 11), st.integers(1, 4))
def test_each_parent_is_the_one_that_saves_most(seed, rows, count, summands):
    random, price = np.random.default_rng(seed), 5
    candidates = (random.random((count, rows)) < random.random((count, 1))).astype(np.uint8)
    target = np.bitwise_xor.reduce(candidates[:summands], axis=0) ^ (random.random(rows) < 0.05)
    chosen = parents._add_parents(target, candidates, price, parents._description_length(rows))
    for known in range(len(chosen) + 1):
        columns = [candidates[i] for i in chosen[:known]]
        now = length_given(target, columns)
        then = [length_given(target, [*columns, column]) for column in candidates]
        if known < len(chosen):
            assert then[chosen[known]] < min(then) + 1e-6 and now - min(then) > price - 1e-6
        else:
            assert known == parents.MAX_PARENTS or now - min(then) < price + 1e-6


def test_parents_that_are_known_from_like_codes_serve_as_well_and_decode_alike():
    random = np.random.default_rng(0)
    bits = random.random((4000, 12)) < 0.5
    bits[:, 7] = bits[:, 2] ^ (random.random(4000) < 0.05)
    known = parents.choose_parents(bits[:3000].reshape(-1, 1, 1, 12))
    assert known[7] == [(0, 0, 2)]
    method, coded = payload.encode_bits(bits[3000:], (12,), known)
    assert method == payload.CODED
    np.testing.assert_array_equal(payload.decode_bits(coded, method, 1000, (12,)), bits[3000:])
    assert len(coded) <= len(payload.encode_bits(bits[3000:], (12,))[1]) + 8
