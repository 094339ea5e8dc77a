"""Sending over real sockets: what goes, in which order, and that every end is reported once."""

from prfaas.core.errors import TicketError
from prfaas.wire.header import Kind
from tests.eventually import eventually
from tests.transport.sending_rig import CONFIG, FRAME, Caught, Receiver, Sender, content, key


def test_a_transfer_arrives_whole_and_both_sides_know() -> None:
    with Receiver() as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=5)
        sent.finish()
        assert sent.result() is None
        assert receiver.arrived[sent.transfer.transfer_id] == {key(i): content(i) for i in range(5)}
        assert sent.transfer.session.bytes_wire == sent.transfer.session.bytes_raw == 5 * FRAME
        assert sender.outbox.bytes_acknowledged() == 5 * FRAME
        assert sent.ended.empty()


def test_transfers_share_the_connections() -> None:
    config = CONFIG.model_copy(update={"min_streams": 4})
    with Receiver() as receiver, Sender(config) as sender:
        all_sent = [sender.start(receiver.address, objects=3) for _ in range(20)]
        for sent in all_sent:
            sent.finish()
        for sent in all_sent:
            assert sent.result() is None
        eventually(lambda: sender.connections() == 4)
        assert len(receiver.connections) == 4
    assert sender.connections() == 0
