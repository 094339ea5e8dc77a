"""Conversations, batches, resumptions and transfers that go on from what is cached: the same tokens and logits."""

from collections.abc import Callable

import pytest

from prfaas.scheduler.sequence import Mode
from tests.models.conftest import Tiny
from tests.models.small_instance import SmallInstance
from tests.models.test_preemption import FAMILIES
from tests.models.test_prefix_cuts import A, B, C
from tests.models.uncached import Prompt, Uncached, asking

KNOWN = Callable[[str], Uncached]
KINDS = ["qwen3", *FAMILIES]
"""One family for every kind of mixer."""


def ask(instance: SmallInstance, uncached: Uncached, *prompts: Prompt, max_tokens: int = 4) -> list[int]:
    """All at once; what of each was there."""
    requests = [asking(f"{len(instance.reused) + i}", prompt, max_tokens) for i, prompt in enumerate(prompts)]
    for request in requests:
        instance.add(request)
    instance.finish()
    for request in requests:
        uncached.check(instance, request)
    return [instance.reused[request.request_id] for request in requests]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("answer_every", [0, 4])
def test_a_conversation_goes_on_from_its_last_turn(every: Tiny, uncached: KNOWN, answer_every: int) -> None:
    """From its prompt's end, or within its answer where states are kept while it is drawn."""
    instance = SmallInstance(
        every.ours, pages=90, slots=2, states=14, step_tokens=64, reuse=True, answer_every=answer_every
    )
    history, before = A[:19], 0
    for turn in range(4):
        reused = ask(instance, uncached(every.family), history, max_tokens=9)[0]
        in_answer = answer_every or not instance.prefixes.state_pages
        assert reused >= before + (4 if in_answer and turn else 0)
        before = (len(history) - 1) // 4 * 4
        answer = tuple(instance.answers[str(turn)])
        history = (*history, *answer, *B[5 * turn : 5 * turn + 6])
    instance.run()


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("step_tokens", [2, 3, 5, 7, 13, 30])
def test_prompts_cut_into_chunks_of_any_size(
    tiny_of: Callable[[str], Tiny], uncached: KNOWN, family: str, step_tokens: int
) -> None:
    """What the first two leave was computed in such chunks, and so is what the others add."""
    instance = SmallInstance(
        tiny_of(family).ours, pages=120, slots=min(4, step_tokens - 1), states=16, step_tokens=step_tokens, reuse=True
    )
    ask(instance, uncached(family), A[:50], A[:33] + B[:9])
    assert ask(instance, uncached(family), A[:50], A[:33] + C[:5], A[:50] + B[:13]) == [48, 32, 48]
    instance.run()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("family", KINDS)
def test_prompts_that_share_and_are_computed_in_one_step(
    tiny_of: Callable[[str], Tiny], uncached: KNOWN, family: str
) -> None:
    """Those that part before they end are computed beside each other, and leave the same blocks twice."""
    instance = SmallInstance(tiny_of(family).ours, pages=200, slots=6, states=20, step_tokens=200, reuse=True)
    prompts = [A[:31], A[:22] + B[:9], A[:22] + C[:9], A[:9] + B[:13], A[:31]]
    assert ask(instance, uncached(family), *prompts) == [0, 0, 0, 0, 28]
    assert min(ask(instance, uncached(family), *prompts)) >= 16
    instance.run()


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("every_steps", [1, 3, 8])
def test_preempted_requests_go_on_from_what_they_had_computed(
    tiny_of: Callable[[str], Tiny], uncached: KNOWN, family: str, every_steps: int
) -> None:
    """As if another had needed the memory, in prefill and while they decode; nothing is evicted meanwhile."""
    instance = SmallInstance(tiny_of(family).ours, pages=150, slots=4, states=20, reuse=True)
    requests = [asking(f"{i}", p, 14) for i, p in enumerate([A[:31], A[:22] + B[:9], C[:14], B[:40]])]
    for request in requests:
        instance.add(request)
    for step in range(18):
        if instance.step() is not None and step % every_steps == 0 and instance.scheduler.num_active:
            instance.scheduler._preempt_last()
    instance.finish()
    for request in requests:
        uncached(family).check(instance, request)
    assert max(instance.resumed.values()) >= 12
    instance.run()


@pytest.mark.parametrize("family", KINDS)
def test_of_a_prompt_that_is_partly_held_the_rest_is_imported(
    tiny_of: Callable[[str], Tiny], uncached: KNOWN, family: str
) -> None:
    """The sender computes from a prefix of its own; the receiver keeps what it gets, and others go on from that."""
    model, known = tiny_of(family).ours, uncached(family)
    sender = SmallInstance(model, pages=100, slots=2, states=8, reuse=True)
    receiver = SmallInstance(model, pages=100, slots=2, states=8, reuse=True)
    ask(sender, known, A[:45])
    ask(receiver, known, A[:19])
    imports = [asking("cut", A[:37] + B[:6], 6), asking("whole", A[:40], 6), asking("none", C[:21], 6)]
    for request in imports:
        exported = sender.export(request)
        receiver.add(request, Mode.IMPORT)
        receiver.finish({request.request_id: exported})
        known.check(receiver, request)
    assert sender.reused["cut"] >= 32
    assert receiver.held == {"cut": 16, "whole": 36, "none": 0}
    for _ in range(2):
        found = ask(receiver, known, A[:37] + B[:9], A[:40], C[:21])
    assert found == [44, 36, 20]
    for instance in (sender, receiver):
        instance.run()
