"""Frames by hand against a real data server: what is placed, what is answered, and what ends a transfer."""

import dataclasses
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prfaas.core.errors import CancelledError, ManifestError, PeerLostError, TransferError
from prfaas.core.ids import new_transfer_id
from prfaas.transport.framing import message_frame
from prfaas.wire import messages
from prfaas.wire.header import Codec, Kind, ObjectKey
from prfaas.wire.messages import RowRange, encode
from tests.eventually import eventually
from tests.transport.by_hand import HandSender, flip, object_header
from tests.transport.receiving_rig import EPOCH, Memory, Receiver
from tests.wire.small import MLA, OPEN, PIECES, content, manifest


@pytest.mark.parametrize("staged", [False, True])
def test_a_transfer_commits_once_and_both_know(staged: bool) -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        assert (sender.welcome.epoch, sender.welcome.instance_id) == (EPOCH, "west-0")
        expected = receiver.expect(Memory(staged=staged))
        assert sender.open(expected.transfer_id) == ()
        sender.object(expected.transfer_id, *PIECES)
        sender.acknowledged(len(PIECES))
        assert expected.transfer.verified_tokens() == 10
        sender.manifest(expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        got = expected.received()
    total = sum(len(content(key)) for key in PIECES)
    assert (got.bytes_raw, got.bytes_wire, got.bytes_again) == (total, total, 0)
    assert (got.codecs, got.lossy) == (frozenset({Codec.RAW}), False)
    assert expected.transfer.bytes_arrived == total
    assert receiver.count("prfaas_kv_bytes_total", direction="in", stage="wire") == total
    assert receiver.count("prfaas_kv_bytes_total", direction="in", stage="raw") == total
    assert len(receiver.inbox) == 0


ORDERS = st.permutations([*range(len(PIECES)), None]).flatmap(
    lambda order: st.tuples(st.just(order), st.lists(st.integers(0, 1), min_size=len(order), max_size=len(order)))
)


def test_any_order_over_any_of_two_connections_commits() -> None:
    with Receiver() as receiver, HandSender(receiver) as first, HandSender(receiver, session=first.session) as second:
        both = first, second

        @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(ORDERS)
        def commits(plan: tuple[list[int | None], list[int]]) -> None:
            expected = receiver.expect()
            first.open(expected.transfer_id)
            for piece, way in zip(*plan, strict=True):
                if piece is None:
                    both[way].manifest(expected.transfer_id)
                else:
                    both[way].object(expected.transfer_id, PIECES[piece])
            expected.received()

        commits()
        assert receiver.connections == 2


def test_duplicates_are_counted_and_harmless() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES, *PIECES[:2])
        sender.manifest(expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        # What comes behind the commit is neither placed nor refused.
        expected.memory.fill(0xEE)
        sender.object(expected.transfer_id, *PIECES)
        sender.acknowledged(2 * len(PIECES) + 2)
        assert expected.memory.only(0xEE)
        again = sum(len(content(key)) for key in PIECES[:2])
        assert receiver.count("prfaas_kv_duplicate_bytes_total") == again


def test_an_empty_manifest_commits_what_is_held_already() -> None:
    shape = dataclasses.replace(receiver_shape := Memory().expectation.shape, layers=(MLA,))
    held = dataclasses.replace(
        Memory().expectation, shape=shape, sent_shapes={"float32": shape}, held_tokens=OPEN.prompt_tokens
    )
    assert receiver_shape != shape
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(expectation=held)
        sender.open(expected.transfer_id, msgspec.structs.replace(OPEN, held_tokens=OPEN.prompt_tokens))
        whole = msgspec.structs.replace(manifest(), objects=(), held_tokens=OPEN.prompt_tokens)
        sender.say(Kind.MANIFEST, encode(whole), expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        assert expected.received().transfer_s == 0.0


@pytest.mark.parametrize("staged", [False, True])
def test_a_corrupt_object_is_asked_for_again(staged: bool) -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Memory(staged=staged))
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, PIECES[0], edit=flip)
        head, _ = sender.hear()
        assert (head.kind, head.transfer_id, head.epoch, head.key) == (
            Kind.RESEND,
            expected.transfer_id,
            EPOCH,
            PIECES[0],
        )
        sender.acknowledged(1)
        sender.manifest(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES)
        sender.expect(Kind.COMMITTED)
        assert expected.received().bytes_again == len(content(PIECES[0]))
        assert receiver.count("prfaas_kv_corrupt_frames_total") == 1


