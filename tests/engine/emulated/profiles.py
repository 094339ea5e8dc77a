"""A small profile for emulated engines."""

from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile

PROFILE = Profile(
    name="small on nothing",
    prefill=PrefillCurve(0.5, 0.01, 1e-5),
    decode=DecodeCurve(((1, 0.02), (8, 0.03)), 1e-5, 8),
    kv_bytes_per_token=42,
    state_bytes=5_000,
    cache_bytes=1 << 20,
)
