"""Transfers over real sockets: what arrives, what is refused, and that every end is reported once."""

import contextlib
import dataclasses
import resource
import socket
import threading
from pathlib import Path

import msgspec
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
from prfaas.wire.header import NO_OBJECT, Codec, FrameHeader, Kind, ObjectKey
from tests.eventually import eventually
from tests.transport.rig import CONFIG, EPOCH, SUMMARY, Memory, Receiver, Sender
from tests.wire.small import OPEN, PIECES, content, header


def received(outcome: Outcome) -> Received:
    assert isinstance(outcome, Received), outcome
    return outcome


def test_a_transfer_arrives_whole_and_both_sides_know() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.send_all(receiver.address, expected)
        got = received(expected.result())
        assert sent.result() is None
    assert expected.memory.placed == {key: content(key) for key in PIECES}
    assert got.manifest.first_token_id == SUMMARY.first_token_id
    assert got.bytes_raw == got.bytes_wire == sum(len(content(key)) for key in PIECES)
    assert sent.transfer.bytes_wire == got.bytes_wire


def test_many_transfers_share_one_connection() -> None:
    with Receiver() as receiver, Sender() as sender:
        pairs = [(e, sender.send_all(receiver.address, e)) for e in (receiver.expect() for _ in range(50))]
        for expected, sent in pairs:
            received(expected.result())
            assert sent.result() is None
        assert receiver.metrics.connections.labels("in")._value.get() == 1
        assert sender.metrics.connections.labels("out")._value.get() == 1
    assert receiver.metrics.connections.labels("in")._value.get() == 0
    assert sender.metrics.connections.labels("out")._value.get() == 0


def test_interleaved_transfers_do_not_mix() -> None:
    with Receiver() as receiver, Sender() as sender:
        pairs = [(e, sender.start(receiver.address, e.transfer_id)) for e in (receiver.expect() for _ in range(4))]
        for key in PIECES:
            for _, sent in pairs:
                sent.send(key)
        for expected, sent in pairs:
            sent.finish()
            assert sent.result() is None
            assert len(expected.memory.placed) == len(PIECES)


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        (msgspec.structs.replace(OPEN, secret=b"x" * 16), TicketError),
        (msgspec.structs.replace(OPEN, model_fingerprint="another model"), ManifestError),
        (msgspec.structs.replace(OPEN, prompt_tokens=11), ManifestError),
        (msgspec.structs.replace(OPEN, held_tokens=7), ManifestError),
    ],
)
def test_wrong_openings_are_refused_and_do_no_harm(opening: messages.Open, error: type[PrfaasError]) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        intruder = sender.start(receiver.address, expected.transfer_id, opening)
        intruder.send(PIECES[0])
        intruder.finish()
        assert isinstance(intruder.result(), error)
        assert not expected.memory.placed
        assert sender.send_all(receiver.address, expected).result() is None
        received(expected.result())


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
def test_unknown_and_stale_tickets_are_refused(epoch: int) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        transfer_id = new_transfer_id() if epoch == EPOCH else expected.transfer_id
        sent = sender.start(receiver.address, transfer_id, epoch=epoch)
        assert isinstance(sent.result(), TicketError)


def test_a_ticket_is_good_for_one_transfer() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        assert sender.send_all(receiver.address, expected).result() is None
        received(expected.result())
        assert isinstance(sender.send_all(receiver.address, expected).result(), TicketError)


def test_a_manifest_without_all_objects_never_commits() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        for key in PIECES[:-1]:
            sent.send(key)
        sent.finish()
        assert isinstance(sent.result(), ManifestError)
        assert isinstance(expected.result(), ManifestError)


def test_after_close_nothing_is_placed() -> None:
    with Receiver() as receiver, Sender() as sender:
        memory = Memory(gate=threading.Event())
        expected = receiver.expect(memory)
        sent = sender.start(receiver.address, expected.transfer_id)
        sent.send(PIECES[0])
        closing = threading.Thread(
            target=receiver.inbox.close, args=(expected.transfer_id, EPOCH, CancelledError("enough"))
        )
        closing.start()
        assert memory.gate is not None
        memory.gate.set()
        closing.join()
        before = dict(memory.placed)
        for key in PIECES[1:]:
            sent.send(key)
        assert isinstance(sent.result(), TicketError)
        assert memory.placed == before
        assert isinstance(expected.result(), CancelledError)


def test_abandoned_transfer_ends_on_both_sides() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        sent.send(PIECES[0])
        eventually(lambda: bool(expected.memory.placed))
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        assert isinstance(expected.result(), PeerLostError)
        other = receiver.expect()
        assert sender.send_all(receiver.address, other).result() is None


def test_lost_receiver_fails_what_was_under_way_and_the_next_transfer_reconnects() -> None:
    with Sender() as sender:
        with Receiver() as receiver:
            expected = receiver.expect()
            sent = sender.start(receiver.address, expected.transfer_id)
            sent.send(PIECES[0])
            eventually(lambda: bool(expected.memory.placed))
        assert isinstance(sent.result(), PeerLostError)
        assert isinstance(expected.result(), PeerLostError)
        with Receiver(port=receiver.port) as again:
            expected = again.expect()
            assert sender.send_all(receiver.address, expected).result() is None


