"""Transfers over real sockets: what arrives, what is refused, and that every end is reported once."""

import dataclasses
import socket
import threading

import pytest

from prfaas.config.sections import TransportSection
from prfaas.core.errors import (
    CancelledError,
    DigestError,
    ManifestError,
    PeerLostError,
    PrfaasError,
    TicketError,
)
from prfaas.core.ids import TransferId, new_transfer_id
from prfaas.transport.framing import receive_header, send_frame, send_message
from prfaas.transport.inbox import Outcome, Received
from prfaas.wire import messages
from prfaas.wire.header import FrameHeader, Kind
from tests.eventually import eventually
from tests.transport.rig import EPOCH, SUMMARY, Memory, Receiver, Sender, send_piece
from tests.wire.small import OPEN, PIECES, content, header


def received(outcome: Outcome) -> Received:
    assert isinstance(outcome, Received), outcome
    return outcome


def test_a_transfer_arrives_whole_and_both_sides_know() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.send_all(sender.outbox.peer(receiver.address, None), expected)
        got = received(expected.result())
        assert sent.result() is None
    assert expected.memory.placed == {key: content(key) for key in PIECES}
    assert got.manifest.first_token_id == SUMMARY.first_token_id
    assert got.bytes_raw == got.bytes_wire == sum(len(content(key)) for key in PIECES)
    assert sent.transfer.bytes_wire == got.bytes_wire


def test_many_transfers_share_one_connection() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        pairs = [(e, sender.send_all(peer, e)) for e in (receiver.expect() for _ in range(50))]
        for expected, sent in pairs:
            received(expected.result())
            assert sent.result() is None
        assert receiver.metrics.connections.labels("in")._value.get() == 1
        assert sender.metrics.connections.labels("out")._value.get() == 1
    assert receiver.metrics.connections.labels("in")._value.get() == 0
    assert sender.metrics.connections.labels("out")._value.get() == 0


def test_interleaved_transfers_do_not_mix() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        pairs = [(e, sender.start(peer, e.transfer_id)) for e in (receiver.expect() for _ in range(4))]
        for key in PIECES:
            for _, sent in pairs:
                send_piece(peer, sent, key)
        for expected, sent in pairs:
            peer.finish(sent.transfer, SUMMARY)
            assert sent.result() is None
            assert len(expected.memory.placed) == len(PIECES)


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        (messages.Open(b"x" * 16, OPEN.model_fingerprint, OPEN.prompt_tokens), TicketError),
        (messages.Open(OPEN.secret, "another model", OPEN.prompt_tokens), ManifestError),
        (messages.Open(OPEN.secret, OPEN.model_fingerprint, 11), ManifestError),
    ],
)
def test_wrong_openings_are_refused_and_do_no_harm(opening: messages.Open, error: type[PrfaasError]) -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        expected = receiver.expect()
        intruder = sender.start(peer, expected.transfer_id, opening)
        send_piece(peer, intruder, PIECES[0])
        peer.finish(intruder.transfer, SUMMARY)
        assert isinstance(intruder.result(), error)
        assert not expected.memory.placed
        assert sender.send_all(peer, expected).result() is None
        received(expected.result())


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
def test_unknown_and_stale_tickets_are_refused(epoch: int) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        transfer_id = new_transfer_id() if epoch == EPOCH else expected.transfer_id
        sent = sender.start(sender.outbox.peer(receiver.address, None), transfer_id, epoch=epoch)
        assert isinstance(sent.result(), TicketError)


def test_a_ticket_is_good_for_one_transfer() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        expected = receiver.expect()
        assert sender.send_all(peer, expected).result() is None
        received(expected.result())
        assert isinstance(sender.send_all(peer, expected).result(), TicketError)


def test_a_manifest_without_all_objects_never_commits() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        expected = receiver.expect()
        sent = sender.start(peer, expected.transfer_id)
        for key in PIECES[:-1]:
            send_piece(peer, sent, key)
        peer.finish(sent.transfer, SUMMARY)
        assert isinstance(sent.result(), ManifestError)
        assert isinstance(expected.result(), ManifestError)


def test_after_close_nothing_is_placed() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        memory = Memory(gate=threading.Event())
        expected = receiver.expect(memory)
        sent = sender.start(peer, expected.transfer_id)
        send_piece(peer, sent, PIECES[0])
        closing = threading.Thread(
            target=receiver.inbox.close, args=(expected.transfer_id, EPOCH, CancelledError("enough"))
        )
        closing.start()
        assert memory.gate is not None
        memory.gate.set()
        closing.join()
        before = dict(memory.placed)
        for key in PIECES[1:]:
            send_piece(peer, sent, key)
        assert isinstance(sent.result(), TicketError)
        assert memory.placed == before
        assert isinstance(expected.result(), CancelledError)


