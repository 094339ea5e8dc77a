"""Uninitialised memory is NaN in these tests; each family's tiny checkpoint is written once."""

import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from prfaas.models.loader import LoadedModel, load_model
from prfaas_kernels import native
from tests.models.tiny import Reference, write_tiny
from tests.models.tiny_configs import TINY
from tests.models.uncached import Uncached


@dataclass(frozen=True)
class Tiny:
    """One set of weights: on disk, in somebody else's code, and loaded by us."""

    family: str
    directory: Path
    theirs: Reference
    ours: LoadedModel


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """In its deterministic mode torch fills what `torch.empty` and its like return with NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    with torch.inference_mode():
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """A family's tiny model, by the name in `TINY`."""
    directory, written = tmp_path_factory.mktemp("tiny"), dict[str, Tiny]()

    def of(family: str) -> Tiny:
        if family not in written:
            at = directory / family
            with torch.no_grad():
                theirs = write_tiny(family, at)
            written[family] = Tiny(family, at, theirs, load_model(at, "float32"))
        return written[family]

    return of


@pytest.fixture(scope="session")
def tiny(tiny_of: Callable[[str], Tiny]) -> Tiny:
    """One family, for what does not depend on which."""
    return tiny_of("kimi_linear")


@pytest.fixture(scope="session", params=list(TINY))
def every(request: pytest.FixtureRequest, tiny_of: Callable[[str], Tiny]) -> Tiny:
    """Each family in turn."""
    return tiny_of(request.param)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled kernels are kept, so that they are compiled once."""
    return tmp_path_factory.mktemp("compiled-kernels")


@pytest.fixture(params=["torch", "compiled"])
def form(request: pytest.FixtureRequest, kernels: Path) -> Iterator[str]:
    """Both forms of every op."""
    if request.param == "compiled":
        if shutil.which("g++") is None:
            pytest.skip("no g++ here")
        native.enable(kernels)
    yield request.param
    native.disable()


@pytest.fixture(scope="session")
def uncached(tiny_of: Callable[[str], Tiny]) -> Callable[[str], Uncached]:
    """The answers of a family's model."""
    return functools.cache(lambda family: Uncached(tiny_of(family).ours))
