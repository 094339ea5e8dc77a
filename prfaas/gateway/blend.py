"""One profile for a cluster out of what its instances measured of themselves. Knows no clock, and remembers nothing.

All instances of a cluster share it: `place` compares clusters by profile and instances by load, and a number that one
instance has wrong, or invents, draws nothing to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median_high

import numpy as np

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import InstanceId
from prfaas.gateway.reported_rates import prefill_s
from prfaas.policy.instance_view import Role
from prfaas.policy.least_squares import nonnegative
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile

ENOUGH_PROMPTS = 20
"""That a file's profile has to make way for..."""
FEW_PROMPTS = 5
"""...and that are better than nothing."""
REFERENCE_TOKENS = 8192
PEERS_APART = 10.0
"""Whose prompts take so many times as long as those of the cluster's median, or so much less, is not believed..."""
FILE_APART = 100.0
"""...nor who is so far from the file's."""
GRID_TOKENS = tuple(64 * 4**i for i in range(7))


@dataclass(frozen=True, slots=True)
class Report:
    """One instance's latest."""

    instance_id: InstanceId
    role: Role
    rates: pb.Rates


@dataclass(frozen=True, slots=True)
class CacheBytes:
    """What profiles that nobody has written a file for take from the model's shape and the engine's settings."""

    kv_bytes_per_token: float
    state_bytes: float
    cache_bytes: float
    """Of one instance."""


@dataclass(frozen=True, slots=True)
class Blend:
    """`profile` is None where too little is known."""

    profile: Profile | None
    measured: bool
    """Prompts take what instances say, not what a file does."""
    outliers: tuple[InstanceId, ...] = ()


def blended(reports: Sequence[Report], given: Profile | None, cache: CacheBytes | None, slots: int) -> Blend:
    """`given`: the file's, scaled to the engine. `slots`: requests that an instance runs at once. Without `given` and
    `cache` nothing is known, whatever is measured."""
    prompts = [report for report in reports if report.rates.prefill_samples]
    outliers = _outliers(prompts, given)
    sane = [report for report in prompts if report.instance_id not in outliers]
    measured = _prefill(sane, ENOUGH_PROMPTS if given else FEW_PROMPTS)
    prefill = measured or (given.prefill if given else None)
    known = given or (_unwritten(prefill, cache, slots) if prefill and cache else None)
    if prefill is None or known is None:
        return Blend(None, measured=False, outliers=outliers)
    decode = _decode([r.rates for r in reports if r.rates.decode and r.instance_id not in outliers], known.decode)
    return Blend(replace(known, prefill=prefill, decode=decode or known.decode), measured is not None, outliers)


def _unwritten(prefill: PrefillCurve, cache: CacheBytes, slots: int) -> Profile:
    """A decode step counts as a prompt of one token, until one is seen."""
    return Profile(
        name="measured",
        prefill=prefill,
        decode=DecodeCurve(((1, prefill.seconds(1)),), max_batch=slots),
        kv_bytes_per_token=cache.kv_bytes_per_token,
        state_bytes=cache.state_bytes,
        cache_bytes=cache.cache_bytes,
    )


def _outliers(prompts: Sequence[Report], given: Profile | None) -> tuple[InstanceId, ...]:
    seconds = {report.instance_id: prefill_s(report.rates, REFERENCE_TOKENS) for report in prompts}
    found = []
    if given:
        file_s = given.prefill.seconds(REFERENCE_TOKENS)
        found = [name for name, own_s in seconds.items() if _apart(own_s, file_s) > FILE_APART]
    if len(seconds) > 2:
        middle_s = median_high(seconds.values())
        found += [name for name, own_s in seconds.items() if _apart(own_s, middle_s) > PEERS_APART]
    return tuple(sorted(set(found)))


def _apart(a_s: float, b_s: float) -> float:
    return max(a_s, b_s) / max(min(a_s, b_s), 1e-12)


def _prefill(reports: Sequence[Report], enough: int) -> PrefillCurve | None:
    """Of those whose role it is, if they have enough: what is prefilled beside decodes is measured less well."""
    own = [report.rates for report in reports if report.role == "prefill"]
    those = own if _prompts(own) >= enough else [report.rates for report in reports]
    if _prompts(those) < enough:
        return None
    if len(those) == 1:
        rates = those[0]
        return PrefillCurve(rates.prefill_overhead_s, rates.prefill_per_token_s, rates.prefill_per_token2_s)
    tokens = np.array(GRID_TOKENS, dtype=np.float64)
    # Of an even number the slower middle: who claims to be quick gains nothing by it.
    seconds = np.array([median_high(prefill_s(rates, length) for rates in those) for length in GRID_TOKENS])
    terms = np.stack([tokens, tokens**0, tokens**2], axis=1)
    per_token_s, overhead_s, per_token2_s = nonnegative(terms, seconds, range(3))
    return PrefillCurve(overhead_s, per_token_s, per_token2_s)


def _prompts(rates: Iterable[pb.Rates]) -> int:
    return sum(one.prefill_samples for one in rates)


def _decode(reports: Sequence[pb.Rates], before: DecodeCurve) -> DecodeCurve | None:
    """At the sizes that were measured; at others as much longer or shorter than `before` as at the nearest of them."""
    if not reports:
        return None
    curves = [DecodeCurve(tuple((p.requests, p.seconds) for p in rates.decode)) for rates in reports]
    # Of a thousand instances there would be as many sizes: one of each power of two.
    sizes = sorted({int(n).bit_length(): n for curve in curves for n, _ in curve.points}.values())
    seconds = [
        median_high(c.step_s(size) for c in curves if c.points[0][0] <= size <= c.points[-1][0]) for size in sizes
    ]
    measured = list(zip(sizes, accumulate(seconds, max), strict=True))
    (least, least_s), (most, most_s) = measured[0], measured[-1]
    below = [(n, s * least_s / before.step_s(least)) for n, s in before.points if n < least]
    above = [(n, s * most_s / before.step_s(most)) for n, s in before.points if n > most]
    points = [*below, *measured, *above]
    rising = accumulate((s for _, s in points), max)
    per_context_token_s = median_high(rates.decode_per_context_token_s for rates in reports)
    return DecodeCurve(
        tuple((n, s) for (n, _), s in zip(points, rising, strict=True)), per_context_token_s, before.max_batch
    )
