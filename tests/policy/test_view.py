"""A view that is changed one instance at a time is the view made anew."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.matches import FEW, MANY, longest
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, InstanceView, PlacementRequest
from tests.policy.fleets import H20, PARAMS, SEATS, cached, fleet, seat, views, way


def same(one: ClusterView, other: ClusterView) -> bool:
    """But for the order of what has none."""
    return (dict(one.parts), dict(one.homes), dict(one.links)) == (
        dict(other.parts),
        dict(other.homes),
        dict(other.links),
    )


changes = st.lists(
    st.tuples(
        st.sampled_from(sorted(SEATS)),
        st.sampled_from(["put", "move", "drop"]),
        st.integers(0, 3),
        st.integers(0, 30),
    ),
    max_size=15,
)


@given(view=views(), steps=changes)
def test_any_changes(view: ClusterView, steps: list[tuple[str, str, int, int]]) -> None:
    known = {i.instance_id: i for i in view.instances}
    for name, what, waiting, running in steps:
        instance_id = InstanceId(name)
        if what == "drop":
            view = view.without(instance_id)
            known.pop(instance_id, None)
            continue
        cluster = SEATS[name] if what == "put" else {"west": "south", "east": "north"}.get(SEATS[name], SEATS[name])
        load = {"waiting_tokens": waiting * 100, "waiting_requests": waiting, "running_requests": running}
        known[instance_id] = seat(name, cluster, **load)
        view = view.updated(known[instance_id])
    assert same(view, ClusterView.of(known.values(), view.links.values()))
    assert all(view.find(name) == instance for name, instance in known.items())
    assert set(view.instances) == set(known.values())


def test_a_change_shares_the_other_clusters() -> None:
    view = fleet(seat("d0", "west"), seat("p0", "west"), seat("x0", "east"))
    changed = view.updated(seat("p0", "west", waiting_tokens=5))
    assert changed.parts[ClusterName("east")] is view.parts[ClusterName("east")]
    assert changed.homes is view.homes
    assert view.find(InstanceId("p0")) == seat("p0", "west"), "the old view stays as it was"


def test_a_placement_is_load_until_heartbeats_count_it() -> None:
    view = fleet(seat("d0", "west"), seat("p0", "west"), seat("x0", "east"))
    remote = view.after(place(PlacementRequest(50_000), view, PARAMS, "prfaas"))
    assert remote.find(InstanceId("x0")) == seat("x0", "east", waiting_tokens=50_000, waiting_requests=1)
    assert remote.find(InstanceId("d0")) == seat("d0", "west", running_requests=1)
    whole = view.after(place(PlacementRequest(700, whole_on_decode=True), view, PARAMS, "prfaas"))
    assert whole.find(InstanceId("d0")) == seat("d0", "west", running_requests=1, waiting_tokens=700)
    gone = fleet(seat("d0", "west"))
    assert gone.after(place(PlacementRequest(50_000), view, PARAMS, "prfaas")).instances == (
        seat("d0", "west", running_requests=1),
    )


def queue_s(**load: int) -> float:
    return seat("p0", "west", **load).queue_s


def test_what_waits_takes_its_time() -> None:
    assert queue_s() == 0
    one = H20.prefill.seconds(10_000)
    assert abs(queue_s(waiting_tokens=10_000, waiting_requests=1) - one) < 1e-9
    assert abs(queue_s(waiting_tokens=30_000, waiting_requests=3) - 3 * one) < 1e-9
    assert replace(seat("p0", "west", waiting_tokens=9), profile=None).queue_s == 0
    # What is left of prompts that are under way: no more than as many long ones.
    assert queue_s(waiting_tokens=655_360) < 20 * H20.prefill.seconds(32_768)


def many(count: int) -> ClusterView:
    return fleet(seat("d0", "west"), *(seat(f"x{i}", ("east", "north")[i % 2]) for i in range(count)))


def test_the_few_longest_of_many() -> None:
    view = many(MANY + 1)
    held = {f"x{i}": 64 * (i % 30) for i in range(MANY + 1)}
    found = longest(cached(**held, unknown=999), view)
    assert found
    assert FEW == 2
    assert dict(found) == cached(x29=29 * 64, x59=29 * 64, x28=28 * 64, x58=28 * 64), "two of east, two of north"
    assert longest(cached(x1=5), view) is None


def test_of_many_the_longest_and_the_idlest_come_into_question() -> None:
    view = many(MANY + 1)
    held = cached(**{f"x{i}": 64 for i in range(MANY)}, x64=40_000)
    request = PlacementRequest(50_000, held, longest=longest(held, view))
    placement = place(request, view, PARAMS, "prfaas")
    assert placement.prefill
    assert (placement.prefill.instance_id, placement.uncached_tokens) == ("x64", 10_000)
    busy = view.updated(seat("x64", "east", waiting_tokens=10**6, waiting_requests=30))
    assert place(request, busy, PARAMS, "prfaas").uncached_tokens == 50_000 - 64


def names(instances: tuple[InstanceView, ...]) -> list[str]:
    return [i.instance_id for i in instances]


def test_the_least_loaded_come_first() -> None:
    part = fleet(
        seat("p1", "west", waiting_tokens=9),
        seat("p0", "west", waiting_tokens=9),
        seat("d0", "west", running_requests=2),
        seat("d1", "west", waiting_tokens=50, running_requests=1),
        links=(way("east", "west"),),
    ).parts[ClusterName("west")]
    assert (names(part.prefills), names(part.decodes)) == (["p0", "p1"], ["d1", "d0"])
