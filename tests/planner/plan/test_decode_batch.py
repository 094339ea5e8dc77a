"""The batch that an SLO allows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.planner.plan.decode_batch import within_slo
from prfaas.policy.profile import DecodeCurve
from tests.planner.plan.fleets import profile

RISING = replace(profile(), decode=DecodeCurve(((1, 0.01), (101, 0.03)), per_context_token_s=1e-7, max_batch=200))


def test_the_largest_batch_that_keeps_it() -> None:
    # 0.0098 + 0.0002 b + 1e-7 * 1000 b = 0.04 at b = 100.67
    assert within_slo(RISING, 0.04, 1000.0).decode.max_batch == 100


@given(tpot_s=st.floats(0.0105, 0.2), context=st.floats(0, 4000))
def test_one_more_would_be_too_many(tpot_s: float, context: float) -> None:
    decode = within_slo(RISING, tpot_s, context).decode
    batch = decode.max_batch
    assert RISING.decode.step_s(batch, batch * context) <= tpot_s * (1 + 1e-6)
    if batch < RISING.decode.max_batch:
        assert RISING.decode.step_s(batch + 1, (batch + 1) * context) > tpot_s


def test_a_step_of_just_the_slo() -> None:
    assert within_slo(profile(step_s=0.02, max_batch=7), 0.02, 500.0).decode.max_batch == 7


def test_not_even_one() -> None:
    with pytest.raises(ConfigError, match=r"slo.tpot_ms: a decode step of slow takes 20 ms .* more than 10 ms; allow"):
        within_slo(profile(step_s=0.02), 0.01, 500.0)
