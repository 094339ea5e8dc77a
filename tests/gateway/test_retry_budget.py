"""Whatever comes in whatever order, second placements stay within a share of the latest requests and ten more."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.retry_budget import SPARE, WINDOW_S, RetryBudget
from tests.gateway.running_router import ManualClock

STEPS = st.lists(
    st.tuples(
        st.floats(0, 4),  # seconds that pass
        st.integers(0, 30),  # requests that begin, and want to be placed twice
        st.integers(0, 30),  # requests that end
    ),
    max_size=40,
)


@given(share=st.floats(0, 1), steps=STEPS)
def test_never_more_than_the_share_and_ten(share: float, steps: list[tuple[float, int, int]]) -> None:
    clock = ManualClock()
    budget = RetryBudget(share, clock)
    again: list[float] = []
    ends: list[float] = []
    running = 0
    for passed_s, begin, end in steps:
        clock.now_s += passed_s
        for _ in range(begin):
            budget.began()
            running += 1
            if budget.has_room():
                budget.placed_again()
                again.append(clock.now_s)
        for _ in range(min(end, running)):
            budget.ended()
            running -= 1
            ends.append(clock.now_s)
        # The window ends with a whole second, so that it is up to one second longer than it says.
        latest = running + sum(at_s > clock.now_s - WINDOW_S - 2 for at_s in ends)
        lately = sum(at_s > clock.now_s - WINDOW_S for at_s in again)
        assert lately <= share * (latest + min(end, begin + running)) + SPARE


def test_a_quiet_router_may_retry_ten_times_and_again_after_the_window() -> None:
    clock = ManualClock()
    budget = RetryBudget(0.0, clock)
    for _ in range(SPARE):
        assert budget.has_room()
        budget.placed_again()
    assert not budget.has_room()
    clock.now_s += WINDOW_S - 1
    assert not budget.has_room()
    clock.now_s += 2
    assert budget.has_room()


def test_requests_that_run_long_count_as_long_as_they_run() -> None:
    clock = ManualClock()
    budget = RetryBudget(0.5, clock)
    for _ in range(20):
        budget.began()
    clock.now_s += 100 * WINDOW_S
    taken = 0
    while budget.has_room():
        budget.placed_again()
        taken += 1
    assert taken == SPARE + 10
    for _ in range(20):
        budget.ended()
    clock.now_s += 2 * WINDOW_S
    budget.placed_again()
    for _ in range(SPARE - 1):
        assert budget.has_room()
        budget.placed_again()
    assert not budget.has_room(), "those that ended long ago count no more"
