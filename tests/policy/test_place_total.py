"""What holds of every policy in every fleet: an answer or a refusal that says why, and the same one every time."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.errors import UnavailableError
from prfaas.gateway import dispatch
from prfaas.planner.simulate import router
from prfaas.policy.matches import longest
from prfaas.policy.place import POLICIES, place
from prfaas.policy.view import ClusterView, Placement, PlacementRequest, PolicyParams
from tests.policy.fleets import knobs, requests, views


def test_router_and_simulator_apply_the_very_same_function() -> None:
    assert vars(dispatch)["place"] is vars(router)["place"] is place


def answer(request: PlacementRequest, view: ClusterView, params: PolicyParams, policy: str) -> Placement | str:
    try:
        return place(request, view, params, policy)
    except UnavailableError as error:
        return str(error)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(request_=requests, view=views(), params=knobs)
@settings(max_examples=60)
def test_every_view_with_a_decode_instance_gives_a_placement(
    policy: str, request_: PlacementRequest, view: ClusterView, params: PolicyParams
) -> None:
    up = [i for i in view.instances if i.instance_id not in request_.exclude]
    placement = answer(request_, view, params, policy)
    if isinstance(placement, str):
        forced = request_.force == "remote" and not any(i.role == "prefill" and i.kind == "prfaas" for i in up)
        assert forced or not any(i.role == "decode" for i in up)
        return
    worker = placement.prefill or placement.decode
    assert placement.decode in up
    assert placement.decode.role == "decode"
    assert placement.prefill is None or (placement.prefill in up and placement.prefill.role == "prefill")
    assert not (request_.whole_on_decode and placement.prefill)
    own = request_.cached_tokens.get(worker.instance_id, 0)
    moved = placement.cache_transfer.tokens if placement.cache_transfer else own
    assert placement.uncached_tokens == max(0, request_.prompt_tokens - max(moved, own))
    assert placement.deadline_s == params.slo_ttft_s
    assert placement.reason
    if expected := placement.expected:
        parts = (expected.queue_s, expected.prefill_s, expected.transfer_s, expected.link_bytes, expected.usd)
        assert all(0 <= part < float("inf") for part in parts)
        assert expected.ttft_s == pytest.approx(expected.queue_s + expected.prefill_s + expected.transfer_s)
        assert (expected.link_bytes > 0) == (placement.remote or placement.cache_transfer is not None)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(request_=requests, view=views(), params=knobs, order=st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_the_view_does_not_matter(
    policy: str, request_: PlacementRequest, view: ClusterView, params: PolicyParams, order: st.DataObject
) -> None:
    instances, links = list(view.instances), list(view.links.values())
    matches = list(request_.cached_tokens.items())
    for those in (instances, links, matches):
        order.shuffle(those)  # type: ignore[attr-defined]
    again = answer(replace(request_, cached_tokens=dict(matches)), ClusterView.of(instances, links), params, policy)
    assert again == answer(request_, view, params, policy)


@given(request_=requests, view=views(profiled=True), params=knobs)
@settings(max_examples=60)
def test_the_oracle_is_never_later_than_a_policy_that_sees_less(
    request_: PlacementRequest, view: ClusterView, params: PolicyParams
) -> None:
    best = answer(request_, view, params, "oracle")
    for policy in ("local_only", "prfaas"):
        other = answer(request_, view, params, policy)
        if isinstance(best, Placement) and isinstance(other, Placement) and best.expected and other.expected:
            assert best.expected.ttft_s <= other.expected.ttft_s * (1 + 1e-9)


@given(request_=requests, view=views(), params=knobs)
@settings(max_examples=60)
def test_the_few_longest_are_enough_where_they_are_all(
    request_: PlacementRequest, view: ClusterView, params: PolicyParams
) -> None:
    known = replace(request_, cached_tokens={i: n for i, n in request_.cached_tokens.items() if i in view.homes})
    assert longest(known.cached_tokens, view) is None, "few enough to look at all"
    for policy in ("prfaas", "static_threshold"):
        assert answer(replace(known, longest=tuple(known.cached_tokens.items())), view, params, policy) == answer(
            known, view, params, policy
        )
