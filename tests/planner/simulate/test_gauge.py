"""What senders know of a link: measured only where the link is what limits, and never sooner than it can be known."""

import pytest

from prfaas.planner.simulate.capacity import Capacity
from prfaas.planner.simulate.gauge import SEEN_AFTER_S, LinkGauge
from prfaas.planner.simulate.links import SimulatedLink
from prfaas.planner.simulate.loop import EventLoop
from prfaas.policy.view import LinkView
from tests.planner.simulate.links import Change, section


def nothing() -> None:
    pass


def watched(load_bytes_s: float, *changes: Change, until_s: int = 40, load_s: float = 40.0) -> list[LinkView]:
    """Views at every second of a link of 100 bytes/s into which a steady load is poured."""
    loop = EventLoop()
    link = SimulatedLink(loop, "far", "near", Capacity(section(100, *changes, rtt_ms=50, usd_per_gb=2.0)))
    gauge = LinkGauge(link, 100, usd_per_gb=2.0)
    views: list[LinkView] = []

    def look() -> None:
        gauge.observe(loop.now_s)
        views.append(gauge.view(loop.now_s))

    if load_bytes_s:
        loop.at(0.0, link.pour, link.open(nothing), load_bytes_s * load_s, load_s)
    for second in range(until_s):
        loop.at(float(second), look)
    loop.run()
    return views


def test_a_link_that_nobody_used_is_as_it_was_configured() -> None:
    last = watched(0.0)[-1]
    assert (last.bytes_per_s, last.utilisation, last.queued_bytes) == (100, 0, 0)
    assert (last.rtt_s, last.usd_per_gb, last.up) == (0.05, 2.0, True)
    assert last.age_s == 39


def test_utilisation_is_what_is_carried_of_what_could_be() -> None:
    last = watched(60.0)[-1]
    assert last.utilisation == pytest.approx(0.6, abs=0.01)
    assert last.bytes_per_s == pytest.approx(100)
    assert last.age_s == 0


def test_a_rate_is_learnt_where_the_link_limits() -> None:
    views = watched(60.0, (10.0, 30.0))
    assert views[9].bytes_per_s == pytest.approx(100)
    assert views[20].bytes_per_s == pytest.approx(30, rel=0.01)
    assert views[20].utilisation > 0.9
    # At 10 s nothing was queued; 30 bytes a second are since then.
    assert views[20].queued_s == pytest.approx(10, rel=0.01)


def test_a_measured_rate_stays_while_nothing_crosses() -> None:
    last = watched(60.0, (1.0, 30.0), (30.0, 100.0), load_s=10.0)[-1]
    assert last.bytes_per_s == pytest.approx(30, rel=0.01)
    assert last.age_s > 10


def test_an_outage_and_its_end_are_noticed_late() -> None:
    views = watched(10.0, (10.0, None), (20.0, 100.0))
    up = [view.up for view in views]
    late = round(SEEN_AFTER_S)
    assert up == [not 10 + late <= second < 20 + late for second in range(40)]
    assert views[15].utilisation > views[9].utilisation


def test_the_oracle_sees_what_is() -> None:
    loop = EventLoop()
    link = SimulatedLink(loop, "far", "near", Capacity(section(100, (10.0, 40.0), (20.0, None))))
    gauge = LinkGauge(link, 100, usd_per_gb=0.0)
    seen: list[tuple[float, bool]] = []

    def look() -> None:
        view = gauge.truth(loop.now_s)
        seen.append((view.bytes_per_s, view.up))

    for at_s in (5.0, 11.0, 21.0):
        loop.at(at_s, look)
    loop.run()
    assert seen == [(pytest.approx(100), True), (pytest.approx(40), True), (100, False)]
