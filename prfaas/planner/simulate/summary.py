"""Puts what was counted together as an Outcome. Counts nothing itself."""

from prfaas.planner.simulate.carried import Carried
from prfaas.planner.simulate.fleet import Fleet
from prfaas.planner.simulate.outcome import QUANTILES, Fidelity, Outcome, Spread
from prfaas.planner.simulate.tally import Tally


def outcome_of(
    tally: Tally,
    carried: Carried,
    fleet: Fleet,
    *,
    policy: str,
    fidelity: Fidelity,
    seed: int,
    threshold_tokens: int,
    end_s: float,
) -> Outcome:
    """`end_s`: simulated, when the last request ended. The dollars of instances count from the first arrival on."""
    duration_s = max(end_s - tally.first_s, 1e-9)
    latencies, uses = tally.latencies, carried.uses(end_s)
    usd_links = sum(use.usd for use in uses)
    usd = usd_links + duration_s * sum(member.instance.profile.usd_per_s for member in fleet)
    tpot = latencies.tpot_s.spread()
    return Outcome(
        policy=policy,
        fidelity=fidelity,
        seed=seed,
        requests=tally.arrived,
        finished=tally.finished,
        refused=tally.refused,
        lost=tally.arrived - tally.finished - tally.refused,
        duration_s=duration_s,
        throughput_req_s=tally.finished / duration_s,
        goodput_req_s=tally.good / duration_s,
        ttft_s=latencies.ttft_s.spread(),
        queue_s=latencies.queue_s.spread(),
        prefill_s=latencies.prefill_s.spread(),
        transfer_s=latencies.transfer_s.spread(),
        first_token_s=latencies.first_token_s.spread(),
        tpot_ms=Spread(tpot.mean * 1e3, tpot.p50 * 1e3, tpot.p90 * 1e3, tpot.p99 * 1e3),
        ttft_quantiles_s=tuple(latencies.ttft_s.quantiles(QUANTILES)),
        egress_gbit_s=carried.egress(end_s),
        utilisation=carried.utilisation(fleet, end_s),
        links=uses,
        offloaded_fraction=tally.offloaded / tally.arrived,
        cached_fraction=tally.cached_tokens / tally.prompt_tokens if tally.prompt_tokens else 0.0,
        fallbacks=dict(sorted(tally.fallbacks.items())),
        cache_transfers=tally.cache_transfers,
        usd_per_mtok=usd / tally.output_tokens * 1e6 if tally.output_tokens else 0.0,
        usd_links=usd_links,
        threshold_tokens=threshold_tokens,
        threshold_changes=tuple(tally.thresholds),
        role_changes=tuple(tally.roles),
        series=tally.buckets.series(),
    )
