"""A profile in another time and with fewer bytes, for fleets whose engines are emulated. Knows no engines."""

from dataclasses import replace

from prfaas.policy.profile import Point, Profile


def scaled(profile: Profile, *, time_scale: float, kv_scale: float) -> Profile:
    """`time_scale` of the profile's seconds pass in one of ours; KV, states and memory have a share `kv_scale` of its
    bytes. Both 1: the profile itself."""
    assert time_scale > 0
    assert 0 < kv_scale <= 1
    if time_scale == kv_scale == 1.0:
        return profile
    prefill, decode = profile.prefill, profile.decode
    return replace(
        profile,
        prefill=replace(
            prefill,
            overhead_s=prefill.overhead_s / time_scale,
            per_token_s=prefill.per_token_s / time_scale,
            per_token2_s=prefill.per_token2_s / time_scale,
            points=_quicker(prefill.points, time_scale),
        ),
        decode=replace(
            decode,
            points=_quicker(decode.points, time_scale),
            per_context_token_s=decode.per_context_token_s / time_scale,
        ),
        kv_bytes_per_token=profile.kv_bytes_per_token * kv_scale,
        state_bytes=profile.state_bytes * kv_scale,
        cache_bytes=profile.cache_bytes * kv_scale,
    )


def _quicker(points: tuple[Point, ...], time_scale: float) -> tuple[Point, ...]:
    return tuple((x, seconds / time_scale) for x, seconds in points)
