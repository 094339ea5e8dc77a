"""Wherever a prompt leaves what is cached, its logits and tokens are those of one that found nothing."""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from prfaas.cache.layout import lay_out
from tests.models.conftest import Tiny
from tests.models.small_instance import SmallInstance
from tests.models.tiny_configs import VOCAB, WINDOW
from tests.models.uncached import Prompt, Uncached, asking

BLOCK = 4
"""Tokens, as `SmallInstance` has them."""


@functools.cache
def text(name: str) -> Prompt:
    return tuple(random.Random(name).choices(range(3, VOCAB), k=80))


A, B, C = text("a"), text("b"), text("c")


@dataclass(frozen=True)
class Cut:
    """Prompts that come one after another, and how much of each is there when it comes."""

    what: str
    prompts: list[Prompt]
    reused: list[int]
    """In models with states, which have a snapshot at a prompt's end and, on the second visit, where prompts part."""
    reused_kv: list[int]
    """In others."""


CUTS = [
    Cut("the whole prompt again", [A[:22]] * 3, [0, 20, 20], [0, 20, 20]),
    Cut("it ends with a block", [A[:20]] * 2, [0, 16], [0, 16]),
    Cut("one token before a block's end", [A[:19]] * 2, [0, 16], [0, 16]),
    Cut("one token after a block's end", [A[:21]] * 2, [0, 20], [0, 20]),
    Cut("one block", [A[:4], A[:5], A[:4], A[:5]], [0, 0, 0, 4], [0, 4, 0, 4]),
    Cut("shorter than a block", [A[:3]] * 2 + [A[:1]] * 2, [0] * 4, [0] * 4),
    Cut("a prompt's beginning", [A[:30], A[:10], A[:10]], [0, 0, 8], [0, 8, 8]),
    Cut("they part at the snapshot", [A[:22], A[:20] + B[:9], A[:20] + C[:1]], [0, 20, 20], [0, 20, 20]),
    Cut("they part inside the last block", [A[:22], A[:21] + B[:9]], [0, 20], [0, 20]),
    Cut("they part where a block ends", [A[:30], A[:16] + B[:9], A[:16] + C[:7]], [0, 0, 16], [0, 16, 16]),
    Cut("they part inside a block", [A[:30], A[:18] + B[:9], A[:18] + C[:7]], [0, 0, 16], [0, 16, 16]),
    Cut("they part one token before a block ends", [A[:30], A[:15] + B[:9], A[:15] + C[:7]], [0, 0, 12], [0, 12, 12]),
    Cut(
        "one that goes on, and one that comes back", [A[:22], A[:50], A[:22], A[:50]], [0, 20, 20, 48], [0, 20, 20, 48]
    ),
    Cut("past the window", [A[: 3 * WINDOW], A[: 3 * WINDOW], A[: 3 * WINDOW] + B[1:25]], [0, 48, 48], [0, 48, 48]),
    Cut("one token differs at the start", [A[:22], (B[0], *A[1:22])], [0, 0], [0, 0]),
    Cut("the same block elsewhere", [A[:12], A[4:12] + A[:12], A[:4] * 5], [0, 0, 0], [0, 0, 4]),
]


@pytest.mark.usefixtures("form")
def test_wherever_prompts_part(every: Tiny, uncached: Callable[[str], Uncached]) -> None:
    instance = SmallInstance(
        every.ours,
        pages=500,
        slots=len(CUTS),
        states=60,
        page_tokens=BLOCK,
        step_tokens=1000,
        reuse=True,
        snapshot_every=0,
    )
    for turn in range(max(len(cut.prompts) for cut in CUTS)):
        asked = [asking(f"{c.what} {turn}", c.prompts[turn], 3, c.what) for c in CUTS if turn < len(c.prompts)]
        for request in asked:
            instance.add(request)
        instance.finish()
        uncached(every.family).learn(asked)
        for request in asked:
            uncached(every.family).check(instance, request)
    has_states = lay_out(every.ours.shape, BLOCK).state_pages > 0
    for cut in CUTS:
        reused = [instance.reused[f"{cut.what} {turn}"] for turn in range(len(cut.prompts))]
        assert reused == (cut.reused if has_states else cut.reused_kv), cut.what
    instance.run()
