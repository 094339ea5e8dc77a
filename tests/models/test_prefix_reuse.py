"""Requests that go on from what others left in the cache: the tokens that they have when nothing is reused."""

import random
from collections.abc import Callable

import pytest

from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.models.loader import LoadedModel
from prfaas.scheduler.sequence import Mode
from tests.models.conftest import Tiny
from tests.models.small_instance import SmallInstance
from tests.models.test_preemption import FAMILIES
from tests.models.tiny_configs import VOCAB

SHARED = 41


def request(name: str, *parts: str) -> Request:
    """A prompt made of the tokens that go by these names."""
    sampling = SamplingParams(max_tokens=9, temperature=0, ignore_eos=True)
    return Request(RequestId(name), tuple(token for part in parts for token in tokens(part)), sampling)


def tokens(part: str) -> list[int]:
    """The shared prefix, or something shorter."""
    generator = random.Random(part)
    return generator.choices(range(3, VOCAB), k=SHARED if part == "shared" else 3 + len(part))


TURNS = [
    request("first", "shared", "a question"),
    request("same", "shared", "a question"),
    request("branch", "shared", "another"),
    request("longer", "shared", "a question", "and what comes after it"),
    request("stranger", "somebody else's prompt"),
]


def without_reuse(model: LoadedModel) -> dict[str, list[int]]:
    instance = SmallInstance(model, pages=40, slots=1)
    for one in TURNS:
        instance.add(one)
    return instance.run()


@pytest.mark.parametrize("family", ["qwen3", *FAMILIES])
def test_one_after_another_and_together(tiny_of: Callable[[str], Tiny], family: str) -> None:
    model = tiny_of(family).ours
    expected = without_reuse(model)
    instance = SmallInstance(model, pages=400, slots=5, states=20, reuse=True)
    instance.add(TURNS[0])
    while instance.step() is not None:
        pass
    assert instance.reused_tokens == 0
    for one in TURNS[1:]:
        instance.add(one)
    assert instance.run() == expected
    assert instance.reused_tokens >= 3 * (SHARED - 9)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_computed_from_a_prefix_has_the_same_bytes_and_token(
    tiny_of: Callable[[str], Tiny], family: str
) -> None:
    model = tiny_of(family).ours
    expected = without_reuse(model)
    instance = SmallInstance(model, pages=400, slots=2, reuse=True)
    instance.add(TURNS[0])
    while instance.step() is not None:
        pass
    exported = instance.export(TURNS[3])
    assert instance.reused_tokens >= SHARED - 9
    elsewhere = SmallInstance(model, pages=400, slots=2)
    elsewhere.add(TURNS[3], Mode.IMPORT)
    assert elsewhere.run({TURNS[3].request_id: exported})["longer"] == expected["longer"]