def test_a_manifest_that_lies_fails_the_transfer_only() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES)
        first, *rest = manifest().objects
        lie = msgspec.structs.replace(first, digest=first.digest ^ 1)
        payload = encode(msgspec.structs.replace(manifest(), objects=(lie, *rest)))
        sender.say(Kind.MANIFEST, payload, expected.transfer_id)
        assert sender.rejected() == "manifest_invalid"
        assert isinstance(expected.result(), ManifestError)
        # Said once: what else comes of it is dropped without a word.
        sender.object(expected.transfer_id, *PIECES)
        sender.manifest(expected.transfer_id)
        sender.acknowledged(2 * len(PIECES))
        assert receiver.count("prfaas_kv_refused_total", code="manifest_invalid") == 1
        good = receiver.expect()
        sender.open(good.transfer_id)


def _tall(key: ObjectKey) -> ObjectKey:
    return msgspec.structs.replace(key, end=key.end + 1)


@pytest.mark.parametrize(
    "bad",
    [
        lambda h: msgspec.structs.replace(h, key=_tall(h.key)),
        lambda h: msgspec.structs.replace(h, key=msgspec.structs.replace(h.key, layer=9)),
        lambda h: msgspec.structs.replace(h, raw_bytes=h.raw_bytes + 1),
        lambda h: msgspec.structs.replace(h, codec=Codec.EXACT),
        lambda h: msgspec.structs.replace(h, codec=Codec.STATE16),
    ],
)
def test_an_object_that_must_not_come_fails_the_transfer(bad: Callable[..., object]) -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        head = bad(object_header(expected.transfer_id, PIECES[0]))
        sender.sock.sendall(head.pack() + content(PIECES[0]))  # type: ignore[attr-defined] # a header, edited
        assert sender.rejected() == "manifest_invalid"
        assert isinstance(expected.result(), ManifestError)
        assert expected.memory.only(0)


def test_what_cannot_be_decoded_fails_the_transfer() -> None:
    class Undecodable(Memory):
        def place(self, *_: object) -> None:
            raise TransferError("not a payload of that codec")

    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect(Undecodable(staged=True))
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, PIECES[0])
        assert sender.rejected() == "transfer_failed"
        assert isinstance(expected.result(), TransferError)
        assert receiver.server.num_staged == 0


@pytest.mark.parametrize(
    ("opening", "code"),
    [
        (msgspec.structs.replace(OPEN, secret=b"x" * 16), "ticket_refused"),
        (msgspec.structs.replace(OPEN, model_fingerprint="another model"), "manifest_invalid"),
        (msgspec.structs.replace(OPEN, prompt_tokens=11), "manifest_invalid"),
        (msgspec.structs.replace(OPEN, held_tokens=7), "manifest_invalid"),
    ],
)
def test_wrong_openings_are_refused_and_do_no_harm(opening: messages.Open, code: str) -> None:
    with Receiver() as receiver, HandSender(receiver) as intruder, HandSender(receiver) as sender:
        expected = receiver.expect()
        intruder.say(Kind.OPEN, encode(opening), expected.transfer_id)
        assert intruder.rejected() == code
        intruder.object(expected.transfer_id, PIECES[0])
        intruder.acknowledged(1)
        assert expected.memory.only(0)
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES)
        sender.manifest(expected.transfer_id)
        expected.received()


def test_a_ticket_that_nobody_gave_is_refused_and_its_objects_dropped() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        stranger = new_transfer_id()
        sender.say(Kind.OPEN, encode(OPEN), stranger)
        assert sender.rejected() == "ticket_refused"
        sender.object(stranger, *PIECES)
        sender.acknowledged(len(PIECES))
        unopened = receiver.expect()
        sender.object(unopened.transfer_id, *PIECES)
        assert sender.rejected() == "ticket_refused"
        assert unopened.memory.only(0)
        # The same ticket, shown as it should be.
        sender.open(unopened.transfer_id)


