"""Eq 1-6 by hand, and against tables 5 and 6 of the PrfaaS paper."""

from dataclasses import replace

import pytest

from prfaas.policy.lengths import Empirical, Fixed
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.throughput import Deployment, balance, service_ttft, throughput
from tests.policy.paper import H200, HOMOGENEOUS, LENGTHS, PRFAAS_PD

FAST = Profile("fast", PrefillCurve(0.0, 0.001), DecodeCurve(((10, 0.05),), max_batch=10), 100.0, 50_000.0, 1e9)
SLOW = replace(FAST, name="slow", prefill=PrefillCurve(0.0, 0.002))
SMALL = Deployment(FAST, SLOW, n_prfaas=2, n_pd=3, egress_bytes_s=1e6, output_tokens=100)
PROMPTS = Empirical([500, 1500, 2000, 4000])


def test_by_hand() -> None:
    # t = 1600: half are longer, of 3000 on average and 1000 the others. Remote prefill takes 3 s, local 2 s.
    at = throughput(SMALL, PROMPTS, 1600, 1)
    assert (at.offloaded_fraction, at.long_tokens, at.short_tokens) == (0.5, 3000, 1000)
    # 2 / 3 s; 1 MB/s over 350 kB would be 2.86/s.
    assert at.theta_prfaas == pytest.approx(2 / 3)
    assert at.theta_pdp == pytest.approx(1 / 2)
    # 2 instances, 10 requests each, of 100 steps of 50 ms.
    assert at.theta_pdd == pytest.approx(4.0)
    # The least of 0.667/s over a half, 0.5/s over a half, and 4/s.
    assert at.lambda_max == pytest.approx(1.0)
    assert at.bottleneck == "pdp"
    assert at.prefill_req_s == pytest.approx(1.0)
    # Half a long prompt a second.
    assert at.egress_bytes_s == pytest.approx(0.5 * 350_000)
    assert at.egress_ceiling_bytes_s == pytest.approx(2 / 3 * 350_000)
    # 1.333/s against 1/s of all requests; 0.667 + 0.5 prefills a second against 4 decodes.
    assert balance(at).prefill_ratio == pytest.approx(4 / 3)
    assert balance(at).decode_ratio == pytest.approx(7 / 24)


def test_a_slow_link_bounds_what_is_offloaded() -> None:
    # 70 kB/s over 350 kB: 0.2 a second, of which half of the requests are.
    at = throughput(replace(SMALL, egress_bytes_s=70_000), PROMPTS, 1600, 1)
    assert (at.theta_prfaas, at.lambda_max) == pytest.approx((0.2, 0.4))
    assert at.bottleneck == "link"
    assert at.egress_bytes_s == pytest.approx(70_000)


def test_no_link_serves_nothing_above_the_threshold() -> None:
    dead = replace(SMALL, egress_bytes_s=0.0)
    assert throughput(dead, PROMPTS, 1600, 1).lambda_max == 0
    # All 2000 tokens on average here, 4 s on one instance.
    assert throughput(dead, PROMPTS, 4000, 1).lambda_max == pytest.approx(0.25)


def test_expected_times_are_what_instances_are_busy_with() -> None:
    # T(l) = l²: T at the mean of 1000 and 3000 is 4 s, the mean of the times 5 s.
    curved = replace(FAST, prefill=PrefillCurve(0.0, 0.0, 1e-6))
    deployment = replace(SMALL, prfaas=curved)
    prompts = Empirical([1000, 3000])
    assert throughput(deployment, prompts, 0, 0).theta_prfaas == pytest.approx(2 / 4)
    assert throughput(deployment, prompts, 0, 0, expected=True).theta_prfaas == pytest.approx(2 / 5)


def test_cached_tokens_are_looked_at_but_not_computed() -> None:
    # 1000 uncached of 4000: 3000² to 4000² tokens looked at, 7 times what the first 1000 take.
    curved = replace(FAST, prefill=PrefillCurve(0.0, 0.0, 1e-6))
    warm = replace(SMALL, prfaas=curved, hit_rate=0.75)
    assert throughput(warm, Fixed(1000), 0, 0).theta_prfaas == pytest.approx(2 / 7)


def test_memory_bounds_the_batch() -> None:
    # A request holds 50 kB of state and 100 bytes of each of 950 + 50 tokens: 150 kB, so 6 fit into 900 kB.
    tight = replace(SMALL, pd=replace(SLOW, cache_bytes=900_000))
    assert throughput(tight, Fixed(950), 0, 0).theta_pdd == pytest.approx(3 * 6 / (0.05 * 100))


def test_kv_throughput_of_table_5() -> None:
    # Eq 1, Gbit/s at 1K, 8K, 32K, 128K.
    for tokens, gbit_s in ((1024, 3.61), (8192, 3.59), (32_768, 3.19), (131_072, 2.62)):
        assert H200.kv_throughput_bytes_s(tokens) * 8e-9 == pytest.approx(gbit_s, rel=0.02)


def test_prfaas_pd_of_table_6() -> None:
    at = throughput(PRFAAS_PD, LENGTHS, 19_400, 3)
    assert at.theta_prfaas == pytest.approx(1.61, rel=0.04)
    assert at.theta_pdp == pytest.approx(1.64, rel=0.02)
    assert at.theta_pdd == pytest.approx(3.91, rel=0.002)
    assert at.lambda_max == pytest.approx(3.24, rel=0.03)
    assert at.offloaded_fraction == pytest.approx(0.496, rel=0.005)
    assert at.egress_bytes_s * 8e-9 == pytest.approx(12.0, rel=0.02)
    assert service_ttft(PRFAAS_PD, LENGTHS, 19_400) == pytest.approx((2.22, 3.51), rel=0.01)


def test_homogeneous_pd_of_table_6() -> None:
    at = throughput(HOMOGENEOUS, LENGTHS, 0, 9)
    assert (at.offloaded_fraction, at.theta_prfaas, at.egress_bytes_s) == (0.0, 0.0, 0.0)
    assert (at.theta_pdp, at.theta_pdd) == pytest.approx((2.11, 2.35), rel=0.005)
    assert at.lambda_max == at.theta_pdp
    assert balance(at).prefill_ratio == float("inf")
    assert service_ttft(HOMOGENEOUS, LENGTHS, 0) == pytest.approx((4.44, 9.73), rel=0.01)


def test_naive_heterogeneous_of_table_6() -> None:
    at = throughput(PRFAAS_PD, LENGTHS, 0, 0)
    assert (at.offloaded_fraction, at.theta_pdp, at.n_d) == (1.0, 0.0, 8)
    assert (at.theta_prfaas, at.theta_pdd) == pytest.approx((2.45, 6.25), rel=0.03)
    assert (at.lambda_max, at.bottleneck) == (at.theta_prfaas, "prfaas")
    assert service_ttft(PRFAAS_PD, LENGTHS, 0) == pytest.approx((1.74, 3.51), rel=0.04)
