"""What the router counts as load of its instances: prompts that no heartbeat knows of, and nothing that is over."""

import asyncio
from collections.abc import Sequence

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import EngineError
from tests.gateway.fake_instance import Fail, FakeInstance, Finish, Say, Step, Wait
from tests.gateway.running_router import RunningRouter, eventually

LONG: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi " * 200}]
"""Above the threshold."""


def waits(router: RunningRouter) -> tuple[int, bool]:
    """Requests that wait at the remote instance as the router sees it, and whether their prompts do."""
    (far,) = [i for i in router.registry.view().instances if i.instance_id == "far-1"]
    return far.waiting_requests, far.waiting_tokens > 0


async def heard(router: RunningRouter, *fakes: FakeInstance) -> None:
    for fake in fakes:
        assert await router.heartbeat(fake)


async def begin(router: RunningRouter, script: Sequence[Step]) -> tuple[FakeInstance, FakeInstance, asyncio.Task[str]]:
    """A long prompt on its way, with `script` for the decode instance; `far-1` never hears of it."""
    decode = await router.add("decode-1", script=lambda _: script)
    far = await router.add("far-1", cluster="far", role=pb.ROLE_PREFILL)

    async def ask() -> str:
        stream = await router.openai.chat.completions.create(model="tiny", messages=LONG, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    asking = asyncio.create_task(ask())
    await decode.started.wait()
    return decode, far, asking


async def test_a_prompt_counts_through_heartbeats_until_its_first_token(router: RunningRouter) -> None:
    pages, end = asyncio.Event(), asyncio.Event()
    hello = router.tokenizer.encode("hello").ids
    decode, far, asking = await begin(router, [Wait(pages), Say(hello), Wait(end), Finish()])
    for _ in range(2):
        await heard(router, decode, far)
        assert waits(router) == (1, True)
    pages.set()
    await eventually(lambda: router.metric("prfaas_router_time_to_first_token_seconds_count", decision="remote") == 1)
    await heard(router, decode, far)
    assert waits(router) == (0, False)
    assert router.registry.outstanding == 1, "it decodes still"
    end.set()
    assert await asking == "hello"
    await eventually(lambda: router.registry.outstanding == 0)


async def test_a_failed_attempt_counts_no_more_where_it_was_placed(router: RunningRouter) -> None:
    decode, far, asking = await begin(router, [Fail(EngineError("out of luck"))])
    with pytest.raises(openai.APIError):
        await asking
    await eventually(lambda: router.registry.outstanding == 0)
    await heard(router, decode, far)
    assert waits(router) == (0, False)


async def test_the_second_attempt_counts_and_the_first_no_more(router: RunningRouter) -> None:
    second = await router.add("decode-2", script=lambda _: [Wait(asyncio.Event())])
    decode, far, asking = await begin(router, [Fail(EngineError("out of luck"))])
    await second.started.wait()
    await heard(router, decode, second, far)
    assert (waits(router), router.registry.outstanding) == ((1, True), 1)
    asking.cancel()
    await asyncio.wait([asking])
    await eventually(lambda: router.registry.outstanding == 0)
    await heard(router, far)
    assert waits(router) == (0, False)


async def test_who_leaves_counts_no_more(router: RunningRouter) -> None:
    decode, far, asking = await begin(router, [Wait(asyncio.Event())])
    asking.cancel()
    await asyncio.wait([asking])
    await eventually(lambda: router.registry.outstanding == 0)
    await heard(router, decode, far)
    assert waits(router) == (0, False)
