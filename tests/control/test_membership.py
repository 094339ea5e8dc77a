"""One instance and several routers: those of its file, those that these name, those that come back, those that go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from prfaas.control.membership import Membership
from prfaas.control.v1 import fleet_pb2 as pb
from tests.control.fake_routers import EPOCH, FakeRouter, Teller, serving
from tests.eventually import eventually_async


class Channels:
    """Opens one to each address, and knows which are open."""

    def __init__(self) -> None:
        self.open: dict[str, grpc.aio.Channel] = {}

    def __call__(self, address: str) -> grpc.aio.Channel:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
        return self.open.setdefault(address, grpc.aio.insecure_channel(address, options=options))

    async def forget(self, address: str) -> None:
        await self.open.pop(address).close()


@asynccontextmanager
async def member(
    *seeds: FakeRouter, teller: Teller | None = None, keys: list[str] | None = None
) -> AsyncIterator[tuple[Membership, Channels]]:
    channels, heard = Channels(), [] if keys is None else keys
    addresses = [seed.address for seed in seeds]
    membership = Membership(addresses, channels, channels.forget, (teller or Teller()).reports(), heard.append)
    membership.start()
    try:
        yield membership, channels
    finally:
        await membership.stop()
        for address in list(channels.open):
            await channels.forget(address)


async def test_registers_with_all_that_its_routers_name_and_leaves_all() -> None:
    first, second, third = FakeRouter(key="a"), FakeRouter(key="b"), FakeRouter(key="c")
    keys: list[str] = []
    async with serving(first, second, third):
        first.names, second.names = [second.address], [third.address]
        async with member(first, keys=keys) as (membership, _):
            await membership.registered.wait()
            await eventually_async(lambda: all(len(router.beats) > 1 for router in (first, second, third)))
            assert sorted(membership.routers) == sorted(router.address for router in (first, second, third))
    assert {"a", "b", "c"} == set(keys)
    assert [router.gone for router in (first, second, third)] == [[EPOCH]] * 3


async def test_is_ready_with_one_and_finds_the_other_when_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    first, late = FakeRouter(), FakeRouter()
    # Its address must be known before it listens there.
    async with serving(late):
        pass
    async with serving(first), member(first, late) as (membership, _):
        await membership.registered.wait()
        await eventually_async(lambda: any(late.address in r.message for r in caplog.records))
        async with serving(late):
            await eventually_async(lambda: len(late.registered) == 1)
            await membership.beat()
        await membership.beat()
    assert len(first.registered) == 1


async def test_a_router_that_nobody_names_any_more_is_left() -> None:
    first, second, third = FakeRouter(), FakeRouter(), FakeRouter()
    async with serving(first, second, third):
        # The two others name each other, which must not keep them.
        first.names, second.names, third.names = [second.address], [third.address], [second.address]
        async with member(first) as (membership, channels):
            await eventually_async(lambda: len(third.registered) == 1)
            first.names, first.known = [], False
            await eventually_async(lambda: (second.gone, third.gone) == ([EPOCH], [EPOCH]))
            await eventually_async(lambda: set(channels.open) == {first.address})
            assert membership.routers == (first.address,)
    assert first.gone == [EPOCH]


async def test_all_routers_hear_of_another_role() -> None:
    first, second, teller = FakeRouter(), FakeRouter(), Teller()
    async with serving(first, second), member(first, second, teller=teller) as (membership, _):
        await eventually_async(lambda: bool(first.registered and second.registered))
        teller.role = pb.ROLE_PREFILL
        membership.renew()
        await eventually_async(lambda: len(first.registered) == len(second.registered) == 2)
    assert first.registered[-1].role == second.registered[-1].role == pb.ROLE_PREFILL


async def test_a_changed_load_is_told_to_all(caplog: pytest.LogCaptureFixture) -> None:
    first, second, teller = FakeRouter(interval_s=1000), FakeRouter(interval_s=1000), Teller()
    async with serving(first, second), member(first, second, teller=teller) as (membership, _):
        await eventually_async(lambda: bool(first.registered and second.registered))
        teller.load = pb.Load(draining=True)

        def heard() -> bool:
            membership.look()  # a router may have heard a registration before its answer has come here
            return bool(first.beats and second.beats)

        await eventually_async(heard)
    assert first.beats[0].partial
    assert first.beats[0].load.draining
    assert not [r for r in caplog.records if r.levelname == "ERROR"]
