"""The control plane under mutual TLS: between any two of the fleet, through a proxy too, and with nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from prfaas.config.sections import FleetConfig
from prfaas.control.dial import Dialer
from prfaas.control.serve_grpc import add_port, grpc_server
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub, InstanceServicer, InstanceStub, add_InstanceServicer_to_server
from prfaas.relay.server import serve_relay
from prfaas.relay.shaping import LinkProfile
from tests.control.issued import Party, expired, new_authority, party

AUTHORITY = new_authority()
PATIENCE_S = 20.0
Context = grpc.aio.ServicerContext[object, object]


class Answering(InstanceServicer):
    """Has one method of either kind."""

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:  # noqa: N802, ARG002
        return pb.CancelReply(found=request.request_id == "mine")

    async def Prefill(self, request: pb.PrefillRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        for done in (1, 2, len(request.prompt_token_ids)):
            await context.write(pb.PrefillEvent(progress=pb.PrefillProgress(tokens_done=done)))


@asynccontextmanager
async def serving(server: Party) -> AsyncIterator[str]:
    running = grpc_server(server.credentials)
    add_InstanceServicer_to_server(Answering(), running)  # type: ignore[abstract]
    port = add_port(running, "127.0.0.1:0", server.credentials)
    await running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop(0)


def config(proxy: str | None = None) -> FleetConfig:
    link = {"between": ["east", "west"], "gbit_s": 1.0} | ({"proxy": proxy} if proxy else {})
    return FleetConfig.model_validate(
        {
            "model": {"path": ".", "name": "m"},
            "security": {"mode": "mtls"},
            "clusters": [{"name": "west", "kind": "pd"}, {"name": "east", "kind": "prfaas"}],
            "links": [link],
        }
    )


@asynccontextmanager
async def dialling(client: Party, proxy: str | None = None) -> AsyncIterator[Dialer]:
    dialer = Dialer(config(proxy), "west", client.credentials)
    try:
        yield dialer
    finally:
        await dialer.close()


async def cancel(dialer: Dialer, address: str, cluster: str = "east") -> bool:
    stub = InstanceStub(dialer.channel(address, cluster))
    return (await stub.Cancel(pb.CancelRequest(request_id="mine"), timeout=PATIENCE_S)).found


async def test_calls_of_both_kinds_and_of_none(tmp_path: Path) -> None:
    async with serving(party(tmp_path, AUTHORITY)) as address, dialling(party(tmp_path, AUTHORITY)) as dialer:
        assert await cancel(dialer, address)
        stub = InstanceStub(dialer.channel(address, "east"))
        events = stub.Prefill(pb.PrefillRequest(prompt_token_ids=[1, 2, 3]), timeout=PATIENCE_S)
        assert [event.progress.tokens_done async for event in events] == [1, 2, 3]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FleetStub(dialer.channel(address, "east")).Heartbeat(pb.HeartbeatRequest(), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_through_a_connect_proxy(tmp_path: Path) -> None:
    relay = await serve_relay("127.0.0.1", 0, LinkProfile(gbit_s=1.0, rtt_ms=1.0))
    proxy = f"127.0.0.1:{relay.port}"
    async with serving(party(tmp_path, AUTHORITY)) as address, dialling(party(tmp_path, AUTHORITY), proxy) as dialer:
        assert await cancel(dialer, address)
    await relay.close()


async def test_a_caller_whose_name_is_not_allowed_is_told_so(tmp_path: Path) -> None:
    picky = party(tmp_path, AUTHORITY, ("router.*",))
    async with serving(picky) as address, dialling(party(tmp_path, AUTHORITY)) as dialer:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cancel(dialer, address)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "for a.west.prfaas.internal, matches none of security.allowed_names (router.*)" in (
            caught.value.details() or ""
        )
        stub = InstanceStub(dialer.channel(address, "east"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(stub.Prefill(pb.PrefillRequest(), timeout=PATIENCE_S)))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Attend(timeout=PATIENCE_S).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert picky.notes == ["control_refused"] * 3


@pytest.mark.parametrize("stranger", [expired, lambda folder, _: party(folder, new_authority())])
async def test_strangers_get_nowhere_in_either_role(tmp_path: Path, stranger: Any) -> None:
    known, unknown = party(tmp_path, AUTHORITY), stranger(tmp_path, AUTHORITY)
    for server, client in ((known, unknown), (unknown, known)):
        async with serving(server) as address, dialling(client) as dialer:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await cancel(dialer, address)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_without_a_certificate_or_without_tls_gets_nowhere(tmp_path: Path) -> None:
    known = party(tmp_path, AUTHORITY)
    name = (("grpc.ssl_target_name_override", known.credentials.fleet_name), ("grpc.enable_http_proxy", 0))
    anonymous = grpc.ssl_channel_credentials(AUTHORITY.pems()[0])
    async with serving(known) as address:
        for channel in (
            grpc.aio.secure_channel(address, anonymous, options=name),
            grpc.aio.insecure_channel(address, options=name),
        ):
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await InstanceStub(channel).Cancel(pb.CancelRequest(), timeout=PATIENCE_S)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_newer_certificates_take_over_while_older_calls_go_on(tmp_path: Path) -> None:
    one, two = party(tmp_path, AUTHORITY), party(tmp_path, AUTHORITY)
    async with serving(one) as address, dialling(two) as dialer:
        assert await cancel(dialer, address)
        before = dialer.channel(address, "east")
        running = InstanceStub(before).Prefill(pb.PrefillRequest(prompt_token_ids=[1]), timeout=PATIENCE_S)
        assert (await anext(aiter(running))).progress.tokens_done == 1
        # Both move to an authority that the other does not know yet: what was agreed on before has ended.
        successor = new_authority()
        for each in (one, two):
            each.authority = successor
            each.files.ca.write_bytes(successor.pems()[0])
            each.renew()
            each.later()
        assert dialer.channel(address, "east") is not before
        assert await cancel(dialer, address)
        assert [event.progress.tokens_done async for event in running] == [2, 1]


async def test_a_fleet_with_certificates_is_not_dialled_without() -> None:
    with pytest.raises(AssertionError, match="never dialled without"):
        Dialer(config(), "west")
