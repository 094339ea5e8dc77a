"""The values by which things are evicted."""

import pytest

from prfaas.cache.eviction import PRIORITIES, Candidate

THING = Candidate(cost_tokens=512, pages=100, depth_tokens=512, inner=False, visits=2, last_visit=9, clock=3.0)


def test_cost_is_what_a_page_saves() -> None:
    value = PRIORITIES["cost"]
    assert value(THING) == 3.0 + 2 * 5.12
    assert value(THING._replace(cost_tokens=0)) == 3.0
    assert value(THING._replace(pages=10)) > value(THING)


def test_a_snapshot_with_another_below_it_costs_little_to_lose_but_more_than_nothing() -> None:
    value = PRIORITIES["cost"]
    inner = THING._replace(inner=True)
    assert 3.0 < value(inner) < value(THING._replace(visits=1))
    assert value(inner) < value(inner._replace(visits=3))


def test_lru_looks_at_nothing_else() -> None:
    value = PRIORITIES["lru"]
    assert (
        value(THING)
        == value(THING._replace(cost_tokens=0, visits=99, clock=7.0))
        < value(THING._replace(last_visit=10))
    )


@pytest.mark.parametrize("name", PRIORITIES)
def test_no_value_falls_with_a_visit(name: str) -> None:
    visited = THING._replace(visits=3, last_visit=10, clock=4.0)
    assert PRIORITIES[name](visited) >= PRIORITIES[name](THING)
