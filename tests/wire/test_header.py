"""The 64 bytes before every payload: round trips, and everything that is not a header."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import WireError
from prfaas.core.ids import TransferId
from prfaas.wire.header import HEADER_BYTES, Codec, FrameHeader, Kind, ObjectKey, payload_digest, unpack

U32 = st.integers(0, 2**32 - 1)
HEADERS = st.builds(
    FrameHeader,
    kind=st.sampled_from(Kind),
    transfer_id=st.binary(min_size=16, max_size=16).map(TransferId),
    epoch=U32,
    key=st.builds(ObjectKey, layer=st.integers(0, 2**16 - 1), tensor=st.integers(0, 255), start=U32, end=U32),
    codec=st.sampled_from(Codec),
    raw_bytes=U32,
    wire_bytes=st.integers(0, 1000),
    digest=st.integers(0, 2**64 - 1),
)


@given(HEADERS)
def test_round_trip(header: FrameHeader) -> None:
    packed = header.pack()
    assert len(packed) == HEADER_BYTES == 64
    assert unpack(packed, max_payload_bytes=1000) == header


@given(HEADERS, st.integers(0, HEADER_BYTES * 8 - 1))
def test_every_flipped_bit_is_noticed(header: FrameHeader, bit: int) -> None:
    data = bytearray(header.pack())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        unpack(data, max_payload_bytes=1000)


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data, max_payload_bytes=1000)


def reseal(data: bytearray) -> bytearray:
    """Makes the checksum right again, as a peer with other ideas would."""
    data[60:] = struct.pack("<I", payload_digest([bytes(data[:60])]) & 0xFFFFFFFF)
    return data


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (0, b"HTTP", "magic"),
        (4, b"\x01\x00", "version 1, this process only 2"),
        (4, b"\x03\x00", "version 3, this process only 2"),
        (6, b"\x63\x00", "99"),
        (31, b"\x09", "9"),
        (56, b"\x01", "flags"),
    ],
)
def test_well_formed_but_foreign(offset: int, value: bytes, said: str) -> None:
    good = FrameHeader(Kind.OBJECT, TransferId(bytes(16)), 1, ObjectKey(0, 0, 0, 1), Codec.RAW, 4, 4, 0)
    data = bytearray(good.pack())
    data[offset : offset + len(value)] = value
    with pytest.raises(WireError, match=said):
        unpack(reseal(data), max_payload_bytes=1000)


def test_payload_above_the_limit() -> None:
    header = FrameHeader(Kind.OBJECT, TransferId(bytes(16)), 1, ObjectKey(0, 0, 0, 1), Codec.RAW, 4, 1001, 0)
    with pytest.raises(WireError, match="above the 1000 agreed"):
        unpack(header.pack(), max_payload_bytes=1000)


def test_digest_does_not_depend_on_the_cut() -> None:
    assert payload_digest([b"abc", b"", b"def"]) == payload_digest([b"abcdef"])
