"""A line against a sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.core.ids import RequestId
from prfaas.scheduler.line import Line
from prfaas.scheduler.sequence import Mode, Sequence
from tests.scheduler.fake_instance import request


@given(st.lists(st.integers(0, 20)))
def test_places_depend_on_arrival_alone(arrivals: list[int]) -> None:
    """Those that stand in the line leave it, the others join it."""
    line, expected = Line(), set[int]()
    for arrival in arrivals:
        name = RequestId(f"r{arrival}")
        if arrival in expected:
            left = line.pop(name)
            assert left is not None
            assert left.arrival == arrival
            assert line.pop(name) is line.get(name) is None
        else:
            line.add(Sequence(request(name, 1), Mode.SERVE, arrival=arrival))
        expected ^= {arrival}
        assert [s.arrival for s in line] == sorted(expected)
        assert [s.arrival for s in reversed(line)] == sorted(expected, reverse=True)
        assert len(line) == len(expected)
        first = line.first()
        assert (None if first is None else first.arrival) == min(expected, default=None)