def test_abandoned_transfer_ends_on_both_sides() -> None:
    with Receiver() as receiver, Sender() as sender:
        peer = sender.outbox.peer(receiver.address, None)
        expected = receiver.expect()
        sent = sender.start(peer, expected.transfer_id)
        send_piece(peer, sent, PIECES[0])
        peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        assert isinstance(expected.result(), PeerLostError)
        other = receiver.expect()
        assert sender.send_all(peer, other).result() is None


def test_lost_receiver_fails_what_was_under_way_and_the_next_transfer_reconnects() -> None:
    with Sender() as sender:
        with Receiver() as receiver:
            peer = sender.outbox.peer(receiver.address, None)
            expected = receiver.expect()
            sent = sender.start(peer, expected.transfer_id)
            send_piece(peer, sent, PIECES[0])
            eventually(lambda: bool(expected.memory.placed))
        assert isinstance(sent.result(), PeerLostError)
        assert isinstance(expected.result(), PeerLostError)
        with Receiver(port=receiver.port) as again:
            expected = again.expect()
            assert sender.send_all(peer, expected).result() is None


def test_unreachable_receiver_is_a_typed_error() -> None:
    with Receiver() as receiver:
        address = receiver.address
    with Sender() as sender:
        sent = sender.start(sender.outbox.peer(address, None), new_transfer_id())
        error = sent.result()
    assert isinstance(error, PeerLostError)
    assert address in str(error)


def test_lost_sender_fails_the_transfer() -> None:
    with Receiver() as receiver:
        with Sender() as sender:
            expected = receiver.expect()
            sent = sender.start(sender.outbox.peer(receiver.address, None), expected.transfer_id)
            eventually(lambda: receiver.metrics.connections.labels("in")._value.get() == 1)
        assert isinstance(sent.result(), CancelledError)
        # The opening may or may not have been read when the connection ended.
        receiver.inbox.close(expected.transfer_id, EPOCH, PeerLostError("closed"))
        assert isinstance(expected.result(), PeerLostError)


def raw_sender(receiver: Receiver) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
    send_message(sock, Kind.HELLO, messages.encode(messages.Hello("raw", "east")))
    return sock


def test_corrupt_payload_fails_the_transfer_and_ends_the_connection() -> None:
    with Receiver() as receiver, raw_sender(receiver) as sock:
        expected = receiver.expect()
        send_message(sock, Kind.OPEN, messages.encode(OPEN), expected.transfer_id, EPOCH)
        good = header(PIECES[0])
        bad = bytearray(content(PIECES[0]))
        bad[3] ^= 4
        send_frame(sock, _of(good, expected.transfer_id), [bad])
        assert isinstance(expected.result(), DigestError)
        answer = receive_header(sock, 4096)
        assert answer is not None
        assert answer.kind is Kind.REJECTED
        assert not expected.memory.placed


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64, b"\x00" * 64, b"PFKV"])
def test_noise_ends_only_its_own_connection(noise: bytes) -> None:
    with Receiver() as receiver, Sender() as sender:
        with raw_sender(receiver) as sock:
            sock.sendall(noise)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        expected = receiver.expect()
        assert sender.send_all(sender.outbox.peer(receiver.address, None), expected).result() is None


def test_object_without_a_ticket_is_read_and_dropped() -> None:
    with Receiver() as receiver, raw_sender(receiver) as sock:
        expected = receiver.expect()
        send_frame(sock, _of(header(PIECES[0]), expected.transfer_id), [content(PIECES[0])])
        send_message(sock, Kind.OPEN, messages.encode(OPEN), expected.transfer_id, EPOCH)
        for key in PIECES:
            send_frame(sock, _of(header(key), expected.transfer_id), [content(key)])
        eventually(lambda: len(expected.memory.placed) == len(PIECES))
    assert isinstance(expected.result(), PeerLostError)


def test_connections_above_the_limit_are_refused() -> None:
    with Receiver(TransportSection(frame_bytes=4096, max_connections=1)) as receiver, raw_sender(receiver) as first:
        eventually(lambda: receiver.metrics.connections.labels("in")._value.get() == 1)
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as second:
            assert second.recv(1) == b""
        first.shutdown(socket.SHUT_WR)
        assert first.recv(1) == b""


def _of(base: FrameHeader, transfer_id: TransferId) -> FrameHeader:
    return dataclasses.replace(base, transfer_id=transfer_id, epoch=EPOCH)
