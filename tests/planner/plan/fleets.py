"""Small fleets whose figures can be worked out by hand."""

from prfaas.planner.plan.fleet import Fleet
from prfaas.policy.lengths import Fixed, Lengths
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile


def profile(
    name: str = "slow",
    per_token_s: float = 1e-3,
    step_s: float = 0.02,
    max_batch: int = 10,
    usd_per_hour: float = 1.0,
) -> Profile:
    """A second for 1,000 tokens, unless told otherwise."""
    return Profile(
        name=name,
        prefill=PrefillCurve(0.0, per_token_s),
        decode=DecodeCurve(((1, step_s),), max_batch=max_batch),
        kv_bytes_per_token=1000.0,
        state_bytes=0.0,
        cache_bytes=1e12,
        usd_per_hour=usd_per_hour,
    )


def fleet(
    prompts: Lengths | None = None,
    prfaas: Profile | None = None,
    pd: Profile | None = None,
    n_prfaas: int = 1,
    n_pd: int = 4,
    egress_bytes_s: float = 1e9,
    usd_per_gb: float = 0.0,
    rate_req_s: float | None = None,
) -> Fleet:
    """Prompts of 1,000 tokens, answers of 100."""
    return Fleet(
        prfaas=prfaas,
        pd=pd or profile(),
        n_prfaas=n_prfaas if prfaas else 0,
        n_pd=n_pd,
        least_n_p=0,
        most_n_p=n_pd - 1,
        egress_bytes_s=egress_bytes_s,
        rtt_s=0.0,
        usd_per_gb=usd_per_gb,
        prompts=prompts or Fixed(1000),
        output_tokens=100,
        hit_rate=0.0,
        rate_req_s=rate_req_s,
        tpot_s=1.0,
    )
