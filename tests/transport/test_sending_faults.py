"""Sending over real sockets to receivers and over connections that fail: what is kept, and what goes again."""

import errno
import threading
from collections.abc import Callable

import pytest

from prfaas.core.errors import (
    DigestError,
    ManifestError,
    PeerLostError,
    PeerRefusedError,
    TransferError,
)
from prfaas.transport.outgoing import Payload
from prfaas.wire import messages
from prfaas.wire.header import Kind
from tests.eventually import eventually
from tests.transport.sending_rig import CONFIG, EPOCH, FRAME, Caught, Connection, Receiver, Sender, content, key

IMPATIENT = CONFIG.model_copy(update={"stall_s": 0.4})
FOUR = CONFIG.model_copy(update={"min_streams": 4})


def once(kind: Kind, act: Callable[[Caught], bool]) -> Callable[[Caught], bool]:
    """A hook that acts on the first frame of a kind only."""
    done = threading.Lock()

    def hook(caught: Caught) -> bool:
        if caught.header.kind is kind and done.acquire(blocking=False):
            return act(caught)
        return True

    return hook


def kill(caught: Caught) -> bool:
    caught.connection.kill()
    return False


def test_a_connection_that_is_lost_among_four_loses_nothing() -> None:
    with Receiver(once(Kind.OBJECT, kill)) as receiver, Sender(FOUR) as sender:
        sent = sender.start(receiver.address)
        eventually(lambda: sender.connections() == 4)
        sent.send(*range(100))
        eventually(lambda: sender.reconnects() == 1)
        sent.finish()
        assert sent.result() is None
        assert receiver.arrived[sent.transfer.transfer_id] == {key(i): content(i) for i in range(100)}
        # Beside the object that was killed, the few that were behind it on that connection.
        assert sender.resent_bytes("lost") == sent.transfer.session.bytes_again >= FRAME
        assert len(receiver.of(Kind.OPEN)) == 2


def test_after_an_outage_only_what_is_missing_goes_again() -> None:
    receiver: Receiver

    def hook(caught: Caught) -> bool:
        if caught.header.kind is not Kind.OBJECT or len(receiver.connections) > 1:
            return True
        if caught.header.key.start < 3:
            receiver.place(caught)
        if len(receiver.objects()) == 5:
            caught.connection.kill()
        return False

    receiver = Receiver(hook)
    with receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=5)
        eventually(lambda: len(receiver.connections) == 2)
        sent.finish()
        assert sent.result() is None
        assert sorted(k.start for k in receiver.objects()) == [0, 1, 2, 3, 3, 4, 4]
        assert sender.resent_bytes("lost") == sent.transfer.session.bytes_again == 2 * FRAME
        assert sender.reconnects() == 1


def test_all_of_four_connections_lost_at_once() -> None:
    def hook(caught: Caught) -> bool:
        if caught.header.kind is Kind.OBJECT and len(receiver.connections) == 4:
            for connection in receiver.connections:
                connection.kill()
            return False
        return True

    receiver = Receiver(hook)
    with receiver, Sender(FOUR) as sender:
        sent = sender.start(receiver.address)
        eventually(lambda: sender.connections() == 4)
        sent.send(*range(50))
        sent.finish()
        assert sent.result() is None
        assert receiver.arrived[sent.transfer.transfer_id] == {key(i): content(i) for i in range(50)}


def test_an_outage_that_lasts_fails_the_transfers() -> None:
    with Receiver() as receiver, Sender(IMPATIENT) as sender:
        sent = sender.start(receiver.address, objects=3)
        eventually(lambda: sender.connections() == 1)
        receiver.refuse_connections()
        receiver.connections[0].kill()
        assert isinstance(sent.result(), PeerLostError)
        assert sent.ended.empty()
        # And for a while nobody waits for it.
        assert isinstance(sender.start(receiver.address).result(), PeerLostError)


