"""Rates over time, and their integrals, by hand."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.config.deployment import LinkChangeSection, PlannedLinkSection
from prfaas.planner.simulate.capacity import BYTES_PER_GBIT, EFFICIENCY, Capacity
from tests.planner.simulate.links import section


def test_a_link_without_a_timeline() -> None:
    capacity = Capacity(section(100))
    assert capacity.carried(3, 5) == pytest.approx(200)
    assert capacity.when(3, 200) == pytest.approx(5)
    assert capacity.next_change_s(7) == inf
    assert capacity.down_since(7) is None


def test_loss_and_headers_take_their_share() -> None:
    lossy = PlannedLinkSection(between=("a", "b"), gbit_s=10, loss=0.1)
    assert Capacity(lossy).bytes_s(0) == pytest.approx(10 * BYTES_PER_GBIT * EFFICIENCY * 0.9)


def test_rates_that_change() -> None:
    capacity = Capacity(section(100, (10, 50), (20, 200)))
    # 5 s at 100, 10 s at 50, 1 s at 200.
    assert capacity.carried(5, 21) == pytest.approx(500 + 500 + 200)
    assert capacity.when(5, 1200) == pytest.approx(21)
    assert [capacity.bytes_s(t) for t in (0, 9.9, 10, 20)] == pytest.approx([100, 100, 50, 200])
    assert [capacity.next_change_s(t) for t in (0, 10, 20)] == [10, 20, inf]


def test_an_outage_in_the_middle() -> None:
    capacity = Capacity(section(100, (10, None), (15, 100)))
    assert capacity.when(9, 100) == pytest.approx(10)
    assert capacity.when(9, 200) == pytest.approx(16)
    assert capacity.carried(9, 16) == pytest.approx(200)
    assert capacity.down_since(12) == 10
    assert capacity.down_since(15) is None


def test_an_outage_without_an_end() -> None:
    capacity = Capacity(section(100, (10, None)))
    assert capacity.when(9, 100.1) == inf
    assert capacity.down_since(99) == 10


def test_a_timeline_that_repeats_begins_with_what_is_described_outside_of_it() -> None:
    capacity = Capacity(section(100, (10, 50), repeat_s=20))
    # 1,500 bytes a period.
    assert capacity.carried(0, 60) == pytest.approx(4500)
    assert capacity.when(0, 4500 + 100) == pytest.approx(61)
    assert capacity.when(35, 250 + 100) == pytest.approx(41)
    assert capacity.next_change_s(25) == pytest.approx(30)
    assert capacity.next_change_s(35) == pytest.approx(40)


def test_an_outage_that_goes_on_over_the_end_of_a_period() -> None:
    capacity = Capacity(section(100, (0, None), (5, 100), (15, None), repeat_s=20))
    assert capacity.down_since(22) == pytest.approx(15)
    assert capacity.down_since(2) == 0


def test_a_link_that_never_works() -> None:
    capacity = Capacity(section(100, (0, None), repeat_s=20))
    assert capacity.when(3, 1) == inf
    assert capacity.down_since(50) == 0


def test_a_change_keeps_what_it_does_not_name() -> None:
    changes = (LinkChangeSection(at_s=5, rtt_ms=80), LinkChangeSection(at_s=9, gbit_s=2))
    capacity = Capacity(PlannedLinkSection(between=("a", "b"), gbit_s=1, rtt_ms=10, timeline=changes))
    assert [capacity.rtt_s(t) for t in (0, 5, 9)] == pytest.approx([0.01, 0.08, 0.08])
    assert capacity.bytes_s(5) == pytest.approx(BYTES_PER_GBIT * EFFICIENCY)


@given(
    st.lists(st.tuples(st.floats(0.5, 9), st.one_of(st.none(), st.floats(1, 1000))), max_size=4),
    st.booleans(),
    st.floats(0, 50),
    st.floats(0.001, 5000),
)
def test_when_is_the_inverse_of_carried(
    changes: list[tuple[float, float | None]], repeats: bool, start_s: float, num_bytes: float
) -> None:
    ordered = sorted(changes, key=lambda change: change[0])
    capacity = Capacity(section(100, *ordered, repeat_s=10 if repeats else None))
    end_s = capacity.when(start_s, num_bytes)
    if end_s < inf:
        assert capacity.carried(start_s, end_s) == pytest.approx(num_bytes, rel=1e-6, abs=1e-6)


def test_time_goes_on_where_sums_are_rounded() -> None:
    capacity = Capacity(section(100, (0.05, 50), repeat_s=0.1))
    at_s = 0.0
    while at_s < 5:
        after_s = capacity.next_change_s(at_s)
        assert at_s < after_s <= at_s + 0.1
        at_s = after_s
