"""One demo model for all system tests."""

from pathlib import Path

import pytest

from prfaas.models.demo_model import write_demo_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "demo"
    write_demo_model(directory)
    return directory
