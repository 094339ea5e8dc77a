"""Links on which whole transfers fit into the window, so that nothing ever waits for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.transport.link_rate import DOUBLING_S, TRUSTED_S, LinkRate
from prfaas.transport.link_sample import LinkSample
from prfaas.transport.turnover import Turnover
from tests.transport.played_link import INTERVAL_S, PlayedLink

FRAME = 1 << 16
FAST = 100e6
SLOW = 1e6
RTT_S = 0.02
TRANSFER = 2_000_000


def add(rate: LinkRate, link: PlayedLink, seconds: float) -> None:
    for _ in range(round(seconds / INTERVAL_S)):
        sample = link.sample()
        if sample.busy_s:
            rate.add(sample)
        else:
            rate.rest(sample.interval_s)


def cross(rate: LinkRate, link: PlayedLink, num_bytes: int = TRANSFER) -> None:
    """A transfer, and a pause behind it."""
    link.send(num_bytes)
    add(rate, link, num_bytes / link.bytes_s + 0.5)


def measured(bytes_s: float, described: float | None = None) -> tuple[LinkRate, PlayedLink]:
    rate, link = LinkRate(described), PlayedLink(bytes_s, RTT_S, FRAME)
    for _ in range(10):
        cross(rate, link)
    return rate, link


def known(rate: LinkRate) -> float:
    assert rate.rate_bytes_s is not None
    return rate.rate_bytes_s


def at_least(rate: LinkRate) -> bool:
    return rate.at_least


@given(
    bytes_s=st.floats(1e5, 2e7),
    rtt_s=st.sampled_from([0.0, 0.001, 0.02, 0.08]),
    frame=st.sampled_from([1 << 14, 1 << 17, 1 << 20]),
    seconds=st.floats(1.5, 6.0),
)
def test_one_transfer_that_takes_long_tells_the_rate(bytes_s: float, rtt_s: float, frame: int, seconds: float) -> None:
    """Whatever the frames, and though it was thought to be fast."""
    rate, link = LinkRate(1e9), PlayedLink(bytes_s, rtt_s, frame)
    cross(rate, link, int(bytes_s * seconds))
    assert known(rate) == pytest.approx(bytes_s, rel=0.3)
    assert not at_least(rate)


def test_what_comes_back_at_once_is_at_least_possible() -> None:
    rate, _ = measured(FAST)
    assert at_least(rate)
    assert not rate.limited
    assert SLOW * 5 < known(rate) <= FAST


@given(st.lists(st.integers(1, TRANSFER), min_size=5, max_size=20), st.floats(0, 0.08))
def test_a_link_that_is_never_full_has_no_limit(sizes: list[int], rtt_s: float) -> None:
    rate, link = LinkRate(None), PlayedLink(FAST, rtt_s, FRAME)
    for size in sizes:
        link.send(size)
        add(rate, link, 0.3)
    assert at_least(rate)


def test_a_slow_link_shows_before_the_transfer_is_over() -> None:
    rate, link = measured(FAST)
    link.bytes_s = SLOW
    link.send(4 * TRANSFER)
    add(rate, link, 3.0)
    assert known(rate) < 4 * SLOW
    assert not at_least(rate)


def test_a_stalled_link_falls_ever_lower_and_never_to_nothing() -> None:
    rate, link = measured(FAST)
    link.bytes_s = 1.0
    link.send(TRANSFER)
    add(rate, link, 2.0)
    first = known(rate)
    add(rate, link, 8.0)
    assert 0 < known(rate) < first / 3


def test_what_a_connection_takes_along_is_not_taken_for_carried() -> None:
    rate, link = measured(SLOW)
    before = known(rate)
    link.send(TRANSFER)
    add(rate, link, 0.6)
    link.lose()
    add(rate, link, 1.0)
    assert before / 2 < known(rate) <= before * 1.01
    cross(rate, link)
    assert known(rate) == pytest.approx(SLOW, rel=0.1)


def test_what_one_of_several_connections_takes_along_may_have_crossed() -> None:
    before, after = (
        Turnover.after(1_000_000).plus(
            LinkSample(INTERVAL_S, 0, INTERVAL_S, False, False, 0, in_flight_bytes, 4, 8 << 20)
        )
        for in_flight_bytes in (1_000_000, 250_000)
    )
    assert after.most_bytes_s == before.most_bytes_s


def test_a_link_that_is_fast_again_shows_with_a_few_transfers() -> None:
    rate, link = measured(SLOW)
    assert known(rate) == pytest.approx(SLOW, rel=0.1)
    link.bytes_s = FAST
    for _ in range(6):
        cross(rate, link)
    assert known(rate) > 5 * SLOW
    assert at_least(rate)


def test_a_slow_link_that_nobody_uses_is_trusted_again_bit_by_bit() -> None:
    rate, link = measured(SLOW, described=10 * SLOW)
    before = known(rate)
    add(rate, link, TRUSTED_S - 1)
    assert known(rate) == before
    add(rate, link, DOUBLING_S + 1)
    assert known(rate) == pytest.approx(2 * before, rel=0.1)
    assert not at_least(rate)
    add(rate, link, 3 * DOUBLING_S)
    assert known(rate) == 10 * SLOW
    assert at_least(rate)
    cross(rate, link)
    assert known(rate) == pytest.approx(SLOW, rel=0.3)


def test_without_a_description_it_recovers_to_what_it_once_carried() -> None:
    rate, link = measured(FAST)
    best = known(rate)
    link.bytes_s = SLOW
    cross(rate, link)
    assert known(rate) == pytest.approx(SLOW, rel=0.3)
    add(rate, link, TRUSTED_S + 10 * DOUBLING_S)
    assert known(rate) == best
    assert at_least(rate)


def test_rest_says_nothing_of_a_link_that_was_never_measured() -> None:
    rate = LinkRate(FAST)
    rate.rest(1000.0)
    assert rate.rate_bytes_s is None
