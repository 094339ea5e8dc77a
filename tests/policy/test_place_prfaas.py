"""The prfaas policy: the threshold guards, expected times judge, and links count only as far as they can be trusted."""

from dataclasses import replace
from typing import Any

import pytest

from prfaas.core.errors import UnavailableError
from prfaas.policy.place import place
from prfaas.policy.view import ClusterView, Expected, Placement, PlacementRequest, PolicyParams
from tests.policy.fleets import H20, H200, KV_BYTES, PARAMS, STATE_BYTES, cached, fleet, seat, way

D0, P0, X0 = seat("d0", "west"), seat("p0", "west"), seat("x0", "east")
FLEET = fleet(D0, P0, X0)


def decide(request: PlacementRequest, view: ClusterView = FLEET, params: PolicyParams = PARAMS) -> Placement:
    return place(request, view, params, "prfaas")


def expected(placement: Placement) -> Expected:
    assert placement.expected
    return placement.expected


@pytest.mark.parametrize(
    ("utilisation", "prefill", "moved"), [(0.95, "x0", None), (0.1, "p0", 25_000)], ids=["scarce", "abundant"]
)
def test_the_papers_example(utilisation: float, prefill: str, moved: int | None) -> None:
    """s3.4.3: 30K tokens, t = 19.4K, 10K cached in the PD cluster, 25K in the PrfaaS cluster.

    Scarce: 20K > t, PrfaaS computes 5K. Abundant: 5K <= t, PD-P computes 5K once the cache has crossed. The paper
    speaks of caches only, so both clusters have the same hardware here.
    """
    far = seat("x0", "east", profile=H20)
    links = way("east", "west", utilisation=utilisation), way("west", "east")
    params = replace(PARAMS, cache_transfers=True)
    placement = decide(PlacementRequest(30_000, cached(p0=10_000, x0=25_000)), fleet(D0, P0, far, links=links), params)
    assert placement.prefill
    assert (placement.prefill.instance_id, placement.uncached_tokens) == (prefill, 5000)
    assert (placement.cache_transfer.tokens if placement.cache_transfer else None) == moved
    if placement.cache_transfer:
        assert placement.cache_transfer.source == far
        assert placement.cache_transfer.num_bytes == 15_000 * KV_BYTES + STATE_BYTES
        assert "5000 uncached tokens <= threshold 19400" in placement.reason
        assert "25000 tokens cached on x0 move to p0 first" in placement.reason
    else:
        assert placement.reason.startswith("20000 uncached tokens > threshold 19400")


def test_without_cache_transfers_each_cluster_is_judged_alone() -> None:
    placement = decide(PlacementRequest(30_000, cached(p0=10_000, x0=25_000)))
    assert (placement.prefill, placement.uncached_tokens, placement.cache_transfer) == (X0, 5000, None)


def test_a_move_that_takes_longer_than_it_saves_is_not_made() -> None:
    links = way("east", "west", bytes_per_s=1e8), way("west", "east")
    params = replace(PARAMS, cache_transfers=True)
    placement = decide(PlacementRequest(12_000, cached(p0=10_000, x0=12_000)), fleet(D0, P0, X0, links=links), params)
    assert (placement.prefill, placement.uncached_tokens, placement.cache_transfer) == (P0, 2000, None)


@pytest.mark.parametrize(("tokens", "prefill"), [(4000, P0), (19_401, X0)])
def test_the_threshold_decides_where_times_are_close(tokens: int, prefill: Any) -> None:
    near = fleet(D0, P0, seat("x0", "east", profile=H20))
    assert (placement := decide(PlacementRequest(tokens), near)).prefill == near.find(prefill.instance_id)
    assert f"{tokens} uncached tokens" in placement.reason


def test_what_a_remote_prefill_is_expected_to_take() -> None:
    """32768 tokens: 1.84 s on H200. KV of 0.55 GB crosses at 12.5 GB/s meanwhile; the state of 0.18 GB follows."""
    placement = decide(PlacementRequest(32_768))
    told = expected(placement)
    assert (placement.prefill, placement.remote, told.queue_s) == (X0, True, 0.0)
    assert told.prefill_s == pytest.approx(1.84)
    assert told.transfer_s == pytest.approx(STATE_BYTES / 12.5e9 + 0.02)
    assert told.link_bytes == 32_768 * KV_BYTES + STATE_BYTES
    assert placement.reason == "32768 uncached tokens > threshold 19400; first token expected in 1.87 s"


