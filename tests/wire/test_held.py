"""Transfers to a receiver that holds the start of the prompt: the rest must come, nothing may touch the start."""

import dataclasses

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prfaas.core.errors import ManifestError
from prfaas.core.shape import ModelShape
from prfaas.wire.header import ObjectKey
from prfaas.wire.receiving import Phase, ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.wire.small import EXPECTATION, FINGERPRINT, MLA, OPEN, SECRET, TOKENS, header, manifest_of, pieces

HELD = st.integers(0, TOKENS)


def expecting(held: int) -> Expectation:
    return dataclasses.replace(EXPECTATION, held_tokens=held)


def opened(held: int) -> ReceiveSession:
    session = ReceiveSession(expecting(held))
    session.open(msgspec.structs.replace(OPEN, held_tokens=held))
    return session


def place(session: ReceiveSession, key: ObjectKey) -> None:
    landing = session.begin(header(key))
    assert landing is not None
    assert session.placed(landing)


@given(st.data(), HELD)
def test_any_cut_of_the_rest_in_any_order_commits_once_and_only_when_complete(data: st.DataObject, held: int) -> None:
    keys, session = data.draw(pieces(expecting(held))), opened(held)
    manifest_at = data.draw(st.integers(0, len(keys)))
    commits = 0
    for step in range(len(keys) + 1):
        if step == manifest_at:
            session.manifest(manifest_of(keys, held))
        if step < len(keys):
            assert session.commit() is None
            place(session, keys[step])
        commits += session.commit() is not None
    assert (commits, session.phase, session.commit()) == (1, Phase.COMMITTED, None)
    shape = EXPECTATION.shape
    assert session.bytes_raw == (TOKENS - held) * shape.kv_bytes_per_token + shape.state_bytes


@given(st.data(), HELD)
def test_with_anything_missing_it_never_commits(data: st.DataObject, held: int) -> None:
    keys = data.draw(pieces(expecting(held)))
    missing = data.draw(st.sampled_from(keys))
    rest = [key for key in keys if key != missing]
    session = opened(held)
    for key in rest:
        place(session, key)
    with pytest.raises(ManifestError):
        session.manifest(manifest_of(rest, held))
    session.manifest(manifest_of(keys, held))
    assert session.commit() is None


@given(st.data(), HELD)
def test_nothing_is_placed_twice(data: st.DataObject, held: int) -> None:
    keys, session = data.draw(pieces(expecting(held))), opened(held)
    for key in keys:
        place(session, key)
    again = data.draw(st.sampled_from(keys))
    assert session.begin(header(again)) is None
    with pytest.raises(ManifestError, match="gap or an overlap"):
        session.manifest(manifest_of([*keys, again], held))
    assert session.commit() is None


@given(st.data(), st.integers(1, TOKENS))
def test_what_the_receiver_holds_is_never_written(data: st.DataObject, held: int) -> None:
    """Others read those pages: an object that reaches into them by one row is refused, on its own and in a manifest."""
    start = data.draw(st.integers(0, held - 1))
    end = data.draw(st.integers(start + 1, TOKENS))
    intruder, session = ObjectKey(1, 0, start, end), opened(held)
    with pytest.raises(ManifestError, match="that are awaited"):
        session.begin(header(intruder))
    states = [ObjectKey(0, 0, 0, 2), ObjectKey(0, 1, 0, 3)]
    rest = [ObjectKey(1, 0, end, TOKENS)] if end < TOKENS else []
    with pytest.raises(ManifestError):
        session.manifest(manifest_of([*states, intruder, *rest], held))
    assert session.commit() is None


@given(HELD, HELD)
def test_a_sender_that_leaves_out_more_or_less_is_refused(ours: int, theirs: int) -> None:
    assume(ours != theirs)
    session = ReceiveSession(expecting(ours))
    with pytest.raises(ManifestError, match=f"leaves {theirs} tokens out, we hold {ours}"):
        session.open(msgspec.structs.replace(OPEN, held_tokens=theirs))
    session.open(msgspec.structs.replace(OPEN, held_tokens=ours))
    with pytest.raises(ManifestError, match=f"leaves {theirs} tokens out, we hold {ours}"):
        session.manifest(manifest_of([], theirs))


def test_all_held_of_a_model_without_states_needs_no_object() -> None:
    dense = ModelShape("dense", (MLA, MLA), max_context_tokens=1024)
    session = ReceiveSession(Expectation(dense, {"float32": dense}, FINGERPRINT, TOKENS, SECRET, held_tokens=TOKENS))
    session.open(msgspec.structs.replace(OPEN, held_tokens=TOKENS))
    session.manifest(manifest_of([], TOKENS))
    assert session.commit() is not None
    assert session.bytes_raw == 0


def test_all_held_of_a_hybrid_still_needs_every_state() -> None:
    session = opened(TOKENS)
    for key in (ObjectKey(0, 0, 0, 2), ObjectKey(0, 1, 0, 2)):
        place(session, key)
    with pytest.raises(ManifestError, match="lacks part of layer 0"):
        session.manifest(manifest_of([], TOKENS))


@pytest.mark.parametrize("held", [-1, TOKENS + 1])
def test_no_ticket_can_hold_what_the_prompt_does_not_have(held: int) -> None:
    with pytest.raises(AssertionError):
        expecting(held)
