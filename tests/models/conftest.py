"""Uninitialised memory is NaN in these tests, so an output that is not written shows."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """In its deterministic mode torch fills what `torch.empty` and its like return with NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    with torch.inference_mode():
        yield
    torch.use_deterministic_algorithms(False)
