"""The sending state machine by itself: what goes again, when the receiver is asked, and when the manifest goes."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.messages import RowRange
from prfaas.wire.sending import Encoded, SendSession, Stage, Summary
from tests.wire.small import OPEN

SUMMARY = Summary(42, tokens_computed=10, tokens_reused=0, queue_ms=1.0, prefill_ms=2.0)
KEYS = [ObjectKey(i % 3, 0, i, i + 1) for i in range(8)]


# mypy takes a property that was asserted for constant.
def open_due(session: SendSession) -> bool:
    return session.open_due


def finished(session: SendSession) -> bool:
    return session.finished


def manifest_sent(session: SendSession) -> bool:
    return session.manifest_sent


def encoded(key: ObjectKey) -> Encoded:
    return Encoded(Codec.RAW, 10 + key.start, 10 + key.start, 100 + key.start)


def row(key: ObjectKey) -> RowRange:
    return RowRange(key.layer, key.tensor, key.start, key.end)


def accepted(*keys: ObjectKey) -> SendSession:
    """A session whose receiver takes objects."""
    session = SendSession(OPEN)
    for key in keys:
        session.add(key)
    assert open_due(session)
    assert session.next() is None
    session.accepted(())
    return session


def send_all(session: SendSession) -> dict[ObjectKey, int]:
    """The attempt of each object that was queued."""
    sent: dict[ObjectKey, int] = {}
    while (key := session.next()) is not None:
        sent[key] = session.sending(key, encoded(key))
    return sent


@given(st.data())
def test_whatever_is_lost_or_corrupt_goes_again_until_all_is_delivered(data: st.DataObject) -> None:
    session = accepted(*KEYS)
    session.finish(SUMMARY)
    sendings: dict[ObjectKey, int] = dict.fromkeys(KEYS, 0)
    arrived: set[ObjectKey] = set()
    for _ in range(20):
        attempts = send_all(session)
        for key, attempt in attempts.items():
            sendings[key] += 1
            assert key not in arrived
            fate = data.draw(st.sampled_from(["delivered", "corrupt", "lost", "lost but there"]))
            if fate in ("delivered", "lost but there"):
                arrived.add(key)
            if fate == "delivered":
                session.delivered(key, attempt)
            elif fate == "corrupt":
                assert session.corrupt(key, attempt) == encoded(key).wire_bytes
            else:
                session.lost(key, attempt)
                assert open_due(session)
                assert session.manifest() is None
        if session.open_due:
            again = session.accepted([row(key) for key in arrived])
            assert not open_due(session)
            queued = sum(encoded(key).wire_bytes for key in KEYS if key not in arrived)
            assert again <= queued
        if not session.has_next:
            break
    assert session.has_next == (arrived != set(KEYS))
    manifest = session.manifest()
    assert manifest is not None
    assert [o.digest for o in manifest.objects] == [encoded(key).digest for key in KEYS]
    assert session.bytes_raw == sum(encoded(key).raw_bytes for key in KEYS)
    assert session.bytes_again == sum((sendings[key] - 1) * encoded(key).wire_bytes for key in KEYS)
    assert session.bytes_wire == session.bytes_raw + session.bytes_again


def test_answers_to_an_earlier_sending_do_not_count() -> None:
    session = accepted(KEYS[0])
    first = send_all(session)[KEYS[0]]
    session.lost(KEYS[0], first)
    session.accepted(())
    second = send_all(session)[KEYS[0]]
    assert second != first
    assert session.corrupt(KEYS[0], first) == 0
    session.lost(KEYS[0], first)
    session.delivered(KEYS[0], first)
    assert not session.has_next
    assert not open_due(session)
    assert session.corrupt(KEYS[0], second) == encoded(KEYS[0]).wire_bytes
    assert session.has_next


def test_a_range_that_covers_several_objects_covers_each() -> None:
    keys = [ObjectKey(1, 0, i, i + 2) for i in range(0, 8, 2)]
    session = accepted(*keys)
    for key, attempt in send_all(session).items():
        session.lost(key, attempt)
    session.accepted([RowRange(1, 0, 0, 4), RowRange(1, 1, 4, 8)])
    assert list(send_all(session)) == keys[2:]


def test_the_manifest_goes_once_every_object_has_its_digest() -> None:
    session = accepted(*KEYS[:2])
    assert not finished(session)
    session.finish(SUMMARY)
    assert finished(session)
    assert session.manifest() is None
    send_all(session)
    assert not manifest_sent(session)
    assert session.manifest() is not None
    assert manifest_sent(session)
    assert session.manifest() is None


def test_a_lost_manifest_goes_again_when_the_receiver_has_been_asked() -> None:
    session = accepted()
    session.finish(SUMMARY)
    assert session.manifest() is not None
    session.manifest_lost()
    session.ask()
    assert open_due(session)
    assert session.manifest() is None
    # It may have been committed all the same, and is believed to be.
    assert manifest_sent(session)
    session.accepted(())
    assert not open_due(session)
    assert session.manifest() is not None


def test_an_ended_session_sends_and_asks_nothing() -> None:
    session = accepted(*KEYS)
    attempts = {key: session.sending(key, encoded(key)) for key in [session.next()] if key}
    session.end()
    for key, attempt in attempts.items():
        assert session.corrupt(key, attempt) == 0
        session.lost(key, attempt)
    session.ask()
    assert session.accepted(()) == 0
    assert session.stage is Stage.ENDED
    assert not open_due(session)
    assert session.next() is None
    assert session.num_queued == 0
    assert session.manifest() is None
