"""After a transfer was closed, or an object taken over, nothing more is written into its memory."""

import threading

import pytest

from prfaas.core.errors import CancelledError
from prfaas.core.ids import TransferId
from prfaas.transport.inbox import Received
from prfaas.wire.header import Kind
from tests.eventually import eventually
from tests.transport.by_hand import HandSender, object_header
from tests.transport.receiving_rig import CONFIG, EPOCH, Memory, Receiver
from tests.wire.small import PIECES, content

PIECE = PIECES[3]
HALF = len(content(PIECE)) // 2


def send_half(sender: HandSender, transfer_id: TransferId) -> bytes:
    """Begins an object and returns the rest of it."""
    data = content(PIECE)
    sender.sock.sendall(object_header(transfer_id, PIECE).pack() + data[:HALF])
    return data[HALF:]


@pytest.mark.parametrize("staged", [False, True])
def test_a_close_in_the_middle_of_a_frame_returns_and_fences(staged: bool) -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Memory(staged=staged))
        sender.open(expected.transfer_id)
        rest = send_half(sender, expected.transfer_id)
        eventually(lambda: expected.transfer.bytes_arrived == HALF)
        assert receiver.server.num_staged == staged
        receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("enough"))
        assert receiver.server.num_staged == 0
        expected.memory.fill(0xEE)
        sender.sock.sendall(rest)
        sender.object(expected.transfer_id, *PIECES)
        assert sender.rejected() == "cancelled"
        sender.acknowledged(1 + len(PIECES))
        assert expected.memory.only(0xEE)
        assert isinstance(expected.result(), CancelledError)
        assert receiver.count("prfaas_kv_corrupt_frames_total") == 0
        # The stream is in step.
        sender.open(receiver.expect().transfer_id)


def test_a_close_waits_for_a_placing_that_has_begun() -> None:
    gate = threading.Event()
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Memory(staged=True, gate=gate))
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, PIECE)
        assert expected.memory.asked.wait(10)
        closed = threading.Event()

        def close() -> None:
            receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("enough"))
            expected.memory.fill(0xEE)
            closed.set()

        closing = threading.Thread(target=close)
        closing.start()
        assert not closed.is_set()
        gate.set()
        closing.join()
        assert sender.rejected() == "cancelled"
        sender.acknowledged(1)
        assert expected.memory.only(0xEE)


def test_a_close_between_a_header_and_its_place_fences() -> None:
    gate = threading.Event()
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Memory(gate=gate))
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, PIECE)
        assert expected.memory.asked.wait(10)
        receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("enough"))
        expected.memory.fill(0xEE)
        gate.set()
        assert sender.rejected() == "cancelled"
        sender.acknowledged(1)
        assert expected.memory.only(0xEE)


@pytest.mark.parametrize("staged", [False, True])
def test_a_half_received_object_is_taken_over_by_another_connection(staged: bool) -> None:
    with Receiver() as receiver, HandSender(receiver) as stuck, HandSender(receiver, session=stuck.session) as live:
        expected = receiver.expect(Memory(staged=staged))
        stuck.open(expected.transfer_id)
        send_half(stuck, expected.transfer_id)
        eventually(lambda: expected.transfer.bytes_arrived == HALF)
        live.object(expected.transfer_id, *PIECES)
        live.manifest(expected.transfer_id)
        live.expect(Kind.COMMITTED)
        got = expected.received()
        expected.memory.fill(0xEE)
        stuck.sock.sendall(bytes(len(content(PIECE)) - HALF))
        stuck.acknowledged(1)
        # Its digest is wrong, which nobody minds any more.
        assert expected.memory.only(0xEE)
        assert receiver.count("prfaas_kv_corrupt_frames_total") == 0
        assert got.bytes_again == 0
        assert receiver.count("prfaas_kv_duplicate_bytes_total") == len(content(PIECE))


@pytest.mark.parametrize("staged", [False, True])
def test_a_connection_that_dies_inside_a_frame_harms_nothing(staged: bool) -> None:
    with Receiver() as receiver, HandSender(receiver) as live:
        expected = receiver.expect(Memory(staged=staged))
        with HandSender(receiver, session=live.session) as dying:
            dying.open(expected.transfer_id)
            send_half(dying, expected.transfer_id)
            eventually(lambda: expected.transfer.bytes_arrived == HALF)
            dying.reset()
        receiver.settles(1)
        assert receiver.server.num_staged == 0
        assert expected.transfer.verified_tokens() == 0
        live.object(expected.transfer_id, *PIECES)
        live.manifest(expected.transfer_id)
        live.expect(Kind.COMMITTED)
        outcome = expected.result()
        assert isinstance(outcome, Received)
        assert outcome.bytes_again == len(content(PIECE))


def test_a_sender_that_falls_silent_inside_a_frame_is_hung_up_on() -> None:
    with Receiver(CONFIG.model_copy(update={"stall_s": 0.3})) as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Memory(staged=True))
        sender.open(expected.transfer_id)
        send_half(sender, expected.transfer_id)
        assert sender.hung_up()
        receiver.settles(0)
        assert receiver.server.num_staged == 0
        assert expected.ended.empty()
