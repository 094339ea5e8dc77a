"""Fits: curves that are found again, coefficients that are never below 0, measurements that make no curve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.config.profile_file import HardwareSection, ProfileModelSection
from prfaas.core.errors import ConfigError
from prfaas.planner.fit import DecodeSample, PrefillSample, fit_decode, fit_prefill
from prfaas.planner.measured import CachedSample, Measured, compare, profile_measured
from prfaas.planner.profiles import decode_curve

LENGTHS = (256, 1024, 4096, 16_384)


@given(overhead=st.floats(0, 2), linear=st.floats(1e-6, 1e-2), square=st.floats(0, 1e-6))
def test_a_quadratic_is_found_again(overhead: float, linear: float, square: float) -> None:
    samples = [PrefillSample(n, overhead + linear * n + square * n * n) for n in LENGTHS]
    found = fit_prefill(samples)
    for n in (*LENGTHS, 100_000):
        expected = overhead + linear * n + square * n * n
        assert found.overhead_s + found.per_token_s * n + found.per_token2_s * n * n == pytest.approx(
            expected, rel=2e-3
        )
    assert [p.tokens for p in found.points] == list(LENGTHS)
    assert [p.seconds for p in found.points] == pytest.approx([s.seconds for s in samples], rel=1e-4)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=4, unique=True))
def test_no_prompt_ever_gains_by_being_longer(seconds: list[float]) -> None:
    found = fit_prefill([PrefillSample(n, s) for n, s in zip(LENGTHS, sorted(seconds), strict=False)])
    assert min(found.overhead_s, found.per_token_s, found.per_token2_s) >= 0
    assert max(found.overhead_s, found.per_token_s, found.per_token2_s) > 0


def test_two_lengths_make_a_line() -> None:
    found = fit_prefill([PrefillSample(1000, 1.5), PrefillSample(3000, 2.5)])
    assert (found.overhead_s, found.per_token_s, found.per_token2_s) == pytest.approx((1.0, 5e-4, 0.0))


def test_one_length_makes_no_line() -> None:
    with pytest.raises(ConfigError, match="give two or more"):
        fit_prefill([PrefillSample(1000, 1.5)])


def test_a_longer_prompt_that_took_less_is_noise_and_said_to_be() -> None:
    with pytest.raises(ConfigError, match=r"1100 tokens took 1.4000 s and 1000 tokens 1.5000 s.*further apart"):
        fit_prefill([PrefillSample(1000, 1.5), PrefillSample(1100, 1.4)])


def test_steps_are_told_apart_from_what_they_look_back_at() -> None:
    alone = {1: 0.010, 4: 0.012, 16: 0.030}
    samples = [DecodeSample(b, b * c, s + b * c * 2e-7) for b, s in alone.items() for c in (50.0, 4000.0)]
    found = fit_decode(samples, max_batch=64)
    assert {p.requests: p.seconds for p in found.points} == pytest.approx(alone, rel=1e-3)
    assert found.per_context_token_s == pytest.approx(2e-7, rel=1e-3)
    assert found.max_batch == 64


def test_a_context_that_seems_to_save_time_costs_nothing() -> None:
    found = fit_decode([DecodeSample(1, 10, 0.02), DecodeSample(1, 1000, 0.01)], max_batch=1)
    assert found.per_context_token_s == 0
    assert 0.01 <= found.points[0].seconds <= 0.02


def test_a_profile_is_compared_with_all_that_was_measured() -> None:
    measured = Measured(
        prefills=tuple(PrefillSample(n, 0.1 + 1e-4 * n + 1e-8 * n * n) for n in LENGTHS),
        cached=(CachedSample(4096, 1024, 0.5),),
        decodes=(DecodeSample(1, 20, 0.01), DecodeSample(1, 2000, 0.02), DecodeSample(4, 80, 0.03)),
    )
    model = ProfileModelSection(name="m", kv_bytes_per_token=1)
    profile = profile_measured(measured, "a test", model, HardwareSection(name="h", cache_gib=1), max_batch=8)
    prompts, (behind,), steps = (rows := list(compare(measured, profile)))[:4], rows[4:5], rows[5:]
    assert [row.error for row in prompts] == pytest.approx([0.0] * 4, abs=1e-3)
    expected = 0.1 + 1e-4 * (4096 - 1024) + 1e-8 * (4096**2 - 1024**2)
    # Points are joined by lines, the first of which begins below the curve's overhead.
    assert behind.fitted_s == pytest.approx(expected, rel=0.01)
    assert behind.error == pytest.approx(behind.fitted_s / 0.5 - 1)
    assert behind.what == "prefill of 4,096 tokens, 1,024 of them cached"
    assert [row.what for row in steps][1] == "step of 1, 2,000 tokens each"
    curve = decode_curve(profile.decode)
    assert [row.fitted_s for row in steps] == pytest.approx([0.01, 0.02, 0.03], rel=1e-3)
    assert curve.max_batch == 8
