"""The rate at which KV arrives over a link, told from readings of what transfers brought."""

from dataclasses import dataclass
from math import inf

import pytest

from prfaas.instance.arrivals import LEAST_S, Arrivals

WINDOW_S = 1.0


@dataclass(eq=False)
class Coming:
    """A transfer in a test's hand."""

    bytes_arrived: int = 0
    missing_bytes: float = 0.0


@pytest.fixture
def coming() -> Coming:
    return Coming()


@pytest.fixture
def arrivals(coming: Coming) -> Arrivals:
    made = Arrivals(WINDOW_S)
    made.begin(coming)
    return made


def test_nothing_is_told_before_a_window_has_passed(arrivals: Arrivals, coming: Coming) -> None:
    for tick in range(8):
        coming.bytes_arrived += 100
        arrivals.sample(tick / 8)
        assert arrivals.rate_bytes_s(-inf) is None
    arrivals.sample(1.0)
    assert arrivals.rate_bytes_s(-inf) == pytest.approx(800)
    assert arrivals.rate_bytes_s(0.1) is None


def test_a_pause_is_not_slowness_and_a_trickle_is(arrivals: Arrivals, coming: Coming) -> None:
    for tick in range(9):
        coming.bytes_arrived += 100 if tick not in range(2, 7) else 0
        arrivals.sample(tick / 8)
    assert arrivals.rate_bytes_s(-inf) == pytest.approx(800)
    for tick in range(9, 30):
        coming.bytes_arrived += 100 if tick % 4 == 0 else 0
        arrivals.sample(tick / 8)
    assert (arrivals.rate_bytes_s(-inf) or inf) < 400
    assert arrivals.best_bytes_s >= 800


def test_silence_is_a_rate_of_nothing(arrivals: Arrivals, coming: Coming) -> None:
    coming.bytes_arrived = 5
    for tick in range(17):
        arrivals.sample(tick / 8)
    assert arrivals.rate_bytes_s(-inf) == 0


def test_transfers_are_taken_together_and_one_that_ended_still_counts(arrivals: Arrivals, coming: Coming) -> None:
    other = Coming(missing_bytes=7)
    arrivals.begin(other)
    for tick in range(5):
        coming.bytes_arrived += 100
        other.bytes_arrived += 300
        arrivals.sample(tick / 8)
    coming.missing_bytes = 3
    assert arrivals.missing_bytes == 10
    arrivals.end(other)
    assert arrivals.missing_bytes == 3
    for tick in range(5, 9):
        coming.bytes_arrived += 400
        arrivals.sample(tick / 8)
    assert arrivals.rate_bytes_s(-inf) == pytest.approx(3200)


def test_a_time_without_readings_tells_nothing(arrivals: Arrivals, coming: Coming) -> None:
    arrivals.sample(0.0)
    coming.bytes_arrived = 1000
    arrivals.sample(60.0)
    assert arrivals.rate_bytes_s(-inf) is None


def test_short_transfers_tell_what_the_link_can_do_and_bursts_do_not(arrivals: Arrivals) -> None:
    arrivals.committed(1000, 0.5)
    assert arrivals.best_bytes_s == 2000
    arrivals.committed(1000, 1e-6)
    assert arrivals.best_bytes_s == 1000 / LEAST_S