def test_a_slow_link_is_what_a_transfer_waits_for() -> None:
    """At 0.4 GB/s the KV takes 1.38 s, less than the prefill; behind 1.5 s of queue it ends after it."""
    link = way("east", "west", bytes_per_s=4e8, queued_s=1.5, queued_bytes=6 * 10**8)
    told = expected(decide(PlacementRequest(32_768, force="remote"), fleet(D0, P0, X0, links=(link,))))
    assert told.ttft_s == pytest.approx(1.5 + (32_768 * KV_BYTES + STATE_BYTES) / 4e8 + 0.02)


def test_what_the_decode_instance_holds_does_not_cross() -> None:
    told = expected(decide(PlacementRequest(32_768, cached(d0=30_000, x0=0), force="remote")))
    assert told.link_bytes == 2768 * KV_BYTES + STATE_BYTES


def test_prompts_that_wait_there_will_cross_first() -> None:
    """Two of 32768 tokens wait on another instance of the cluster: 1.46 GB before a link of 0.4 GB/s is free."""
    busy = seat("x1", "east", waiting_tokens=65_536, waiting_requests=2)
    view = fleet(D0, P0, X0, busy, links=(way("east", "west", bytes_per_s=4e8),))
    told = expected(decide(PlacementRequest(32_768, force="remote"), view))
    ahead = 65_536 * KV_BYTES + 2 * STATE_BYTES
    assert told.ttft_s == pytest.approx((ahead + 32_768 * KV_BYTES + STATE_BYTES) / 4e8 + 0.02)


def test_short_prompts_cross_only_where_they_would_wait() -> None:
    """8192 tokens: 1.55 s on H20, 0.755 s on H200 with what crosses. Behind another such prompt it is 3.1 s."""
    request = PlacementRequest(8192)
    assert decide(request).prefill == P0
    busy = fleet(D0, seat("p0", "west", waiting_tokens=8192, waiting_requests=1), X0)
    placement = decide(request, busy)
    assert placement.prefill == X0
    assert placement.reason.startswith(
        "8192 uncached tokens <= threshold 19400, but the first token is expected in 0.75 s from east, not 3."
    )
    for stricter in (replace(PARAMS, margin=0.8), replace(PARAMS, margin_s=2.4)):
        stays = decide(request, busy, stricter).prefill
        assert stays
        assert stays.instance_id == "p0"


def test_a_long_remote_queue_sends_long_prompts_home() -> None:
    busy = seat("x0", "east", waiting_tokens=131_072, waiting_requests=2)
    placement = decide(PlacementRequest(32_768), fleet(D0, P0, busy))
    assert placement.prefill == P0
    assert "32768 uncached tokens > threshold 19400, but the first token is expected in 5.0" in placement.reason


