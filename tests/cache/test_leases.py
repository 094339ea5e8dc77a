"""Leases begin, end once, and expire."""

import pytest

from prfaas.cache.leases import LeaseId, Leases
from prfaas.core.errors import LeaseError


def test_a_lease_ends_once_with_the_pages_it_began_with() -> None:
    leases = Leases()
    first, second = leases.begin((1, 2), 5.0), leases.begin((2,), 3.0)
    assert first != second
    assert leases.end(first) == (1, 2)
    for stale in (first, LeaseId(99)):
        with pytest.raises(LeaseError):
            leases.end(stale)
    assert len(leases) == 1


def test_those_are_over_whose_time_has_come() -> None:
    leases = Leases()
    late, early = leases.begin((1,), 5.0), leases.begin((2,), 3.0)
    assert leases.over(2.9) == []
    assert leases.over(3.0) == [early]
    assert set(leases.over(6.0)) == {late, early}


def test_an_id_is_never_given_twice() -> None:
    leases = Leases()
    first = leases.begin((), 1.0)
    leases.end(first)
    assert leases.begin((), 1.0) != first
