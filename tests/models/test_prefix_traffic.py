"""Conversations of several tenants that share, part, go on and are given up, in a pool that is too small for them.

Whatever is evicted, preempted or computed twice: every answer is the one that a model without a cache gives.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prfaas.core.request import Request
from tests.models.conftest import Tiny
from tests.models.small_instance import SmallInstance
from tests.models.test_preemption import FAMILIES
from tests.models.tiny_configs import VOCAB
from tests.models.uncached import Prompt, Uncached, asking

LONGEST = 60
MOST_NEW = 12
"""Tokens of a prompt, and of an answer."""


@dataclass(frozen=True)
class Pool:
    """An instance; any one request fits."""

    page_tokens: int
    spare_pages: int
    states: int
    slots: int
    step_tokens: int
    snapshot_every: int
    answer_every: int
    eviction: str


@dataclass(frozen=True)
class Ask:
    """The next prompt: the first `kept` tokens of what an earlier request had at its end, and some new ones."""

    earlier: int
    kept: int
    new: int
    kind: int
    """Few, so that prompts that part here and there go on alike."""
    max_tokens: int
    salt: str
    steps: int
    """That are taken before the next one comes."""
    given_up: bool
    """Then, if it has not ended."""


POOLS = st.builds(
    Pool,
    page_tokens=st.sampled_from([1, 4, 7]),
    spare_pages=st.integers(0, 30),
    states=st.integers(1, 4),
    slots=st.integers(1, 5),
    step_tokens=st.integers(6, 40),
    snapshot_every=st.sampled_from([0, 8, 13]),
    answer_every=st.sampled_from([0, 1, 5]),
    eviction=st.sampled_from(["cost", "lru"]),
)
ASKS = st.builds(
    Ask,
    earlier=st.integers(0, 20),
    kept=st.integers(0, LONGEST),
    new=st.integers(1, 25),
    kind=st.integers(0, 2),
    max_tokens=st.integers(1, MOST_NEW),
    salt=st.sampled_from(["", "", "", "x"]),
    steps=st.integers(0, 12),
    given_up=st.sampled_from([False, False, False, True]),
)


def build(tiny: Tiny, pool: Pool) -> SmallInstance:
    return SmallInstance(
        tiny.ours,
        pages=-(-(LONGEST + MOST_NEW) // pool.page_tokens) + pool.spare_pages,
        slots=pool.slots,
        states=pool.states,
        page_tokens=pool.page_tokens,
        step_tokens=pool.step_tokens,
        reuse=True,
        snapshot_every=pool.snapshot_every,
        answer_every=pool.answer_every,
        eviction=pool.eviction,
    )


def next_prompt(ask: Ask, earlier: list[Request], instance: SmallInstance) -> Prompt:
    before: Prompt = ()
    if earlier:
        request = earlier[ask.earlier % len(earlier)]
        before = (*request.prompt_token_ids, *instance.answers.get(request.request_id, ()))
    new = random.Random(ask.kind).choices(range(3, VOCAB), k=ask.new)
    return (*before[: min(ask.kept, LONGEST - ask.new)], *new)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("form", ["compiled"], indirect=True)
@pytest.mark.parametrize("family", ["qwen3", *FAMILIES])
def test_every_answer_is_the_one_without_a_cache(
    tiny_of: Callable[[str], Tiny], uncached: Callable[[str], Uncached], family: str
) -> None:
    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(pool=POOLS, asks=st.lists(ASKS, min_size=3, max_size=10))
    def every_answer(pool: Pool, asks: list[Ask]) -> None:
        instance = build(tiny_of(family), pool)
        asked: list[Request] = []
        given_up: set[str] = set()
        for ask in asks:
            request = asking(f"r{len(asked)}", next_prompt(ask, asked, instance), ask.max_tokens, ask.salt)
            asked.append(request)
            instance.add(request)
            for _ in range(ask.steps):
                instance.step()
            if ask.given_up and instance.scheduler.get(request.request_id) is not None:
                instance.cancel(request.request_id)
                given_up.add(request.request_id)
        instance.run()
        stayed = [request for request in asked if request.request_id not in given_up]
        uncached(family).learn(stayed)
        for request in stayed:
            uncached(family).check(instance, request)

    every_answer()
