"""Shared prefixes through a fleet with real engines: what crosses is what the decode instance lacks, to the byte."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import new_request_id
from prfaas.core.model_files import read_config
from prfaas.core.shape import ModelShape, model_shape
from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, running

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
    """A fleet whose instances cache prefixes."""

    fleet: InProcessFleet
    shape: ModelShape

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
            cache_salt=salt,
        )
        async with self.fleet.calling(near) as stub:
            events = [event async for event in stub.Generate(message)]
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


@asynccontextmanager
async def caching(model: Path) -> AsyncIterator[Caching]:
    async with running(model, engine={"prefix_cache": {"snapshot_every_tokens": 0}}) as fleet:
        yield Caching(fleet, model_shape(read_config(model), "float32"))


def check_crossed(heard: Heard, num_bytes: int) -> None:
    account = heard.account
    assert (account.fallback, account.prefill_instance) == ("", "east-p")
    assert account.kv_bytes_raw == account.kv_bytes_wire == num_bytes


async def test_of_a_known_prefix_only_new_rows_and_the_states_cross(model: Path) -> None:
    async with caching(model) as fleet:
        first = await fleet.ask(FIRST)
        assert first.split == (0, 0, 165)
        check_crossed(first, fleet.crossing(165))
        second = await fleet.ask(SECOND)
        assert second.split == (SHARED, SHARED, 40)
        check_crossed(second, fleet.crossing(40))
        assert first.tokens == await fleet.alone(FIRST)
        assert second.tokens == await fleet.alone(SECOND)


async def test_of_a_prompt_held_whole_only_the_states_cross(model: Path) -> None:
    async with caching(model) as fleet:
        await fleet.ask(FIRST)
        again = await fleet.ask(FIRST[:SHARED])
        assert again.account.tokens_held == SHARED
        check_crossed(again, fleet.crossing(0))
        assert again.tokens == await fleet.alone(FIRST[:SHARED])


@pytest.mark.parametrize("warm", ["west-d", "east-p"])
async def test_what_one_side_has_cached_does_not_depend_on_the_other(model: Path, warm: str) -> None:
    async with caching(model) as fleet:
        await fleet.ask(FIRST, None, warm)
        second = await fleet.ask(SECOND)
        assert second.split == ((SHARED, 0, 200) if warm == "west-d" else (0, SHARED, 40))
        check_crossed(second, fleet.crossing(40 if warm == "west-d" else 200))
        assert second.tokens == await fleet.alone(SECOND)


async def test_a_decode_instance_that_has_lost_its_cache_is_sent_everything(model: Path) -> None:
    async with caching(model) as fleet:
        await fleet.ask(FIRST)
        await fleet.fleet.stop("west-d")
        await fleet.fleet.start("west-d")
        second = await fleet.ask(SECOND)
        assert second.split == (0, SHARED, 40)
        check_crossed(second, fleet.crossing(200))
        assert second.tokens == await fleet.alone(SECOND)


async def test_tenants_share_nothing(model: Path) -> None:
    async with caching(model) as fleet:
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
async def test_a_second_transfer_that_fails_is_computed_from_what_is_usable_here(model: Path, warm: str) -> None:
    """KV without a snapshot, which the first transfer left, is of no use to compute from."""
    async with caching(model) as fleet:
        await fleet.ask(FIRST, None if warm == "west-d" else "east-p")
        fleet.fleet.relay.set_up(False)
        second = await fleet.ask(SECOND)
        check_fell_back(second, SHARED if warm == "west-d" else 0)
        assert second.tokens == await fleet.alone(SECOND)
        fleet.fleet.relay.set_up(True)
        third = FIRST[:SHARED] + tokens(2, 40)
        for _ in range(100):
            heard = await fleet.ask(third)
            if heard.account.fallback == "":
                break
            await asyncio.sleep(0.05)
        assert heard.account.tokens_held >= SHARED
        assert heard.tokens == await fleet.alone(third)


async def test_a_second_transfer_that_breaks_off_leaves_no_wrong_block(model: Path) -> None:
    long = FIRST[:SHARED] + tokens(3, 1200)
    async with caching(model) as fleet:
        await fleet.ask(FIRST)
        fleet.fleet.relay.set_profile(LinkProfile(gbit_s=0.004, rtt_ms=4.0))
        metric = fleet.fleet.instances["west-d"].server.metrics.kv_bytes.labels("in", "wire")
        before = metric._value.get()
        asking = asyncio.create_task(fleet.ask(long))
        await eventually_async(lambda: metric._value.get() > before + 65536)
        fleet.fleet.relay.set_up(False)
        broken = await asking
        check_fell_back(broken, 0)
        expected = await fleet.alone(long)
        assert broken.tokens == expected
        # All that this instance has of the prompt now, it computed itself.
        assert (await fleet.ask(long, None)).tokens == expected


async def test_many_at_once_that_share_a_prefix(model: Path) -> None:
    prompts = [FIRST[: SHARED - 16 * (i % 3)] + tokens(10 + i, 20 + 7 * i) for i in range(12)]
    async with caching(model) as fleet:
        for _ in range(2):
            heard = await asyncio.gather(*(fleet.ask(prompt) for prompt in prompts))
            for one, prompt in zip(heard, prompts, strict=True):
                assert one.tokens == await fleet.alone(prompt)
                check_crossed(one, fleet.crossing(len(prompt) - one.account.tokens_held))
        # By the second round everybody's whole pages are there.
        assert [one.account.tokens_held for one in heard] == [len(p) // PAGE_TOKENS * PAGE_TOKENS for p in prompts]
