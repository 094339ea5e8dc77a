"""Whoever puts the changes together knows what they were worked out from."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.fleet_changes import FleetChange, change_of, merged
from prfaas.gateway.fleet_reply import FleetReply
from prfaas.gateway.placement_log import KEPT
from tests.gateway.fleet_samples import INSTANCE, PATH, PLACEMENT, fleet

names = st.sampled_from(["a", "b", "c", "d"])
states = st.sampled_from(["up", "draining", "stale"])
instances = st.dictionaries(names, st.tuples(st.integers(0, 3), states), max_size=4)


@st.composite
def fleets(draw: st.DrawFn) -> FleetReply:
    """Numbers of placements rise, so only their outcomes differ from one fleet to the next."""
    members = [
        msgspec.structs.replace(INSTANCE, name=name, slots=slots, state=state)
        for name, (slots, state) in sorted(draw(instances).items())
    ]
    outcomes = draw(st.lists(st.sampled_from(["running", "done", "failed"]), min_size=3, max_size=3))
    rows = [
        msgspec.structs.replace(PLACEMENT, number=i, request=f"r{i}", outcome=outcome)
        for i, outcome in enumerate(outcomes)
    ]
    paths = [msgspec.structs.replace(PATH, utilisation=draw(st.sampled_from([0.0, 0.5])))]
    threshold, draining = draw(st.integers(0, 2)), draw(st.booleans())
    return fleet(instances=members, placements=rows, paths=paths, threshold_tokens=threshold, draining=draining)


def sorted_by_name(whole: FleetReply) -> FleetReply:
    return msgspec.structs.replace(whole, instances=sorted(whole.instances, key=lambda one: one.name))


@given(fleets(), fleets())
def test_changes_lead_from_one_look_to_the_next(before: FleetReply, after: FleetReply) -> None:
    told = msgspec.json.decode(msgspec.json.encode(change_of(before, after)), type=FleetChange)
    assert sorted_by_name(merged(before, told)) == after


def said(before: FleetReply, after: FleetReply) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(change_of(before, after)))
    return told


def test_what_is_as_it_was_is_not_told() -> None:
    older = msgspec.structs.replace(INSTANCE, age_s=0.9, role_age_s=11.0)
    told = said(fleet(), fleet(unix_s=1e9 + 1, instances=[older]))
    assert set(told) == {"unix_s", "latest"}


def test_only_what_changed_is_told_and_who_left_is_named() -> None:
    other = msgspec.structs.replace(INSTANCE, name="p-1")
    busy = msgspec.structs.replace(other, slots=9)
    answered = msgspec.structs.replace(PLACEMENT, ttft_s=0.7)
    told = said(fleet(instances=[INSTANCE, other]), fleet(instances=[busy], placements=[answered]))
    assert [instance["name"] for instance in told["instances"]] == ["p-1"]
    assert told["gone"] == ["p-0"]
    assert told["placements"][0]["ttft_s"] == 0.7


def test_a_second_attempt_takes_the_place_of_the_first() -> None:
    again = msgspec.structs.replace(PLACEMENT, number=2, attempt=2)
    after = merged(fleet(), change_of(fleet(), fleet(placements=[again])))
    assert after.placements == [again]


def test_no_more_placements_are_remembered_than_the_router_keeps() -> None:
    many = [msgspec.structs.replace(PLACEMENT, number=i, request=f"r{i}") for i in range(2, 2 + KEPT)]
    after = merged(fleet(), change_of(fleet(), fleet(placements=many)))
    assert len(after.placements) == KEPT
    assert after.placements[0].number == 2
