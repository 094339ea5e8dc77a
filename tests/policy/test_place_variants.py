"""The policies to compare with, each with and without profiles."""

from dataclasses import replace

import pytest

from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, InstanceView, Placement, PlacementRequest
from tests.policy.fleets import PARAMS, cached, fleet, seat, way

D0, P0, X0 = seat("d0", "west"), seat("p0", "west"), seat("x0", "east")
FLEET = fleet(D0, P0, X0)
BARE = ClusterView.of([replace(i, profile=None) for i in FLEET.instances], FLEET.links.values())


def decide(policy: str, tokens: int, view: ClusterView = FLEET, **held: int) -> Placement:
    return place(PlacementRequest(tokens, cached(**held)), view, PARAMS, policy)


def name(instance: InstanceView | None) -> str:
    return instance.instance_id if instance else "decode"


@pytest.mark.parametrize("view", [FLEET, BARE], ids=["profiles", "tokens"])
@pytest.mark.parametrize(
    ("policy", "short", "long", "why"),
    [
        ("local_only", "p0", "p0", "nothing is offloaded"),
        ("all_remote", "x0", "x0", "everything is offloaded"),
        ("isl_or_load", "p0", "x0", "remote_min_tokens 8192"),
    ],
)
def test_where_they_send_prompts(view: ClusterView, policy: str, short: str, long: str, why: str) -> None:
    for tokens, expected in ((8192, short), (8193, long)):
        placement = decide(policy, tokens, view)
        assert name(placement.prefill) == expected
        assert why in placement.reason
        assert (placement.expected is not None) == (view is FLEET)


def test_local_only_takes_the_quickest_by_time() -> None:
    """300 tokens that wait are less than what a prefix of 2048 saves."""
    view = fleet(D0, P0, seat("p1", "west", waiting_tokens=300, waiting_requests=1), X0)
    assert name(decide("local_only", 40_000, view, p1=8192).prefill) == "p1"
    assert name(decide("local_only", 40_000, view).prefill) == "p0"


@pytest.mark.parametrize("view", [fleet(D0, P0), fleet(replace(D0, profile=None), replace(P0, profile=None))])
def test_without_a_remote_cluster_all_is_local_and_said(view: ClusterView) -> None:
    for policy in ("all_remote", "isl_or_load"):
        placement = decide(policy, 50_000, view)
        assert name(placement.prefill) == "p0"
    assert "no prfaas cluster is up" in decide("all_remote", 50_000, view).reason


def test_all_remote_looks_at_no_link_unless_it_has_a_choice() -> None:
    down = way("east", "west", up=False)
    assert name(decide("all_remote", 10, fleet(D0, P0, X0, links=(down,))).prefill) == "x0"
    two = fleet(D0, P0, X0, seat("x2", "north", running_requests=5), links=(down, way("north", "west")))
    assert name(decide("all_remote", 10, two).prefill) == "x2"


@pytest.mark.parametrize("known", [True, False])
def test_isl_or_load_stays_home_when_the_remote_queue_is_long(known: bool) -> None:
    busy = seat("x0", "east", waiting_tokens=PARAMS.remote_max_waiting_tokens, waiting_requests=2)
    instances = [i if known else replace(i, profile=None) for i in (D0, P0, busy)]
    placement = decide("isl_or_load", 50_000, fleet(*instances))
    assert name(placement.prefill) == "p0"
    assert "65536 tokens wait on x0" in placement.reason


def test_the_oracle_knows_neither_threshold_nor_margin() -> None:
    """1024 tokens: 0.60 s on H20; 0.475 s on H200, with what crosses."""
    assert name(decide("prfaas", 1024).prefill) == "p0"
    assert name(decide("oracle", 1024).prefill) == "x0"


def test_what_is_asked_for_is_done_by_all() -> None:
    for policy in ("local_only", "all_remote", "isl_or_load", "oracle", "prfaas", "static_threshold"):
        for view in (FLEET, BARE):
            forced = place(PlacementRequest(50, force="remote"), view, PARAMS, policy)
            assert name(forced.prefill) == "x0", policy
            forced = place(PlacementRequest(50_000, force="local"), view, PARAMS, policy)
            assert name(forced.prefill) == "p0", policy
