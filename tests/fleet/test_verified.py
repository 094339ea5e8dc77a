"""A transfer that breaks in the middle: what had come of it, verified, is not computed again."""

import asyncio
import random
from pathlib import Path

import pytest
import torch

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.models import demo_model
from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, running
from tests.generating import Generating

SAMPLING = pb.Sampling(max_tokens=6, temperature=0, top_p=1, ignore_eos=True)
PROMPT = tuple(random.Random(5).choices(range(3, 1000), k=700))
STEP_TOKENS = 256
PAGE_TOKENS = 16


@pytest.fixture
def dense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo model with nothing but full attention."""
    monkeypatch.setattr(demo_model, "_FULL_ATTENTION", tuple(range(demo_model._NUM_LAYERS)))
    demo_model.write_demo_model(tmp_path / "dense")
    return tmp_path / "dense"


async def ask(fleet: InProcessFleet, request_id: str, *, remote: bool) -> tuple[list[int], pb.Account]:
    far = fleet.instances["east-p"]
    address = far.addresses["control"]
    target = pb.PrefillTarget(instance_id="east-p", cluster="east", control_address=address) if remote else None
    message = pb.GenerateRequest(request_id=request_id, prompt_token_ids=PROMPT, sampling=SAMPLING, prefill=target)
    async with fleet.calling("west-d") as stub:
        events = [event async for event in Generating(stub, message)]
    return [i for event in events for i in event.tokens.token_ids], events[-1].finished.account


async def broken_off(fleet: InProcessFleet, after_tokens: int) -> tuple[list[int], pb.Account]:
    """A request whose prefill instance goes when the KV of so many tokens has come, in the order it was computed."""
    near = fleet.instances["west-d"]
    fleet.relay.set_profile(LinkProfile(gbit_s=0.02, rtt_ms=4.0))
    arrived = near.server.metrics.kv_bytes.labels("in", "wire")
    enough = after_tokens * near.identity.shape.kv_bytes_per_token
    asking = asyncio.create_task(ask(fleet, "broken", remote=True))
    await eventually_async(lambda: arrived._value.get() >= enough)
    await fleet.stop("east-p")
    return await asking


@pytest.mark.parametrize("own_memory", [False, True])
async def test_a_prefill_goes_on_behind_what_came(
    dense: Path, own_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own_memory:
        # A CPU by number is not the one that shares its memory: pages are copied as they are for a GPU.
        monkeypatch.setattr("prfaas.cli.load_rank.choose_device", lambda *_: torch.device("cpu", 0))
    async with running(dense, transport={"credit_bytes": 1 << 17}) as fleet:
        expected, _ = await ask(fleet, "whole", remote=False)
        tokens, account = await broken_off(fleet, STEP_TOKENS + 100)
        assert tokens == expected
        assert account.fallback in ("peer_lost", "cancelled")
        assert account.tokens_verified >= STEP_TOKENS - PAGE_TOKENS
        assert account.tokens_verified % PAGE_TOKENS == 0
        assert account.tokens_verified + account.tokens_computed == len(PROMPT)
        metrics = fleet.instances["west-d"].server.metrics
        assert metrics.verified_tokens._value.get() == account.tokens_verified
        await fleet.settled()


async def test_with_linear_states_it_begins_again(model: Path) -> None:
    async with running(model, transport={"credit_bytes": 1 << 17}) as fleet:
        expected, _ = await ask(fleet, "whole", remote=False)
        tokens, account = await broken_off(fleet, STEP_TOKENS + 100)
        assert tokens == expected
        assert (account.tokens_verified, account.tokens_computed) == (0, len(PROMPT))
        await fleet.settled()
