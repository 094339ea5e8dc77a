"""Who is refused, and when it is worth another try."""

from dataclasses import replace

from prfaas.core.ids import InstanceId
from prfaas.policy.admit import Refusal, admit
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, PlacementRequest, PolicyParams
from tests.policy.fleets import PARAMS, fleet, seat

P0 = seat("p0", "west")
STRICT = replace(PARAMS, slo_ttft_s=2.0)


def judge(view: ClusterView, params: PolicyParams, tokens: int = 1000) -> Refusal | None:
    request = PlacementRequest(tokens)
    return admit(request, place(request, view, params, "prfaas"), view, params)


def test_all_come_in_where_nothing_is_promised() -> None:
    assert judge(fleet(seat("d0", "west"), P0), PARAMS, 131_072) is None


def test_what_would_be_far_too_late_is_refused() -> None:
    """16000 tokens take 2.63 s on H20, 60000 9.33 s: within, and beyond, twice the 2 s that are promised."""
    view = fleet(seat("d0", "west"), P0)
    assert judge(view, STRICT, 16_000) is None
    refused = judge(view, STRICT, 60_000)
    assert refused
    assert (refused.kind, round(refused.retry_after_s, 2)) == ("contended", 7.33)
    assert refused.reason == "the first token is expected after 9.3 s; 2 s are promised"
    assert judge(view, replace(STRICT, slo_patience=5.0), 60_000) is None


def test_too_many_wait_for_a_slot() -> None:
    params = replace(PARAMS, max_queued_requests=4)
    crowded = seat("d0", "west", running_requests=20, waiting_requests=3)
    assert judge(fleet(crowded, seat("d2", "south", running_requests=21), P0), params) is None
    refused = judge(fleet(crowded, seat("d2", "south", running_requests=22), P0), params)
    assert refused
    assert refused.kind == "contended"
    assert refused.retry_after_s >= 1
    assert "5 requests wait for a decode slot, more than max_queued_requests 4" in refused.reason


def test_without_known_slots_those_that_say_so_wait() -> None:
    crowded = seat("d0", "west", running_requests=500, waiting_requests=5, max_running=0)
    assert judge(fleet(crowded, P0), replace(PARAMS, max_queued_requests=4))


def test_nothing_can_decode() -> None:
    refused = admit(PlacementRequest(1), None, fleet(P0), PARAMS)
    assert refused
    assert (refused.kind, refused.reason) == ("none", "no decode instance is up and accepting requests")
    again = admit(PlacementRequest(1, exclude=frozenset({InstanceId("d0")})), None, fleet(P0), PARAMS)
    assert again
    assert "outside the 1 that are ruled out" in again.reason
