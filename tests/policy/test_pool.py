"""Pools of equal and of different instances."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.policy.pool import pooled
from tests.planner.plan.fleets import profile

FAST, SLOW = profile("fast", per_token_s=1e-4, step_s=0.01, usd_per_hour=3.0), profile("slow")


def test_equal_profiles_are_one() -> None:
    assert pooled([(FAST, 2), (FAST, 5)]) is FAST


@given(tokens=st.integers(1, 200_000), fast=st.integers(1, 20), slow=st.integers(1, 20))
def test_rates_are_added(tokens: int, fast: int, slow: int) -> None:
    pool = pooled([(FAST, fast), (SLOW, slow)])
    together = fast / FAST.prefill.seconds(tokens) + slow / SLOW.prefill.seconds(tokens)
    assert (fast + slow) / pool.prefill.seconds(tokens) == pytest.approx(together, rel=0.01)
    assert pool.usd_per_hour == pytest.approx((3.0 * fast + slow) / (fast + slow))


def test_decode_rates_are_added() -> None:
    pool = pooled([(FAST, 1), (SLOW, 3)])
    batch = pool.decode.max_batch
    assert 4 * batch / pool.decode.step_s(batch) == pytest.approx(10 / 0.01 + 3 * 10 / 0.02)


def test_one_model_for_all() -> None:
    with pytest.raises(ConfigError, match=r"fast, other differ in what a token caches; .* must serve one model"):
        pooled([(FAST, 1), (replace(SLOW, name="other", kv_bytes_per_token=2.0), 1)])