def test_a_commit_whose_answer_was_lost_is_asked_for() -> None:
    receiver: Receiver

    def commit_silently(caught: Caught) -> bool:
        receiver.committed.add(caught.header.transfer_id)
        return kill(caught)

    receiver = Receiver(once(Kind.MANIFEST, commit_silently))
    with receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        sent.finish()
        assert sent.result() is None
        assert len(receiver.of(Kind.MANIFEST)) == 1
        assert len(receiver.of(Kind.OPEN)) == 2


def test_a_manifest_that_was_lost_goes_again() -> None:
    with Receiver(once(Kind.MANIFEST, kill)) as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        sent.finish()
        assert sent.result() is None
        assert len(receiver.of(Kind.MANIFEST)) == 2


def test_a_corrupt_object_goes_again_by_request() -> None:
    def resend(caught: Caught) -> bool:
        header = caught.header
        caught.connection.say(Kind.RESEND, b"", (header.transfer_id, header.epoch), header.key)
        caught.connection.ack(1 << 30)
        return False

    with Receiver(once(Kind.OBJECT, resend)) as receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        sent.finish()
        assert sent.result() is None
        assert sorted(k.start for k in receiver.objects()) == [0, 0, 1, 2]
        assert sender.resent_bytes("corrupt") == sent.transfer.session.bytes_again == FRAME
        assert sender.reconnects() == 0


def noise(caught: Caught) -> None:
    caught.connection.sock.sendall(b"\x00" * 64)


def corrupt_payload(caught: Caught) -> None:
    caught.connection.say(Kind.ACK, b"\xc1nonsense")


def too_many(caught: Caught) -> None:
    caught.connection.frames += 1
    caught.connection.ack(1)


def too_few(caught: Caught) -> None:
    caught.connection.ack(1)
    caught.connection.frames -= 1
    caught.connection.ack(1)


def resend_unknown(caught: Caught) -> None:
    caught.connection.say(Kind.RESEND, b"", (caught.header.transfer_id, EPOCH), key(99))


def early_commit(caught: Caught) -> None:
    caught.connection.say(Kind.COMMITTED, b"", (caught.header.transfer_id, EPOCH))


def second_welcome(caught: Caught) -> None:
    welcome = messages.Welcome(3, "west-0", "west", EPOCH, FRAME, 1, 1)
    caught.connection.say(Kind.WELCOME, messages.encode(welcome))


def senders_frame(caught: Caught) -> None:
    caught.connection.say(Kind.CANCEL, b"", (caught.header.transfer_id, EPOCH))


def long_answer(caught: Caught) -> None:
    caught.connection.say(Kind.COMMITTED, bytes(messages.MAX_SMALL_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    "answer",
    [
        noise,
        corrupt_payload,
        too_many,
        too_few,
        resend_unknown,
        early_commit,
        second_welcome,
        senders_frame,
        long_answer,
    ],
)
def test_an_invalid_answer_ends_the_connection_and_nothing_more(answer: Callable[[Caught], None]) -> None:
    def act(caught: Caught) -> bool:
        receiver.place(caught)
        answer(caught)
        return False

    receiver = Receiver(once(Kind.OBJECT, act))
    with receiver, Sender() as sender:
        sent = sender.start(receiver.address, objects=3)
        eventually(lambda: sender.reconnects() == 1)
        sent.finish()
        assert sent.result() is None
        assert sent.ended.empty()


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.OBJECT])
def test_a_receiver_that_never_answers_is_lost(kind: Kind) -> None:
    with Receiver(lambda caught: caught.header.kind is not kind) as receiver, Sender(IMPATIENT) as sender:
        sent = sender.start(receiver.address, objects=3)
        assert isinstance(sent.result(), PeerLostError)
        assert sent.ended.empty()


