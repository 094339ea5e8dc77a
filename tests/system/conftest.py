"""One demo model for all system tests, and a collector that leaves alone what earlier tests have left."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from prfaas.models.demo_model import write_demo_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "demo"
    write_demo_model(directory)
    return directory


@pytest.fixture(scope="session", autouse=True)
def quick_collector() -> Iterator[None]:
    """Thousands of tests leave millions of objects, and looking through them holds up whoever polls a fleet."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
