"""What a threshold makes of the prompts, and what rate both kinds of prefill then keep up with (Eq 3 and 4).

Knows nothing of decode.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf

from prfaas.policy.deployment import Deployment
from prfaas.policy.lengths import Lengths

SAMPLES = 1000
"""Lengths that stand for a distribution where E[T(L)] has no closed form: the mean is then right to 0.1 %."""


@dataclass(frozen=True, slots=True)
class Split:
    """N_p does not matter for it."""

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


def prefill_req_s(deployment: Deployment, split: Split, n_p: int) -> float:
    """The rate that both kinds of prefill together keep up with: the first two terms of Eq 6."""
    p = split.offloaded_fraction
    compute, link, local = prefill_rates(deployment, split, n_p)
    return min(per_share(min(compute, link), p), per_share(local, 1 - p))


def prefill_rates(deployment: Deployment, split: Split, n_p: int) -> tuple[float, float, float]:
    """Both terms of Eq 3, and Eq 4; 0 for prompts that there are not."""
    p = split.offloaded_fraction
    compute = deployment.n_prfaas / split.long_s if p else 0.0
    link = deployment.egress_bytes_s / deployment.remote.kv_bytes(split.long_tokens) if p else 0.0
    return compute, link, n_p / split.short_s if p < 1 else 0.0


def per_share(rate: float, share: float) -> float:
    """The rate of all requests at which a share of them comes at `rate`."""
    return rate / share if share > 0 else inf
