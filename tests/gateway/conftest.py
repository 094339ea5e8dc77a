"""A model directory for the session, and routers: one for each test, or one for a module."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_router(model: Path) -> AsyncIterator[RunningRouter]:
    """For modules whose tests change nothing in it; they must run in the module's event loop."""
    async with running_router(model) as router:
        yield router
