"""What the router is told of a link that is throttled and restored while small transfers cross it."""

import asyncio
from pathlib import Path

from prfaas.cli.fleet_roles import FleetStatus
from prfaas.gateway.fleet_reply import LinkReply
from tests.fleet.rig import InProcessFleet, prompt_of, running

PROMPT_WORDS = 500
FAST_GBIT_S = 1.0
SLOW_GBIT_S = 0.004


async def reported(fleet: InProcessFleet) -> LinkReply:
    """East to west, which somebody has measured."""
    status = FleetStatus(fleet.router.http_address)
    for _ in range(1000):
        for link in (await asyncio.to_thread(status.read)).links:
            if link.source == "east":
                return link
        await asyncio.sleep(0.05)
    raise AssertionError("no report")


async def cross(fleet: InProcessFleet, skip: int) -> LinkReply:
    answer = await fleet.ask(prompt_of(PROMPT_WORDS, skip), max_tokens=1, prefill="remote")
    assert answer.crossed
    # At least one heartbeat.
    await asyncio.sleep(3 * fleet.config.router.heartbeat_interval_s)
    return await reported(fleet)


async def test_a_throttled_link_is_reported_slower_and_a_restored_one_faster_again(model: Path) -> None:
    slow_bytes_s = SLOW_GBIT_S * 1e9 / 8
    async with running(model) as fleet:
        for skip in range(40):
            before = await cross(fleet, skip)
            if before.bytes_per_s > 2 * slow_bytes_s:
                break
        assert before.bytes_per_s > 2 * slow_bytes_s
        await fleet.throttle(SLOW_GBIT_S)
        slow = await cross(fleet, 50)
        assert not slow.at_least
        assert slow.bytes_per_s < 1.3 * slow_bytes_s
        await fleet.throttle(FAST_GBIT_S)
        for skip in range(60, 100):
            restored = await cross(fleet, skip)
            if restored.at_least:
                break
        assert restored.at_least, "it carries more than what was its limit"
        assert restored.bytes_per_s > 1.5 * slow.bytes_per_s
