"""What routers hear of at once, and what can wait for the next heartbeat."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from prfaas.control.load_change import noticeable
from prfaas.control.v1 import fleet_pb2 as pb

BUSY: dict[str, Any] = {"waiting_requests": 4, "running_requests": 60, "waiting_tokens": 100_000, "pages_total": 100}


@pytest.mark.parametrize(
    ("now", "is_news"),
    [
        ({}, False),
        ({"draining": True}, True),
        ({"converting_to": pb.ROLE_PREFILL}, True),
        ({"running_requests": 50}, False),
        ({"running_requests": 44}, True),
        ({"running_requests": 44, "waiting_requests": 20}, False),
        ({"waiting_tokens": 76_000}, False),
        ({"waiting_tokens": 75_000}, True),
        ({"waiting_tokens": 140_000}, True),
        ({"pages_used": 100, "role_age_s": 7.0}, False),
    ],
)
def test_of_a_busy_instance(now: dict[str, Any], is_news: bool) -> None:
    assert noticeable(pb.Load(**BUSY), pb.Load(**(BUSY | now))) is is_news


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4095), st.integers(0, 4095))
def test_a_few_requests_and_tokens_are_no_news(before: int, after: int, tokens: int, tokens_after: int) -> None:
    told = pb.Load(running_requests=before, waiting_tokens=tokens)
    assert not noticeable(told, pb.Load(running_requests=after, waiting_tokens=tokens_after))
