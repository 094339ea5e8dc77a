"""The estimator on links whose capacity the test knows."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.transport.link_estimator import LinkEstimator
from prfaas.transport.link_sample import LinkSample, merge

INTERVAL_S = 0.15
RATE = 100e6


def sample(
    rate: float = RATE, *, busy_share: float = 1.0, waiting: bool = True, pressed: bool = True, **fields: float
) -> LinkSample:
    """An interval in which bytes were in flight for `busy_share` of it, at `rate`."""
    busy_s = INTERVAL_S * busy_share
    values = {"queued_bytes": 1 << 20 if waiting else 0, "in_flight_bytes": 0, "streams": 4, "window_bytes": 1 << 22}
    return LinkSample(
        interval_s=INTERVAL_S,
        acknowledged_bytes=int(rate * busy_s),
        busy_s=busy_s,
        waiting=waiting,
        pressed=pressed,
        **(values | fields),  # type: ignore[arg-type]
    )


IDLE = LinkSample(INTERVAL_S, 0, 0.0, False, False, 0, 0, 4, 1 << 22)


def after(samples: Iterable[LinkSample], estimator: LinkEstimator | None = None) -> LinkEstimator:
    estimator = estimator or LinkEstimator()
    for s in samples:
        estimator.add(s)
    return estimator


def samples_of(seconds: float) -> range:
    return range(int(seconds / INTERVAL_S))


def rate(estimator: LinkEstimator) -> float:
    assert estimator.estimate.rate_bytes_s is not None
    return estimator.estimate.rate_bytes_s


def test_nothing_is_known_before_anything_was_sent() -> None:
    estimator = after([IDLE] * 10)
    assert estimator.estimate.rate_bytes_s is None
    assert estimator.estimate.queued_s == 0
    assert estimator.estimate.utilisation == 0


def test_converges_within_a_second_of_steady_flow_though_acknowledgements_come_in_bursts() -> None:
    noise = random.Random(1)
    owed = 0.0
    estimator = LinkEstimator()
    for _ in samples_of(1.0):
        owed += RATE * INTERVAL_S
        # What a burst holds back comes with the next.
        now = owed * noise.uniform(0.6, 1.0)
        owed -= now
        estimator.add(sample(now / INTERVAL_S))
    assert rate(estimator) == pytest.approx(RATE, rel=0.1)


def test_a_slow_start_is_forgotten_within_a_second() -> None:
    ramp = [sample(RATE * share) for share in (0.02, 0.2, 0.7)]
    estimator = after([*ramp, *(sample() for _ in samples_of(1.0))])
    assert rate(estimator) == pytest.approx(RATE, rel=0.01)


def test_follows_a_halving_within_two_seconds_and_a_doubling_too() -> None:
    estimator = after(sample() for _ in range(100))
    assert rate(after((sample(RATE / 2) for _ in samples_of(2.0)), estimator)) == pytest.approx(RATE / 2, rel=0.01)
    assert rate(after((sample(RATE * 2) for _ in samples_of(2.0)), estimator)) == pytest.approx(RATE * 2, rel=0.01)


@given(st.lists(st.sampled_from(["flow", "idle", "short"]), min_size=30, max_size=60))
def test_idle_gaps_change_nothing(kinds: list[str]) -> None:
    made = {"flow": sample(), "idle": IDLE, "short": sample(busy_share=0.3)}
    estimator = after([sample()] * 10 + [made[kind] for kind in kinds])
    assert rate(estimator) == pytest.approx(RATE, rel=1e-6)


def link_limited(estimator: LinkEstimator) -> bool:
    return estimator.estimate.link_limited


def test_whoever_has_too_little_to_send_does_not_lower_the_rate() -> None:
    estimator = after([sample()] * 10)
    assert link_limited(estimator)
    after([sample(RATE / 10, waiting=False)] * 100, estimator)
    assert rate(estimator) == pytest.approx(RATE)
    assert not link_limited(estimator)
    after((sample(RATE / 2) for _ in samples_of(2.0)), estimator)
    assert rate(estimator) == pytest.approx(RATE / 2, rel=0.01)
    assert link_limited(estimator)


def test_slow_encoding_is_not_taken_for_a_slow_link() -> None:
    """Objects wait, but for their connection's thread: what leaves it gets away at once."""
    estimator = after([sample()] * 10)
    after([sample(RATE / 4, pressed=False)] * 100, estimator)
    assert rate(estimator) == pytest.approx(RATE)
    assert not link_limited(estimator)


