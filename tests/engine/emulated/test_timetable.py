"""Emulated steps end when they should, on average, on a clock that the test moves."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.engine.emulated.timetable import FORGIVEN_S, Timetable


@dataclass
class Time:
    """A clock that sleeping moves, by somewhat too much."""

    now_s: float = 100.0
    oversleeps_s: float = 0.0

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + self.oversleeps_s


def step(table: Timetable, seconds: float) -> None:
    table.begin(seconds)
    table.wait(0.5)
    table.wait(1.0)


@given(st.lists(st.floats(0.01, 0.5), min_size=1, max_size=50), st.floats(0, 0.004))
def test_steps_that_follow_each_other_take_what_they_should_together(steps: list[float], oversleeps_s: float) -> None:
    time = Time(oversleeps_s=oversleeps_s)
    table = Timetable(time.clock, time.sleep)
    for seconds in steps:
        step(table, seconds)
        time.now_s += 0.001  # what lies between two steps
    assert time.now_s - 100 == pytest.approx(sum(steps), abs=2 * oversleeps_s + 0.002)


def test_a_step_after_a_rest_begins_when_it_begins() -> None:
    time = Time()
    table = Timetable(time.clock, time.sleep)
    step(table, 1.0)
    table.rest()
    time.now_s += 0.25
    step(table, 1.0)
    assert time.now_s == pytest.approx(102.25)


def test_who_is_late_says_so_and_catches_up() -> None:
    time = Time()
    table = Timetable(time.clock, time.sleep)
    step(table, 1.0)
    time.now_s += 0.75
    step(table, 0.5)
    assert (time.now_s, table.late_s) == pytest.approx((101.75, 0.25))
    step(table, 1.0)
    assert (time.now_s, table.late_s) == pytest.approx((102.5, 0.0))


def test_what_is_later_than_forgiven_is_not_caught_up() -> None:
    time = Time()
    table = Timetable(time.clock, time.sleep)
    step(table, 1.0)
    time.now_s += FORGIVEN_S + 0.5
    step(table, 1.0)
    assert time.now_s == pytest.approx(100 + 1.0 + FORGIVEN_S + 0.5 + 1.0)
    assert table.late_s == 0
