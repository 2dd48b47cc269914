"""The .tqae file: its layout byte by byte, files that must decode for ever, and every kind of damage refused in one line."""

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.codec import (
    CODED,
    IMAGES,
    PACKED,
    TEXTS,
    Container,
    decode_bits,
    describe,
    from_bytes,
    to_bytes,
)
from tinyqae.codec.payload import MAX_CODE_SIZE
from tinyqae.errors import CodecError

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL_ID = bytes(range(8))
ONE_IMAGE = Container(MODEL_ID, IMAGES, PACKED, 1, (50,), b"", bytes(7))
SHAPES = st.one_of(st.tuples(st.integers(1, 300)), st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 200)))


@st.composite
def containers(draw):
    count, shape = draw(st.integers(0, 500)), draw(SHAPES)
    size = -(-count * int(np.prod(shape)) // 8)
    return Container(
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.sampled_from([IMAGES, TEXTS])),
        PACKED,
        count,
        shape,
        draw(st.binary(max_size=300)),
        (draw(st.binary(min_size=1, max_size=9)) * size)[:size],
    )


def refusal(data):
    """The one line that says why these bytes are no file."""
    with pytest.raises(CodecError) as caught:
        from_bytes(data)
    with pytest.raises(CodecError):
        describe(data)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def forged(*varints, flags=0, version=1, body=b""):
    """A file whose checksums fit whatever it says."""
    header = b"TQAE" + bytes([version, flags]) + MODEL_ID + b"".join(map(leb128, varints))
    return header + crc(header) + body + crc(body)


def leb128(number):
    out = []
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def crc(data):
    return zlib.crc32(data).to_bytes(4, "little")


# ---- what is written ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(containers())
def test_round_trip(container):
    data = to_bytes(container)
    assert from_bytes(data) == container
    fields = describe(data)
    assert [field.offset for field in fields] == np.cumsum([0, *(field.length for field in fields)])[:-1].tolist()
    assert fields[-1].offset + fields[-1].length == len(data)


def test_layout_byte_by_byte():
    container = Container(MODEL_ID, TEXTS, PACKED, 2, (4, 5, 300), b"line", bytes(1500))
    header = b"TQAE\x01\x06" + MODEL_ID + bytes([2, 4, 5, 0xAC, 0x02, 4, 0xDC, 0x0B])
    data = header + crc(header) + b"line" + bytes(1500) + crc(b"line" + bytes(1500))
    assert to_bytes(container) == data
    assert [tuple(field) for field in describe(data)] == [
        (0, 4, "magic", b"TQAE"),
        (4, 1, "version", 1),
        (5, 1, "flags", 6),
        (6, 8, "model id", MODEL_ID),
        (14, 1, "count", 2),
        (15, 1, "height", 4),
        (16, 1, "width", 5),
        (17, 2, "channels", 300),
        (19, 1, "extra length", 4),
        (20, 2, "payload length", 1500),
        (22, 4, "header checksum", crc(header)),
        (26, 4, "extra", b"line"),
        (30, 1500, "payload", bytes(1500)),
        (1530, 4, "checksum", crc(b"line" + bytes(1500))),
    ]


def test_headers_are_small():
    assert len(to_bytes(ONE_IMAGE)) == 26 + 7
    assert len(to_bytes(replace(ONE_IMAGE, shape=(4, 4, 16), payload=bytes(32)))) == 28 + 32
    assert len(to_bytes(replace(ONE_IMAGE, kind=TEXTS, shape=(128,), payload=bytes(16)))) == 27 + 16
    assert len(to_bytes(replace(ONE_IMAGE, count=np.int64(10_000), shape=(np.int64(50),), payload=bytes(62_500)))) < 62_540


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_id": b"short"}, "model_id has 5 bytes"),
        ({"kind": 2}, "kind is 2, expected one of 0, 1"),
        ({"method": "packed"}, "method is 'packed', expected one of 0, 1"),
        ({"count": -1}, "count is -1"),
        ({"shape": (5, 10)}, "shape is"),
        ({"shape": (0,)}, "shape is"),
        ({"shape": (MAX_CODE_SIZE + 1,)}, "at most 65536 bits"),
    ],
)
def test_wrong_fields_are_not_written(change, message):
    with pytest.raises(ValueError, match=message):
        to_bytes(replace(ONE_IMAGE, **change))


def test_a_payload_of_the_wrong_length_is_not_written():
    with pytest.raises(CodecError, match="1 codes of 50 bits take 7 bytes when packed; the payload has 8"):
        to_bytes(replace(ONE_IMAGE, payload=bytes(8)))


