"""Shared prefixes through a fleet with real engines: what crosses is what the decode instance lacks, to the byte."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import new_request_id
from prfaas.core.model_files import read_config
from prfaas.core.shape import ModelShape, model_shape
from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, running
from tests.generating import Generating

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE_TOKENS = 16
SAMPLING = pb.Sampling(max_tokens=6, temperature=0, top_p=1, ignore_eos=True)


def tokens(seed: int, length: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(3, 1000), k=length))


FIRST = tokens(0, 165)
SHARED = 160
"""Whole pages of the first prompt."""
SECOND = FIRST[:SHARED] + tokens(1, 40)


@dataclass(frozen=True)
class Heard:
    """One finished request."""

    tokens: list[int]
    account: pb.Account

    @property
    def split(self) -> tuple[int, int, int]:
        """Tokens held on decode; and reused and computed on prefill."""
        return self.account.tokens_held, self.account.tokens_reused, self.account.tokens_computed


@dataclass(frozen=True)
class Caching:
    """A fleet whose instances cache prefixes, as one tenant (or several, by `salt`) sees it."""

    fleet: InProcessFleet
    shape: ModelShape
    tenant: str

    async def ask(
        self, prompt: tuple[int, ...], far: str | None = "east-p", near: str = "west-d", salt: str = ""
    ) -> Heard:
        """One request to `near`, prefilled on `far` or where it is decoded; its account always adds up."""
        target = None
        if far is not None:
            built = self.fleet.instances[far]
            control = built.addresses["control"]
            target = pb.PrefillTarget(instance_id=far, cluster=built.identity.cluster, control_address=control)
        message = pb.GenerateRequest(
            request_id=new_request_id("test"),
            prompt_token_ids=prompt,
            sampling=SAMPLING,
            prefill=target,
            cache_salt=self.tenant + salt,
        )
        async with self.fleet.calling(near) as stub:
            events = [event async for event in Generating(stub, message)]
        assert events[-1].WhichOneof("event") == "finished", events[-1]
        account = events[-1].finished.account
        assert account.tokens_reused + account.tokens_computed == len(prompt)
        return Heard([i for event in events for i in event.tokens.token_ids], account)

    async def alone(self, prompt: tuple[int, ...]) -> list[int]:
        """The tokens as one instance draws them that neither sends, nor receives, nor has anything cached of them."""
        return (await self.ask(prompt, None, "west-p", salt=f"alone {hash(prompt)}")).tokens

    def crossing(self, rows: int) -> int:
        """Bytes of so many tokens and of the states."""
        return rows * self.shape.kv_bytes_per_token + self.shape.state_bytes


def caching(model: Path) -> AbstractAsyncContextManager[InProcessFleet]:
    return running(model, engine={"prefix_cache": {"snapshot_every_tokens": 0}})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["one memory", "a device's own"])
async def shared(model: Path, request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "a device's own":
            # A CPU by number is not the one that shares its memory: pages are copied as they are for a GPU.
            patch.setattr("prfaas.cli.load_rank.choose_device", lambda *_: torch.device("cpu", 0))
        async with caching(model) as running_fleet:
            yield running_fleet


@pytest.fixture
def fleet(model: Path, shared: InProcessFleet, request: pytest.FixtureRequest) -> Caching:
    """A fleet that serves other tests too, but knows nothing of their prompts."""
    return Caching(shared, model_shape(read_config(model), "float32"), request.node.name)


@pytest_asyncio.fixture(loop_scope="module")
async def breakable(model: Path) -> AsyncIterator[Caching]:
    """A fleet of the test's own."""
    async with caching(model) as own:
        yield Caching(own, model_shape(read_config(model), "float32"), "")


def check_crossed(heard: Heard, num_bytes: int) -> None:
    account = heard.account
    assert (account.fallback, account.prefill_instance) == ("", "east-p")
    assert account.kv_bytes_raw == account.kv_bytes_wire == num_bytes


async def test_of_a_known_prefix_only_new_rows_and_the_states_cross(fleet: Caching) -> None:
    first = await fleet.ask(FIRST)
    assert first.split == (0, 0, 165)
    check_crossed(first, fleet.crossing(165))
    second = await fleet.ask(SECOND)
    assert second.split == (SHARED, SHARED, 40)
    check_crossed(second, fleet.crossing(40))
    assert first.tokens == await fleet.alone(FIRST)
    assert second.tokens == await fleet.alone(SECOND)