def test_a_receiver_that_stops_reading_is_lost() -> None:
    def stop(caught: Caught) -> bool:
        if caught.header.kind is Kind.OBJECT:
            caught.connection.reading.clear()
        return caught.header.kind is not Kind.OBJECT

    size = 1 << 20
    config = IMPATIENT.model_copy(update={"frame_bytes": size})
    with Receiver(stop, frame_bytes=size) as receiver, Sender(config) as sender:
        sent = sender.start(receiver.address)
        sent.send_bytes(*[bytes(size)] * 64)
        assert isinstance(sent.result(), PeerLostError)
        assert 0 < sent.transfer.session.bytes_wire < 64 * size


@pytest.mark.parametrize(("kind", "streams"), [(Kind.OPEN, 1), (Kind.OBJECT, 1), (Kind.MANIFEST, 1), (Kind.OBJECT, 4)])
def test_a_connection_that_falls_silent_is_made_anew_before_its_transfers_fail(kind: Kind, streams: int) -> None:
    silent: list[Connection] = []

    def hook(caught: Caught) -> bool:
        if not silent and caught.header.kind is kind:
            silent.append(caught.connection)
        return caught.connection not in silent

    config = CONFIG.model_copy(update={"stall_s": 1.0, "min_streams": streams})
    with Receiver(hook) as receiver, Sender(config) as sender:
        sent = sender.start(receiver.address, objects=3)
        sender.accepted(sent)
        eventually(lambda: not sent.transfer.session.num_queued)
        sent.finish()
        assert sent.result() is None
    assert silent


def test_all_connections_that_are_as_silent_are_made_anew_together() -> None:
    silent: set[Connection] = set()
    config = CONFIG.model_copy(update={"stall_s": 1.0, "min_streams": 4})
    with Receiver(lambda caught: caught.connection not in silent) as receiver, Sender(config) as sender:
        first = sender.start(receiver.address, objects=3)
        eventually(lambda: sender.connections() == 4)
        first.finish()
        assert first.result() is None
        silent.update(receiver.connections)
        second = sender.start(receiver.address, objects=3)
        second.finish()
        assert second.result() is None


def test_one_silent_connection_among_others_loses_nothing() -> None:
    silent: list[Connection] = []

    def hook(caught: Caught) -> bool:
        if not silent and caught.header.kind is Kind.OBJECT:
            silent.append(caught.connection)
        return caught.connection not in silent

    config = CONFIG.model_copy(update={"stall_s": 1.0, "min_streams": 3})
    with Receiver(hook) as receiver, Sender(config) as sender:
        sent = sender.start(receiver.address)
        eventually(lambda: sender.connections() == 3)
        sent.send(*range(20))
        number = 20
        while sender.reconnects() == 0:
            # The others go on, which is how the sender knows that only one of them is at fault.
            eventually(lambda: sent.peer.snapshot().queued_bytes == 0)
            sent.send(number)
            number += 1
        sent.finish()
        assert sent.result() is None
        assert len(receiver.arrived[sent.transfer.transfer_id]) == number


def test_a_transfer_that_the_receiver_refuses_ends_with_its_reason() -> None:
    def refuse(caught: Caught) -> bool:
        rejected = messages.encode(messages.Rejected("manifest_invalid", "another model"))
        caught.connection.say(Kind.REJECTED, rejected, (caught.header.transfer_id, EPOCH))
        return False

    with Receiver(once(Kind.OPEN, refuse)) as receiver, Sender() as sender:
        refused = sender.start(receiver.address, objects=3)
        error = refused.result()
        assert isinstance(error, ManifestError)
        assert "another model" in str(error)
        other = sender.start(receiver.address, objects=1)
        other.finish()
        assert other.result() is None
        assert len(receiver.connections) == len(receiver.objects()) == 1
        assert not receiver.of(Kind.CANCEL)


