"""An instance stays known to its router: across refusals, restarts and silence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from prfaas.control import registrar as registrar_module
from prfaas.control.registrar import MOST_PARTIAL, Registrar
from prfaas.control.v1 import fleet_pb2 as pb
from tests.control.fake_routers import EPOCH, LINK, FakeRouter, Teller, serving
from tests.eventually import eventually_async

RARELY_S = 1000.0


@asynccontextmanager
async def joined(router: FakeRouter, teller: Teller | None = None) -> AsyncIterator[Registrar]:
    keys: list[str] = []
    async with serving(router), grpc.aio.insecure_channel(router.address) as channel:
        reports = (teller or Teller()).reports()
        registrar = Registrar(
            router.address, lambda: channel, reports, lambda reply: keys.append(reply.kv_follower_key)
        )
        registrar.start()
        try:
            yield registrar
        finally:
            await registrar.stop()
        assert set(keys) <= {router.key}


async def test_registers_beats_and_says_goodbye() -> None:
    router = FakeRouter()
    async with joined(router) as registrar:
        await registrar.registered.wait()
        await eventually_async(lambda: len(router.beats) > 2)
    assert all(list(beat.links) == [LINK] and not beat.partial for beat in router.beats)
    assert [info.instance_id for info in router.registered] == ["i"]
    assert router.gone == [EPOCH]


async def test_registers_again_with_a_router_that_forgot() -> None:
    router = FakeRouter()
    async with joined(router) as registrar:
        await registrar.registered.wait()
        router.known = False
        await eventually_async(lambda: len(router.registered) == 2)


async def test_a_refusal_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    router = FakeRouter(refuse=4)
    async with joined(router) as registrar:
        await registrar.registered.wait()
    assert [r.message for r in caplog.records if "another model" in r.message] == [
        f"the router at {router.address} cannot be reached or refuses us: FAILED_PRECONDITION: another model"
    ]


async def test_a_load_that_changed_is_told_between_heartbeats() -> None:
    router, teller = FakeRouter(interval_s=RARELY_S), Teller(pb.Load(pages_total=10))
    async with joined(router, teller) as registrar:
        await registrar.registered.wait()
        registrar.look(pb.Load(pages_total=10, running_requests=1))
        teller.load = pb.Load(pages_total=10, waiting_tokens=100_000)
        registrar.look(teller.load)
        await eventually_async(lambda: len(router.beats) == 1)
        (told,) = router.beats
        assert (told.partial, told.load.waiting_tokens, list(told.links)) == (True, 100_000, [])
        registrar.look(teller.load)
        await registrar.beat()
        assert [beat.partial for beat in router.beats] == [True, False], "what is known already is not told again"


async def test_a_load_that_changes_all_the_time_is_told_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar_module, "LEAST_GAP_S", 0.0)
    router, teller = FakeRouter(interval_s=RARELY_S), Teller()
    async with joined(router, teller) as registrar:
        await registrar.registered.wait()

        def told_as_often_as_can_be() -> bool:
            teller.load = pb.Load(waiting_tokens=0 if teller.load.waiting_tokens else 100_000)
            registrar.look(teller.load)
            return len(router.beats) == MOST_PARTIAL

        await eventually_async(told_as_often_as_can_be)
        for _ in range(20):
            told_as_often_as_can_be()
            await asyncio.sleep(0.001)
        assert len(router.beats) == MOST_PARTIAL
        await registrar.beat()
        before = len(router.beats)
        await eventually_async(lambda: told_as_often_as_can_be() or len(router.beats) > before)


async def test_who_becomes_another_registers_before_it_says_anything_else() -> None:
    router, teller = FakeRouter(interval_s=RARELY_S), Teller()
    async with joined(router, teller) as registrar:
        await registrar.registered.wait()
        teller.role = pb.ROLE_PREFILL
        registrar.renew()
        await eventually_async(registrar.registered.is_set)
    assert [info.role for info in router.registered] == [pb.ROLE_DECODE, pb.ROLE_PREFILL]
    assert not router.beats


async def test_who_becomes_another_while_it_registers_does_so_again() -> None:
    router, teller = FakeRouter(interval_s=RARELY_S), Teller()
    taken = router.Register

    async def turn(request: pb.RegisterRequest, context: grpc.aio.ServicerContext[object, object]) -> pb.RegisterReply:
        teller.role = pb.ROLE_PREFILL
        return await taken(request, context)

    router.Register = turn  # type: ignore[method-assign]
    async with joined(router, teller) as registrar:
        await eventually_async(lambda: len(router.registered) == 2)
        await registrar.registered.wait()
    assert [info.role for info in router.registered] == [pb.ROLE_DECODE, pb.ROLE_PREFILL]
