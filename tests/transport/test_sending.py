"""Sending over real sockets to a receiver that behaves: what goes, in which order, and how much at once."""

import socket
import threading
from dataclasses import dataclass

from prfaas.core.errors import TicketError
from prfaas.transport.outgoing import Payload
from prfaas.wire.header import Kind
from tests.eventually import eventually
from tests.transport.sending_rig import (
    CONFIG,
    FRAME,
    SUMMARY,
    Bytes,
    Caught,
    Receiver,
    Sender,
    Sent,
    content,
    key,
)


def test_a_transfer_arrives_whole_and_both_sides_know() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=5)
        sent.finish()
        assert sent.result() is None
        assert receiver.arrived[sent.transfer.transfer_id] == {key(i): content(i) for i in range(5)}
        assert sent.transfer.session.bytes_wire == sent.transfer.session.bytes_raw == 5 * FRAME
        eventually(lambda: sender.outbox.bytes_acknowledged() == 5 * FRAME)
        assert sent.ended.empty()


def test_a_transfer_without_objects_is_only_its_manifest() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address)
        sent.finish()
        assert sent.result() is None
        assert receiver.objects() == []


def test_transfers_share_the_connections() -> None:
    config = CONFIG.model_copy(update={"min_streams": 4})
    with Receiver() as receiver, Sender(config) as sender:
        all_sent = [sender.start(receiver.address, objects=3) for _ in range(20)]
        eventually(lambda: sender.connections() == 4)
        for sent in all_sent:
            sent.finish()
        for sent in all_sent:
            assert sent.result() is None
        assert len(receiver.connections) == 4
        hellos = {caught.payload for caught in receiver.of(Kind.HELLO)}
        assert len(hellos) == 1
    assert sender.connections() == 0


@dataclass
class Meeting:
    """A source that is ready when as many are being made at once as the barrier has parties."""

    barrier: threading.Barrier

    def payload(self, staging: memoryview) -> Payload:
        self.barrier.wait(10)
        return Bytes(content(0)).payload(staging)


def test_one_transfer_is_striped_over_all_connections() -> None:
    barrier = threading.Barrier(4)
    config = CONFIG.model_copy(update={"min_streams": 4})
    with Receiver() as receiver, Sender(config) as sender:
        sent = sender.start(receiver.address)
        for i in range(4):
            sent.peer.send(sent.transfer, key(i), Meeting(barrier))
        sent.finish()
        assert sent.result() is None
        assert len({caught.connection for caught in receiver.of(Kind.OBJECT)}) == 4


def test_tails_go_first_and_then_the_earliest_deadline() -> None:
    held: list[Caught] = []
    receiver = Receiver(lambda caught: hold_first(held, receiver, caught), credit_bytes=FRAME)
    with receiver, Sender() as sender:
        plug = sender.start(receiver.address, objects=1)
        eventually(lambda: len(held) == 1)
        far, late, soon, tail = (sender.start(receiver.address, deadline_s=d) for d in (float("inf"), 30.0, 20.0, 90.0))
        others = [far, late, soon, tail]
        sender.accepted(*others)
        for sent in others:
            sent.send(0, 1)
        tail.finish()
        held[0].connection.ack(FRAME)
        eventually(lambda: len(receiver.objects()) == 9)
        order = [caught.header.transfer_id for caught in receiver.of(Kind.OBJECT)][1:]
        expected = [sent.transfer.transfer_id for sent in (tail, soon, late, far) for _ in range(2)]
        assert order == expected
        for sent in (plug, far, late, soon):
            sent.finish()
            assert sent.result() is None


def hold_first(held: list[Caught], receiver: Receiver, caught: Caught) -> bool:
    """The first object is placed and not acknowledged."""
    if caught.header.kind is not Kind.OBJECT or held:
        return True
    receiver.place(caught)
    held.append(caught)
    return False


def test_no_more_is_on_its_way_than_credit_and_window_allow() -> None:
    seen: list[int] = []
    peers: list[Sent] = []

    def watch(caught: Caught) -> bool:
        if caught.header.kind is Kind.OBJECT:
            seen.append(peers[0].peer.snapshot().in_flight_bytes)
        return True

    config = CONFIG.model_copy(update={"min_streams": 4})
    with Receiver(watch, credit_bytes=5 * FRAME) as receiver, Sender(config) as sender:
        peers.append(sent := sender.start(receiver.address))
        eventually(lambda: sender.connections() == 4)
        sent.send(*range(50))
        eventually(lambda: len(seen) == 50)
        assert 0 < max(seen) <= 5 * FRAME
        seen.clear()
        sent.peer.set_window(2 * FRAME)
        sent.send(*range(50, 100))
        eventually(lambda: len(seen) == 50)
        assert 0 < max(seen) <= 2 * FRAME
        sent.finish()
        assert sent.result() is None


def test_what_the_window_held_back_is_told() -> None:
    held: list[Caught] = []
    receiver = Receiver(lambda caught: hold_first(held, receiver, caught), credit_bytes=FRAME)
    with receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        eventually(lambda: len(held) == 1)
        eventually(lambda: sent.peer.snapshot().window_limited_s > 0)
        snapshot = sent.peer.snapshot()
        assert (snapshot.in_flight_bytes, snapshot.queued_bytes) == (FRAME, 2 * FRAME)
        assert snapshot.acknowledged_bytes == 0
        assert snapshot.busy_s > 0
        assert (snapshot.credit_bytes, snapshot.target_streams, len(snapshot.sockets)) == (FRAME, 1, 1)
        assert snapshot.connect_rtt_s is not None
        held[0].connection.ack(FRAME)
        eventually(lambda: sent.peer.snapshot().acknowledged_bytes == 3 * FRAME)
        assert (sent.peer.snapshot().in_flight_bytes, sent.peer.snapshot().queued_bytes) == (0, 0)


def test_connections_come_and_go_as_they_are_asked_for() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=1)
        sent.peer.set_streams(6)
        eventually(lambda: sender.connections() == 6)
        sent.peer.set_streams(100)
        eventually(lambda: sender.connections() == CONFIG.max_streams)
        sent.peer.set_streams(2)
        eventually(lambda: sender.connections() == 2)
        sent.send(1)
        sent.finish()
        assert sent.result() is None
        assert sender.reconnects() == 0


def test_the_receiver_says_how_many_connections_it_takes() -> None:
    config = CONFIG.model_copy(update={"min_streams": 8})
    with Receiver() as receiver, Sender(config) as sender:
        receiver.max_streams = 3
        sent = sender.start(receiver.address)
        eventually(lambda: sender.connections() == 3)
        assert sent.peer.snapshot().target_streams == 3
        sent.finish()
        assert sent.result() is None
        assert len(receiver.connections) == 3


def test_congestion_control_of_present_and_later_connections() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address)
        eventually(lambda: sender.connections() == 1)
        sent.peer.set_congestion_control("reno")
        sent.peer.set_streams(2)
        eventually(lambda: sender.connections() == 2)
        for sock in sent.peer.snapshot().sockets:
            name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
            assert name.rstrip(b"\0") == b"reno"


def test_the_same_ticket_twice_at_once_fails_the_second_only() -> None:
    with Receiver() as receiver, Sender() as sender:
        first = sender.start(receiver.address, objects=1)
        second = sender.start(receiver.address, transfer_id=first.transfer.transfer_id, objects=1)
        assert isinstance(second.result(), TicketError)
        second.peer.finish(second.transfer, SUMMARY)
        first.finish()
        assert first.result() is None
        assert receiver.objects() == [key(0)]
