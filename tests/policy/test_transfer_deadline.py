"""Giving a slow transfer up: never too early, and not for what nobody can know."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from prfaas.policy.transfer_deadline import Tail, too_slow

STALL_S = 10.0
BYTES = st.floats(1.0, 1e12)
RATES = st.floats(1.0, 1e10)
TIMES = st.floats(0.0, 1e4)
TAILS = st.builds(Tail, BYTES, RATES, RATES | st.just(0.0), TIMES | st.none(), TIMES | st.none())


def test_a_trickle_on_a_fast_link_is_given_up_and_a_slow_link_is_not() -> None:
    tail = Tail(100e6, 1e6, 100e6, None, None)
    assert "100.0 s more, where 10.0 s are allowed" in (too_slow(tail, STALL_S) or "")
    assert too_slow(replace(tail, best_bytes_s=2e6), STALL_S) is None
    assert too_slow(replace(tail, missing_bytes=9e6), STALL_S) is None


def test_a_deadline_that_only_a_prefill_here_can_meet() -> None:
    tail = Tail(5e6, 1e6, 1e6, 3.0, 4.0)
    assert "too late for the first token" in (too_slow(tail, STALL_S) or "")
    assert too_slow(replace(tail, local_prefill_s=None), STALL_S) is not None
    assert too_slow(replace(tail, local_prefill_s=6.0), STALL_S) is None
    assert too_slow(replace(tail, deadline_s=6.0), STALL_S) is None


@given(TAILS, st.floats(0.01, 1.0))
def test_what_ends_in_time_is_never_given_up(tail: Tail, part: float) -> None:
    in_time = replace(tail, missing_bytes=tail.rate_bytes_s * STALL_S * part, deadline_s=STALL_S * part * 1.001)
    assert too_slow(in_time, STALL_S) is None


@given(TAILS)
def test_a_link_at_its_best_is_never_given_up_where_nothing_is_due(tail: Tail) -> None:
    assert too_slow(replace(tail, best_bytes_s=tail.rate_bytes_s, deadline_s=None), STALL_S) is None


@given(TAILS, st.floats(1.0, 100.0))
def test_faster_is_never_worse(tail: Tail, times: float) -> None:
    slower = replace(tail, local_prefill_s=None)
    if too_slow(slower, STALL_S) is None:
        assert too_slow(replace(slower, rate_bytes_s=tail.rate_bytes_s * times), STALL_S) is None


@given(TAILS)
def test_of_silence_nothing_is_concluded(tail: Tail) -> None:
    assert too_slow(replace(tail, rate_bytes_s=0.0), STALL_S) is None
    assert too_slow(replace(tail, missing_bytes=0.0), STALL_S) is None
