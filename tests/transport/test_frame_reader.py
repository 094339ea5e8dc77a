"""Answers out of a channel that gives them in any pieces."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import PeerLostError, WireError
from prfaas.transport.channel import Channel
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.frame_writer import FrameWriter
from prfaas.transport.framing import message_header
from prfaas.wire.header import FrameHeader, Kind
from prfaas.wire.messages import MAX_SMALL_MESSAGE_BYTES


class PiecesChannel(Channel):
    """Gives `incoming` away in pieces of these sizes, with nothing there in between, and takes such pieces."""

    def __init__(self, incoming: bytes, sizes: Sequence[int]) -> None:
        self.incoming = incoming
        self.sizes = list(sizes)
        self.outgoing = b""

    def receive_into(self, views: Sequence[memoryview]) -> int | None:
        size = self.sizes.pop(0) if self.sizes else len(self.incoming)
        if size == 0:
            return None if self.incoming else 0
        part = self.incoming[: min(size, len(views[0]))]
        views[0][: len(part)] = part
        self.incoming = self.incoming[len(part) :]
        return len(part)

    def send(self, views: Sequence[memoryview]) -> int:
        size = self.sizes.pop(0) if self.sizes else 1 << 30
        taken = b"".join(views)[:size]
        self.outgoing += taken
        return len(taken)

    @property
    def pending(self) -> bool:
        return False


def frame(kind: Kind, payload: bytes) -> bytes:
    return message_header(kind, payload).pack() + payload


def read_all(channel: PiecesChannel) -> list[tuple[FrameHeader, bytes]]:
    reader = FrameReader()
    found: list[tuple[FrameHeader, bytes]] = []
    while channel.incoming:
        found += reader.read(channel)
    channel.sizes = []
    with pytest.raises(PeerLostError):
        next(reader.read(channel))
    return found


SIZES = st.lists(st.integers(0, 100_000), max_size=40)


@given(st.lists(st.integers(0, 200), max_size=12), SIZES)
def test_whole_answers_come_out_of_any_pieces(lengths: list[int], sizes: list[int]) -> None:
    payloads = [bytes([i]) * length for i, length in enumerate(lengths)]
    channel = PiecesChannel(b"".join(frame(Kind.ACK, payload) for payload in payloads), sizes)
    assert [payload for _, payload in read_all(channel)] == payloads


@given(SIZES)
def test_a_long_list_of_ranges_may_be_longer_than_the_buffer(sizes: list[int]) -> None:
    payload = bytes(range(256)) * 1024
    assert len(payload) > MAX_SMALL_MESSAGE_BYTES
    data = frame(Kind.ACK, b"first") + frame(Kind.ACCEPTED, payload) + frame(Kind.ACK, b"last")
    assert [p for _, p in read_all(PiecesChannel(data, sizes))] == [b"first", payload, b"last"]


def test_answers_before_a_corrupt_one_are_not_lost() -> None:
    reader = FrameReader()
    corrupt = bytearray(frame(Kind.ACK, b"corrupt"))
    corrupt[-1] ^= 1
    channel = PiecesChannel(frame(Kind.COMMITTED, b"") + bytes(corrupt), [])
    answers = reader.read(channel)
    assert next(answers)[0].kind is Kind.COMMITTED
    with pytest.raises(WireError):
        next(answers)


def test_answers_that_the_caller_leaves_come_next_time() -> None:
    reader = FrameReader()
    data = frame(Kind.WELCOME, b"one") + frame(Kind.ACK, b"two")
    channel = PiecesChannel(data + b"P", [len(data), 0])
    assert next(iter(reader.read(channel)))[1] == b"one"
    assert [payload for _, payload in reader.read(channel)] == [b"two"]


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 60), max_size=20))
def test_a_frame_goes_out_whole_in_any_pieces(parts: list[bytes], sizes: list[int]) -> None:
    writer = FrameWriter()
    channel = PiecesChannel(b"", [size for size in sizes for size in (size, 0)])
    header = message_header(Kind.OPEN, b"".join(parts))
    writer.start(header, [memoryview(part) for part in parts])
    sent = 0
    while writer.busy:
        sent += writer.send(channel)
    assert channel.outgoing == header.pack() + b"".join(parts)
    assert sent == len(channel.outgoing)
