"""Transfers between the two real ends: what arrives, what is refused, and that every end is reported once."""

from functools import partial

import msgspec
import pytest

from prfaas.core.errors import CancelledError, ManifestError, PeerLostError, PrfaasError, TicketError
from prfaas.core.ids import new_transfer_id
from prfaas.wire import messages
from tests.eventually import eventually
from tests.transport.receiving_rig import Memory
from tests.transport.rig import CONFIG, EPOCH, Receiver, Sender
from tests.wire.small import OPEN, PIECES, content

TOTAL = sum(len(content(key)) for key in PIECES)


@pytest.mark.parametrize("staged", [False, True])
def test_a_transfer_arrives_whole_and_both_sides_know(staged: bool) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect(Memory(staged=staged))
        sent = sender.send_all(receiver.address, expected)
        got = expected.received()
        assert sent.result() is None
    assert got.manifest.first_token_id == 42
    assert got.bytes_raw == got.bytes_wire == sent.transfer.session.bytes_wire == TOTAL


def test_many_transfers_share_few_connections() -> None:
    with Receiver() as receiver, Sender() as sender:
        pairs = [(e, sender.send_all(receiver.address, e)) for e in (receiver.expect() for _ in range(50))]
        for expected, sent in pairs:
            expected.received()
            assert sent.result() is None
        assert receiver.connections <= CONFIG.min_streams
        assert sender.connections <= CONFIG.min_streams


def test_interleaved_transfers_do_not_mix() -> None:
    with Receiver() as receiver, Sender() as sender:
        pairs = [(e, sender.start(receiver.address, e.transfer_id)) for e in (receiver.expect() for _ in range(4))]
        for key in PIECES:
            for _, sent in pairs:
                sent.send(key)
        for expected, sent in pairs:
            sent.finish()
            expected.received()
            assert sent.result() is None


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        (msgspec.structs.replace(OPEN, secret=b"x" * 16), TicketError),
        (msgspec.structs.replace(OPEN, model_fingerprint="another model"), ManifestError),
    ],
)
def test_wrong_openings_are_refused_and_do_no_harm(opening: messages.Open, error: type[PrfaasError]) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        intruder = sender.start(receiver.address, expected.transfer_id, opening)
        intruder.send(PIECES[0])
        assert isinstance(intruder.result(), error)
        assert sender.send_all(receiver.address, expected).result() is None
        expected.received()


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
def test_unknown_and_stale_tickets_are_refused(epoch: int) -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        transfer_id = new_transfer_id() if epoch == EPOCH else expected.transfer_id
        assert isinstance(sender.start(receiver.address, transfer_id, epoch=epoch).result(), TicketError)


def test_a_manifest_without_all_objects_never_commits() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        sent.send(*PIECES[:-1])
        sent.finish()
        assert isinstance(sent.result(), ManifestError)
        assert isinstance(expected.result(), ManifestError)


def test_a_transfer_that_is_given_up_here_ends_there() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        sent.send(*PIECES[:2])
        eventually(lambda: expected.transfer.bytes_arrived == 2 * len(content(PIECES[0])))
        receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("enough"))
        assert isinstance(sent.result(), CancelledError)
        assert isinstance(expected.result(), CancelledError)


def test_a_transfer_that_is_given_up_there_ends_here() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        sent.send(PIECES[0])
        eventually(lambda: expected.transfer.bytes_arrived == len(content(PIECES[0])))
        sent.peer.abandon(sent.transfer, CancelledError("the client left"))
        assert isinstance(sent.result(), CancelledError)
        assert isinstance(expected.result(), PeerLostError)
        assert sender.send_all(receiver.address, receiver.expect()).result() is None


def test_lost_connections_cost_what_was_on_them_and_no_more() -> None:
    with Receiver() as receiver, Sender() as sender:
        expected = receiver.expect()
        sent = sender.start(receiver.address, expected.transfer_id)
        for i, key in enumerate(PIECES):
            sent.send(key)
            due = sum(len(content(key)) for key in PIECES[: i + 1])
            eventually(partial(lambda due: expected.transfer.bytes_arrived >= due, due))
            receiver.cut_all()
        sent.finish()
        expected.received()
        assert sent.result() is None
        assert sent.transfer.session.bytes_again <= TOTAL


def test_a_receiver_that_came_back_without_its_memory_refuses_what_was_for_the_old_one() -> None:
    with Sender() as sender:
        with Receiver() as receiver:
            expected = receiver.expect()
            sent = sender.start(receiver.address, expected.transfer_id)
            sent.send(PIECES[0])
            eventually(lambda: expected.transfer.bytes_arrived > 0)
        with Receiver(port=receiver.port) as again:
            sent.send(*PIECES[1:])
            sent.finish()
            assert isinstance(sent.result(), TicketError)
            assert sender.send_all(receiver.address, again.expect()).result() is None


def test_idle_strangers_do_not_shut_senders_out() -> None:
    config = CONFIG.model_copy(update={"max_connections": 3, "min_streams": 1})
    with Receiver(config) as receiver, Sender(config) as sender:
        for _ in range(3):
            receiver.stranger()
        receiver.settles(3)
        assert sender.send_all(receiver.address, receiver.expect()).result() is None
