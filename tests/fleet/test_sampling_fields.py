"""Rules of sampling through a whole fleet: grammars and penalties go on where the KV goes, logprobs come back."""

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.fleet.rig import InProcessFleet, prompt_of, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Brno", "Lyon"]}, "days": {"type": "integer", "minimum": 0, "maximum": 20}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(model: Path) -> AsyncIterator[InProcessFleet]:
    async with running(model) as fleet:
        yield fleet


@pytest.mark.parametrize("where", ["local", "remote"])
async def test_choices_in_a_given_form_wherever_the_prompt_is_computed(fleet: InProcessFleet, where: str) -> None:
    """The first token comes from another instance, with its own idea of the grammar's beginning."""
    answer = await fleet.client.completions.create(
        model="tiny",
        prompt=prompt_of(60),
        max_tokens=60,
        seed=1,
        n=3,
        extra_body={"response_format": FORMAT},
        extra_headers={"x-prfaas-prefill": where, "x-prfaas-trace": "1"},
    )
    assert answer.model_extra
    clusters = {trace["prefill"]["cluster"] for trace in answer.model_extra["prfaas"]}
    assert clusters == {"east" if where == "remote" else "west"}
    for choice in answer.choices:
        value = json.loads(choice.text)
        assert choice.finish_reason == "stop"
        assert value["city"] in ("Brno", "Lyon")
        assert 0 <= value["days"] <= 20
    assert len({choice.text for choice in answer.choices}) > 1


@pytest.mark.parametrize(
    "rules",
    [
        {"frequency_penalty": 1.5, "presence_penalty": 0.5, "temperature": 0},
        {"extra": {"repetition_penalty": 1.3, "top_k": 40, "min_p": 0.01}, "temperature": 1.0, "seed": 3},
        {"top_p": 0.9, "temperature": 0.8, "seed": 4, "logit_bias": {"500": 3}},
    ],
)
async def test_the_same_tokens_wherever_the_prompt_is_computed(fleet: InProcessFleet, rules: dict[str, Any]) -> None:
    options = dict(rules)
    extra = {"ignore_eos": True, **options.pop("extra", {})}
    found = []
    for where in ("local", "remote"):
        answer = await fleet.client.completions.create(
            model="tiny",
            prompt=prompt_of(40),
            max_tokens=12,
            extra_body=extra,
            extra_headers={"x-prfaas-prefill": where, "x-prfaas-trace": "1"},
            **options,
        )
        assert answer.model_extra
        found.append(answer.model_extra["prfaas"]["token_ids"])
    assert found[0] == found[1]
    assert len(found[0]) == 12


async def test_logprobs_of_a_real_model(fleet: InProcessFleet) -> None:
    answer = await fleet.client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": prompt_of(400)}],
        max_tokens=6,
        temperature=0,
        logprobs=True,
        top_logprobs=5,
        extra_body={"ignore_eos": True},
        extra_headers={"x-prfaas-trace": "1"},
    )
    assert answer.choices[0].logprobs
    tokens = answer.choices[0].logprobs.content or []
    assert len(tokens) == 6
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        tops = [top.logprob for top in token.top_logprobs]
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, tops[0]), "greedy takes the likeliest"
        assert tops == sorted(tops, reverse=True)
        assert sum(math.exp(top) for top in tops) <= 1.0
    assert answer.model_extra
    placed = answer.model_extra["prfaas"]
    assert placed["prefill"]["instance"] == placed["decode"]["instance"], "logprobs do not travel with KV"
