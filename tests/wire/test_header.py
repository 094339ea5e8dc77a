"""The 64 bytes before every payload: round trips, and everything that is not a header."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import WireError
from prfaas.core.ids import TransferId
from prfaas.wire.header import (
    ANSWERS,
    CODEC_NAMES,
    CODECS_BY_NAME,
    HEADER_BYTES,
    Codec,
    FrameHeader,
    Kind,
    ObjectKey,
    payload_digest,
    unpack,
)

LIMIT = 1000
U32 = st.integers(0, 2**32 - 1)
HEADERS = st.builds(
    FrameHeader,
    kind=st.sampled_from(Kind),
    transfer_id=st.binary(min_size=16, max_size=16).map(TransferId),
    epoch=U32,
    key=st.builds(ObjectKey, layer=st.integers(0, 2**16 - 1), tensor=st.integers(0, 255), start=U32, end=U32),
    codec=st.sampled_from(Codec),
    raw_bytes=U32,
    wire_bytes=st.integers(0, LIMIT),
    digest=st.integers(0, 2**64 - 1),
)
GOOD = FrameHeader(Kind.OBJECT, TransferId(bytes(16)), 1, ObjectKey(0, 0, 0, 1), Codec.RAW, 4, 4, 0)


@given(HEADERS)
def test_round_trip(header: FrameHeader) -> None:
    packed = header.pack()
    assert len(packed) == HEADER_BYTES == 64
    assert unpack(packed, max_payload_bytes=LIMIT) == header
    assert unpack(memoryview(bytearray(packed)), max_payload_bytes=LIMIT) == header


@given(HEADERS)
def test_every_flipped_bit_is_noticed(header: FrameHeader) -> None:
    packed = header.pack()
    for bit in range(HEADER_BYTES * 8):
        data = bytearray(packed)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            unpack(data, max_payload_bytes=2**32)


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data, max_payload_bytes=LIMIT)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_any_other_length_is_refused(length: int) -> None:
    with pytest.raises(WireError, match=f"64 bytes, not {length}"):
        unpack((GOOD.pack() * 2)[:length], max_payload_bytes=LIMIT)


def reseal(data: bytearray) -> bytearray:
    """Makes the checksum right again, as a peer with other ideas would."""
    data[60:] = struct.pack("<I", payload_digest([bytes(data[:60])]) & 0xFFFFFFFF)
    return data


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (0, b"HTTP", "magic"),
        (4, b"\x02\x00", "version 2, this process only 3"),
        (4, b"\x04\x00", "version 4, this process only 3"),
        (6, b"\x00\x00", "0 is not a valid Kind"),
        (6, b"\x0d\x00", "13 is not a valid Kind"),
        (6, b"\x05\x01", "261 is not a valid Kind"),
        (31, b"\x05", "5 is not a valid Codec"),
        (31, b"\xff", "255 is not a valid Codec"),
        (44, struct.pack("<I", LIMIT + 1), "above the 1000 agreed"),
        (44, b"\xff\xff\xff\xff", "above the 1000 agreed"),
        (56, b"\x01", "flags"),
        (59, b"\x80", "flags"),
    ],
)
def test_well_formed_but_foreign(offset: int, value: bytes, said: str) -> None:
    data = bytearray(GOOD.pack())
    data[offset : offset + len(value)] = value
    with pytest.raises(WireError, match=said):
        unpack(reseal(data), max_payload_bytes=LIMIT)


@given(HEADERS, st.integers(0, 59), st.integers(0, 255))
def test_a_resealed_change_is_refused_or_read_as_what_it_says(header: FrameHeader, at: int, value: int) -> None:
    data = bytearray(header.pack())
    data[at] = value
    reseal(data)
    try:
        read = unpack(data, max_payload_bytes=LIMIT)
    except WireError:
        return
    assert read.pack() == bytes(data)
    assert read.wire_bytes <= LIMIT


def test_a_payload_of_just_the_limit_is_read() -> None:
    header = msgspec.structs.replace(GOOD, wire_bytes=LIMIT)
    assert unpack(header.pack(), max_payload_bytes=LIMIT).wire_bytes == LIMIT


def test_digest_does_not_depend_on_the_cut() -> None:
    assert payload_digest([b"abc", b"", b"def"]) == payload_digest([b"abcdef"])


def test_names_and_numbers_of_codecs_are_one_to_one() -> None:
    assert {CODECS_BY_NAME[name] for name in CODEC_NAMES.values()} == set(Codec)
    assert CODECS_BY_NAME["state16"] is Codec.STATE16


def test_a_sender_never_answers() -> None:
    asked = {Kind.HELLO, Kind.OPEN, Kind.OBJECT, Kind.MANIFEST, Kind.CANCEL, Kind.PROBE}
    assert set(Kind) - ANSWERS == asked
