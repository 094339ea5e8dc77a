"""A fleet of real processes: equal tokens, real bytes, empty pools, and what happens when processes are killed."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from prfaas.cli.fleet import Child
from tests.system.fleets import LONG_WORDS, processes, prompt_of, write_fleet_file

pytestmark = pytest.mark.system

NOTHING_CACHED = {"prefix_cache": {"enabled": False}}
"""So that a prompt that comes again is prefilled, and crosses, again."""


async def test_thirty_mixed_prompts_give_equal_tokens_both_ways(model: Path, tmp_path: Path) -> None:
    prompts = [prompt_of(words, skip=11 * i) for i, words in enumerate([3, 40, 65, 130, 333, LONG_WORDS] * 5)]
    async with processes(write_fleet_file(tmp_path, model), tmp_path / "logs") as fleet:
        asks = [fleet.ask(p, 10, prefill=where) for p in prompts for where in ("local", "remote")]
        accounts = await asyncio.gather(*asks)
        for local, remote in zip(accounts[::2], accounts[1::2], strict=True):
            assert local["token_ids"] == remote["token_ids"]
            assert local["prefill"]["cluster"] == local["decode"]["cluster"] == "west"
            assert (remote["prefill"]["cluster"], remote["decode"]["cluster"]) == ("east", "west")
            for account in (local, remote):
                assert account["kv"]["bytes_wire"] > 0
                assert account["fallback"] is None
        moved = sum(a["kv"]["bytes_raw"] for a in accounts)
        assert await fleet.metric("west-decode-0", "prfaas_kv_bytes_total") == 2 * moved
        await fleet.settled()
        # From each of the two that prefill.
        assert await fleet.metric("west-decode-0", "prfaas_kv_connections") >= 2
        assert await fleet.metric("west-decode-0", "prfaas_prefill_fallbacks_total") == 0


async def test_killing_the_relay_leads_to_local_prefills_and_no_hang(model: Path, tmp_path: Path) -> None:
    file = write_fleet_file(tmp_path, model, transport={"stall_s": 4.0}, engine=NOTHING_CACHED)
    async with processes(file, tmp_path / "logs") as fleet:
        expected = await fleet.ask(prompt_of(LONG_WORDS))
        assert expected["prefill"]["cluster"] == "east"
        await fleet.throttle(gbit_s=0.02)
        asking = [asyncio.create_task(fleet.ask(prompt_of(LONG_WORDS))) for _ in range(3)]
        await fleet.until("west-decode-0", "prfaas_requests_running", 3)
        fleet.fleet.child("link east--west").process.kill()
        for account in await asyncio.gather(*asking):
            assert account["token_ids"] == expected["token_ids"]
            assert (account["prefill"]["cluster"], account["fallback"]) == ("west", "peer_lost")
        after = await fleet.ask(prompt_of(LONG_WORDS))
        assert after["token_ids"] == expected["token_ids"]
        assert after["prefill"]["cluster"] == "west"
        # The router notices that the other datacenter is silent, and stops sending prompts there.
        for _ in range(100):
            if (await fleet.ask(prompt_of(LONG_WORDS), 1))["fallback"] is None:
                break
            await asyncio.sleep(0.2)
        else:
            pytest.fail("the router went on placing prompts in a silent datacenter")
        await fleet.settled()


async def test_prefill_instance_killed_and_started_again_in_a_loop(model: Path, tmp_path: Path) -> None:
    file = write_fleet_file(tmp_path, model, engine=NOTHING_CACHED)
    async with processes(file, tmp_path / "logs") as fleet:
        expected = await fleet.ask(prompt_of(LONG_WORDS))
        assert expected["prefill"]["cluster"] == "east"
        for _ in range(2):
            east = fleet.fleet.child("east-prefill-0")
            asking = asyncio.create_task(fleet.ask(prompt_of(LONG_WORDS)))
            await asyncio.sleep(0.1)
            east.process.kill()
            assert (await asking)["token_ids"] == expected["token_ids"]
            await east.stop(5)
            fleet.fleet.children.remove(east)
            again = await Child.start(east.spec, tmp_path / "logs")
            fleet.fleet.children.append(again)
            await again.ready()
            account = await fleet.ask(prompt_of(LONG_WORDS))
            assert account["prefill"]["cluster"] == "east"
            assert account["token_ids"] == expected["token_ids"]
        await fleet.settled()


async def test_up_drains_on_sigterm(model: Path, tmp_path: Path) -> None:
    file = write_fleet_file(tmp_path, model)
    async with processes(file, tmp_path / "logs") as fleet:
        stream = await fleet.client.completions.create(
            model="prfaas-demo",
            prompt=prompt_of(100),
            max_tokens=200,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        await anext(stream)
        children = list(fleet.fleet.children)
        stopping = asyncio.create_task(fleet.fleet.stop())
        finish = [c.choices[0].finish_reason async for c in stream if c.choices]
        assert finish[-1] == "length"
        await stopping
        assert [c.process.returncode for c in children] == [0] * len(children)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_up_in_the_foreground(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    file = write_fleet_file(tmp_path, model)
    command = [sys.executable, "-m", "prfaas", "up", str(file)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    seen = b""
    while b"serving prfaas-demo" not in seen:
        line = await process.stderr.readline()
        assert line, seen.decode()
        seen += line
    process.send_signal(number)
    rest = await process.stderr.read()
    assert await process.wait() == 0, (seen + rest).decode()
    assert b"draining" in rest
