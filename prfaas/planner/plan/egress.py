"""What crosses the link, as rates. Knows neither queues nor prices."""

from math import sqrt
from statistics import NormalDist

from prfaas.policy.lengths import Lengths
from prfaas.policy.throughput import Deployment, Throughput

SAMPLES = 2000
WINDOW_S = 10.0


def egress_quantile_bytes_s(
    deployment: Deployment, lengths: Lengths, at: Throughput, rate_req_s: float, q: float = 0.99
) -> float:
    """The rate that a share `q` of all windows of 10 s does not exceed.

    Offloaded requests come as a Poisson process with rate r = p lambda; each brings S = S_kv(L), L > t. The bytes of a
    window of w seconds are compound Poisson: mean r w E[S], variance r w E[S^2], skewness E[S^3] / sqrt(r w E[S^2]^3).
    The quantile is that of a normal distribution, corrected for the skewness (Cornish and Fisher). Prefills smooth it:
    no more can cross than all prfaas instances make at once, N max Phi_kv(l), or than the link carries.
    """
    if deployment.prfaas is None or not at.offloaded_fraction:
        return 0.0
    remote = deployment.prfaas
    long = [tokens for tokens in lengths.samples(SAMPLES) if tokens > at.threshold_tokens] or [at.long_tokens]
    arriving = _compound_poisson(
        [remote.kv_bytes(tokens) for tokens in long], at.offloaded_fraction * rate_req_s * WINDOW_S, q
    )
    made = at.n_prfaas * max(remote.kv_bytes(tokens) / deployment.prefill_s(remote, tokens) for tokens in long)
    return min(arriving / WINDOW_S, made, deployment.egress_bytes_s)


def _compound_poisson(sizes: list[float], count: float, q: float) -> float:
    """Quantile of the sum of Poisson-many sizes, `count` on average."""
    first, second, third = (count * sum(size**power for size in sizes) / len(sizes) for power in (1, 2, 3))
    z = NormalDist().inv_cdf(q)
    skewness = third / sqrt(second) ** 3
    return first + sqrt(second) * (z + (z * z - 1) * skewness / 6)
