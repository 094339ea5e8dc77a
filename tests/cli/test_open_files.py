"""The limit of open files: raised as far as it goes, with a word where that is not enough."""

import logging
import resource
from collections.abc import Iterator

import pytest

from prfaas.cli.open_files import OTHER_FILES, allow_open_files, within_open_files
from prfaas.cli.serve import Service, run
from prfaas.cli.supervised import Supervisor
from prfaas.config.sections import RouterSection
from prfaas.core.errors import ConfigError


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.fixture(autouse=True)
def hard() -> Iterator[int]:
    """With a soft limit of 900 below it, or all that there is."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_it_is_raised_as_far_as_it_goes(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    allow_open_files(950)
    assert soft() == (950 if hard == resource.RLIM_INFINITY else hard)
    assert f"may open {soft()} files instead of 900" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_it_is_never_lowered() -> None:
    allow_open_files(100)
    assert soft() >= 900


def test_a_router_takes_no_more_connections_than_it_may_open(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    if hard == resource.RLIM_INFINITY:
        pytest.skip(reason="nothing is too much here")
    router = RouterSection(max_connections=hard)
    assert within_open_files(router).max_connections == max(hard - OTHER_FILES, hard // 2)
    assert soft() == hard
    assert "lower router.max_connections" in caplog.text


def test_a_router_whose_connections_fit_keeps_them(caplog: pytest.LogCaptureFixture) -> None:
    router = RouterSection(max_connections=10)
    assert within_open_files(router) is router
    assert not caplog.records


async def test_every_process_that_serves_raises_it(hard: int) -> None:
    async def broken() -> Service:
        raise ConfigError("as far as this")

    with pytest.raises(ConfigError):
        await run(broken, Supervisor(None))
    assert soft() == (900 if hard == resource.RLIM_INFINITY else hard)