def test_what_was_achieved_without_a_queue_is_known_to_be_possible() -> None:
    estimator = after([sample(RATE, waiting=False)] * 10)
    assert rate(estimator) == pytest.approx(RATE)
    after([sample(RATE * 3, waiting=False)] * 10, estimator)
    assert rate(estimator) == pytest.approx(RATE * 3)


def test_a_burst_that_was_sent_before_the_sample_is_not_a_rate() -> None:
    """10 MB that were acknowledged 1 ms into the interval, after which nothing was in flight."""
    burst = LinkSample(INTERVAL_S, 10_000_000, 0.001, False, False, 0, 0, 4, 1 << 22)
    assert after([burst]).estimate.rate_bytes_s is None
    assert rate(after([sample()] * 10 + [burst])) < 1.2 * RATE


def test_queue_retransmissions_and_round_trips() -> None:
    estimator = after(
        [
            sample(
                rtt_s=0.03,
                min_rtt_s=0.02,
                queued_bytes=150_000_000,
                in_flight_bytes=50_000_000,
                tcp_sent_bytes=1_000_000,
                tcp_retransmitted_bytes=10_000,
            )
        ]
        * 200
    )
    estimate = estimator.estimate
    assert estimate.queued_s == pytest.approx(2.0)
    assert estimate.rtt_inflation == pytest.approx(1.5)
    assert estimate.retransmitted == pytest.approx(0.01)
    assert estimate.utilisation == pytest.approx(1.0, abs=0.01)
    after([IDLE] * 200, estimator)
    assert estimator.estimate.retransmitted == pytest.approx(0.01), "nothing was sent that could say otherwise"
    assert estimator.estimate.rtt_s == 0.03
    assert estimator.estimate.utilisation == pytest.approx(0.0, abs=0.01)
    assert estimator.estimate.queued_s == 0


def test_no_peers_left() -> None:
    estimator = after([sample()] * 10)
    estimator.forget_peers(INTERVAL_S)
    assert rate(estimator) == pytest.approx(RATE)
    assert (estimator.estimate.streams, estimator.estimate.queued_bytes, estimator.estimate.utilisation) == (0, 0, 0)


def test_peers_of_one_link_add_up() -> None:
    both = merge([sample(RATE, rtt_s=0.02, min_rtt_s=0.01), sample(RATE / 2, rtt_s=0.04), IDLE])
    assert both.acknowledged_bytes == pytest.approx(1.5 * RATE * INTERVAL_S, abs=2)
    assert (both.busy_s, both.interval_s, both.waiting, both.streams) == (INTERVAL_S, INTERVAL_S, True, 12)
    assert both.rtt_s == pytest.approx(0.03)
    assert both.min_rtt_s == 0.01
    assert both.hop_min_rtt_s is None


def test_peers_one_after_the_other_are_no_faster_than_the_link() -> None:
    halves = merge([sample(busy_share=0.5, waiting=False), sample(busy_share=0.5, waiting=False)])
    assert rate(after([halves] * 10)) == pytest.approx(RATE, rel=1e-6)


def test_an_idle_connections_round_trip_does_not_count() -> None:
    moving, idle = sample(rtt_s=0.05), replace(IDLE, rtt_s=0.01)
    assert merge([moving, idle]).rtt_s == 0.05
    assert merge([idle, idle]).rtt_s == 0.01
