"""Transfers given up and senders closed in the middle: buffers are free when `on_done` says so, and nothing is left."""

import gc
import threading
from pathlib import Path

from prfaas.core.errors import CancelledError, PeerLostError
from prfaas.wire.header import Kind
from tests.eventually import eventually
from tests.transport.sending_rig import CONFIG, FRAME, Bytes, Caught, Receiver, Sender, content, key

SIZE = 8 << 20
LARGE = CONFIG.model_copy(update={"frame_bytes": SIZE})


def stop_after_opening(caught: Caught) -> bool:
    """The receiver accepts transfers and reads no objects."""
    if caught.header.kind is Kind.OPEN:
        caught.connection.reading.clear()
    return True


def test_a_transfer_given_up_in_the_middle_of_a_frame_keeps_its_buffers_until_that_is_out() -> None:
    with Receiver(stop_after_opening, frame_bytes=SIZE) as receiver, Sender(LARGE) as sender:
        sent = sender.start(receiver.address)
        sender.accepted(sent)
        sent.send_bytes(bytes(SIZE), bytes(SIZE), bytes(SIZE))
        eventually(lambda: sent.transfer.session.bytes_wire >= SIZE)
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert sent.ended.empty()
        receiver.connections[0].reading.set()
        assert isinstance(sent.result(), CancelledError)
        eventually(lambda: len(receiver.of(Kind.CANCEL)) == 1)
        assert sent.transfer.session.bytes_wire < 3 * SIZE
        assert sent.ended.empty()


def test_a_frame_that_does_not_move_is_ended_with_its_connection() -> None:
    config = LARGE.model_copy(update={"stall_s": 0.4})
    with Receiver(stop_after_opening, frame_bytes=SIZE) as receiver, Sender(config) as sender:
        sent = sender.start(receiver.address)
        sender.accepted(sent)
        sent.send_bytes(bytes(SIZE), bytes(SIZE))
        eventually(lambda: sent.transfer.session.bytes_wire >= SIZE)
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        eventually(lambda: sender.connections() == 0)


def test_what_is_queued_of_an_abandoned_transfer_never_goes() -> None:
    held: list[Caught] = []

    def hold(caught: Caught) -> bool:
        if caught.header.kind is Kind.OBJECT:
            held.append(caught)
            return False
        return True

    with Receiver(hold, credit_bytes=FRAME) as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=10)
        eventually(lambda: len(held) == 1)
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        eventually(lambda: len(receiver.of(Kind.CANCEL)) == 1)
        # Calls that come too late do nothing.
        sent.send(11)
        sent.finish()
        sent.peer.abandon(sent.transfer, PeerLostError("twice"))
        receiver.hook = None
        held[0].connection.ack(FRAME)
        other = sender.start(receiver.address, objects=1)
        other.finish()
        assert other.result() is None
        assert len(receiver.objects()) == 2
        assert sent.ended.empty()


def test_a_transfer_given_up_while_a_payload_is_made_waits_for_it() -> None:
    gate = threading.Event()
    source = Bytes(content(0), gate)
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address)
        sent.peer.send(sent.transfer, key(0), source)
        eventually(lambda: source.calls == 1)
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert sent.ended.empty()
        gate.set()
        assert isinstance(sent.result(), CancelledError)
        eventually(lambda: len(receiver.of(Kind.CANCEL)) == 1)
        assert receiver.objects() == []
        assert sent.peer.snapshot().in_flight_bytes == 0


def test_a_transfer_that_the_receiver_never_heard_of_is_not_cancelled_there() -> None:
    with Receiver(lambda caught: caught.header.kind is not Kind.HELLO) as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        assert [caught for caught in receiver.caught if caught.header.kind is not Kind.HELLO] == []


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_ends_everything_and_leaves_nothing() -> None:
    descriptors = open_descriptors()
    threads = threading.active_count()
    config = LARGE.model_copy(update={"min_streams": 4, "stall_s": 60.0})
    with Receiver(stop_after_opening, frame_bytes=SIZE) as receiver:
        sender = Sender(config)
        all_sent = [sender.start(receiver.address) for _ in range(3)]
        sender.accepted(all_sent[0])
        eventually(lambda: sender.connections() == 4)
        for sent in all_sent:
            sent.send_bytes(*[bytes(SIZE)] * 4)
            sent.finish()
        eventually(lambda: all_sent[0].transfer.session.bytes_wire > 0)
        sender.outbox.close()
        for sent in all_sent:
            assert isinstance(sent.result(), CancelledError)
            assert sent.ended.empty()
        late = sender.start(receiver.address)
        sender.outbox.close()
        assert isinstance(late.result(), CancelledError | PeerLostError)
    assert sender.connections() == 0
    eventually(lambda: threading.active_count() == threads)
    assert open_descriptors() == descriptors


def test_closing_does_not_wait_for_a_connection_that_is_being_made() -> None:
    config = CONFIG.model_copy(update={"connect_timeout_s": 600.0})
    with Receiver(lambda _: False) as receiver:
        sender = Sender(config)
        sent = sender.start(receiver.address, objects=3)
        eventually(lambda: len(receiver.of(Kind.HELLO)) == 1)
        sender.outbox.close()
        assert isinstance(sent.result(), CancelledError)


def test_peers_that_have_gone_are_forgotten() -> None:
    with Sender() as sender:
        for _ in range(3):
            with Receiver() as receiver:
                sent = sender.start(receiver.address, objects=2)
                sent.finish()
                assert sent.result() is None
                eventually(lambda: len(sender.outbox.peers()) == 1)
            eventually(lambda: sender.outbox.peers()[0].idle)
        assert sender.outbox.bytes_acknowledged() == 6 * FRAME
