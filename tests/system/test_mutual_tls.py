"""A fleet of real processes with certificates: what it does in the clear it does encrypted, and with nobody else."""

import asyncio
import contextlib
from pathlib import Path

import grpc
import pytest
from rich.console import Console

from prfaas.cli.certs import make, requested
from prfaas.config.sections import split_address
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub, InstanceStub
from tests.eventually import TRIES
from tests.system.fleets import LONG_WORDS, RunningFleet, processes, prompt_of, write_fleet_file

pytestmark = pytest.mark.system

INSTANCES = ("east-prefill-0", "west-prefill-0", "west-decode-0")
PATIENCE_S = 20.0


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    """The demo's fleet with certificates that are looked at all the time."""
    security = {"mode": "mtls", "reload_s": 0.1, "ca": "certs/ca.pem", "cert": "certs/{name}.pem"}
    path = write_fleet_file(tmp_path, model, security=security | {"key": "certs/{name}-key.pem"})
    certify(path)
    return path


def certify(file: Path, *, force: bool = False) -> None:
    make(file.parent / "certs", requested(file, []), days=30, force=force, console=Console(quiet=True))


async def test_a_fleet_with_certificates_answers_renews_them_and_refuses_strangers(file: Path, tmp_path: Path) -> None:
    async with processes(file, tmp_path / "logs") as fleet:
        local = await fleet.ask(prompt_of(LONG_WORDS), prefill="local")
        await crosses(fleet, skip=50)
        remote = await fleet.ask(prompt_of(LONG_WORDS), prefill="remote")
        assert remote["token_ids"] == local["token_ids"]
        # The router hears what instances cache, through sockets that only it may hear.
        await until_followed(fleet)
        await refuses_strangers(fleet)
        certify(file, force=True)
        for name in INSTANCES:
            await fleet.until(name, "prfaas_certificate_reloads_total", 1)
        await crosses(fleet, skip=100)
        await fleet.settled()
        for name in INSTANCES:
            assert await fleet.metric(name, "prfaas_peers_refused_total") == 0
            assert await fleet.metric(name, "prfaas_certificate_expiry_timestamp_seconds") > 0


async def crosses(fleet: RunningFleet, skip: int) -> None:
    """A prompt that nobody has seen is prefilled in the other datacenter."""
    account = await fleet.ask(prompt_of(LONG_WORDS, skip))
    assert account["fallback"] is None
    assert (account["prefill"]["cluster"], account["decode"]["cluster"]) == ("east", "west")
    assert account["kv"]["bytes_wire"] > 0


async def until_followed(fleet: RunningFleet) -> None:
    """Returns once the directory predicts what the cache has."""
    for _ in range(TRIES):
        account = await fleet.ask(prompt_of(LONG_WORDS))
        if account["prefill"]["cluster"] == "west":
            return
    raise AssertionError("the router never learnt what is cached")


async def refuses_strangers(fleet: RunningFleet) -> None:
    router = fleet.fleet.child("router").addresses["control"]
    decode = fleet.fleet.child("west-decode-0").addresses
    options = [("grpc.enable_http_proxy", 0)]
    async with (
        grpc.aio.insecure_channel(router, options=options) as to_router,
        grpc.aio.insecure_channel(decode["control"], options=options) as to_decode,
    ):
        for call in (
            FleetStub(to_router).Register(pb.RegisterRequest(), timeout=PATIENCE_S),
            InstanceStub(to_decode).Drain(pb.DrainRequest(), timeout=PATIENCE_S),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    reader, writer = await asyncio.open_connection(*split_address(decode["data"]))
    writer.write(b"PRFA" + bytes(124))
    with contextlib.suppress(ConnectionError):
        assert len(await reader.read()) < 100, "an alert, and the end"
    writer.close()
