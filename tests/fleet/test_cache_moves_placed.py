"""Prefixes that the router has moved: the policy asks for it, the announcement says so, the answer's account tells."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from prfaas.core.ids import InstanceId
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, prompt_of, running
from tests.fleet.test_cache_moves import patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = """
source: invented, so that to move a prefix takes much less than to compute it
model: {name: tiny, kv_bytes_per_token: 4096, state_bytes: 65536}
hardware: {name: imagined, cache_gib: 1}
prefill: {overhead_s: 0, per_token_s: 0.01}
decode: {points: [{requests: 1, seconds: 0.01}]}
"""
FIRST = prompt_of(150)
SECOND = FIRST + prompt_of(20, skip=400)


@pytest_asyncio.fixture(loop_scope="module", params=[["west-p", "west-d"], ["west-d"]], ids=["beside", "itself"])
async def fleet(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    """Local prefills happen on a prefill instance, or where the request is decoded."""
    (tmp_path / "slow.yaml").write_text(SLOW)
    async with running(
        model,
        profile=tmp_path / "slow.yaml",
        policy={"name": "prfaas"},
        router={"threshold_tokens": 4096},
        engine={"prefix_cache": {"snapshot_every_tokens": 0}},
    ) as fleet:
        if len(request.param) == 1:
            await fleet.stop("west-p")
        yield patient(fleet)


async def test_the_next_turn_gets_its_prefix_from_the_other_cluster(fleet: InProcessFleet) -> None:
    first = await fleet.ask(FIRST, prefill="remote")
    assert first.account["prefill"]["instance"] == "east-p"
    directory = fleet.router._follower._directory
    await eventually_async(lambda: directory.known(InstanceId("east-p")).snapshots > 0)
    second = await fleet.ask(SECOND)
    prefill = second.account["prefill"]
    assert prefill["cluster"] == "west"
    assert f"160 tokens cached on east-p move to {prefill['instance']}" in second.account["placement"]
    assert (prefill["fetched_from"], second.account["fallback"]) == ("east-p", None)
    # The decode instance has the KV of the first turn already, and lacks the states that the prefill ended with.
    assert prefill["tokens_fetched"] == (160 if prefill["instance"] == "west-p" else 0)
    assert prefill["tokens_reused"] == 160
    alone = await fleet.ask(SECOND, prefill="local", extra_body={"cache_salt": "alone", "ignore_eos": True})
    assert alone.account["prefill"]["tokens_reused"] == 0
    assert second.tokens == alone.tokens