def waiting(name: str, cluster: str, tokens: int) -> Any:
    """An instance where so many tokens wait, in prompts of 32768: 1.84 s each on H200, 5.05 s on H20."""
    return seat(name, cluster, waiting_tokens=tokens, waiting_requests=-(-tokens // 32_768))


@pytest.mark.parametrize(
    ("far", "near", "sooner", "in_time"),
    [
        # 11.1 s remotely and 8.9 s locally: no quarter less, but in time.
        (5 * 32_768, 24_576, "x0", "p0"),
        # 24 s and 25 s, 39 s and 25 s: late everywhere.
        (12 * 32_768, 4 * 32_768, "x0", "p0"),
        (20 * 32_768, 4 * 32_768, "p0", "x0"),
        # 1.9 s and 10.1 s.
        (0, 32_768, "x0", "x0"),
    ],
    ids=["in time on the other side", "longer at home", "longer away", "in time on its own side"],
)
def test_what_is_late_everywhere_joins_the_longer_queue(far: int, near: int, sooner: str, in_time: str) -> None:
    view = fleet(D0, waiting("p0", "west", near), waiting("x0", "east", far))
    for params, name in ((PARAMS, sooner), (replace(PARAMS, in_time_s=10.0), in_time)):
        placement = decide(PlacementRequest(32_768), view, params)
        assert placement.prefill
        assert placement.prefill.instance_id == name
    assert ("so it joins the longer queue" in placement.reason) == (far > 10 * 32_768)


def test_no_money_is_spent_on_what_is_late_everywhere() -> None:
    far, near = waiting("x0", "east", 20 * 32_768), waiting("p0", "west", 4 * 32_768)
    view = fleet(D0, near, far, links=(way("east", "west", usd_per_gb=0.001),))
    assert decide(PlacementRequest(32_768), view, replace(PARAMS, in_time_s=10.0)).prefill == near


@pytest.mark.parametrize(
    "links",
    [
        (),
        (way("east", "west", up=False),),
        (way("east", "west", bytes_per_s=0.0),),
        (way("east", "west", age_s=31.0, queued_bytes=1),),
        (way("west", "east"),),
    ],
    ids=["unknown", "down", "nothing gets through", "stale", "only the way back is known"],
)
def test_local_first_where_the_link_is_in_doubt(links: Any) -> None:
    view = fleet(D0, P0, X0, links=links)
    placement = decide(PlacementRequest(50_000), view)
    assert placement.prefill == P0
    assert "no link from one can be relied on" in placement.reason
    forced = decide(PlacementRequest(50_000, force="remote"), view)
    assert (forced.prefill, forced.expected) == (X0, None)


def test_a_link_that_is_idle_keeps_its_measurement() -> None:
    view = fleet(D0, P0, X0, links=(way("east", "west", age_s=1e6),))
    assert decide(PlacementRequest(50_000), view).prefill == X0


def test_bytes_that_cost_money_count_as_time() -> None:
    """50000 tokens are about a gigabyte: at 1 $/GB and 0.01 $/s that is 100 s, and the local prefill takes 7.7."""
    view = fleet(D0, P0, X0, links=(way("east", "west", usd_per_gb=1.0),))
    assert decide(PlacementRequest(50_000), view).prefill == P0
    generous = decide(PlacementRequest(50_000), view, replace(PARAMS, usd_per_ttft_s=10.0))
    assert generous.prefill == X0
    assert expected(generous).usd == pytest.approx(expected(generous).link_bytes / 1e9)


def test_codecs_shrink_what_crosses_a_slow_link() -> None:
    """KV is made at 0.3 GB/s, faster than 0.1 GB/s can take it; 1.4 and 2 are what the codecs save."""
    view = fleet(D0, P0, X0, links=(way("east", "west", bytes_per_s=1e8),))
    params = replace(PARAMS, codecs=frozenset({"raw", "exact", "state16"}))
    placement = decide(PlacementRequest(32_768, force="remote"), view, params)
    assert placement.codec == "exact"
    assert expected(placement).link_bytes == pytest.approx(32_768 * KV_BYTES / 1.4 + STATE_BYTES / 2)


def test_a_full_decode_instance_is_waited_for() -> None:
    """20 of 20 run: the next of them ends after 512 steps of 25 ms / 20."""
    full = fleet(replace(D0, running_requests=20), P0)
    assert expected(decide(PlacementRequest(1), full)).queue_s == pytest.approx(512 * 0.025 / 20)


def test_a_decode_instance_with_the_prefix_computes_the_rest() -> None:
    placement = decide(PlacementRequest(9000, cached(d0=8900)))
    assert (placement.prefill, placement.uncached_tokens) == (None, 100)
    assert expected(placement).prefill_s == pytest.approx(2 * H20.prefill.seconds(9000, 8900))


def test_logprobs_keep_a_prompt_on_the_decode_instance() -> None:
    placement = decide(PlacementRequest(50_000, whole_on_decode=True))
    assert placement.prefill is None
    assert "logprobs" in placement.reason


def test_of_equals_the_one_with_less_company() -> None:
    busy, idle = seat("d0", "west", running_requests=3), seat("d2", "south", running_requests=2)
    assert decide(PlacementRequest(100), fleet(busy, P0, idle, seat("p2", "south"))).decode == idle


def test_without_profiles_the_threshold_alone_decides_and_says_so() -> None:
    view = fleet(D0, P0, replace(X0, profile=None))
    placement = decide(PlacementRequest(50_000), view)
    assert (placement.prefill, placement.expected) == (view.find(X0.instance_id), None)
    assert placement.reason == (
        "50000 uncached tokens > threshold 19400; an instance's profile is not known, so the threshold alone decides"
    )


def test_when_nothing_can_be_done() -> None:
    with pytest.raises(UnavailableError, match="no decode instance"):
        decide(PlacementRequest(10), fleet(P0, X0))
    with pytest.raises(UnavailableError, match="remote prefill was asked for"):
        decide(PlacementRequest(10, force="remote"), fleet(D0, P0))
    assert "no prfaas cluster is up" in decide(PlacementRequest(50_000), fleet(D0, P0)).reason


def test_the_first_token_is_due_when_it_was_promised() -> None:
    assert decide(PlacementRequest(10), params=replace(PARAMS, slo_ttft_s=3.0)).deadline_s == 3.0
    assert decide(PlacementRequest(10)).deadline_s is None


def test_prefill_is_measured_by_each_instances_own_profile() -> None:
    slow, quick = seat("p0", "west"), seat("p1", "west", profile=H200, waiting_tokens=1000, waiting_requests=1)
    told = expected(decide(PlacementRequest(60_000, cached(p1=64), force="local"), fleet(D0, slow, quick)))
    assert told.prefill_s == pytest.approx(H200.prefill.seconds(60_000, 64))
