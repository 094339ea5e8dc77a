"""The static threshold: who prefills, and why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import UnavailableError
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.policy.leads import CROWD_REQUESTS
from prfaas.policy.place import place
from prfaas.policy.view import ClusterKind, ClusterView, InstanceView, Placement, PlacementRequest, PolicyParams, Role

PARAMS = PolicyParams(threshold_tokens=1000)


def instance(name: str, cluster: str, kind: ClusterKind, role: Role, waiting: int = 0) -> InstanceView:
    return InstanceView(InstanceId(name), ClusterName(cluster), kind, role, "h:1", waiting_tokens=waiting)


DECODE = instance("d0", "west", "pd", "decode")
LOCAL = instance("p0", "west", "pd", "prefill")
REMOTE = instance("x0", "east", "prfaas", "prefill")
FLEET = ClusterView.of((DECODE, LOCAL, REMOTE))


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
    alone = ClusterView.of((DECODE, LOCAL))
    assert decide(PlacementRequest(9000), alone).prefill == LOCAL
    with pytest.raises(UnavailableError, match="remote prefill was asked for"):
        decide(PlacementRequest(9000, force="remote"), alone)


def test_decode_alone_prefills_itself_and_says_so() -> None:
    placement = decide(PlacementRequest(10), ClusterView.of((DECODE,)))
    assert placement.prefill is None
    assert not placement.remote
    assert "the decode instance prefills" in placement.reason


def test_nothing_decodes() -> None:
    with pytest.raises(UnavailableError, match="no decode instance"):
        decide(PlacementRequest(10), ClusterView.of((LOCAL, REMOTE)))
    with pytest.raises(UnavailableError, match="no decode instance"):
        decide(PlacementRequest(10, exclude=frozenset({DECODE.instance_id})))


def test_shortest_queue_wins_and_names_break_ties() -> None:
    view = ClusterView.of((DECODE, LOCAL, instance("x2", "east", "prfaas", "prefill", waiting=1), REMOTE))
    assert decide(PlacementRequest(5000), view).prefill == REMOTE
    twins = ClusterView.of((instance("d1", "west", "pd", "decode"), DECODE))
    assert decide(PlacementRequest(5), twins).decode == DECODE


def cached(**tokens: int) -> dict[InstanceId, int]:
    return {InstanceId(name): count for name, count in tokens.items()}


def test_the_prefix_decides_who_prefills_until_its_queue_is_longer() -> None:
    view = ClusterView.of((DECODE, LOCAL, instance("p1", "west", "pd", "prefill", waiting=300)))
    placement = decide(PlacementRequest(900, cached_tokens=cached(p1=512)), view)
    assert placement.prefill == view.by_id[InstanceId("p1")]
    assert placement.uncached_tokens == 388
    assert placement.reason.endswith("388 uncached tokens <= threshold 1000; p1 has 512 of 900 tokens cached")
    placement = decide(PlacementRequest(900, cached_tokens=cached(p1=256)), view)
    assert (placement.prefill, placement.uncached_tokens) == (LOCAL, 900)


def test_remote_instances_are_chosen_by_their_prefixes_too() -> None:
    other = instance("x1", "east", "prfaas", "prefill", waiting=100)
    placement = decide(PlacementRequest(5000, cached_tokens=cached(x1=128)), ClusterView.of((DECODE, REMOTE, other)))
    assert (placement.prefill, placement.uncached_tokens) == (other, 4872)


def test_what_the_local_instance_would_compute_is_set_against_the_threshold() -> None:
    """Another one beside it may have more, but is too busy to use it."""
    busy = instance("p1", "west", "pd", "prefill", waiting=9000)
    request = PlacementRequest(5000, cached_tokens=cached(p1=4500))
    placement = decide(request, ClusterView.of((DECODE, LOCAL, busy, REMOTE)))
    assert (placement.prefill, placement.uncached_tokens) == (REMOTE, 5000)
    assert placement.reason.startswith("5000 uncached tokens > threshold 1000")


def test_a_decode_instance_that_has_the_prefix_computes_the_rest_itself() -> None:
    """As at the next turn of a conversation that it decoded."""
    placement = decide(PlacementRequest(5000, cached_tokens=cached(d0=4800, p0=64, x0=4900)))
    assert (placement.prefill, placement.uncached_tokens) == (None, 200)
    assert placement.reason == "200 uncached tokens <= threshold 1000; d0 has 4800 of 5000 tokens cached"
    better = decide(PlacementRequest(5000, cached_tokens=cached(d0=4800, p0=4864)))
    assert better.prefill == LOCAL


def test_a_decode_instance_that_prefills_itself_is_chosen_by_its_prefix() -> None:
    twin = instance("d1", "west", "pd", "decode", waiting=100)
    placement = decide(PlacementRequest(900, cached_tokens=cached(d1=256)), ClusterView.of((DECODE, twin)))
    assert (placement.decode, placement.uncached_tokens) == (twin, 644)
    assert decide(PlacementRequest(900, cached_tokens=cached(d1=64)), ClusterView.of((DECODE, twin))).decode == DECODE


def test_among_equal_decode_instances_one_with_a_prefix() -> None:
    view = ClusterView.of((DECODE, instance("d1", "west", "pd", "decode"), LOCAL))
    assert decide(PlacementRequest(900, cached_tokens=cached(d1=64)), view).decode == view.instances[1]
    busier = replace(view.instances[1], running_requests=1)
    crowded = ClusterView.of((DECODE, busier, LOCAL))
    assert decide(PlacementRequest(900, cached_tokens=cached(d1=64)), crowded).decode == DECODE


def test_a_prefix_that_all_share_does_not_draw_all_to_one_instance() -> None:
    request = PlacementRequest(900, cached_tokens=cached(d1=896))
    for running, chosen in ((CROWD_REQUESTS, "d1"), (CROWD_REQUESTS + 1, "d0")):
        popular = replace(instance("d1", "west", "pd", "decode"), running_requests=running)
        assert decide(request, ClusterView.of((DECODE, popular))).decode.instance_id == chosen


def test_requests_for_logprobs_are_computed_where_they_are_decoded() -> None:
    for tokens in (900, 5000):
        request = PlacementRequest(tokens, cached_tokens=cached(d0=64, p0=128), whole_on_decode=True)
        placement = decide(request)
        assert (placement.prefill, placement.uncached_tokens) == (None, tokens - 64)
        assert "logprobs need" in placement.reason


def test_a_directory_that_errs_saves_at_most_the_prompt() -> None:
    assert decide(PlacementRequest(10, cached_tokens=cached(p0=64))).uncached_tokens == 0


@given(
    st.integers(1, 4000),
    st.dictionaries(st.sampled_from(["d0", "d1", "p0", "p1", "x0"]), st.integers(0, 4000)),
    st.lists(st.integers(0, 3000), min_size=5, max_size=5),
)
def test_nobody_beside_the_chosen_one_would_be_done_sooner(
    tokens: int, held: dict[str, int], waiting: list[int]
) -> None:
    kinds: list[tuple[str, str, ClusterKind, Role]] = [
        ("d0", "west", "pd", "decode"),
        ("d1", "west", "pd", "decode"),
        ("p0", "west", "pd", "prefill"),
        ("p1", "west", "pd", "prefill"),
        ("x0", "east", "prfaas", "prefill"),
    ]
    view = ClusterView.of(tuple(instance(*kind, waiting=queue) for kind, queue in zip(kinds, waiting, strict=True)))
    placement = decide(PlacementRequest(tokens, cached_tokens=cached(**held)), view)

    def computed(i: InstanceView) -> int:
        return tokens - min(tokens, held.get(i.instance_id, 0))

    def queue(i: InstanceView) -> int:
        return i.waiting_tokens + computed(i)

    worker = placement.prefill or placement.decode
    peers = [i for i in view.instances if i.role == "prefill" and i.cluster == worker.cluster]
    assert placement.uncached_tokens == computed(worker)
    if placement.prefill is None:
        assert held[worker.instance_id] > 0
        assert worker.waiting_tokens + 2 * computed(worker) < min(queue(i) for i in peers)
    else:
        assert queue(worker) == min(queue(i) for i in peers)
    assert placement.remote <= (placement.uncached_tokens + held.get("x0", 0) > PARAMS.threshold_tokens)
    assert placement.remote or placement.uncached_tokens <= PARAMS.threshold_tokens


@given(st.permutations([DECODE, LOCAL, REMOTE, instance("d1", "west", "pd", "decode")]), st.integers(1, 5000))
def test_order_of_the_view_does_not_matter(instances: list[InstanceView], tokens: int) -> None:
    request = PlacementRequest(tokens)
    assert decide(request, ClusterView.of(tuple(instances))) == decide(request, ClusterView.of(tuple(instances[::-1])))
