"""Requests that lose their memory, pages that are used again, and neighbours that go wrong: the same tokens."""

import functools
import random
from collections.abc import Callable

import pytest
import torch

from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.models.loader import LoadedModel
from prfaas.scheduler.sequence import Mode, Phase
from tests.models.conftest import Tiny
from tests.models.small_instance import SmallInstance
from tests.models.tiny_configs import VOCAB, WINDOW

FAMILIES = ["kimi_linear", "qwen3_5_text", "mimo_v2_flash", "minimax", "ring"]
"""Every kind of mixer: KDA, gated DeltaNet, lightning, latent, grouped, windowed."""
LENGTHS = [1, WINDOW - 2, WINDOW - 1, WINDOW, 40, 64]


def request(name: str, prompt: int, max_tokens: int, **sampling: float) -> Request:
    tokens = random.Random(name).choices(range(3, VOCAB), k=prompt)
    settings = {"temperature": 0, **sampling}
    return Request(RequestId(name), tuple(tokens), SamplingParams(max_tokens=max_tokens, ignore_eos=True, **settings))  # type: ignore[arg-type] # by name


def requests() -> list[Request]:
    """Greedy ones, seeded ones, ones with penalties; prompts shorter and longer than the window."""
    kinds: list[dict[str, float]] = [{}, {"temperature": 1, "seed": 5}, {"frequency_penalty": 1, "presence_penalty": 1}]
    return [request(f"r{i}", prompt, 40 - 5 * (i % 3), **kinds[i % 3]) for i, prompt in enumerate(LENGTHS)]


def alone(model: LoadedModel, asked: list[Request]) -> dict[str, list[int]]:
    """What each answers when it has an instance to itself."""
    found: dict[str, list[int]] = {}
    for one in asked:
        instance = SmallInstance(model, pages=32, slots=1, page_tokens=16, step_tokens=256)
        instance.add(one)
        found |= instance.run()
    return found


@pytest.fixture(scope="module")
def calm(tiny_of: Callable[[str], Tiny]) -> Callable[[str], dict[str, list[int]]]:
    """What a family's model answers to each of `requests` when nothing else runs."""
    return functools.cache(lambda family: alone(tiny_of(family).ours, requests()))


@pytest.mark.parametrize(
    ("family", "page_tokens", "reuse"), [("kimi_linear", 1, False), *((family, 4, True) for family in FAMILIES)]
)
def test_preempted_requests_have_the_tokens_of_undisturbed_ones(
    tiny_of: Callable[[str], Tiny],
    calm: Callable[[str], dict[str, list[int]]],
    family: str,
    page_tokens: int,
    reuse: bool,
) -> None:
    model = tiny_of(family).ours
    asked = requests()
    instance = SmallInstance(
        model, pages=-(-100 // page_tokens), slots=5, states=1, page_tokens=page_tokens, reuse=reuse
    )
    for one in asked:
        instance.add(one)
    assert instance.run() == calm(family)
    assert instance.preemptions >= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_imported_requests_that_are_preempted_are_computed_again(
    tiny_of: Callable[[str], Tiny], calm: Callable[[str], dict[str, list[int]]], family: str
) -> None:
    model = tiny_of(family).ours
    asked = requests()
    elsewhere = SmallInstance(model, pages=8, slots=1, page_tokens=16, step_tokens=32)
    exported = {one.request_id: elsewhere.export(one) for one in asked}
    instance = SmallInstance(model, pages=25, slots=5, states=1)
    for one in asked:
        instance.add(one, Mode.IMPORT)
    assert instance.run(exported) == calm(family)
    assert instance.preemptions >= 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("after", [1, 3])
def test_pages_say_nothing_of_the_request_that_had_them(
    tiny_of: Callable[[str], Tiny], family: str, after: int
) -> None:
    """Cancelled within its prompt, or while it decodes; the next one's first chunk may be a single token."""
    model = tiny_of(family).ours
    instance = SmallInstance(model, pages=40, slots=1)
    instance.add(request("gone", 40, 9))
    for _ in range(after):
        instance.step()
    instance.cancel("gone")
    asked = [request("one", 1, 9), request("many", 50, 9)]
    for one in asked:
        instance.add(one)
    answers = instance.run()
    assert {name: answers[name] for name in ("one", "many")} == alone(model, asked)


def test_a_preempted_request_can_be_cancelled_while_it_waits(
    tiny: Tiny, calm: Callable[[str], dict[str, list[int]]]
) -> None:
    asked = requests()
    instance = SmallInstance(tiny.ours, pages=25, slots=5, states=1)
    for one in asked:
        instance.add(one)
    gone: set[str] = set()
    while len(gone) < 2:
        plan = instance.step()
        assert plan is not None
        for sequence in plan.preempted:
            assert sequence.phase is Phase.WAITING
            instance.cancel(sequence.request_id)
            gone.add(sequence.request_id)
    left = [one for one in asked if one.request_id not in gone]
    answers = instance.run()
    assert {one.request_id: answers[one.request_id] for one in left} == {
        one.request_id: calm(tiny.family)[one.request_id] for one in left
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_poisoned_request_fails_alone_and_leaves_its_pages_clean(
    tiny_of: Callable[[str], Tiny], calm: Callable[[str], dict[str, list[int]]], family: str
) -> None:
    """An embedding that overflowed: one prompt has it at its end, and all others go on."""
    model = tiny_of(family).ours
    asked = requests()
    expected = calm(family)
    used = {token for one in asked for token in (*one.prompt_token_ids, *expected[one.request_id])}
    poison = next(token for token in range(3, VOCAB) if token not in used)
    kept = model.decoder.embedding.table[poison].clone()
    model.decoder.embedding.table[poison] = torch.nan
    try:
        instance = SmallInstance(model, pages=64, slots=4)
        bad = request("bad", 30, 9)
        instance.add(Request(bad.request_id, (*bad.prompt_token_ids[:-1], poison), bad.sampling))
        for one in asked:
            instance.add(one)
        answers = instance.run()
    finally:
        model.decoder.embedding.table[poison] = kept
    assert instance.failed == {"bad"}
    assert answers == expected
