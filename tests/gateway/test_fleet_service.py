"""Registration over real gRPC: status codes, known=false, and what a refused instance reads."""

import logging
from typing import Any

import grpc
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from tests.gateway.fake_instance import FakeInstance
from tests.gateway.running_router import RunningRouter


async def refusal(router: RunningRouter, name: str, **options: Any) -> grpc.aio.AioRpcError:
    options.setdefault("address", "127.0.0.1:9")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await router.register(FakeInstance(name, router.tokenizer, **options))
    return refused.value


async def test_register_heartbeat_deregister(router: RunningRouter) -> None:
    fake = await router.add()
    reply = await FleetStub(router.control).Register(pb.RegisterRequest(instance=fake.info(), load=fake.load))
    assert reply.heartbeat_interval_s == router.config.router.heartbeat_interval_s
    assert await router.heartbeat(fake)
    await FleetStub(router.control).Deregister(pb.DeregisterRequest(instance_id=fake.name, epoch=fake.epoch))
    assert not await router.heartbeat(fake)


async def test_two_instances_of_one_name(router: RunningRouter, caplog: pytest.LogCaptureFixture) -> None:
    fake = await router.add("decode-1")
    refused = await refusal(router, "decode-1", epoch=2)
    assert refused.code() is grpc.StatusCode.ALREADY_EXISTS
    assert fake.address in (refused.details() or "")
    assert any(r.levelno == logging.WARNING and "refused" in r.message for r in caplog.records)


async def test_another_fingerprint(router: RunningRouter) -> None:
    await router.add("decode-1", fingerprint="abc")
    refused = await refusal(router, "decode-2", fingerprint="xyz")
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "model fingerprint xyz" in (refused.details() or "")


async def test_an_unknown_cluster(router: RunningRouter) -> None:
    refused = await refusal(router, "decode-1", cluster="mars")
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "mars" in (refused.details() or "")


async def test_an_impossible_load(router: RunningRouter, caplog: pytest.LogCaptureFixture) -> None:
    refused = await refusal(router, "decode-1", load=pb.Load(pages_used=2, pages_total=1))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    fake = await router.add()
    fake.load = pb.Load(pages_used=5, pages_cached=4, pages_total=8)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await router.heartbeat(fake)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert any("4 pages cached besides 5 used of 8" in r.message for r in caplog.records)
