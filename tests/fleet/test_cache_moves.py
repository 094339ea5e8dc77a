"""Cached prefixes that cross to the instance that prefills, with real engines: same tokens, less work, no leak."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import new_request_id
from prfaas.core.model_files import read_config
from prfaas.core.shape import ModelShape, model_shape
from prfaas.models import demo_model
from prfaas.relay.shaping import LinkProfile
from tests.eventually import eventually_async
from tests.fleet.rig import InProcessFleet, running
from tests.generating import Generating

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE_TOKENS = 16
PREFIX = 160
SAMPLING = pb.Sampling(max_tokens=6, temperature=0, top_p=1, ignore_eos=True)


def tokens(seed: int, length: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(3, 1000), k=length))


FIRST = tokens(0, PREFIX + 5)
SECOND = FIRST[:PREFIX] + tokens(1, 40)


@dataclass(frozen=True)
class Moving:
    """A fleet whose instances may be told to fetch prefixes, as one tenant sees it."""

    fleet: InProcessFleet
    shape: ModelShape
    tenant: str

    async def announce(
        self, name: str, source: str, prompt: tuple[int, ...], request_id: str = "", length: int = PREFIX
    ) -> str:
        """Tells an instance to fetch a prefix; the id of the request that is to come."""
        request_id = request_id or new_request_id("test")
        built = self.fleet.instances[source]
        cache_source = pb.CacheSource(
            instance_id=source,
            cluster=built.identity.cluster,
            control_address=built.addresses["control"],
            tokens=length,
        )
        message = pb.AnnounceRequest(
            request_id=request_id, source=cache_source, prompt_token_ids=prompt[:length], cache_salt=self.tenant
        )
        async with self.fleet.calling(name) as stub:
            await stub.Announce(message)
        return request_id

    async def ask(
        self, prompt: tuple[int, ...], near: str, far: str | None = None, request_id: str = "", salt: str = ""
    ) -> tuple[list[int], pb.Account]:
        target = None
        if far is not None:
            built = self.fleet.instances[far]
            control = built.addresses["control"]
            target = pb.PrefillTarget(instance_id=far, cluster=built.identity.cluster, control_address=control)
        message = pb.GenerateRequest(
            request_id=request_id or new_request_id("test"),
            prompt_token_ids=prompt,
            sampling=SAMPLING,
            prefill=target,
            cache_salt=salt or self.tenant,
        )
        async with self.fleet.calling(near) as stub:
            events = [event async for event in Generating(stub, message)]
        assert events[-1].WhichOneof("event") == "finished", events[-1]
        account = events[-1].finished.account
        assert account.tokens_reused + account.tokens_computed == len(prompt)
        return [i for event in events for i in event.tokens.token_ids], account

    async def alone(self, prompt: tuple[int, ...]) -> list[int]:
        """The tokens as an instance draws them that has nothing cached of the prompt."""
        return (await self.ask(prompt, "west-d", salt=f"{self.tenant} alone {hash(prompt)}"))[0]

    def fetches(self, name: str) -> dict[str, float]:
        """Ends of fetches on an instance, by result."""
        metric = self.fleet.instances[name].server.metrics.prefix_fetches.fetches
        return {s.labels["result"]: s.value for m in metric.collect() for s in m.samples if s.name.endswith("_total")}

    def crossed(self, name: str) -> float:
        """KV bytes that an instance has received."""
        return float(self.fleet.instances[name].server.metrics.kv_bytes.labels("in", "wire")._value.get())

    def crossing(self, rows: int) -> int:
        return rows * self.shape.kv_bytes_per_token + self.shape.state_bytes


def patient(fleet: InProcessFleet) -> InProcessFleet:
    """Small models compute faster than connections are made: requests wait for `stall_s` instead."""
    for built in fleet.instances.values():
        built.server.servicer._announce._fetches._prefill_s = lambda _: None
    return fleet


def moving(model: Path, **engine: Any) -> AbstractAsyncContextManager[InProcessFleet]:
    return running(model, engine={"prefix_cache": {"snapshot_every_tokens": 0, "announced_s": 0.5}} | engine)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["one memory", "a device's own"])
async def shared(model: Path, request: pytest.FixtureRequest) -> AsyncIterator[InProcessFleet]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "a device's own":
            patch.setattr("prfaas.cli.load_rank.choose_device", lambda *_: torch.device("cpu", 0))
        async with moving(model) as fleet:
            yield patient(fleet)


@pytest.fixture
def fleet(model: Path, shared: InProcessFleet, request: pytest.FixtureRequest) -> Moving:
    return Moving(shared, model_shape(read_config(model), "float32"), request.node.name)


@pytest_asyncio.fixture(loop_scope="module")
async def own(model: Path) -> AsyncIterator[Moving]:
    async with moving(model) as fleet:
        yield Moving(patient(fleet), model_shape(read_config(model), "float32"), "")


@pytest_asyncio.fixture(loop_scope="module")
async def own_dense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Moving]:
    """Of the demo model with nothing but full attention."""
    monkeypatch.setattr(demo_model, "_FULL_ATTENTION", tuple(range(demo_model._NUM_LAYERS)))
    demo_model.write_demo_model(tmp_path / "dense")
    async with moving(tmp_path / "dense") as fleet:
        yield Moving(patient(fleet), model_shape(read_config(tmp_path / "dense"), "float32"), "")


async def test_a_prefix_crosses_to_the_prefill_instance_of_the_next_turn(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-d", "east-p")
    before = fleet.crossed("west-p"), fleet.fetches("west-p").get("ok", 0)
    request_id = await fleet.announce("west-p", "east-p", SECOND)
    drawn, account = await fleet.ask(SECOND, "west-d", "west-p", request_id)
    assert drawn == await fleet.alone(SECOND)
    assert (account.tokens_computed, account.tokens_reused, account.fallback) == (40, PREFIX, "")
    assert (account.tokens_fetched, account.fetched_from) == (PREFIX, "east-p")
    assert fleet.crossed("west-p") - before[0] == fleet.crossing(PREFIX)
    assert fleet.fetches("west-p")["ok"] == before[1] + 1


async def test_a_decode_instance_that_prefills_itself_fetches_too(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-p")
    request_id = await fleet.announce("west-d", "west-p", SECOND)
    drawn, account = await fleet.ask(SECOND, "west-d", None, request_id)
    assert drawn == await fleet.alone(SECOND)
    assert (account.tokens_reused, account.tokens_fetched, account.fetched_from) == (PREFIX, PREFIX, "west-p")
    # What came is cached like anything else.
    again = (await fleet.ask(SECOND, "west-d"))[1]
    assert (again.tokens_reused > 0, again.tokens_fetched) == (True, 0)


async def test_blocks_that_are_there_do_not_cross_again(fleet: Moving) -> None:
    """The decode instance has the KV of a prompt that was prefilled elsewhere, and lacks only its snapshot."""
    await fleet.ask(FIRST, "west-d", "east-p")
    before = fleet.crossed("west-d")
    request_id = await fleet.announce("west-d", "east-p", SECOND)
    drawn, account = await fleet.ask(SECOND, "west-d", None, request_id)
    assert drawn == await fleet.alone(SECOND)
    assert (account.tokens_reused, account.tokens_fetched, account.fetched_from) == (PREFIX, 0, "east-p")
    assert fleet.crossed("west-d") - before == fleet.crossing(0)


async def test_a_prefix_that_is_wanted_twice_is_fetched_once(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-d", "east-p")
    before = fleet.crossed("west-p")
    third = FIRST[:PREFIX] + tokens(2, 33)
    ids = [await fleet.announce("west-p", "east-p", prompt) for prompt in (SECOND, third)]
    answers = await asyncio.gather(
        *(fleet.ask(prompt, "west-d", "west-p", i) for prompt, i in zip((SECOND, third), ids, strict=True))
    )
    assert [drawn for drawn, _ in answers] == [await fleet.alone(SECOND), await fleet.alone(third)]
    assert [account.tokens_reused for _, account in answers] == [PREFIX, PREFIX]
    assert fleet.crossed("west-p") - before == fleet.crossing(PREFIX)


async def test_another_tenant_finds_nothing(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-p", salt=fleet.tenant + "other")
    before = fleet.fetches("west-d").get("prefix_gone", 0)
    request_id = await fleet.announce("west-d", "west-p", SECOND)
    drawn, account = await fleet.ask(SECOND, "west-d", None, request_id)
    assert drawn == await fleet.alone(SECOND)
    assert (account.tokens_reused, account.tokens_fetched, account.fetched_from) == (0, 0, "")
    assert fleet.fetches("west-d")["prefix_gone"] == before + 1


async def test_what_the_source_has_no_more_is_computed(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-d", "east-p")
    fleet.fleet.engines["east-p"].engine._cache.clear()
    before = fleet.fetches("west-p").get("prefix_gone", 0)
    request_id = await fleet.announce("west-p", "east-p", SECOND)
    drawn, account = await fleet.ask(SECOND, "west-d", "west-p", request_id)
    assert drawn == await fleet.alone(SECOND)
    assert (account.tokens_computed, account.tokens_fetched, account.fallback) == (len(SECOND), 0, "")
    assert fleet.fetches("west-p")["prefix_gone"] == before + 1


async def test_a_prefix_whose_request_never_comes_is_let_go(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-d", "east-p")
    before = fleet.fetches("west-p").get("ok", 0)
    await fleet.announce("west-p", "east-p", SECOND)
    await eventually_async(lambda: fleet.fetches("west-p").get("ok", 0) == before + 1)
    front = fleet.fleet.instances["west-p"].server.front
    await eventually_async(lambda: front.stats.pages_used > 0)
    await fleet.fleet.settled()
    # What came stays cached.
    assert (await fleet.ask(SECOND, "west-p"))[1].tokens_reused == PREFIX


async def test_requests_come_before_prefixes(fleet: Moving) -> None:
    """A pool that others have use for takes nothing in."""
    await fleet.ask(FIRST, "west-d", "east-p")
    before = fleet.fetches("west-p").get("no_room", 0)
    cache = fleet.fleet.engines["west-p"].engine._cache
    taken = cache.allocate(cache.available - 70)
    assert taken is not None
    await fleet.announce("west-p", "east-p", SECOND)
    await eventually_async(lambda: fleet.fetches("west-p").get("no_room", 0) == before + 1)
    cache.release(taken)
    assert (await fleet.ask(SECOND, "west-p"))[1].tokens_fetched == 0


async def test_a_source_that_dies_meanwhile_costs_only_the_hit(own: Moving) -> None:
    long = tokens(5, 1280)
    await own.ask(long + tokens(6, 5), "west-d", "east-p")
    own.fleet.relay.set_profile(LinkProfile(gbit_s=0.004, rtt_ms=4.0))
    before = own.crossed("west-p")
    asked = long + tokens(7, 20)
    request_id = await own.announce("west-p", "east-p", asked, length=len(long))
    asking = asyncio.create_task(own.ask(asked, "west-d", "west-p", request_id))
    await eventually_async(lambda: own.crossed("west-p") > before + 65536)
    own.fleet.relay.set_up(False)
    await own.fleet.stop("east-p")
    drawn, account = await asking
    assert drawn == await own.alone(asked)
    assert (account.tokens_computed, account.tokens_fetched, account.fetched_from) == (len(asked), 0, "")
    assert sum(own.fetches("west-p").values()) == 1
    assert "ok" not in own.fetches("west-p")


async def test_without_states_the_blocks_are_enough(own_dense: Moving) -> None:
    """Nor need a snapshot have been taken where the prefix ends."""
    await own_dense.ask(FIRST, "west-d", "east-p")
    request_id = await own_dense.announce("west-p", "east-p", SECOND, length=96)
    drawn, account = await own_dense.ask(SECOND, "west-d", "west-p", request_id)
    assert drawn == await own_dense.alone(SECOND)
    assert (account.tokens_reused, account.tokens_fetched, account.fetched_from) == (96, 96, "east-p")
    assert own_dense.crossed("west-p") == own_dense.crossing(96) == 96 * own_dense.shape.kv_bytes_per_token


async def test_what_is_announced_too_late_is_not_fetched(fleet: Moving) -> None:
    await fleet.ask(FIRST, "west-p")
    before = fleet.fetches("west-d").get("late", 0)
    request_id = new_request_id("test")
    await fleet.ask(SECOND, "west-d", None, request_id)
    await fleet.announce("west-d", "west-p", SECOND, request_id)
    assert fleet.fetches("west-d")["late"] == before + 1