async def test_of_a_prompt_held_whole_only_the_states_cross(fleet: Caching) -> None:
    await fleet.ask(FIRST)
    again = await fleet.ask(FIRST[:SHARED])
    assert again.account.tokens_held == SHARED
    check_crossed(again, fleet.crossing(0))
    assert again.tokens == await fleet.alone(FIRST[:SHARED])


@pytest.mark.parametrize("warm", ["west-d", "east-p"])
async def test_what_one_side_has_cached_does_not_depend_on_the_other(fleet: Caching, warm: str) -> None:
    await fleet.ask(FIRST, None, warm)
    second = await fleet.ask(SECOND)
    assert second.split == ((SHARED, 0, 200) if warm == "west-d" else (0, SHARED, 40))
    check_crossed(second, fleet.crossing(40 if warm == "west-d" else 200))
    assert second.tokens == await fleet.alone(SECOND)


async def test_a_decode_instance_that_has_lost_its_cache_is_sent_everything(fleet: Caching) -> None:
    await fleet.ask(FIRST)
    await fleet.fleet.stop("west-d")
    await fleet.fleet.start("west-d")
    second = await fleet.ask(SECOND)
    assert second.split == (0, SHARED, 40)
    check_crossed(second, fleet.crossing(200))
    assert second.tokens == await fleet.alone(SECOND)


async def test_tenants_share_nothing(fleet: Caching) -> None:
    first = await fleet.ask(FIRST, salt="one")
    other = await fleet.ask(FIRST, salt="two")
    assert other.split == (0, 0, 165)
    check_crossed(other, fleet.crossing(165))
    again = await fleet.ask(FIRST, salt="one")
    assert again.split == (SHARED, SHARED, 5)
    assert first.tokens == other.tokens == again.tokens


def check_fell_back(heard: Heard, reused: int) -> None:
    account = heard.account
    assert (account.fallback, account.prefill_instance) == ("peer_lost", "west-d")
    assert heard.split == (0, reused, account.tokens_computed)
    assert (account.kv_bytes_raw, account.kv_bytes_wire) == (0, 0)


@pytest.mark.parametrize("warm", ["west-d", "east-p"])
async def test_a_second_transfer_that_fails_is_computed_from_what_is_usable_here(breakable: Caching, warm: str) -> None:
    """KV without a snapshot, which the first transfer left, is of no use to compute from."""
    await breakable.ask(FIRST, None if warm == "west-d" else "east-p")
    breakable.fleet.relay.set_up(False)
    second = await breakable.ask(SECOND)
    check_fell_back(second, SHARED if warm == "west-d" else 0)
    assert second.tokens == await breakable.alone(SECOND)
    breakable.fleet.relay.set_up(True)
    third = FIRST[:SHARED] + tokens(2, 40)
    for _ in range(100):
        heard = await breakable.ask(third)
        if heard.account.fallback == "":
            break
        await asyncio.sleep(0.05)
    assert heard.account.tokens_held >= SHARED
    assert heard.tokens == await breakable.alone(third)


async def test_a_second_transfer_that_breaks_off_leaves_no_wrong_block(breakable: Caching) -> None:
    long = FIRST[:SHARED] + tokens(3, 1200)
    await breakable.ask(FIRST)
    breakable.fleet.relay.set_profile(LinkProfile(gbit_s=0.004, rtt_ms=4.0))
    metric = breakable.fleet.instances["west-d"].server.metrics.kv_bytes.labels("in", "wire")
    before = metric._value.get()
    asking = asyncio.create_task(breakable.ask(long))
    await eventually_async(lambda: metric._value.get() > before + 65536)
    breakable.fleet.relay.set_up(False)
    broken = await asking
    check_fell_back(broken, 0)
    expected = await breakable.alone(long)
    assert broken.tokens == expected
    # All that this instance has of the prompt now, it computed itself.
    assert (await breakable.ask(long, None)).tokens == expected


async def test_many_at_once_that_share_a_prefix(fleet: Caching) -> None:
    prompts = [FIRST[: SHARED - 16 * (i % 3)] + tokens(10 + i, 20 + 7 * i) for i in range(12)]
    expected = [await fleet.alone(prompt) for prompt in prompts]
    for _ in range(2):
        heard = await asyncio.gather(*(fleet.ask(prompt) for prompt in prompts))
        assert [one.tokens for one in heard] == expected
        for one, prompt in zip(heard, prompts, strict=True):
            check_crossed(one, fleet.crossing(len(prompt) - one.account.tokens_held))
    # By the second round everybody's whole pages are there.
    assert [one.account.tokens_held for one in heard] == [len(p) // PAGE_TOKENS * PAGE_TOKENS for p in prompts]
