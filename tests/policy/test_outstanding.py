"""What a router placed and no heartbeat counts: it stays load until it is prefilled, and is never counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.ids import InstanceId
from prfaas.policy.counted_view import CountedView
from prfaas.policy.outstanding import Outstanding, uncounted
from prfaas.policy.place import place
from prfaas.policy.view import InstanceView, Placement, PlacementRequest
from tests.policy.fleets import PARAMS, seat, way

D0, P0, P1 = (InstanceId(name) for name in ("d0", "p0", "p1"))


def counted(*instances: InstanceView) -> CountedView:
    fleet = CountedView((way("east", "west"),))
    for instance in instances:
        fleet.heard(instance)
    return fleet


def load(fleet: CountedView, name: InstanceId) -> tuple[int, int, int]:
    """Tokens and requests that wait, and requests that run."""
    found = fleet.view.find(name)
    assert found
    return found.waiting_tokens, found.waiting_requests, found.running_requests


def beside(tokens: int, worker: str = "p0") -> Placement:
    return Placement(seat("d0", "west"), seat(worker, "west"), tokens, "why")


def whole(tokens: int) -> Placement:
    return Placement(seat("d0", "west"), None, tokens, "why")


def test_what_waits_for_pages_elsewhere_counts_through_heartbeats() -> None:
    fleet = counted(seat("d0", "west"), seat("p0", "west"))
    first, second = fleet.placed(beside(5000)), fleet.placed(beside(700))
    for _ in range(2):
        fleet.heard(seat("p0", "west"))
        fleet.heard(seat("d0", "west", waiting_requests=2))
        assert (load(fleet, P0), load(fleet, D0)) == ((5700, 2, 0), (0, 2, 0))
    fleet.heard(seat("p0", "west", waiting_tokens=3000, running_requests=1))
    assert load(fleet, P0) == (3700, 1, 1), "the older one is there and half done"
    fleet.heard(seat("p0", "west", waiting_tokens=3700, waiting_requests=1, running_requests=1))
    assert load(fleet, P0) == (3700, 1, 1)
    for ticket in (first, second):
        fleet.first_token(ticket)
    fleet.heard(seat("p0", "west"))
    assert load(fleet, P0) == (0, 0, 0)
    assert fleet.outstanding == 2
    for ticket in (first, second):
        fleet.ended(ticket)
    assert fleet.outstanding == 0


def test_of_several_routers_each_counts_what_it_knows() -> None:
    fleet = counted(seat("d0", "west"), seat("p0", "west"))
    for tokens in (10, 20, 30):
        fleet.placed(beside(tokens))
    fleet.heard(seat("p0", "west", waiting_tokens=900, waiting_requests=1, running_requests=1))
    assert load(fleet, P0) == (930, 2, 1), "of five in truth, three"
    fleet.heard(seat("p0", "west", waiting_tokens=900, waiting_requests=9))
    assert load(fleet, P0) == (900, 9, 0)


def test_what_is_over_counts_until_the_next_heartbeat() -> None:
    """So that an instance that fails all it is given does not get everything."""
    fleet = counted(seat("d0", "west"), seat("p0", "west", waiting_tokens=1000, waiting_requests=1))
    ticket = fleet.placed(beside(500))
    for _ in range(2):
        fleet.ended(ticket)
        fleet.first_token(ticket)
        assert (load(fleet, P0), load(fleet, D0)) == ((1500, 2, 0), (0, 0, 1))
    fleet.heard(seat("d0", "west"))
    fleet.heard(seat("p0", "west"))
    assert (load(fleet, P0), load(fleet, D0)) == ((0, 0, 0), (0, 0, 0))


def test_a_prompt_beside_its_answer_waits_no_more_once_it_is_prefilled() -> None:
    fleet = counted(seat("d0", "west"))
    ticket = fleet.placed(whole(800))
    fleet.heard(seat("d0", "west"))
    assert load(fleet, D0) == (800, 0, 1), "on its way when the heartbeat was sent"
    fleet.first_token(ticket)
    fleet.heard(seat("d0", "west"))
    assert load(fleet, D0) == (0, 0, 1)
    fleet.heard(seat("d0", "west", running_requests=1))
    assert load(fleet, D0) == (0, 0, 1)


def test_the_hidden_keep_what_they_have_and_the_forgotten_lose_it() -> None:
    fleet = counted(seat("d0", "west"), seat("p0", "west"))
    kept = fleet.placed(beside(500))
    fleet.hide(P0)
    fleet.placed(beside(60))
    assert fleet.view.find(P0) is None
    fleet.heard(seat("p0", "west"))
    assert load(fleet, P0) == (560, 2, 0)
    fleet.forget(P0)
    fleet.heard(seat("p0", "west"))
    assert load(fleet, P0) == (0, 0, 0)
    fleet.ended(kept)
    assert (load(fleet, P0), fleet.outstanding) == ((0, 0, 0), 1)


def test_two_that_look_idle_take_turns() -> None:
    """No prefill instance has any of it: the decode instance has no pages."""
    fleet = counted(seat("d0", "west"), seat("p0", "west"), seat("p1", "west"))
    for number in range(20):
        if number % 5 == 0:
            fleet.heard_all(
                [seat("d0", "west", waiting_requests=number), seat("p0", "west"), seat("p1", "west")],
                fleet.view.links.values(),
            )
        fleet.placed(place(PlacementRequest(10_000), fleet.view, PARAMS, "prfaas"))
    assert load(fleet, P0) == load(fleet, P1) == (100_000, 10, 0)


@given(own=st.dictionaries(st.integers(0, 50), st.integers(0, 9000)), heard=st.integers(0, 60))
def test_never_twice(own: dict[int, int], heard: int) -> None:
    requests, tokens = uncounted(own, heard)
    assert heard + requests == max(heard, len(own))
    assert tokens == sum(list(own.values())[len(own) - requests :])


steps = st.lists(
    st.tuples(st.sampled_from(["place", "hear", "prefill", "end"]), st.integers(0, 9), st.integers(0, 5)), max_size=40
)


@given(steps=steps)
def test_any_order(steps: list[tuple[str, int, int]]) -> None:
    """An instance tells of everything it has but the latest few, which are on their way."""
    instance, truth = Outstanding(), dict[int, int]()
    for number, (what, which, late) in enumerate(steps):
        ticket = list(truth)[which % len(truth)] if truth else -1
        match what:
            case "place":
                truth[number] = 100 * which
                instance.add(number, 100 * which)
            case "prefill" if truth:
                truth[ticket] = 0
                instance.prefilled(ticket)
            case "end" if truth:
                del truth[ticket]
                instance.remove(ticket)
            case _:
                there = list(truth.values())[: max(0, len(truth) - late)]
                heartbeat = seat("p0", "west", waiting_tokens=sum(there), waiting_requests=len(there))
                view = instance.counted(heartbeat)
                assert (view.waiting_tokens, view.waiting_requests) == (sum(truth.values()), len(truth))
    for ticket in truth:
        instance.remove(ticket)
    idle = seat("p0", "west")
    assert instance.counted(idle) is idle, "nothing stays counted"
