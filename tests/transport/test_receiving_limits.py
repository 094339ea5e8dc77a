"""What a sender may not do to a receiver: noise, floods, deafness, hoarding; and what becomes of one that tries."""

import contextlib
import resource
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from prfaas.core.errors import DigestError
from prfaas.core.ids import TransferId, new_transfer_id
from prfaas.transport.framing import message_frame
from prfaas.wire.header import HEADER_BYTES, NO_OBJECT, NO_TRANSFER, Codec, FrameHeader, Kind
from prfaas.wire.messages import encode
from tests.eventually import eventually
from tests.transport.by_hand import HandSender, flip, object_header
from tests.transport.receiving_rig import CONFIG, EPOCH, Memory, Receiver
from tests.wire.small import OPEN, PIECES, content


def works(receiver: Receiver) -> None:
    """A transfer by a connection of its own still commits."""
    with HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES)
        sender.manifest(expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        expected.received()


def edited(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda frame: frame[:at] + value + frame[at + len(value) :]


GOOD = object_header(TransferId(b"t" * 16), PIECES[0]).pack() + content(PIECES[0])


@pytest.mark.parametrize(
    "noise",
    {
        "http": b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64,
        "zeros": bytes(64),
        "magic only": b"PFKV",
        "half a header": GOOD[:30],
        "half a payload": GOOD[:70],
        "magic": edited(0, b"PFKX")(GOOD),
        "version": edited(4, struct.pack("<H", 2))(GOOD),
        "transfer": edited(20, b"\xff")(GOOD),
        "checksum": edited(60, b"\xff\xff")(GOOD),
        "answer": message_frame(Kind.ACCEPTED),
        "second hello": message_frame(Kind.HELLO),
        "no msgpack": message_frame(Kind.OPEN, b"\xc1"),
        "corrupt message": edited(HEADER_BYTES, b"\x00")(message_frame(Kind.OPEN, encode(OPEN))),
    }.items(),
    ids=lambda noise: noise[0],
)
def test_noise_ends_only_its_own_connection(noise: tuple[str, bytes]) -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        sender.sock.sendall(noise[1])
        # Noise that is half a frame ends with the stream, the other with the receiver, which may be first.
        with contextlib.suppress(OSError):
            sender.sock.shutdown(socket.SHUT_WR)
        assert sender.hung_up()
        works(receiver)


@pytest.mark.parametrize(
    ("kind", "num_bytes"),
    [(Kind.HELLO, 1 << 20), (Kind.OPEN, 1 << 20), (Kind.OBJECT, 4097), (Kind.PROBE, 4097), (Kind.MANIFEST, 17 << 20)],
)
def test_too_long_a_frame_ends_the_connection(kind: Kind, num_bytes: int) -> None:
    with Receiver() as receiver, HandSender(receiver, hello=kind is not Kind.HELLO) as sender:
        sender.sock.sendall(FrameHeader(kind, NO_TRANSFER, 1, NO_OBJECT, Codec.RAW, 0, num_bytes, 0).pack())
        assert sender.hung_up()
        works(receiver)


def test_a_stranger_makes_us_hold_next_to_nothing() -> None:
    """A manifest of a transfer that is not open is thrown away as it comes."""
    with Receiver() as receiver, HandSender(receiver) as sender:
        sender.say(Kind.MANIFEST, bytes(1 << 20), new_transfer_id())
        assert sender.rejected() == "ticket_refused"


def test_a_stranger_that_says_nothing_is_hung_up_on() -> None:
    config = CONFIG.model_copy(update={"connect_timeout_s": 0.2})
    with Receiver(config) as receiver, HandSender(receiver, hello=False) as sender:
        assert sender.hung_up()


def test_a_hello_of_another_version_is_told_so() -> None:
    with Receiver() as receiver, HandSender(receiver, hello=False) as sender:
        sender.hello(versions=(4, 5))
        assert sender.rejected() == "wire_invalid"
        assert sender.hung_up()
        assert receiver.count("prfaas_kv_refused_total", code="wire_invalid") == 1


def test_a_session_belongs_to_one_sender() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        thief = HandSender(receiver, session=sender.session, hello=False)
        thief.hello("another")
        assert thief.rejected() == "wire_invalid"


def test_a_sender_has_only_so_many_connections() -> None:
    with (
        Receiver(CONFIG.model_copy(update={"max_streams": 4, "stall_s": 60.0})) as receiver,
        HandSender(receiver) as first,
    ):
        assert first.welcome.max_streams == 4
        others = [HandSender(receiver, session=first.session) for _ in range(3)]
        with HandSender(receiver, session=first.session, hello=False) as fifth:
            fifth.hello()
            assert fifth.rejected() == "unavailable"
        others[0].sock.close()
        receiver.settles(3)
        with HandSender(receiver, session=first.session):
            receiver.settles(4)


def test_a_silent_connection_makes_room_for_a_new_one_of_its_sender() -> None:
    config = CONFIG.model_copy(update={"max_streams": 1, "stall_s": 0.2})
    with Receiver(config) as receiver, HandSender(receiver) as silent:

        def welcome() -> bool:
            new = HandSender(receiver, session=silent.session, hello=False)
            new.hello()
            return new.hear()[0].kind is Kind.WELCOME

        eventually(welcome)
        assert silent.hung_up()


def test_idle_connections_make_room_for_others_and_busy_ones_do_not() -> None:
    with Receiver(CONFIG.model_copy(update={"max_connections": 2})) as receiver, HandSender(receiver) as idle:
        busy = HandSender(receiver)
        busy.open(receiver.expect().transfer_id)
        third = HandSender(receiver, hello=False)
        assert idle.hung_up()
        third.hello()
        third.expect(Kind.WELCOME)
        third.open(receiver.expect().transfer_id)
        assert HandSender(receiver, hello=False).hung_up()
        assert receiver.count("prfaas_kv_refused_total", code="unavailable") == 1


def test_a_flood_beyond_the_credit_ends_the_connection() -> None:
    gate = threading.Event()
    config = CONFIG.model_copy(update={"credit_bytes": 4096})
    with Receiver(config) as receiver, HandSender(receiver) as flood:
        expected = receiver.expect(Memory(gate=gate))
        flood.open(expected.transfer_id)
        # More is there to receive, so that nothing is acknowledged yet.
        flood.object(expected.transfer_id, PIECES[0])
        assert expected.memory.asked.wait(10)
        probe = FrameHeader(Kind.PROBE, NO_TRANSFER, 0, NO_OBJECT, Codec.RAW, 4096, 4096, 0).pack() + bytes(4096)
        flood.sock.sendall(probe * 3)
        gate.set()
        assert flood.hung_up()
        works(receiver)


def test_a_sender_that_reads_no_answers_is_hung_up_on() -> None:
    with Receiver(CONFIG.model_copy(update={"stall_s": 0.5})) as receiver, HandSender(receiver) as deaf:
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sock.settimeout(0.2)
        probe = FrameHeader(Kind.PROBE, NO_TRANSFER, 0, NO_OBJECT, Codec.RAW, 0, 0, 0).pack() * 1000

        def refused() -> bool:
            try:
                deaf.sock.sendall(probe)
            except TimeoutError:
                pass
            except OSError:
                return True
            return False

        eventually(refused)
        receiver.settles(0)
        works(receiver)


def test_corruption_ejects_the_connection_and_then_the_sender() -> None:
    with Receiver() as receiver:
        expected = receiver.expect()
        sender = HandSender(receiver)
        bystander = HandSender(receiver, session=sender.session)
        sender.open(expected.transfer_id)
        for _ in range(2):
            for _ in range(3):
                sender.object(expected.transfer_id, PIECES[0], edit=flip)
            assert sender.hung_up()
            assert expected.ended.empty()
            sender = HandSender(receiver, session=sender.session)
        assert receiver.count("prfaas_kv_ejections_total", what="connection") == 2
        for _ in range(3):
            sender.object(expected.transfer_id, PIECES[0], edit=flip)
        assert isinstance(expected.result(), DigestError)
        assert sender.hung_up()
        assert bystander.hung_up()
        assert receiver.count("prfaas_kv_ejections_total", what="peer") == 1
        with HandSender(receiver, hello=False) as again:
            again.hello()
            assert again.rejected() == "peer_refused"
        with HandSender(receiver, hello=False) as other:
            other.hello("somebody-else")
            other.expect(Kind.WELCOME)


def test_a_full_staging_arena_makes_senders_wait_and_no_more() -> None:
    """Three connections bring encoded objects, and there is room for two."""
    gate = threading.Event()
    with Receiver() as receiver, HandSender(receiver) as first:
        senders = [first, *(HandSender(receiver, session=first.session) for _ in range(2))]
        expected = [receiver.expect(Memory(staged=True, gate=gate)) for _ in senders]
        for sender, one in zip(senders, expected, strict=True):
            sender.open(one.transfer_id)
            sender.object(one.transfer_id, *PIECES)
            sender.manifest(one.transfer_id)
        eventually(lambda: receiver.server.num_staged == 2)
        gate.set()
        for sender, one in zip(senders, expected, strict=True):
            sender.expect(Kind.COMMITTED)
            one.received()
        assert receiver.server.num_staged == 0


def test_a_server_that_closes_lets_those_go_who_wait_for_staging() -> None:
    config = CONFIG.model_copy(update={"staging_bytes": 4096})
    with Receiver(config) as receiver, HandSender(receiver) as first, HandSender(receiver) as second:
        for sender in (first, second):
            expected = receiver.expect(Memory(staged=True))
            sender.open(expected.transfer_id)
            head = object_header(expected.transfer_id, PIECES[3])
            sender.sock.sendall(head.pack() + content(PIECES[3])[:5])
        eventually(lambda: receiver.server.num_staged == 1)


def test_outcomes_go_by_another_connection_when_theirs_is_gone() -> None:
    with Receiver() as receiver, HandSender(receiver) as second:
        with HandSender(receiver, session=second.session) as first:
            expected = receiver.expect()
            first.open(expected.transfer_id)
        receiver.settles(1)
        receiver.inbox.close(expected.transfer_id, EPOCH, DigestError("for a reason"))
        assert second.rejected() == "digest_mismatch"


def test_a_session_that_lost_all_connections_goes_on_where_it_was() -> None:
    with Receiver() as receiver:
        expected = receiver.expect()
        with HandSender(receiver) as sender:
            sender.open(expected.transfer_id)
            sender.object(expected.transfer_id, *PIECES[:2])
            sender.acknowledged(2)
        receiver.settles(0)
        with HandSender(receiver, session=sender.session) as again:
            again.object(expected.transfer_id, *PIECES[2:])
            again.manifest(expected.transfer_id)
            again.expect(Kind.COMMITTED)
        expected.received()


def _try_connect(receiver: Receiver) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", receiver.port), timeout=1)
    except OSError:
        return None


def test_out_of_descriptors_is_survived() -> None:
    with Receiver() as receiver:
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
        works(receiver)


def test_the_oldest_commits_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prfaas.transport.tombstones.CAPACITY", 1)
    with Receiver() as receiver, HandSender(receiver) as sender:
        ids = []
        for _ in range(2):
            expected = receiver.expect()
            sender.open(expected.transfer_id)
            sender.object(expected.transfer_id, *PIECES)
            sender.manifest(expected.transfer_id)
            sender.expect(Kind.COMMITTED)
            ids.append(expected.transfer_id)
        sender.say(Kind.OPEN, encode(OPEN), ids[0])
        assert sender.rejected() == "ticket_refused"
        sender.say(Kind.OPEN, encode(OPEN), ids[1])
        sender.expect(Kind.COMMITTED)


def test_an_epoch_of_another_life_is_refused() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.say(Kind.OPEN, encode(OPEN), expected.transfer_id, EPOCH + 1)
        assert sender.rejected() == "ticket_refused"
        old = msgspec.structs.replace(object_header(expected.transfer_id, PIECES[0]), epoch=EPOCH + 1)
        sender.sock.sendall(old.pack() + content(PIECES[0]))
        sender.acknowledged(1)
        assert expected.memory.only(0)
