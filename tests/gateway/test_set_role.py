"""`Fleet.SetRole` over real gRPC: what a router refuses for the fleet's sake, and what it asks of an instance."""

import asyncio
from typing import Any

import grpc
import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.role_calls import needed
from tests.gateway.running_router import RunningRouter


async def set_role(router: RunningRouter, name: str, role: pb.Role) -> pb.SetRoleReply:
    return await FleetStub(router.control).SetRole(pb.SetRoleRequest(instance_id=name, role=role))


async def refusal(router: RunningRouter, name: str, role: pb.Role = pb.ROLE_PREFILL) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_role(router, name, role)
    return refused.value


def asked(router: RunningRouter, role: str, began: str) -> float:
    return router.metric("prfaas_router_role_changes_total", role=role, began=began)


async def test_an_instance_is_asked_and_gets_nothing_new(router: RunningRouter) -> None:
    fake, other = await router.add("decode-1"), await router.add("decode-2")
    reply = await set_role(router, "decode-1", pb.ROLE_PREFILL)
    assert reply.role == pb.ROLE_DECODE
    (order,) = fake.role_orders
    assert (order.role, order.ordered, other.role_orders) == (pb.ROLE_PREFILL, True, [])
    assert [view.instance_id for view in router.registry.view().instances] == ["decode-2"]
    (entry,) = (e for e in (await router.http.get("/fleet")).json()["instances"] if e["name"] == "decode-1")
    assert (entry["role"], entry["state"], entry["converting_to"]) == ("decode", "draining", "prefill")
    assert asked(router, "prefill", "yes") == 1


async def test_the_last_that_decodes_stays(router: RunningRouter) -> None:
    await router.add("decode-1")
    fake = await router.add("prefill-1", role=pb.ROLE_PREFILL)
    refused = await refusal(router, "decode-1")
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "the last instance that decodes" in (refused.details() or "")
    fake.role = pb.ROLE_DECODE
    await router.register(fake)
    assert (await set_role(router, "decode-1", pb.ROLE_PREFILL)).role == pb.ROLE_DECODE


async def test_of_two_that_are_asked_at_once_one_stays(router: RunningRouter) -> None:
    fakes = [await router.add("decode-1"), await router.add("decode-2")]
    asking = [set_role(router, fake.name, pb.ROLE_PREFILL) for fake in fakes]
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(result, grpc.aio.AioRpcError) for result in results) == 1
    assert sum(len(fake.role_orders) for fake in fakes) == 1


async def test_beside_other_routers_the_first_by_name_goes_on_decoding(router: RunningRouter) -> None:
    await router.add("decode-1")
    await router.add("decode-2")
    first, second = entries = sorted(router.registry.entries(), key=lambda entry: entry.info.instance_id)
    assert needed(second, "prefill", entries, alone=False) is None
    assert "choose decode-2" in (needed(first, "prefill", entries, alone=False) or "")
    assert needed(first, "prefill", entries, alone=True) is None


@pytest.mark.parametrize(
    ("name", "role", "options", "status", "words"),
    [
        ("nobody", pb.ROLE_PREFILL, {}, grpc.StatusCode.NOT_FOUND, "no instance 'nobody'"),
        ("decode-2", pb.ROLE_UNSPECIFIED, {}, grpc.StatusCode.INVALID_ARGUMENT, "prefill or decode"),
        ("decode-2", pb.ROLE_PREFILL, {"refuses_roles": "not now"}, grpc.StatusCode.FAILED_PRECONDITION, "not now"),
    ],
)
async def test_refusals(
    router: RunningRouter, name: str, role: pb.Role, options: dict[str, Any], status: grpc.StatusCode, words: str
) -> None:
    await router.add("decode-1")
    await router.add("decode-2", **options)
    refused = await refusal(router, name, role)
    assert refused.code() is status
    assert words in (refused.details() or "")
    assert len(router.registry.view().instances) == 2, "who did not begin is sent requests as before"


async def test_one_that_does_not_answer(router: RunningRouter) -> None:
    await router.add("decode-1")
    gone = await router.add("decode-2")
    await gone.stop()
    refused = await refusal(router, "decode-2")
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "decode-2 does not answer" in (refused.details() or "")
    router.clock.now_s += 1000
    with pytest.raises(RefusedError, match="silent"):
        await router.roles.change_role("decode-2", "prefill", "a loop says so")
    assert asked(router, "prefill", "no") == 2


async def test_whom_instances_are_to_register_with(router: RunningRouter) -> None:
    fake = await router.add()
    reply = await FleetStub(router.control).Register(pb.RegisterRequest(instance=fake.info(), load=fake.load))
    assert list(reply.routers) == [router.server.control_address]
