"""Bursts: the integral of the rate is what an even workload has, whatever the bursts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.config.deployment import BurstSection
from prfaas.planner.simulate.workloads.pace import Pace

bursts = st.builds(
    BurstSection, at_s=st.floats(0, 100), for_s=st.floats(0.1, 50), factor=st.floats(0.1, 10, allow_subnormal=False)
)


def test_without_bursts_nothing_changes() -> None:
    assert [Pace().at_s(x) for x in (0.0, 1.5, 1e9)] == [0.0, 1.5, 1e9]


def test_bursts_that_overlap_multiply() -> None:
    pace = Pace([BurstSection(at_s=10, for_s=10, factor=2), BurstSection(at_s=15, for_s=10, factor=3)])
    # 10 s at 1, 5 s at 2, 5 s at 6, 5 s at 3, then 1 again
    assert [pace.at_s(x) for x in (10, 20, 50, 65, 66)] == pytest.approx([10, 15, 20, 25, 26])


@given(st.lists(bursts, max_size=4), st.floats(0, 1000))
def test_what_has_come_by_then_is_the_integral_of_the_rate(some: list[BurstSection], even_s: float) -> None:
    at_s = Pace(some).at_s(even_s)
    edges = sorted({0.0, at_s, *(t for b in some for t in (b.at_s, b.at_s + b.for_s) if t < at_s)})
    total = 0.0
    for start, end in pairwise(edges):
        factor = 1.0
        for burst in some:
            if burst.at_s <= start < burst.at_s + burst.for_s:
                factor *= burst.factor
        total += factor * (end - start)
    assert total == pytest.approx(even_s, abs=1e-6)
