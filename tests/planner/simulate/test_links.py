"""The queue of bytes against cases worked out by hand, and its balance whatever happens."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.planner.simulate.links import SimulatedLink
from prfaas.planner.simulate.loop import EventLoop
from tests.planner.simulate.links import link


class Times:
    """When what arrived, by name."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.at_s: dict[str, float] = {}

    def note(self, name: str) -> Callable[[], None]:
        def arrived() -> None:
            self.at_s[name] = self._loop.now_s

        return arrived


def balanced(way: SimulatedLink) -> None:
    way.advance()
    assert way.in_bytes == pytest.approx(way.out_bytes + way.cancelled_bytes + way.queued_bytes)


def test_lumps_leave_one_after_the_other_and_arrive_a_round_trip_later() -> None:
    loop = EventLoop()
    way, times = link(loop, 100, rtt_ms=250), Times(loop)
    for name, num_bytes in (("a", 200), ("b", 300)):
        way.close(way.open(times.note(name)), num_bytes)
    loop.run()
    assert times.at_s == {"a": pytest.approx(2.25), "b": pytest.approx(5.25)}
    balanced(way)


def test_what_is_poured_slower_than_the_link_leaves_as_it_comes() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    shipment = way.open(times.note("a"))
    way.pour(shipment, 500, 10)
    # At 10 s nothing is queued, and the 200 bytes of states take 2 s.
    loop.at(10, way.close, shipment, 700)
    loop.run()
    assert times.at_s["a"] == pytest.approx(12)
    assert way.saturated_s == pytest.approx(2)


def test_what_is_poured_faster_than_the_link_queues() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    first, second = way.open(times.note("a")), way.open(times.note("b"))
    way.pour(first, 800, 10)
    way.pour(second, 800, 10)
    # 1,600 bytes came by 10 s and 1,000 left; each then adds 100: a's last byte is the 1,700th, b's the 1,800th.
    loop.at(10, way.close, first, 900)
    loop.at(10, way.close, second, 900)
    loop.run()
    assert times.at_s == {"a": pytest.approx(17), "b": pytest.approx(18)}
    assert way.saturated_bytes == pytest.approx(1800)
    balanced(way)


def test_a_prefill_that_takes_longer_than_expected_pours_no_more_than_there_is() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    shipment = way.open(times.note("a"))
    way.pour(shipment, 500, 10)
    loop.at(20, way.close, shipment, 600)
    loop.run()
    assert times.at_s["a"] == pytest.approx(21)
    assert way.in_bytes == pytest.approx(600)


def test_a_prefill_that_ends_earlier_sends_the_rest_at_once() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    shipment = way.open(times.note("a"))
    way.pour(shipment, 500, 10)
    loop.at(4, way.close, shipment, 500)
    loop.run()
    # 200 came by 4 s and left; 300 follow.
    assert times.at_s["a"] == pytest.approx(7)


def test_an_outage_holds_up_what_is_queued() -> None:
    loop = EventLoop()
    way, times = link(loop, 100, (3, None), (8, 50)), Times(loop)
    way.close(way.open(times.note("a")), 400)
    loop.run()
    # 300 bytes by 3 s, nothing until 8 s, 100 bytes at 50.
    assert times.at_s["a"] == pytest.approx(10)
    assert way.saturated_s == pytest.approx(5)
    balanced(way)


def test_what_is_cancelled_makes_room_for_what_came_after_it() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    shipments = {name: way.open(times.note(name)) for name in "abc"}
    for shipment in shipments.values():
        way.close(shipment, 300)
    loop.at(4, way.cancel, shipments["b"])
    loop.run()
    # 100 of b's bytes had left by 4 s; c's 300 follow at once.
    assert times.at_s == {"a": pytest.approx(3), "c": pytest.approx(7)}
    assert way.cancelled_bytes == pytest.approx(200)
    assert shipments["b"].sent_bytes == pytest.approx(100)
    balanced(way)


def test_what_is_cancelled_while_it_is_poured() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    first, second = way.open(times.note("a")), way.open(times.note("b"))
    way.pour(first, 2000, 10)
    way.pour(second, 2000, 10)
    loop.at(5, way.cancel, first)
    loop.at(10, way.close, second, 2000)
    loop.run()
    # By 5 s 2,000 bytes came, half of them a's, and 500 left; of the 1,500 that wait 750 are a's and go. b's 1,750
    # that are left by then and to come take 17.5 s.
    assert way.cancelled_bytes == pytest.approx(750)
    assert times.at_s == {"b": pytest.approx(22.5)}
    balanced(way)


def test_cancelling_what_has_arrived_changes_nothing() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    shipment = way.open(times.note("a"))
    way.close(shipment, 100)
    loop.run()
    way.cancel(shipment)
    assert shipment.sent_bytes == 100
    assert way.cancelled_bytes == 0


def test_what_a_transfer_waits_for() -> None:
    loop = EventLoop()
    way, times = link(loop, 100), Times(loop)
    first, second = way.open(times.note("a")), way.open(times.note("b"))
    way.close(first, 200)
    way.close(second, 300)
    seen: list[float] = []
    loop.at(1, lambda: seen.append(way.missing_bytes(second)))
    loop.run()
    assert seen == [pytest.approx(400)]


Plan = tuple[float, float, float, float, float, float | None]
"""Begins, bytes poured, for seconds, closed so much later, then so many bytes more, given up so much after that."""
PLANS = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.floats(0, 2000),
        st.floats(0.1, 10),
        st.floats(0.1, 15),
        st.floats(0, 500),
        st.one_of(st.none(), st.floats(-0.1, 20)),
    ),
    max_size=12,
)
CHANGES = st.lists(st.tuples(st.floats(1, 40), st.one_of(st.none(), st.floats(20, 500))), max_size=4)


@settings(max_examples=60)
@given(PLANS, CHANGES)
def test_no_byte_is_lost_and_none_is_made(plans: list[Plan], changes: list[tuple[float, float | None]]) -> None:
    loop = EventLoop()
    ordered = [*sorted(changes, key=lambda change: change[0]), (41.0, 100.0)]
    way, times = link(loop, 100, *ordered), Times(loop)
    arrivals: list[str] = []

    def begin(name: str, plan: Plan) -> None:
        _, poured, for_s, after_s, more, given_up_s = plan

        def arrived() -> None:
            arrivals.append(name)
            times.note(name)()

        shipment = way.open(arrived)
        way.pour(shipment, poured, for_s)
        loop.after(after_s, way.close, shipment, poured + more)
        if given_up_s is not None and given_up_s > 0:
            loop.after(after_s + given_up_s, way.cancel, shipment)

    for i, plan in enumerate(plans):
        loop.at(plan[0], begin, str(i), plan)
    for second in range(45):
        loop.at(second, balanced, way)
    loop.run()
    balanced(way)
    assert way.queued_bytes == pytest.approx(0, abs=1e-3)
    kept = [i for i, plan in enumerate(plans) if plan[5] is None or plan[5] <= 0]
    assert {str(i) for i in kept} <= set(arrivals)
    # First closed, first out.
    closed = sorted(kept, key=lambda i: plans[i][0] + plans[i][3])
    at_s = [times.at_s[str(i)] for i in closed]
    assert all(a <= b + 1e-6 for a, b in pairwise(at_s))
