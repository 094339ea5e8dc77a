"""The throughput model of the PrfaaS paper (s3.4, Eq 1-6): what a deployment can do with a threshold and a split.

Knows neither queues nor arrivals: it says what rate can be kept up, and what a prompt takes that waits for nothing.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from prfaas.policy.deployment import Deployment
from prfaas.policy.lengths import Lengths
from prfaas.policy.split import SAMPLES, Split, Work, per_share, prefill_rates, split

__all__ = ["Balance", "Bottleneck", "Deployment", "Throughput", "balance", "of_split", "service_ttft", "throughput"]

Bottleneck = Literal["prfaas", "link", "pdp", "pdd"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a deployment does at best with one threshold and one split; rates in requests/s."""

    threshold_tokens: int
    n_prfaas: int
    n_p: int
    n_d: int
    theta_prfaas: float
    """Eq 3; 0 where nothing is offloaded."""
    theta_pdp: float
    """Eq 4; 0 where everything is."""
    theta_pdd: float
    """Eq 5."""
    lambda_max: float
    """Eq 6."""
    offloaded_fraction: float
    """`p`."""
    long_tokens: float
    short_tokens: float
    egress_bytes_s: float
    """What really crosses at `lambda_max`: Lambda · p · S_kv(l_long)."""
    egress_ceiling_bytes_s: float
    """Eq 2: what crosses when all prfaas instances are busy, N · Phi_kv(l_long)."""
    bottleneck: Bottleneck
    """What `lambda_max` is bounded by."""

    @property
    def prefill_req_s(self) -> float:
        """What both kinds of prefill together keep up with, decode left aside: the first two terms of Eq 6."""
        p = self.offloaded_fraction
        return min(per_share(self.theta_prfaas, p), per_share(self.theta_pdp, 1 - p))


@dataclass(frozen=True, slots=True)
class Balance:
    """How far a deployment is from Eq 7 and Eq 8; both are near 1 where the optimum lies inside what is possible."""

    prefill_ratio: float
    """Eq 7: (Theta_prfaas / p) / (Theta_pdp / (1 - p)); above 1 the local prefill is the tighter; infinite where one
    of them has nothing to do."""
    decode_ratio: float
    """Eq 8: (Theta_prfaas + Theta_pdp) / Theta_pdd; far below 1 prefill-bound, far above decode-bound."""


def throughput(
    deployment: Deployment, lengths: Lengths, threshold_tokens: int, n_p: int, *, expected: bool = False
) -> Throughput:
    """Eq 1-6 for a threshold `t` and `n_p` local prefill instances. Threshold 0 sends everything away.

    The paper puts the mean length into T_prefill. What an instance is busy with is E[T_prefill(L)], which is more where
    T curves upwards (Jensen): attention makes long prompts dearer than their length. `expected` takes that instead, and
    a queue is as long as that says.
    """
    assert 0 <= n_p < deployment.n_pd
    work = Work.of(deployment, lengths) if expected else None
    return of_split(deployment, lengths, split(deployment, lengths, threshold_tokens, work), n_p)


def of_split(deployment: Deployment, lengths: Lengths, split: Split, n_p: int) -> Throughput:
    """Eq 2-6."""
    p, n_d = split.offloaded_fraction, deployment.n_pd - n_p
    compute, link, theta_pdp = prefill_rates(deployment, split, n_p)
    long_bytes = deployment.remote.kv_bytes(split.long_tokens) if p else 0.0
    theta_prfaas = min(compute, link)
    theta_pdd = _decode_req_s(deployment, lengths, n_d)
    bounds: dict[Bottleneck, float] = {
        "link" if link < compute else "prfaas": per_share(theta_prfaas, p),
        "pdp": per_share(theta_pdp, 1 - p),
        "pdd": theta_pdd,
    }
    bottleneck = min(bounds, key=bounds.__getitem__)
    lambda_max = bounds[bottleneck]
    return Throughput(
        threshold_tokens=split.threshold_tokens,
        n_prfaas=deployment.n_prfaas,
        n_p=n_p,
        n_d=n_d,
        theta_prfaas=theta_prfaas,
        theta_pdp=theta_pdp,
        theta_pdd=theta_pdd,
        lambda_max=lambda_max,
        offloaded_fraction=p,
        long_tokens=split.long_tokens,
        short_tokens=split.short_tokens,
        egress_bytes_s=lambda_max * p * long_bytes,
        egress_ceiling_bytes_s=compute * long_bytes,
        bottleneck=bottleneck,
    )


def _decode_req_s(deployment: Deployment, lengths: Lengths, n_d: int) -> float:
    """Eq 5, with the batch that the profile allows and that fits in memory: a request holds its whole prompt, and on
    average half of its answer."""
    pd = deployment.pd
    context = lengths.mean / (1 - deployment.hit_rate) + deployment.output_tokens / 2
    batch = min(pd.decode.max_batch, pd.cache_bytes / pd.kv_bytes(context))
    return n_d * batch / (pd.decode.step_s(batch, batch * context) * deployment.output_tokens)


def balance(at: Throughput) -> Balance:
    """Eq 7 and Eq 8 as checks of an optimum."""
    remote = per_share(at.theta_prfaas, at.offloaded_fraction)
    local = per_share(at.theta_pdp, 1 - at.offloaded_fraction)
    return Balance(
        prefill_ratio=remote / local if 0 < local < inf and remote < inf else inf,
        decode_ratio=(at.theta_prfaas + at.theta_pdp) / at.theta_pdd,
    )


def service_ttft(deployment: Deployment, lengths: Lengths, threshold_tokens: int) -> tuple[float, float]:
    """(mean, P90) seconds of prefill with no queue and no transfer, as table 6 of the paper has it: prompts above the
    threshold on a prfaas instance, the others on a pd one, and the quantile over all of them."""
    at = threshold_tokens if deployment.offloads else inf
    times = sorted(
        deployment.prefill_s(deployment.remote if tokens > at else deployment.pd, tokens)
        for tokens in lengths.samples(SAMPLES)
    )
    return sum(times) / len(times), times[ceil(0.9 * len(times)) - 1]
