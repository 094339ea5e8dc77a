"""A model directory for the session, and a router for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import tiny_model
from tests.gateway.running_router import RunningRouter, running_router


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-model")
    tiny_model.write(path)
    return path


@pytest.fixture
async def router(model: Path) -> AsyncIterator[RunningRouter]:
    async with running_router(model) as router:
        yield router
