"""However it is used, a bucket gives out no more than its burst and its rate allow."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.token_bucket import TokenBucket
from tests.gateway.running_router import ManualClock

STEPS = st.lists(
    st.tuples(
        st.floats(0, 20),  # seconds that pass
        st.integers(1, 30),  # tokens that are asked for
        st.floats(0, 1),  # share of them that is given back at once
    ),
    max_size=60,
)


@given(per_s=st.floats(0.1, 50), burst=st.integers(1, 40), steps=STEPS)
def test_never_more_than_burst_and_rate(per_s: float, burst: int, steps: list[tuple[float, int, float]]) -> None:
    """In every window that begins with a step, not only since the start."""
    clock = ManualClock()
    bucket = TokenBucket(per_s, burst, clock)
    used: list[tuple[float, float]] = []
    for passed_s, amount, share in steps:
        clock.now_s += passed_s
        wait_s = bucket.take(amount)
        if wait_s == 0:
            bucket.give_back(amount * share)
            used.append((clock.now_s, amount * (1 - share)))
        assert (wait_s == float("inf")) == (amount > burst)
        for i, (since_s, _) in enumerate(used):
            taken = sum(tokens for _, tokens in used[i:])
            assert taken <= burst + per_s * (clock.now_s - since_s) + 1e-6


@given(per_s=st.floats(0.1, 50), burst=st.integers(1, 40), first=st.integers(1, 40), second=st.integers(1, 40))
def test_what_it_says_to_wait_is_enough_and_needed(per_s: float, burst: int, first: int, second: int) -> None:
    clock = ManualClock(0.0)
    bucket = TokenBucket(per_s, burst, clock)
    bucket.take(first)
    wait_s = bucket.take(second)
    if 0 < wait_s < float("inf"):
        clock.now_s = wait_s * 0.99
        assert bucket.take(second) > 0
        clock.now_s = wait_s * 1.01
        assert bucket.take(second) == 0


def test_nothing_is_taken_in_vain() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1.0, 10, clock)
    assert bucket.take(8) == 0
    assert bucket.take(3) == 1
    assert bucket.take(2) == 0


def test_it_is_never_fuller_than_full() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1.0, 10, clock)
    bucket.give_back(1000)
    clock.now_s += 1000
    assert bucket.take(10) == 0
    assert bucket.take(1) == 1
