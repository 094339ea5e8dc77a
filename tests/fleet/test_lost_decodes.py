"""Real instances are lost or cut in the middle of answers, which go on elsewhere with the very same tokens."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, prompt_of, running
from tests.fleet.test_roles import change, serves

TOKENS = 120
FORMAT = {"type": "json_schema", "json_schema": {"name": "list", "schema": {"type": "array", "minItems": 30}}}
RULES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "drawn": {"temperature": 1.0, "seed": 5, "top_p": 0.9},
    "penalised": {
        "temperature": 0.7,
        "seed": 6,
        "frequency_penalty": 0.8,
        "extra_body": {"repetition_penalty": 1.2, "ignore_eos": True, "min_tokens": 80},
    },
    "grammar": {"temperature": 1.0, "seed": 7, "extra_body": {"response_format": FORMAT}},
}


@pytest.fixture
async def fleet(model: Path) -> AsyncIterator[InProcessFleet]:
    """Two decode instances."""
    async with running(model, router={"retry_budget": 1.0}) as fleet:
        await change(fleet, "west-p", "decode")
        yield fleet


def again(fleet: InProcessFleet, name: str) -> float:
    """`prfaas_router_<name>_total` over all labels."""
    registry = fleet.router._dispatcher.metrics.registry
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name == f"prfaas_router_{name}_total")


def decoding(fleet: InProcessFleet) -> tuple[str, str]:
    """The instance of west that has a request, and the other one."""
    first, second = (fleet.instances[name].server.servicer.num_running for name in ("west-d", "west-p"))
    assert {first, second} == {0, 1}
    return ("west-d", "west-p") if first else ("west-p", "west-d")


async def under_way(fleet: InProcessFleet, **rules: Any) -> "asyncio.Task[tuple[str, dict[str, Any]]]":
    """A stream of which the first text has come; its text and account."""
    stream = await fleet.client.completions.create(
        model="tiny",
        prompt=prompt_of(30),
        max_tokens=TOKENS,
        stream=True,
        extra_headers={"x-prfaas-trace": "1"},
        **{"extra_body": {"ignore_eos": True}, **rules},
    )
    pieces = [(await anext(stream)).choices[0].text]

    async def rest() -> tuple[str, dict[str, Any]]:
        account: dict[str, Any] = {}
        async for chunk in stream:
            pieces.extend(choice.text for choice in chunk.choices)
            account = (chunk.model_extra or {}).get("prfaas") or account
        return "".join(pieces), account

    return asyncio.create_task(rest())


async def test_a_stream_goes_on_where_its_decode_instance_dies(fleet: InProcessFleet) -> None:
    for number, (name, rules) in enumerate(RULES.items(), 1):
        expected = await (await under_way(fleet, **rules))
        asking = await under_way(fleet, **rules)
        lost, other = decoding(fleet)
        await fleet.stop(lost)
        text, account = await asking
        assert again(fleet, "continued") == number
        assert (text, account["token_ids"]) == (expected[0], expected[1]["token_ids"]), name
        assert account["decode"]["instance"] == other
        await fleet.start(lost)
        if lost == "west-p":
            await change(fleet, lost, "decode")
        await fleet.settled()


async def test_fifty_requests_on_a_stream_that_is_lost(fleet: InProcessFleet) -> None:
    """Some decode, some wait for pages, and all have their answers."""
    prompts = [prompt_of(10 + i % 5, skip=20 * (i % 5)) for i in range(50)]
    expected = [(await fleet.ask(prompt, 40)).tokens for prompt in prompts[:5]]
    await change(fleet, "west-p", "prefill")
    asking = [asyncio.create_task(fleet.ask(prompt, 40)) for prompt in prompts]
    await eventually_async(lambda: fleet.instances["west-d"].server.servicer.num_running > 30)
    changing = asyncio.create_task(change(fleet, "west-p", "decode"))
    await eventually_async(lambda: serves(fleet, "west-p") == ("decode", "up"))
    await fleet.stop("west-d")
    answers = await asyncio.gather(*asking)
    await changing
    assert [answer.tokens for answer in answers] == [expected[i % 5] for i in range(50)]
    assert again(fleet, "retries") == sum(a.account["decode"]["instance"] == "west-p" for a in answers) > 0
    assert again(fleet, "continued") > 0
    assert again(fleet, "streams_lost") == 1
    assert fleet.router.registry.outstanding == 0
    await fleet.settled()


async def test_a_change_of_the_role_that_cuts_an_answer_costs_no_token(fleet: InProcessFleet) -> None:
    expected, _ = await (await under_way(fleet, **RULES["greedy"]))
    asking = await under_way(fleet, **RULES["greedy"])
    cut, other = decoding(fleet)
    async with fleet.calling(cut) as stub:
        assert (await stub.ChangeRole(pb.ChangeRoleRequest(role=pb.ROLE_PREFILL, drain_s=0.001, ordered=True))).accepted
    text, account = await asking
    assert (text, account["decode"]["instance"]) == (expected, other)
    await eventually_async(lambda: serves(fleet, cut) == ("prefill", "up"))
    await fleet.settled()
