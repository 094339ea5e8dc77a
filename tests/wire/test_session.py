"""The receiving state machine: complete transfers commit once, nothing else ever does."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prfaas.wire.session import Phase, ReceiveSession

from prfaas.core.errors import ManifestError, TicketError
from prfaas.wire.header import FrameHeader, ObjectKey
from prfaas.wire.messages import Manifest
from tests.wire.small import EXPECTATION, FINGERPRINT, OPEN, PIECES, SECRET, entry, header, manifest


def opened() -> ReceiveSession:
    session = ReceiveSession(EXPECTATION)
    session.open(OPEN)
    return session


def place(session: ReceiveSession, *keys: ObjectKey) -> None:
    for key in keys:
        session.admit(header(key))
        session.placed(header(key))


@given(st.permutations([*PIECES, None]))
def test_any_order_commits_when_and_only_when_all_is_there(order: list[ObjectKey | None]) -> None:
    session = opened()
    for step, key in enumerate(order):
        if key is None:
            session.manifest(manifest())
        else:
            place(session, key)
        assert (session.commit() is not None) == (step == len(order) - 1)
    assert session.phase is Phase.COMMITTED
    assert session.bytes_raw == sum(header(key).raw_bytes for key in PIECES)
    assert session.commit() is None


@given(st.sampled_from(PIECES))
def test_one_missing_object_is_enough_to_never_commit(missing: ObjectKey) -> None:
    session = opened()
    place(session, *(key for key in PIECES if key != missing))
    session.manifest(manifest())
    assert session.commit() is None


@given(st.sampled_from(PIECES))
def test_a_manifest_that_leaves_something_out_is_refused(missing: ObjectKey) -> None:
    session = opened()
    place(session, *PIECES)
    with pytest.raises(ManifestError):
        session.manifest(manifest(*(key for key in PIECES if key != missing)))
    assert session.commit() is None


def test_a_manifest_that_lies_about_a_digest_is_refused() -> None:
    session = opened()
    place(session, *PIECES)
    objects = tuple(msgspec.structs.replace(o, digest=o.digest ^ 1) for o in manifest().objects)
    session.manifest(msgspec.structs.replace(manifest(), objects=objects))
    with pytest.raises(ManifestError, match="does not match what arrived"):
        session.commit()


@pytest.mark.parametrize(
    "bad",
    [
        manifest(*PIECES, PIECES[0]),
        manifest(*PIECES[:-1], ObjectKey(1, 0, 8, 10)),
        msgspec.structs.replace(manifest(), prompt_tokens=11),
        msgspec.structs.replace(manifest(), held_tokens=1),
        msgspec.structs.replace(manifest(), tokens_reused=1),
        msgspec.structs.replace(manifest(), tokens_computed=9),
        msgspec.structs.replace(
            manifest(), objects=(*manifest().objects[:-1], msgspec.structs.replace(entry(PIECES[-1]), raw_bytes=1))
        ),
        msgspec.structs.replace(manifest(), objects=()),
    ],
)
def test_manifests_with_gaps_overlaps_or_wrong_sizes(bad: Manifest) -> None:
    session = opened()
    place(session, *PIECES)
    with pytest.raises(ManifestError):
        session.manifest(bad)


def replaced(key: ObjectKey, **changes: int) -> FrameHeader:
    return dataclasses.replace(header(key), **changes)  # type: ignore[arg-type] # one helper for several int fields


@pytest.mark.parametrize(
    "bad",
    [
        dataclasses.replace(header(PIECES[0]), key=ObjectKey(2, 0, 0, 1)),
        dataclasses.replace(header(PIECES[0]), key=ObjectKey(0, 2, 0, 1)),
        dataclasses.replace(header(PIECES[3]), key=ObjectKey(1, 0, 4, 11)),
        dataclasses.replace(header(PIECES[3]), key=ObjectKey(1, 0, 7, 7)),
        dataclasses.replace(header(PIECES[3]), key=ObjectKey(1, 0, 7, 0)),
        replaced(PIECES[3], raw_bytes=111),
        replaced(PIECES[3], wire_bytes=1),
    ],
)
def test_objects_that_the_model_does_not_have(bad: FrameHeader) -> None:
    with pytest.raises(ManifestError):
        opened().admit(bad)


def test_objects_that_overlap_are_refused() -> None:
    session = opened()
    place(session, ObjectKey(1, 0, 2, 5))
    for start, end in [(2, 5), (0, 3), (4, 10), (0, 10), (3, 4)]:
        with pytest.raises(ManifestError, match="overlaps"):
            session.admit(header(ObjectKey(1, 0, start, end)))
    place(session, ObjectKey(1, 0, 0, 2), ObjectKey(1, 0, 5, 10))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"secret": b"x" * 16}, TicketError),
        ({"model_fingerprint": "other"}, ManifestError),
        ({"prompt_tokens": 9}, ManifestError),
        ({"held_tokens": 8}, ManifestError),
    ],
)
def test_opening_needs_the_secret_the_model_and_the_prompt(change: dict[str, object], error: type[Exception]) -> None:
    session = ReceiveSession(EXPECTATION)
    with pytest.raises(error):
        session.open(msgspec.structs.replace(OPEN, **change))
    assert session.phase is Phase.OFFERED
    with pytest.raises(TicketError):
        session.admit(header(PIECES[0]))


def test_phases_are_final() -> None:
    session = opened()
    with pytest.raises(TicketError, match="cannot be opened again"):
        session.open(OPEN)
    place(session, PIECES[0])
    session.fail()
    with pytest.raises(TicketError):
        session.admit(header(PIECES[1]))
    with pytest.raises(TicketError):
        session.manifest(manifest())
    assert session.commit() is None
    committed = opened()
    place(committed, *PIECES)
    committed.manifest(manifest())
    assert committed.commit() is not None
    committed.fail()
    assert committed.phase is Phase.COMMITTED


def test_secret_is_not_in_what_we_print() -> None:
    session = ReceiveSession(EXPECTATION)
    with pytest.raises(TicketError) as caught:
        session.open(msgspec.structs.replace(OPEN, secret=b"wrong"))
    assert SECRET.decode() not in str(caught.value)
    assert FINGERPRINT not in str(caught.value)