def test_unreachable_receiver_is_a_typed_error() -> None:
    with Receiver() as receiver:
        address = receiver.address
    with Sender() as sender:
        sent = sender.start(address, new_transfer_id())
        error = sent.result()
    assert isinstance(error, PeerLostError)
    assert address in str(error)


def test_lost_sender_fails_the_transfer() -> None:
    with Receiver() as receiver:
        with Sender() as sender:
            expected = receiver.expect()
            sent = sender.start(receiver.address, expected.transfer_id)
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
            # Ended with some of the noise unread, which the system may tell as a reset.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        expected = receiver.expect()
        assert sender.send_all(receiver.address, expected).result() is None


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


def test_an_abandoned_transfer_stops_at_once() -> None:
    big = memoryview(bytearray(1 << 20))
    with Sender() as sender, socket.create_server(("127.0.0.1", 0)) as listener:
        sent = sender.start(f"127.0.0.1:{listener.getsockname()[1]}", new_transfer_id())
        for i in range(64):
            sent.peer.send(sent.transfer, ObjectKey(1, 0, i, i + 1), [big])
        connection, _ = listener.accept()
        with connection:
            sent.peer.abandon(sent.transfer, CancelledError("the client left"))
            drained = threading.Thread(target=_drain, args=(connection,))
            drained.start()
            assert isinstance(sent.result(), CancelledError)
            # What the sockets' buffers held, and not the 64 MiB that were queued.
            assert sent.transfer.bytes_wire < 48 << 20
            connection.shutdown(socket.SHUT_RDWR)
            drained.join()


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def test_a_commit_of_what_was_never_sent_is_not_believed() -> None:
    with Sender() as sender, socket.create_server(("127.0.0.1", 0)) as listener:
        sent = sender.start(f"127.0.0.1:{listener.getsockname()[1]}", new_transfer_id())
        with listener.accept()[0] as connection:
            send_message(connection, Kind.COMMITTED, b"", *sent.transfer.key)
            error = sent.result()
        assert isinstance(error, PeerLostError)
        assert "never sent" in str(error)


def test_the_same_ticket_twice_at_once_fails_the_second_only() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        first = sender.start(receiver.address, expected.transfer_id)
        assert isinstance(sender.start(receiver.address, expected.transfer_id).result(), TicketError)
        first.send(*PIECES)
        first.finish()
        assert first.result() is None


def test_a_bug_in_a_sender_thread_ends_transfers_and_is_not_silent() -> None:
    with Sender() as sender:
        sent = sender.start("not an address", new_transfer_id())
        assert isinstance(sent.result(), PeerLostError)
        assert isinstance(sender.start("not an address", new_transfer_id()).result(), PeerLostError)


def test_unreachable_receivers_are_not_waited_for_one_by_one() -> None:
    """A listener that answers nothing: each connect takes its full timeout, the second transfer none."""
    config = CONFIG.model_copy(update={"connect_timeout_s": 0.3})
    with Sender(config) as sender, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        address = f"127.0.0.1:{full.getsockname()[1]}"
        all_sent = [sender.start(address, new_transfer_id()) for _ in range(20)]
        errors = [sent.result() for sent in all_sent]
        # One timeout makes one error, which all others were given.
        assert len({id(error) for error in errors}) == 1
        for sock in fill:
            sock.close()


def test_idle_strangers_do_not_shut_senders_out() -> None:
    config = CONFIG.model_copy(update={"max_connections": 3})
    with Receiver(config) as receiver, Sender(config) as sender:
        strangers = [raw_sender(receiver) for _ in range(3)]
        eventually(lambda: receiver.metrics.connections.labels("in")._value.get() == 3)
        assert sender.send_all(receiver.address, receiver.expect()).result() is None
        for sock in strangers:
            sock.close()


def test_a_stranger_that_says_nothing_is_hung_up_on() -> None:
    config = CONFIG.model_copy(update={"connect_timeout_s": 0.2})
    with Receiver(config) as receiver, socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as sock:
        assert sock.recv(1) == b""


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.OPEN])
def test_a_stranger_cannot_make_us_allocate(kind: Kind) -> None:
    with Receiver() as receiver, socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as sock:
        if kind is Kind.OPEN:
            send_message(sock, Kind.HELLO, messages.encode(messages.Hello("raw", "east")))
        header = FrameHeader(kind, new_transfer_id(), 1, NO_OBJECT, Codec.RAW, 0, 1 << 20, 0)
        sock.sendall(header.pack())
        assert sock.recv(1) == b""


def _try_connect(receiver: Receiver) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", receiver.port), timeout=1)
    except OSError:
        return None


def test_out_of_descriptors_is_survived() -> None:
    with Receiver() as receiver, Sender() as sender:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
        held: list[socket.socket] = []
        try:
            while len(held) < 10 and (sock := _try_connect(receiver)):
                held.append(sock)
        finally:
            for sock in held:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert sender.send_all(receiver.address, receiver.expect()).result() is None
