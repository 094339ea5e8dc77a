"""The receiving state machine: complete transfers commit once, nothing else ever does."""

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ManifestError, TicketError
from prfaas.wire.header import LOSSY, Codec, FrameHeader, ObjectKey
from prfaas.wire.messages import Manifest, ManifestObject, RowRange
from prfaas.wire.receiving import Phase, ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.wire.small import (
    BF16_SHAPE,
    EXPECTATION,
    FINGERPRINT,
    OPEN,
    PIECES,
    SECRET,
    SHAPE,
    content,
    entry,
    entry_of,
    header,
    manifest,
    manifest_listing,
)

ALL_CODECS = dataclasses.replace(EXPECTATION, codecs=frozenset(Codec))


def opened(expectation: Expectation = EXPECTATION, **changes: Any) -> ReceiveSession:
    session = ReceiveSession(expectation)
    session.open(msgspec.structs.replace(OPEN, **changes))
    return session


def place_headers(session: ReceiveSession, *headers: FrameHeader) -> None:
    for h in headers:
        landing = session.begin(h)
        assert landing is not None
        assert session.placed(landing)


def place(session: ReceiveSession, *keys: ObjectKey) -> None:
    place_headers(session, *(header(key) for key in keys))


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
    assert session.bytes_raw == session.bytes_wire == sum(header(key).raw_bytes for key in PIECES)
    assert session.commit() is None
    assert session.codecs == {Codec.RAW}
    assert not session.lossy


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


@pytest.mark.parametrize("lie", [{"digest": 1}, {"codec": 1}, {"wire_bytes": 1}])
@pytest.mark.parametrize("which", range(len(PIECES)))
def test_a_manifest_that_lies_about_an_object_never_commits(lie: dict[str, int], which: int) -> None:
    session = opened()
    place(session, *PIECES)
    objects = list(manifest().objects)
    objects[which] = msgspec.structs.replace(objects[which], **lie)
    session.manifest(manifest_listing(objects))
    with pytest.raises(ManifestError, match="does not match what arrived"):
        session.commit()


def test_other_cuts_than_the_manifests_never_commit() -> None:
    session = opened()
    place(session, *PIECES[:3], ObjectKey(1, 0, 0, 6), ObjectKey(1, 0, 6, 10))
    session.manifest(manifest())
    with pytest.raises(ManifestError, match="does not match what arrived"):
        session.commit()


@pytest.mark.parametrize(
    "bad",
    [
        manifest(*PIECES, PIECES[0]),
        manifest(*PIECES[:-1], ObjectKey(1, 0, 8, 10)),
        manifest(*PIECES[:-1], ObjectKey(1, 0, 6, 10)),
        msgspec.structs.replace(manifest(), prompt_tokens=11),
        msgspec.structs.replace(manifest(), held_tokens=1),
        msgspec.structs.replace(manifest(), tokens_reused=1),
        msgspec.structs.replace(manifest(), tokens_computed=9),
        manifest_listing([*manifest().objects, ManifestObject(7, 0, 0, 1, 0, 4, 0)]),
        manifest_listing([*manifest().objects, ManifestObject(1, 0, 10, 11, 0, 16, 0)]),
        manifest_listing([*manifest().objects, ManifestObject(1, 0, 10, 10, 0, 0, 0)]),
        manifest_listing([]),
    ],
)
def test_manifests_with_gaps_overlaps_or_strangers(bad: Manifest) -> None:
    session = opened()
    place(session, *PIECES)
    with pytest.raises(ManifestError):
        session.manifest(bad)
    assert session.commit() is None


def test_the_same_manifest_may_come_again_another_may_not() -> None:
    session = opened()
    session.manifest(manifest())
    session.manifest(manifest())
    with pytest.raises(ManifestError, match="differs from the first"):
        session.manifest(msgspec.structs.replace(manifest(), first_token_id=43))
    place(session, *PIECES)
    assert session.commit() == manifest()


def replaced(piece: ObjectKey, **changes: Any) -> FrameHeader:
    return msgspec.structs.replace(header(piece), **changes)


@pytest.mark.parametrize(
    "bad",
    [
        replaced(PIECES[0], key=ObjectKey(2, 0, 0, 1)),
        replaced(PIECES[0], key=ObjectKey(0, 2, 0, 1)),
        replaced(PIECES[3], key=ObjectKey(1, 0, 4, 11)),
        replaced(PIECES[3], key=ObjectKey(1, 0, 7, 7)),
        replaced(PIECES[3], key=ObjectKey(1, 0, 7, 0)),
        replaced(PIECES[3], raw_bytes=111),
        replaced(PIECES[3], wire_bytes=1),
        replaced(PIECES[3], wire_bytes=113),
        replaced(PIECES[3], codec=Codec.INT8_TOKEN, wire_bytes=56),
    ],
)
def test_objects_that_must_not_come(bad: FrameHeader) -> None:
    session = opened()
    with pytest.raises(ManifestError):
        session.begin(bad)
    place(session, *PIECES)


def test_objects_that_overlap_are_refused_on_the_ground_and_in_the_air() -> None:
    session = opened()
    place(session, ObjectKey(1, 0, 2, 5))
    for start, end in [(0, 3), (4, 10), (0, 10), (3, 4)]:
        with pytest.raises(ManifestError, match="overlaps"):
            session.begin(header(ObjectKey(1, 0, start, end)))
    flying = session.begin(header(ObjectKey(1, 0, 7, 9)))
    assert flying is not None
    for start, end in [(5, 8), (8, 9), (8, 10), (5, 10)]:
        with pytest.raises(ManifestError, match="overlaps"):
            session.begin(header(ObjectKey(1, 0, start, end)))
    place(session, ObjectKey(1, 0, 0, 2), ObjectKey(1, 0, 5, 7), ObjectKey(1, 0, 9, 10))
    assert session.placed(flying)
    assert session.verified_tokens() == 10