def test_an_opening_again_tells_what_has_arrived() -> None:
    with Receiver() as receiver:
        expected = receiver.expect()
        with HandSender(receiver) as sender:
            sender.open(expected.transfer_id)
            sender.object(expected.transfer_id, PIECES[1], PIECES[2], PIECES[3])
            sender.acknowledged(3)
        receiver.settles(0)
        with HandSender(receiver) as again:
            assert again.open(expected.transfer_id) == (
                RowRange(0, 0, 1, 2),
                RowRange(0, 1, 0, 3),
                RowRange(1, 0, 0, 7),
            )
            assert expected.transfer.verified_tokens() == 7
            again.object(expected.transfer_id, PIECES[0], PIECES[4])
            again.manifest(expected.transfer_id)
            again.expect(Kind.COMMITTED)
        assert expected.received().bytes_again == 0


def test_a_committed_transfer_answers_its_sender_again_and_nobody_else() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender, HandSender(receiver) as other:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        sender.object(expected.transfer_id, *PIECES)
        sender.manifest(expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("over"))
        sender.manifest(expected.transfer_id)
        sender.expect(Kind.COMMITTED)
        other.say(Kind.OPEN, encode(OPEN), expected.transfer_id)
        other.expect(Kind.COMMITTED)
        other.say(Kind.OPEN, encode(msgspec.structs.replace(OPEN, secret=b"?")), expected.transfer_id)
        assert other.rejected() == "ticket_refused"
        expected.received()
        assert expected.ended.empty()


def test_a_manifest_that_was_on_its_way_again_at_the_commit_is_no_fault() -> None:
    with Receiver() as receiver, HandSender(receiver) as first:
        expected = receiver.expect()
        transfer_id = expected.transfer_id
        with HandSender(receiver, session=first.session) as second:
            first.open(transfer_id)
            late = message_frame(Kind.MANIFEST, encode(manifest()), transfer_id, EPOCH)
            first.sock.sendall(late[:-1])
            eventually(lambda: any(c._frames and c._frames.inside_frame for c in receiver.server._serving.values()))
            second.object(transfer_id, *PIECES)
            second.manifest(transfer_id)
            second.expect(Kind.COMMITTED)
            first.sock.sendall(late[-1:])
            first.expect(Kind.COMMITTED)
        expected.received()


def test_a_cancelled_transfer_ends_here_too() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender, HandSender(receiver) as other:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        other.say(Kind.CANCEL, b"", expected.transfer_id)
        sender.object(expected.transfer_id, PIECES[0])
        sender.acknowledged(1)
        assert expected.ended.empty()
        sender.say(Kind.CANCEL, b"", expected.transfer_id)
        assert isinstance(expected.result(), PeerLostError)


def test_a_sender_hears_at_once_that_its_transfer_is_given_up() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        sender.open(expected.transfer_id)
        receiver.inbox.close(expected.transfer_id, EPOCH, CancelledError("the client left"))
        assert sender.rejected() == "cancelled"
        assert isinstance(expected.result(), CancelledError)
        assert len(receiver.inbox) == 0


def test_every_connection_of_a_sender_hears_why_its_transfer_was_given_up() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        expected = receiver.expect()
        others = [HandSender(receiver, session=sender.session) for _ in range(2)]
        sender.open(expected.transfer_id)
        receiver.inbox.fail((expected.transfer_id, EPOCH), CancelledError("failed"))
        others[0].object(expected.transfer_id, PIECES[0])
        assert others[0].rejected() == "cancelled"
        receiver.inbox.close(expected.transfer_id, EPOCH, PeerLostError("closed after it failed"))
        others[1].manifest(expected.transfer_id)
        assert others[1].rejected() == "cancelled"


def test_probes_are_dropped_and_acknowledged() -> None:
    with Receiver() as receiver, HandSender(receiver) as sender:
        for size in (0, 1, 4096):
            sender.probe(size)
        sender.acknowledged(3)
        eventually(lambda: receiver.count("prfaas_kv_bytes_total", direction="in", stage="wire") == 4097)
