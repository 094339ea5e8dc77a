"""A scaled profile is the same machine, seen through another clock and another unit of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.scaled import scaled

PROFILE = Profile(
    name="some",
    prefill=PrefillCurve(0.4, 4e-5, 1e-10, ((1024, 0.44), (8192, 0.72), (32768, 1.84))),
    decode=DecodeCurve(((20, 0.025), (40, 0.05)), 1e-9, 20),
    kv_bytes_per_token=17_100,
    state_bytes=182_800_000,
    cache_bytes=480 * 2**30,
    gpus=8,
    usd_per_hour=32,
)
scales = st.floats(0.01, 100)


@given(scales, scales, st.integers(1, 131_072))
def test_times_and_bytes_change_and_nothing_else(time_scale: float, kv_scale: float, tokens: int) -> None:
    other = scaled(PROFILE, time_scale=time_scale, kv_scale=kv_scale)
    assert other.prefill.seconds(tokens) * time_scale == pytest.approx(PROFILE.prefill.seconds(tokens))
    assert other.decode.step_s(30, tokens) * time_scale == pytest.approx(PROFILE.decode.step_s(30, tokens))
    assert other.kv_bytes(tokens) == pytest.approx(PROFILE.kv_bytes(tokens) * kv_scale)
    assert other.cache_bytes // other.kv_bytes_per_token == pytest.approx(480 * 2**30 // 17_100, abs=1)
    assert other.kv_throughput_bytes_s(tokens) == pytest.approx(
        PROFILE.kv_throughput_bytes_s(tokens) * time_scale * kv_scale
    )
    # What a prompt costs is what it costs.
    assert other.usd_per_s * other.prefill.seconds(tokens) == pytest.approx(
        PROFILE.usd_per_s * PROFILE.prefill.seconds(tokens)
    )
    assert (other.name, other.gpus, other.decode.max_batch) == ("some", 8, 20)


@pytest.mark.parametrize(("time_scale", "kv_scale"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_scales_are_above_zero(time_scale: float, kv_scale: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        scaled(PROFILE, time_scale=time_scale, kv_scale=kv_scale)