def test_what_has_arrived_is_dropped_when_it_comes_again() -> None:
    session = opened()
    place(session, PIECES[3])
    assert session.begin(header(PIECES[3])) is None
    assert session.begin(header(PIECES[3], b"\xff" * 112)) is None, "another content for the same rows is not taken"
    assert (session.bytes_wire, session.bytes_again) == (112, 224)


def test_the_later_of_two_connections_counts() -> None:
    session = opened()
    dead, live = session.begin(header(PIECES[3], b"\xff" * 112)), session.begin(header(PIECES[3]))
    assert dead is not None
    assert live is not None
    assert not session.current(dead)
    assert not session.placed(dead)
    assert session.current(live)
    assert not session.dropped(dead)
    assert session.placed(live)
    session.manifest(manifest())
    place(session, *(key for key in PIECES if key != PIECES[3]))
    assert session.commit() is not None
    assert session.bytes_again == 224, "the dead one was answered twice by this test"


def test_corrupt_objects_are_awaited_again() -> None:
    session = opened()
    landing = session.begin(header(PIECES[3]))
    assert landing is not None
    assert session.dropped(landing)
    assert not session.current(landing)
    assert not session.dropped(landing), "only once"
    place(session, PIECES[3])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"secret": b"x" * 16}, TicketError),
        ({"secret": SECRET[:15]}, TicketError),
        ({"model_fingerprint": "other"}, ManifestError),
        ({"prompt_tokens": 9}, ManifestError),
        ({"held_tokens": 8}, ManifestError),
    ],
)
def test_opening_needs_the_secret_the_model_and_the_prompt(change: dict[str, Any], error: type[Exception]) -> None:
    session = ReceiveSession(EXPECTATION)
    with pytest.raises(error):
        session.open(msgspec.structs.replace(OPEN, **change))
    assert session.phase is Phase.OFFERED
    with pytest.raises(TicketError):
        session.begin(header(PIECES[0]))
    with pytest.raises(TicketError):
        session.manifest(manifest())
    session.open(OPEN)
    with pytest.raises((TicketError, ManifestError)):
        session.open(msgspec.structs.replace(OPEN, **change))
    place(session, *PIECES)


def test_a_dtype_that_cannot_be_converted_is_refused_at_once() -> None:
    only = dataclasses.replace(EXPECTATION, sent_shapes={"float32": SHAPE})
    with pytest.raises(ManifestError, match="bfloat16, which cannot be converted"):
        opened(only, kv_dtype="bfloat16")


def test_the_senders_dtype_gives_the_sizes() -> None:
    session = opened(kv_dtype="bfloat16")
    assert session.sent_shape is BF16_SHAPE
    with pytest.raises(ManifestError, match="112 bytes, not 56"):
        session.begin(header(PIECES[3]))
    halves = [header(key, content(key)[::2]) for key in PIECES[2:]]
    place(session, *PIECES[:2])
    place_headers(session, *halves)
    session.manifest(manifest_listing([*map(entry, PIECES[:2]), *map(entry_of, halves)]))
    assert session.commit() is not None


def test_opening_again_says_what_arrived() -> None:
    session = opened()
    assert session.open(OPEN) == ()
    place(session, PIECES[4], PIECES[0])
    landing = session.begin(header(PIECES[1]))
    assert landing is not None
    assert session.open(OPEN) == (RowRange(0, 0, 0, 1), RowRange(1, 0, 7, 10))
    assert session.placed(landing)
    place(session, PIECES[3])
    assert session.open(OPEN) == (RowRange(0, 0, 0, 2), RowRange(1, 0, 0, 10))
    place(session, PIECES[2])
    session.manifest(manifest())
    assert session.commit() is not None
    assert session.open(OPEN) == (RowRange(0, 0, 0, 2), RowRange(0, 1, 0, 3), RowRange(1, 0, 0, 10))


def test_codecs_are_those_of_the_ticket_and_of_the_tensor() -> None:
    latent, state, conv = header(PIECES[3]), header(PIECES[0]), header(PIECES[2])
    for h, good in ((latent, {0, 2, 3}), (state, {0, 4}), (conv, {0})):
        for codec in Codec:
            encoded = msgspec.structs.replace(h, codec=codec, wire_bytes=h.wire_bytes - (codec is not Codec.RAW))
            if codec in good:
                assert opened(ALL_CODECS).begin(encoded) is not None
            else:
                with pytest.raises(ManifestError, match="not offered"):
                    opened(ALL_CODECS).begin(encoded)
    session = opened(ALL_CODECS)
    place_headers(session, msgspec.structs.replace(latent, codec=Codec.INT8_TOKEN, wire_bytes=60), state)
    assert (session.bytes_raw, session.bytes_wire) == (112 + 64, 60 + 64)
    assert session.codecs == {Codec.RAW, Codec.INT8_TOKEN}
    assert session.lossy
    assert {Codec.RAW, Codec.EXACT}.isdisjoint(LOSSY)


def test_phases_are_final() -> None:
    session = opened()
    place(session, PIECES[0])
    flying = session.begin(header(PIECES[1]))
    assert flying is not None
    session.fail()
    assert not session.current(flying)
    assert not session.placed(flying)
    for refused in (
        lambda: session.begin(header(PIECES[1])),
        lambda: session.manifest(manifest()),
        lambda: session.open(OPEN),
    ):
        with pytest.raises(TicketError):
            refused()
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
