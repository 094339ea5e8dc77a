"""The limit of open files: raised as far as it goes, with a word where that is not enough."""

import resource
from collections.abc import Iterator

import pytest

from prfaas.cli.open_files import allow_open_files


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.fixture(autouse=True)
def hard() -> Iterator[int]:
    """With a soft limit of 900 below it, or all that there is."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_it_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    allow_open_files(950)
    assert soft() == 950
    assert not caplog.records


def test_it_is_never_lowered() -> None:
    allow_open_files(100)
    assert soft() == 900


def test_as_far_as_the_system_lets_it(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    if hard == resource.RLIM_INFINITY:
        pytest.skip(reason="nothing is too much here")
    allow_open_files(hard + 1)
    assert soft() == hard
    assert "lower router.max_connections" in caplog.text
