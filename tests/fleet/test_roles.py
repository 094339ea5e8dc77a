"""Instances change their roles while requests come: none is lost, every token is right, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest

from prfaas.cli.fleet_roles import FleetStatus, set_role
from prfaas.config.sections import Role
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import UnavailableError
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, prompt_of, running

THRESHOLD_TOKENS = 250
PROMPTS = [prompt_of(words, skip=7 * words) for words in (5, 60, 200)]
"""The last is above the threshold: it is prefilled in the other cluster."""
CLIENTS = 4
LONG_TOKENS = 300
"""Of an answer that takes longer than a change of a role that has nothing to wait for."""


def serves(fleet: InProcessFleet, name: str) -> tuple[str, str] | None:
    """Its role and state, as the router has them."""
    entry = fleet.router.registry.entry(name)
    return (entry.role, entry.state) if entry else None


async def change(fleet: InProcessFleet, name: str, role: Role) -> list[str]:
    """As an operator does it; what he was told meanwhile."""
    told: list[str] = []
    await set_role(fleet.config, name, role, FleetStatus(fleet.router.http_address), told.append)
    assert serves(fleet, name) == (role, "up")
    return told


@asynccontextmanager
async def under_load(fleet: InProcessFleet) -> AsyncIterator[list[str]]:
    """Clients that ask all the time; any answer that is not as it must be fails the test at its end.

    The list has the decode instance of every answer so far.
    """
    expected = [(await fleet.ask(prompt, 6)).tokens for prompt in PROMPTS]
    decoded: list[str] = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        turn = number
        while not over.is_set():
            which = turn % len(PROMPTS)
            answer = await fleet.ask(PROMPTS[which], 6)
            assert answer.tokens == expected[which]
            decoded.append(answer.account["decode"]["instance"])
            turn += 1

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    try:
        yield decoded
    finally:
        over.set()
        await asyncio.gather(*clients)


async def test_roles_change_and_change_back_under_load(model: Path) -> None:
    async with running(model, router={"threshold_tokens": THRESHOLD_TOKENS}) as fleet, under_load(fleet) as decoded:
        there: list[tuple[str, Role]] = [("west-p", "decode"), ("west-d", "prefill")]
        back: list[tuple[str, Role]] = [("west-d", "decode"), ("west-p", "prefill")]
        for name, role in (*there, *back):
            told = await change(fleet, name, role)
            assert told[0].startswith(f"{name} ends ")
            here = len(decoded)
            await eventually_async(lambda here=here: len(decoded) > here + 2 * CLIENTS)  # type: ignore[misc]
            late = set(decoded[here + CLIENTS :])
            assert (name in late) == (role == "decode"), "requests go where the roles say"


async def test_what_is_cached_stays(model: Path) -> None:
    async with running(model, engine={"prefix_cache": {"enabled": True}}) as fleet:
        prompt = prompt_of(200)
        first = await fleet.ask(prompt, prefill="local")
        assert first.account["prefill"]["instance"] == "west-p"
        epoch = fleet.instances["west-p"].identity.epoch
        await change(fleet, "west-p", "decode")
        await change(fleet, "west-d", "prefill")
        entry = fleet.router.registry.entry("west-p")
        assert entry
        assert (entry.info.epoch, entry.load.converting_to) == (epoch, pb.ROLE_UNSPECIFIED)
        again = await fleet.ask(prompt, prefill="local")
        assert again.tokens == first.tokens
        assert again.account["decode"]["instance"] == "west-p"
        assert again.account["kv"]["tokens_held"] + again.account["prefill"]["tokens_reused"] > 0


async def test_the_last_that_decodes_is_kept(model: Path) -> None:
    async with running(model) as fleet:
        with pytest.raises(UnavailableError, match="the last instance that decodes"):
            await change(fleet, "west-d", "prefill")
        with pytest.raises(UnavailableError, match="only prefills"):
            await change(fleet, "east-p", "decode")
        with pytest.raises(UnavailableError, match="no instance 'nobody'"):
            await change(fleet, "nobody", "decode")
        await fleet.ask(PROMPTS[0])
        assert serves(fleet, "west-d") == ("decode", "up")


async def long_answer(fleet: InProcessFleet) -> "asyncio.Task[list[int]]":
    """One that west-d decodes now, for a while."""

    async def ask() -> list[int]:
        return (await fleet.ask(PROMPTS[1], LONG_TOKENS)).tokens

    asking = asyncio.create_task(ask())
    front = fleet.instances["west-d"].server.front
    await eventually_async(lambda: front.stats.running_requests == 1)
    return asking


async def test_what_takes_too_long_is_cut_and_told(model: Path) -> None:
    async with running(model) as fleet:
        asking = await long_answer(fleet)
        async with fleet.calling("west-d") as stub:
            reply = await stub.ChangeRole(pb.ChangeRoleRequest(role=pb.ROLE_PREFILL, drain_s=0.001, ordered=True))
            assert (reply.accepted, reply.role, reply.running_requests) == (True, pb.ROLE_DECODE, 1)
            again = await stub.ChangeRole(pb.ChangeRoleRequest(role=pb.ROLE_PREFILL))
            assert not again.accepted
        await change(fleet, "west-p", "decode")
        with pytest.raises(openai.APIError):
            await asking
        await eventually_async(lambda: serves(fleet, "west-d") == ("prefill", "up"))
        await fleet.settled()
        assert (await fleet.ask(PROMPTS[1])).account["decode"]["instance"] == "west-p"


async def test_a_shutdown_in_the_middle_ends_what_runs_and_leaves_nothing(model: Path) -> None:
    async with running(model) as fleet:
        asking = await long_answer(fleet)
        await change(fleet, "west-p", "decode")
        changing = asyncio.create_task(change(fleet, "west-d", "prefill"))
        await eventually_async(lambda: serves(fleet, "west-d") == ("decode", "draining"))
        assert not asking.done()
        gone = fleet.instances.pop("west-d")
        await gone.server.drain_and_stop(60)
        with pytest.raises(UnavailableError, match="has left the fleet"):
            await changing
        expected = await fleet.ask(PROMPTS[1], LONG_TOKENS)
        assert expected.account["decode"]["instance"] == "west-p"
        assert await asking == expected.tokens
        assert gone.server.front.num_open == 0
        assert serves(fleet, "west-d") is None
