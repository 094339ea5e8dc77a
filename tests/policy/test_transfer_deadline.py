"""Giving a slow transfer up: never too early, and not for what nobody can know."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from prfaas.policy.transfer_deadline import PATIENCE, Tail, too_slow

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


@given(TAILS)
def test_what_ends_in_time_is_never_given_up(tail: Tail) -> None:
    assume(tail.remaining_s <= STALL_S)
    assume(tail.deadline_s is None or tail.remaining_s <= tail.deadline_s)
    assert too_slow(tail, STALL_S) is None


@given(TAILS)
def test_a_link_at_its_best_is_given_up_for_a_deadline_only(tail: Tail) -> None:
    at_best = replace(tail, best_bytes_s=tail.rate_bytes_s, deadline_s=None)
    assert (too_slow(at_best, STALL_S) is not None) == (at_best.remaining_s > max(STALL_S, PATIENCE * at_best.remaining_s))


@given(TAILS, st.floats(1.0, 100.0))
def test_faster_is_never_worse(tail: Tail, times: float) -> None:
    if too_slow(tail, STALL_S) is None:
        quicker = replace(tail, rate_bytes_s=tail.rate_bytes_s * times)
        assume(tail.local_prefill_s is None or tail.local_prefill_s <= quicker.remaining_s)
        assert too_slow(quicker, STALL_S) is None


@given(TAILS)
def test_of_silence_nothing_is_concluded(tail: Tail) -> None:
    assert too_slow(replace(tail, rate_bytes_s=0.0), STALL_S) is None
    assert too_slow(replace(tail, missing_bytes=0.0), STALL_S) is None
