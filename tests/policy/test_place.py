"""The static threshold: who prefills, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.place import place
from prfaas.policy.view import ClusterKind, ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams, Role

PARAMS = PolicyParams(threshold_tokens=1000)


def instance(name: str, cluster: str, kind: ClusterKind, role: Role, waiting: int = 0) -> InstanceView:
    return InstanceView(InstanceId(name), ClusterName(cluster), kind, role, "h:1", waiting_tokens=waiting)


DECODE = instance("d0", "west", "pd", "decode")
LOCAL = instance("p0", "west", "pd", "prefill")
REMOTE = instance("x0", "east", "prfaas", "prefill")
FLEET = ClusterView((DECODE, LOCAL, REMOTE))


def decide(request: PlacementRequest, view: ClusterView = FLEET) -> Placement:
    return place(request, view, PARAMS, "static_threshold")


@pytest.mark.parametrize(("tokens", "expected"), [(1, LOCAL), (1000, LOCAL), (1001, REMOTE)])
def test_threshold_decides(tokens: int, expected: InstanceView) -> None:
    placement = decide(PlacementRequest(tokens))
    assert placement.prefill == expected
    assert placement.remote == (expected is REMOTE)
    assert f"{tokens} uncached tokens" in placement.reason


def test_what_the_decode_cluster_has_cached_does_not_count() -> None:
    cached = {LOCAL.instance_id: 2500, REMOTE.instance_id: 3000}
    placement = decide(PlacementRequest(3000, cached_tokens=cached))
    assert (placement.prefill, placement.uncached_tokens) == (LOCAL, 500)


def test_force_overrides_the_threshold() -> None:
    assert decide(PlacementRequest(9000, force="local")).prefill == LOCAL
    assert decide(PlacementRequest(9, force="remote")).prefill == REMOTE


def test_remote_that_is_not_there() -> None:
    alone = ClusterView((DECODE, LOCAL))
    assert decide(PlacementRequest(9000), alone).prefill == LOCAL
    with pytest.raises(UnavailableError, match="remote prefill was asked for"):
        decide(PlacementRequest(9000, force="remote"), alone)


def test_decode_alone_prefills_itself_and_says_so() -> None:
    placement = decide(PlacementRequest(10), ClusterView((DECODE,)))
    assert placement.prefill is None
    assert not placement.remote
    assert "the decode instance prefills" in placement.reason


def test_nothing_decodes() -> None:
    with pytest.raises(UnavailableError, match="no decode instance"):
        decide(PlacementRequest(10), ClusterView((LOCAL, REMOTE)))
    with pytest.raises(UnavailableError, match="no decode instance"):
        decide(PlacementRequest(10, exclude=frozenset({DECODE.instance_id})))


def test_shortest_queue_wins_and_names_break_ties() -> None:
    view = ClusterView((DECODE, LOCAL, instance("x2", "east", "prfaas", "prefill", waiting=1), REMOTE))
    assert decide(PlacementRequest(5000), view).prefill == REMOTE
    twins = ClusterView((instance("d1", "west", "pd", "decode"), DECODE))
    assert decide(PlacementRequest(5), twins).decode == DECODE


@given(st.permutations([DECODE, LOCAL, REMOTE, instance("d1", "west", "pd", "decode")]), st.integers(1, 5000))
def test_order_of_the_view_does_not_matter(instances: list[InstanceView], tokens: int) -> None:
    request = PlacementRequest(tokens)
    assert decide(request, ClusterView(tuple(instances))) == decide(request, ClusterView(tuple(instances[::-1])))
