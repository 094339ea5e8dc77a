"""`prfaas fleet`: asks a running fleet's router to change an instance's role and waits for it; shows who is there."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import grpc
import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from prfaas.cli.build_credentials import ROUTER_NAME, build_credentials
from prfaas.config.sections import FleetConfig, Role, is_wildcard, split_address
from prfaas.control.convert import ROLE_TO_PB
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.core.errors import PeerLostError, UnavailableError
from prfaas.gateway.fleet_reply import FleetReply, InstanceReply
from prfaas.telemetry.security_metrics import SecurityMetrics

ANSWER_WITHIN_S = 10.0
LOOK_EVERY_S = 0.2
GRACE_S = 30.0
"""Beyond the time to drain: to free what was cancelled, and to register."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Where a router answers `GET /fleet`."""

    address: str

    @classmethod
    def of(cls, config: FleetConfig) -> "FleetStatus":
        """The file's router, as it can be reached from here."""
        host, port = split_address(config.router.http)
        if is_wildcard(host):
            host = config.router.advertise_host or "127.0.0.1"
        return cls(f"{f'[{host}]' if ':' in host else host}:{port}")

    def read(self) -> FleetReply:
        """Raises PeerLostError where nothing, or something else, answers."""
        try:
            with build_opener(ProxyHandler({})).open(f"http://{self.address}/fleet", timeout=ANSWER_WITHIN_S) as answer:
                return msgspec.json.decode(answer.read(), type=FleetReply)
        except (URLError, OSError, msgspec.MsgspecError) as error:
            raise PeerLostError(
                f"http://{self.address}/fleet does not answer as a router of this version: {error}; "
                "give --http HOST:PORT where it is reached by another address"
            ) from error


async def set_role(
    config: FleetConfig, instance: str, role: Role, status: FleetStatus, tell: Callable[[str], None]
) -> None:
    """Returns when the instance serves in the role. `tell` hears how it goes.

    Raises UnavailableError where the router or the instance refuses, or it takes too long; PeerLostError where the
    router does not answer.
    """
    running = await _ask(config, instance, role)
    tell(f"{instance} ends {running} requests")
    drained = False  # as this worker of the router heard; another may have asked the instance
    give_up_s = time.monotonic() + config.router.drain_s + GRACE_S
    while True:
        entry = _found(await asyncio.to_thread(status.read), instance)
        if entry.role == role and entry.state == "up":
            return
        if drained and entry.state == "up":
            raise UnavailableError(f"{instance} serves as {entry.role} again; its log says why")
        if time.monotonic() > give_up_s:
            raise UnavailableError(f"{instance} is {entry.state} and serves as {entry.role} still; its log says why")
        drained = drained or entry.state == "draining"
        tell(f"{instance} is {entry.state}: {entry.load.running_requests + entry.load.waiting_requests} requests left")
        await asyncio.sleep(LOOK_EVERY_S)


async def _ask(config: FleetConfig, instance: str, role: Role) -> int:
    """The number of requests that it ends first."""
    credentials = build_credentials(config, ROUTER_NAME, config.router_cluster, SecurityMetrics(CollectorRegistry()))
    dialer = Dialer(config, config.router_cluster, credentials)
    request = pb.SetRoleRequest(instance_id=instance, role=ROLE_TO_PB[role])
    router = config.router.control_dial
    try:
        stub = FleetStub(dialer.channel(router, config.router_cluster))
        return int((await stub.SetRole(request, timeout=ANSWER_WITHIN_S)).running_requests)
    except grpc.aio.AioRpcError as error:
        said = error.details() or error.code().name
        if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
            raise UnavailableError(said) from error
        raise PeerLostError(f"the router at {router}: {said}") from error
    finally:
        await dialer.close()


def _found(fleet: FleetReply, instance: str) -> InstanceReply:
    for entry in fleet.instances:
        if entry.name == instance:
            return entry
    raise UnavailableError(f"{instance} has left the fleet")


def show(fleet: FleetReply, console: Console) -> None:
    """One line for each instance: requests that run and wait, prompt tokens that wait, pages in use, last heartbeat."""
    title = f"{fleet.model}: {fleet.policy}, threshold {fleet.threshold_tokens:,} tokens"
    table = Table(title=title, caption="tokens: of prompts that wait; heard: since the last heartbeat")
    table.add_column("instance", no_wrap=True)
    for column in ("cluster", "role", "state"):
        table.add_column(column)
    for column in ("runs", "waits", "tokens", "pages", "heard"):
        table.add_column(column, justify="right")
    for entry in sorted(fleet.instances, key=lambda entry: (entry.cluster, entry.role, entry.name)):
        load = entry.load
        table.add_row(
            entry.name,
            entry.cluster,
            f"{entry.role} → {entry.converting_to}" if entry.converting_to else entry.role,
            entry.state,
            str(load.running_requests),
            str(load.waiting_requests),
            f"{load.waiting_tokens:,}",
            f"{load.pages_used / max(1, load.pages_total):.0%}",
            f"{entry.age_s:.1f} s",
        )
    console.print(table)
