"""A fleet whose engines compute as on a GPU: Triton's kernels, and pages of their own."""

from pathlib import Path

import pytest
import torch

from prfaas.models.demo_text import demo_text
from prfaas_kernels.dispatch import triton_kernels
from tests.fleet.rig import InProcessFleet, running

SIZES = {
    "router": {"threshold_tokens": 30},
    "engine": {"prefix_cache": {"snapshot_every_tokens": 0}},
    "transport": {"stall_s": 60},  # a step takes seconds in the interpreter
}


async def conversation(fleet: InProcessFleet) -> list[list[int]]:
    """A prompt prefilled far away; the same again, of which something is cached; one computed where it is decoded."""
    prompt = demo_text()[:200]
    answers = [await fleet.ask(text, max_tokens=3) for text in (prompt, prompt, prompt[:60])]
    assert (answers[0].crossed, answers[2].crossed) == (True, False)
    return [answer.tokens for answer in answers]


async def test_tokens_are_those_of_the_cpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(model, **SIZES) as fleet:
        expected = await conversation(fleet)
    monkeypatch.setattr("prfaas.cli.load_rank.choose_device", lambda *_: torch.device("cpu", 0))
    with triton_kernels():
        async with running(model, **SIZES) as fleet:
            assert await conversation(fleet) == expected
            assert fleet.fallbacks() == {}