def test_a_receiver_that_refuses_the_sender_fails_its_transfers_at_once() -> None:
    def refuse(caught: Caught) -> bool:
        caught.connection.say(Kind.REJECTED, messages.encode(messages.Rejected("peer_refused", "ejected")))
        return False

    with Receiver(once(Kind.HELLO, refuse)) as receiver, Sender() as sender:
        assert isinstance(sender.start(receiver.address, objects=3).result(), PeerRefusedError)
        assert isinstance(sender.start(receiver.address, objects=3).result(), PeerRefusedError)
        assert len(receiver.connections) == 1


def test_an_ejected_session_fails_its_transfers_with_the_reason() -> None:
    def eject(caught: Caught) -> bool:
        rejected = messages.encode(messages.Rejected("digest_mismatch", "corrupt again and again"))
        caught.connection.say(Kind.REJECTED, rejected, (caught.header.transfer_id, EPOCH))
        return kill(caught)

    with Receiver(once(Kind.OBJECT, eject)) as receiver, Sender() as sender:
        assert isinstance(sender.start(receiver.address, objects=3).result(), DigestError)
        eventually(lambda: sender.connections() == 0)


@pytest.mark.parametrize("closed", [True, False])
def test_a_receiver_that_is_not_there(closed: bool) -> None:
    with (
        Receiver(lambda _: False) as receiver,
        Sender(IMPATIENT.model_copy(update={"connect_timeout_s": 0.2})) as sender,
    ):
        if closed:
            receiver.refuse_connections()
        first = sender.start(receiver.address, objects=3)
        assert isinstance(first.result(), PeerLostError)
        assert isinstance(sender.start(receiver.address).result(), PeerLostError)
        assert len(receiver.connections) == (0 if closed else 1)


def test_a_process_without_descriptors_refuses_and_sends_again_when_it_has_some() -> None:
    def none_left(*_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with Receiver() as receiver, Sender() as sender:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.eventfd", none_left)
            assert isinstance(sender.start(receiver.address).result(), PeerLostError)
        sent = sender.start(receiver.address, objects=2)
        sent.finish()
        assert sent.result() is None


def test_an_error_that_nobody_foresaw_fails_the_transfer_and_no_more() -> None:
    def broken(*_: object) -> None:
        raise ValueError("unforeseen")

    with Receiver() as receiver, Sender() as sender, pytest.MonkeyPatch.context() as patch:
        patch.setattr("prfaas.transport.stream.connect", broken)
        assert isinstance(sender.start(receiver.address).result(), PeerLostError)


def test_a_receiver_that_comes_back_is_found_again() -> None:
    with Receiver() as receiver, Sender() as sender:
        first = sender.start(receiver.address, objects=2)
        first.finish()
        assert first.result() is None
        receiver.connections[0].kill()
        eventually(lambda: sender.connections() == 0)
        second = sender.start(receiver.address, objects=2)
        second.finish()
        assert second.result() is None
        assert len(receiver.connections) == 2


class Broken:
    """A source that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def payload(self, staging: memoryview) -> Payload:
        del staging
        raise self.error


@pytest.mark.parametrize("error", [DigestError("a page is not what it was"), RuntimeError("a bug")])
def test_an_object_that_cannot_be_read_fails_its_transfer_only(error: Exception) -> None:
    with Receiver() as receiver, Sender() as sender:
        bad, good = (sender.start(receiver.address, objects=1) for _ in range(2))
        bad.peer.send(bad.transfer, key(1), Broken(error))
        found = bad.result()
        assert isinstance(found, TransferError)
        assert str(error) in str(found)
        good.finish()
        assert good.result() is None
        eventually(lambda: len(receiver.of(Kind.CANCEL)) == 1)
        assert len(receiver.connections) == 1


def test_an_object_above_the_receivers_frames_fails_its_transfer_only() -> None:
    with Receiver(frame_bytes=FRAME - 1) as receiver, Sender() as sender:
        bad = sender.start(receiver.address, objects=1)
        assert isinstance(bad.result(), TransferError)
        good = sender.start(receiver.address)
        good.finish()
        assert good.result() is None
