"""Outcomes for tests of what is made of them: figures that follow from the goodput, unless a test says otherwise."""

from dataclasses import replace
from typing import Any

from prfaas.planner.simulate.outcome import QUANTILES, Egress, LinkUse, Outcome, Series, Spread, ThresholdChange


def spread(mean: float) -> Spread:
    return Spread(mean, 0.9 * mean, 2 * mean, 3 * mean)


def series(buckets: int = 4) -> Series:
    link = "remote→local"
    return Series(
        bucket_s=10.0,
        time_s=tuple(10.0 * i for i in range(buckets)),
        arrivals_req_s=(3.0,) * buckets,
        goodput_req_s=(2.5,) * buckets,
        offloaded_fraction=(0.5,) * buckets,
        ttft_p90_s=(0.0, *(2.0,) * (buckets - 1)),
        threshold_tokens=(19_000,) * buckets,
        gbit_s={link: (12.0,) * buckets},
        capacity_gbit_s={link: (94.0, 0.0, 0.0, 94.0)[:buckets]},
        waiting_requests={"local prefill": (1,) * buckets, "remote prefill": (2,) * buckets},
    )


def outcome(policy: str, goodput_req_s: float = 3.0, ttft_s: float = 2.0, **changes: Any) -> Outcome:
    link = LinkUse("remote", "local", 12.0, 0.13, in_bytes=4e10, out_bytes=4e10, cancelled_bytes=0.0, usd=0.5)
    made = Outcome(
        policy=policy,
        fidelity="fluid",
        seed=0,
        requests=400,
        finished=400,
        refused=0,
        lost=0,
        duration_s=100.0,
        throughput_req_s=4.0,
        goodput_req_s=goodput_req_s,
        ttft_s=spread(ttft_s),
        queue_s=spread(0.25 * ttft_s),
        prefill_s=spread(0.5 * ttft_s),
        transfer_s=spread(0.2 * ttft_s),
        first_token_s=spread(0.05 * ttft_s),
        tpot_ms=spread(25.0),
        ttft_quantiles_s=tuple(0.1 + ttft_s * q for q in QUANTILES),
        egress_gbit_s=Egress(12.0, 20.0),
        utilisation=0.13,
        links=(link,),
        offloaded_fraction=0.5,
        cached_fraction=0.0,
        fallbacks={},
        cache_transfers=0,
        usd_per_mtok=1.5,
        usd_links=0.5,
        threshold_tokens=19_000,
        threshold_changes=(ThresholdChange(20.0, 25_000, "the link is 95 % busy"),),
        role_changes=(),
        series=series(),
    )
    return replace(made, **changes)
