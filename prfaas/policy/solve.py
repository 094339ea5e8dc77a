"""The threshold and the split with which a deployment serves the most: the search of the PrfaaS paper (s3.4)."""

from collections.abc import Callable
from math import ceil, exp, log

from prfaas.policy.deployment import Deployment
from prfaas.policy.lengths import Lengths
from prfaas.policy.split import Split, Work, beyond, prefill_req_s, split
from prfaas.policy.throughput import Throughput, of_split

GRID = 64
"""Thresholds from the shortest prompt to the longest, evenly in their logarithm..."""
ROUNDS = 4
ROUND = 8
"""...then so many times so many around the best of them, each time closer."""


def solve(deployment: Deployment, lengths: Lengths, *, n_p: int | None = None, expected: bool = False) -> Throughput:
    """The best over thresholds, and over N_p where that is not given. Eq 7 and 8 then hold as nearly as whole numbers
    of instances and the link allow; see `balance`. For `expected` see `throughput`.

    Among thresholds that serve equally many, the one whose prefill has most to spare; then the highest, which sends
    least across the link. It is that of the longest prompt where nothing may cross, and 0 where everything does.
    """
    assert n_p is None or 0 <= n_p < deployment.n_pd
    work = Work.of(deployment, lengths) if expected else None
    splits: dict[int, Split] = {}

    def split_at(threshold_tokens: int) -> Split:
        if threshold_tokens not in splits:
            splits[threshold_tokens] = split(deployment, lengths, threshold_tokens, work)
        return splits[threshold_tokens]

    def best(count: int) -> Throughput:
        return _best_threshold(deployment, lengths, count, split_at)

    return best(n_p) if n_p is not None else _best_split(deployment.n_pd, best)


def _best_split(n_pd: int, best: Callable[[int], Throughput]) -> Throughput:
    """Whatever the threshold, prefill only gains by another instance and decode only loses by it: the best N_p is where
    they cross, so it is found by halving, and a hundred instances take hardly longer than ten."""
    low, high = 0, n_pd - 1
    while low < high:
        middle = (low + high) // 2
        at = best(middle)
        low, high = (low, middle) if at.prefill_req_s >= at.theta_pdd else (middle + 1, high)
    return max((best(count) for count in {max(low - 1, 0), low}), key=_merit)


def _best_threshold(deployment: Deployment, lengths: Lengths, n_p: int, split_at: Callable[[int], Split]) -> Throughput:
    """Decode does not depend on the threshold, so it is the one with which prefill keeps up with most."""

    def merit(threshold_tokens: int) -> tuple[float, int]:
        split = split_at(threshold_tokens)
        everything = split.offloaded_fraction == 1
        return prefill_req_s(deployment, split, n_p), 0 if everything else threshold_tokens

    nothing = beyond(lengths)
    found = nothing
    if deployment.offloads:
        grid = _spaced(lengths.quantile(0.0), lengths.quantile(1.0), GRID)
        found = max((0, nothing, *grid), key=merit)
        ratio = (max(grid[-1], 1) / max(grid[0], 1)) ** (1 / (GRID - 1))
        for _ in range(ROUNDS):
            near = _spaced(found / ratio, min(found * ratio, nothing), ROUND)
            found = max((found, *near), key=merit)
            ratio **= 2 / (ROUND - 1)
    return of_split(deployment, lengths, split_at(found), n_p)


def _merit(at: Throughput) -> tuple[float, float, int]:
    return at.lambda_max, at.prefill_req_s, at.threshold_tokens


def _spaced(low: float, high: float, count: int) -> list[int]:
    low, high = max(low, 1.0), max(high, 1.0)
    step = log(high / low) / (count - 1)
    return sorted({ceil(low * exp(i * step)) for i in range(count)})
