"""The plan against simple models of links, in played time."""

import random
from collections.abc import Callable
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.transport.stream_plan import FIRST_PAUSE_S, IDLE_S, StreamPlan

INTERVAL_S = 0.15
Link = Callable[[int], float]
"""Streams → bytes/s."""


def run(plan: StreamPlan, link: Link, seconds: float, *, noise: float = 0.0, retransmitted: float = 0.0) -> list[int]:
    """The numbers of streams that the plan went through, while objects always wait."""
    random_ = random.Random(7)
    went = [plan.streams]
    for _ in range(int(seconds / INTERVAL_S)):
        rate = link(plan.streams) * (1 + random_.uniform(-noise, noise))
        plan.add(INTERVAL_S, int(rate * INTERVAL_S), busy=True, limited=True, retransmitted=retransmitted)
        if plan.streams != went[-1]:
            went.append(plan.streams)
    return went


def idle(plan: StreamPlan, seconds: float) -> None:
    for _ in range(int(seconds / INTERVAL_S) + 1):
        plan.add(INTERVAL_S, 0, busy=False, limited=False, retransmitted=0.0)


def per_stream_cap(streams: int) -> float:
    """A proxy, or receive buffers, that let each connection have so much."""
    return min(20e6 * streams, 500e6)


def shared(streams: int) -> float:  # noqa: ARG001 — the point of it
    """One connection fills the link."""
    return 125e6


def contended(streams: int) -> float:
    """More threads than cores: each connection beyond the first few costs something."""
    return 4e9 / (1 + 0.05 * streams)


def lossy_cubic(streams: int) -> float:
    """1 Gbit/s, 20 ms, 0.1 % loss: a connection's mean window is some sqrt(1.5 / p) segments."""
    return min(streams * 1448 / 0.02 * sqrt(1.5 / 0.001), 120e6)


def test_grows_to_what_fills_a_link_of_capped_connections() -> None:
    plan = StreamPlan(4, 64)
    run(plan, per_stream_cap, 60)
    assert per_stream_cap(plan.streams) > 0.95 * 500e6
    assert plan.streams <= 40


def test_grows_quickly_where_packets_are_lost() -> None:
    plan = StreamPlan(4, 64)
    went = run(plan, lossy_cubic, 20, retransmitted=0.001)
    assert lossy_cubic(plan.streams) > 0.95 * 120e6
    assert went[:3] == [4, 8, 16]


@pytest.mark.parametrize("link", [shared, contended])
def test_stays_where_more_gain_nothing(link: Link) -> None:
    plan = StreamPlan(4, 64)
    went = run(plan, link, 600)
    assert set(went) == {4, 6}
    # 5 s, 10 s, 20 s, … between the tries: about seven in ten minutes, and not one per second.
    assert 8 <= len(went) <= 16


def test_noise_does_not_make_it_flap() -> None:
    plan = StreamPlan(4, 64)
    went = run(plan, shared, 600, noise=0.1)
    assert max(went) <= 9
    assert len(went) <= 30


def test_follows_a_link_that_changes() -> None:
    plan = StreamPlan(4, 64)
    run(plan, shared, 60)
    assert plan.streams == 4
    run(plan, per_stream_cap, 120)
    assert per_stream_cap(plan.streams) > 0.95 * 500e6


def test_short_bursts_are_judged_together() -> None:
    """0.45 s of transfer, 1 s of nothing: a second of waiting is collected over several."""
    plan = StreamPlan(4, 64)
    for _ in range(200):
        run(plan, per_stream_cap, 0.45)
        idle(plan, 1.0)
    assert per_stream_cap(plan.streams) > 0.95 * 500e6


def test_traffic_that_does_not_fill_the_link_changes_nothing() -> None:
    plan = StreamPlan(4, 64)
    for _ in range(1000):
        plan.add(INTERVAL_S, 1_000_000, busy=True, limited=False, retransmitted=0.0)
    assert plan.streams == 4


def test_shrinks_when_idle_for_long() -> None:
    plan = StreamPlan(4, 64)
    run(plan, per_stream_cap, 60)
    grown = plan.streams
    idle(plan, IDLE_S - 1)
    assert plan.streams == grown
    idle(plan, 1)
    assert plan.streams == grown // 2
    idle(plan, 5 * IDLE_S)
    assert plan.streams == 4
    run(plan, per_stream_cap, 60)
    assert plan.streams == grown


def test_an_unfinished_try_is_not_kept_over_an_idle_hour() -> None:
    plan = StreamPlan(4, 64)
    run(plan, shared, 2)
    assert plan.streams == 6
    idle(plan, IDLE_S)
    assert plan.streams == 4


def test_a_failed_try_is_repeated_after_a_pause() -> None:
    plan = StreamPlan(4, 64)
    went = run(plan, shared, 5)
    assert went == [4, 6, 4]
    assert run(plan, shared, 2 * FIRST_PAUSE_S) == [4, 6, 4]


def test_a_receiver_that_takes_fewer() -> None:
    plan = StreamPlan(4, 64)
    run(plan, per_stream_cap, 4)
    assert plan.streams > 6
    plan.limit(6)
    assert plan.streams == 6
    assert set(run(plan, per_stream_cap, 60)) == {6}
    plan.limit(1)
    assert plan.streams == 4, "never below the minimum"


@given(
    st.integers(1, 64),
    st.integers(0, 63),
    st.lists(st.tuples(st.floats(0, 1e9), st.booleans(), st.booleans(), st.floats(0, 1)), max_size=200),
)
def test_never_leaves_its_bounds(least: int, more: int, samples: list[tuple[float, bool, bool, float]]) -> None:
    plan = StreamPlan(least, min(64, least + more))
    for rate, busy, limited, retransmitted in samples:
        plan.add(INTERVAL_S, int(rate), busy=busy, limited=busy and limited, retransmitted=retransmitted)
        assert plan.min_streams <= plan.streams <= plan.max_streams
