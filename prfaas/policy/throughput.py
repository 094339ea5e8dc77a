"""The throughput model of the PrfaaS paper (s3.4, Eq 1-6): what a deployment can do with a threshold and a split.

Knows neither queues nor arrivals: it says what rate can be kept up, and what a prompt takes that waits for nothing.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf
from typing import Literal

from prfaas.policy.lengths import Lengths
from prfaas.policy.profile import Profile

Bottleneck = Literal["prfaas", "link", "pdp", "pdd"]

SAMPLES = 1000
"""Lengths that stand for a distribution where E[T(L)] has no closed form: the mean is then right to 0.1 %."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What there is: instances of the two kinds, the way between them, and how long answers are."""

    prfaas: Profile | None
    """None: no remote prefill at all (the homogeneous baseline)."""
    pd: Profile
    n_prfaas: int
    n_pd: int
    egress_bytes_s: float
    """`B_out`: what gets from the prfaas clusters to the pd clusters; 0 while nothing does."""
    output_tokens: float
    """`L_out`, mean."""
    hit_rate: float = 0.0
    """Share of every prompt that is cached where it is prefilled, and where it is decoded: a prompt with `u` uncached
    tokens has `u / (1 - hit_rate)` in all."""

    def __post_init__(self) -> None:
        assert self.n_prfaas >= 0
        assert self.n_pd >= 1
        assert self.egress_bytes_s >= 0
        assert self.output_tokens > 0
        assert 0 <= self.hit_rate < 1

    @property
    def offloads(self) -> bool:
        """Whether there is anywhere to send prompts to."""
        return self.prfaas is not None and self.n_prfaas > 0

    @property
    def remote(self) -> Profile:
        """Of instances that compute what is offloaded."""
        return self.prfaas or self.pd

    def prefill_s(self, profile: Profile, uncached_tokens: float) -> float:
        """`T_prefill` of a prompt with so many uncached tokens, attention over the cached ones included."""
        prompt = uncached_tokens / (1 - self.hit_rate)
        return profile.prefill.seconds(prompt, prompt - uncached_tokens)


@dataclass(frozen=True, slots=True)
class Split:
    """What a threshold makes of the prompts; N_p does not matter for it."""

    threshold_tokens: int
    offloaded_fraction: float
    """`p`."""
    long_tokens: float
    """`l_long`; 0 where nothing is offloaded."""
    short_tokens: float
    """`l_short`; 0 where everything is."""
    long_s: float
    """`T_prefill` of a long prompt, remotely."""
    short_s: float
    """`T_prefill` of a short one, locally."""


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
        return min(
            _per_share(self.theta_prfaas, self.offloaded_fraction),
            _per_share(self.theta_pdp, 1 - self.offloaded_fraction),
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """How far a deployment is from Eq 7 and Eq 8; both are near 1 where the optimum lies inside what is possible."""

    prefill_ratio: float
    """Eq 7: (Theta_prfaas / p) / (Theta_pdp / (1 - p)); above 1 the local prefill is the tighter; infinite where one
    of them has nothing to do."""
    decode_ratio: float
    """Eq 8: (Theta_prfaas + Theta_pdp) / Theta_pdd; far below 1 prefill-bound, far above decode-bound."""


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of equally likely prompts, summed up from the shortest on."""

    tokens: list[float]
    remote_s: list[float]
    """One more than `tokens`, from 0."""
    local_s: list[float]

    @classmethod
    def of(cls, deployment: Deployment, lengths: Lengths) -> "Work":
        tokens = lengths.samples(SAMPLES)
        remote, local = (
            list(accumulate((deployment.prefill_s(profile, count) for count in tokens), initial=0.0))
            for profile in (deployment.remote, deployment.pd)
        )
        return cls(tokens, remote, local)

    def means(self, threshold_tokens: int, otherwise: tuple[float, float]) -> tuple[float, float]:
        """E[T_prefill(L) | L > t] remotely and E[T_prefill(L) | L <= t] locally; of no samples, what is `otherwise`."""
        below = bisect_right(self.tokens, threshold_tokens)
        above = len(self.tokens) - below
        return (
            (self.remote_s[-1] - self.remote_s[below]) / above if above else otherwise[0],
            self.local_s[below] / below if below else otherwise[1],
        )


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


def split(deployment: Deployment, lengths: Lengths, threshold_tokens: int, work: Work | None = None) -> Split:
    """T_prefill at the mean lengths, or the mean of `work`. Without anywhere to send prompts to nothing is long."""
    if not deployment.offloads:
        threshold_tokens = max(threshold_tokens, beyond(lengths))
    p = lengths.above(threshold_tokens)
    long, short = lengths.mean_above(threshold_tokens), lengths.mean_below(threshold_tokens)
    long_s = deployment.prefill_s(deployment.remote, long) if p else 0.0
    short_s = deployment.prefill_s(deployment.pd, short) if p < 1 else 0.0
    if work:
        # A share too small for a single sample keeps the time at its mean.
        long_s, short_s = work.means(threshold_tokens, (long_s, short_s))
    return Split(threshold_tokens, p, long, short, long_s, short_s)


def beyond(lengths: Lengths) -> int:
    """The least threshold above which there is no prompt."""
    return ceil(lengths.quantile(1.0))


def of_split(deployment: Deployment, lengths: Lengths, split: Split, n_p: int) -> Throughput:
    """Eq 2-6."""
    p, n_d = split.offloaded_fraction, deployment.n_pd - n_p
    compute = deployment.n_prfaas / split.long_s if p else 0.0
    long_bytes = deployment.remote.kv_bytes(split.long_tokens) if p else 0.0
    link = deployment.egress_bytes_s / long_bytes if p else 0.0
    theta_prfaas = min(compute, link)
    theta_pdp = n_p / split.short_s if p < 1 else 0.0
    theta_pdd = _decode_req_s(deployment, lengths, n_d)
    bounds: dict[Bottleneck, float] = {
        "link" if link < compute else "prfaas": _per_share(theta_prfaas, p),
        "pdp": _per_share(theta_pdp, 1 - p),
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
    remote = _per_share(at.theta_prfaas, at.offloaded_fraction)
    local = _per_share(at.theta_pdp, 1 - at.offloaded_fraction)
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


def _per_share(rate: float, share: float) -> float:
    """The rate of all requests at which a share of them comes at `rate`."""
    return rate / share if share > 0 else inf
