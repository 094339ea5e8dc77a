"""Uninitialised memory is NaN in these tests, so an output that is not written shows; ops can run in both forms."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prfaas_kernels import native


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """In its deterministic mode torch fills what `torch.empty` and its like return with NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    with torch.inference_mode():
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def library_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this run's compiled kernels are kept, so that they are compiled once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=["torch", "compiled"])
def form(request: pytest.FixtureRequest, library_directory: Path) -> Iterator[str]:
    """Runs a test with torch's ops, then with the compiled kernels."""
    if request.param == "compiled":
        if shutil.which("g++") is None:
            pytest.skip("no g++ here")
        native.enable(library_directory)
    yield request.param
    native.disable()


@pytest.fixture
def device() -> torch.device:
    """Where Triton's kernels are tested: on a GPU, or on the CPU in its interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