# ---- files that must decode for ever -----------------------------------------------------------------------------------


def golden_bits():
    """bool (100, 32): a base that all codes share, one bit in eight flipped, and a random bit that appears four times."""
    noise = np.frombuffer(hashlib.shake_256(b"tinyqae").digest(1600), np.uint8)
    noise = np.unpackbits(noise).view(bool).reshape(4, 100, 32)
    bits = noise[3, :1] ^ (noise[0] & noise[1] & noise[2])
    bits[:, 3] = noise[3, :, 3]
    bits[:, 8:32:8] = bits[:, 3:4]
    return bits


@pytest.mark.parametrize(
    ("name", "method", "kind", "shape"), [("packed", PACKED, TEXTS, (32,)), ("coded", CODED, IMAGES, (2, 2, 8))]
)
def test_golden_files_decode(name, method, kind, shape):
    data = (GOLDEN / f"{name}.tqae").read_bytes()
    container = from_bytes(data)
    assert container == Container(MODEL_ID, kind, method, 100, shape, b"golden", container.payload)
    assert (decode_bits(container.payload, method, 100, shape) == golden_bits()).all()
    assert to_bytes(container) == data


# ---- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["packed", "coded"])
def file(request):
    return (GOLDEN / f"{request.param}.tqae").read_bytes()


def test_cut_short_at_every_byte(file):
    for length in range(len(file)):
        assert length < 4 or "is truncated" in refusal(file[:length])
    for length in range(4):
        assert "not a .tqae file" in refusal(file[:length])


def test_every_bit_flipped(file):
    for position in range(8 * len(file)):
        flipped = bytearray(file)
        flipped[position // 8] ^= 1 << position % 8
        refusal(bytes(flipped))


def test_bytes_behind_the_end(file):
    assert "3 bytes follow its end" in refusal(file + b"abc")
    refusal(file + file)


@given(st.binary(max_size=80))
def test_random_bytes(data):
    refusal(data)
    refusal(b"TQAE\x01" + data)
    header = b"TQAE\x01" + data
    refusal(header + crc(header))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .tqae file"),
        (b"\x89PNG\r\n\x1a\n", r"begins with b'\x89PNG'"),
        (forged(1, 8, 0, 1, body=b"x", version=2), "version 2"),
        (forged(1, 8, 0, 1, body=b"x", flags=8), "flags 0b00001000"),
        (forged(2**60, 50, 0, 7, body=bytes(7)), "1152921504606846976 codes of 50 bits"),
        (forged(2**60, 50, 0, 8, body=bytes(8), flags=1), "at most 536870912 bits"),
        (forged(2**62, 4, 0, 2**61), "is truncated"),
        (forged(1, 2**60, 0, 7, body=bytes(7)), "at most 65536 bits"),
        (forged(1, 2**30, 2**30, 2**30, 0, 7, flags=4, body=bytes(7)), "at most 65536 bits"),
        (forged(0, 0, 0, 0), "at most 65536 bits"),
        (forged(0, 8, 0, 0, flags=1), "entropy-coded, 0 codes of 8 bits"),
        (forged(100, 8, 0, 100, flags=1, body=bytes(100)), "fewer than the 100 of packed bits"),
        (forged(100, 8, 0, 31, flags=1, body=bytes(31)), "a multiple of 4"),
        (forged(1, 8, 2**60, 1, body=b"x"), "is truncated: extra ends at"),
        (forged(1, 8, 0, 2, body=b"xy"), "take 1 bytes when packed; the payload has 2"),
        (forged(1, 8, 0, 1, body=b"xy"), "1 bytes follow its end"),
        (b"TQAE\x01\x00" + MODEL_ID + b"\xff" * 9 + b"\x01" * 30, "count is not a varint of at most 9 bytes"),
        (b"TQAE\x01\x00" + MODEL_ID + b"\x81\x00" + b"\x01" * 30, "in its shortest form"),
        (b"TQAE\x01\x00" + MODEL_ID + b"\xff" * 8, "is truncated: count ends at"),
    ],
)
def test_files_made_on_purpose(data, message):
    assert message in refusal(data)


def test_a_payload_damaged_under_fitting_checksums_does_not_decode():
    good = from_bytes((GOLDEN / "coded.tqae").read_bytes())
    for payload in (good.payload[:-8], good.payload + bytes(12), good.payload[:-8] + b"garbage!", bytes(len(good.payload))):
        container = from_bytes(to_bytes(replace(good, payload=payload)))
        with pytest.raises(CodecError, match="the payload is damaged"):
            decode_bits(container.payload, container.method, container.count, container.shape)
