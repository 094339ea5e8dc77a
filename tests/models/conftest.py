"""Uninitialised memory is NaN in these tests; a tiny model is written once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from prfaas.models.loader import LoadedModel, load_model
from tests.models.tiny import write_tiny


@dataclass(frozen=True)
class Tiny:
    """One set of weights: on disk, in transformers, and loaded by us."""

    directory: Path
    theirs: Any
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
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    directory = tmp_path_factory.mktemp("tiny") / "model"
    with torch.no_grad():
        theirs = write_tiny(directory)
    return Tiny(directory, theirs, load_model(directory, "float32"))
