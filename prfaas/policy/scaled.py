"""A profile as an emulated engine has it: quicker by one factor, with fewer bytes by another. Knows no files."""

from dataclasses import replace

from prfaas.core.errors import ConfigError
from prfaas.policy.profile import DecodeCurve, Point, PrefillCurve, Profile


def scaled(profile: Profile, *, time_scale: float, kv_scale: float) -> Profile:
    """`profile` where `time_scale` of its seconds pass in one, and its bytes are `kv_scale` of what they are.

    All shares and ratios stay: a request costs what it costs, and the memory holds as many tokens. A link that is to
    be as fast beside it has `time_scale * kv_scale` of its bytes per second.

    Raises ConfigError for a scale that is not above 0.
    """
    if not (time_scale > 0 and kv_scale > 0):
        raise ConfigError(f"time_scale is {time_scale:g} and kv_scale {kv_scale:g}; both must be above 0")
    return replace(
        profile,
        prefill=_prefill(profile.prefill, time_scale),
        decode=_decode(profile.decode, time_scale),
        kv_bytes_per_token=profile.kv_bytes_per_token * kv_scale,
        state_bytes=profile.state_bytes * kv_scale,
        cache_bytes=profile.cache_bytes * kv_scale,
        usd_per_hour=profile.usd_per_hour * time_scale,
    )


def _prefill(curve: PrefillCurve, time_scale: float) -> PrefillCurve:
    return PrefillCurve(
        overhead_s=curve.overhead_s / time_scale,
        per_token_s=curve.per_token_s / time_scale,
        per_token2_s=curve.per_token2_s / time_scale,
        points=_points(curve.points, time_scale),
    )


def _decode(curve: DecodeCurve, time_scale: float) -> DecodeCurve:
    return DecodeCurve(
        points=_points(curve.points, time_scale),
        per_context_token_s=curve.per_context_token_s / time_scale,
        max_batch=curve.max_batch,
    )


def _points(points: tuple[Point, ...], time_scale: float) -> tuple[Point, ...]:
    return tuple((number, seconds / time_scale) for number, seconds in points)
