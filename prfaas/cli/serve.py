"""Runs one process of a fleet until it is told to stop: a router, an instance, or a link relay."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from prometheus_client import CollectorRegistry

from prfaas.cli.build_credentials import ROUTER_NAME, build_credentials
from prfaas.cli.open_files import allow_open_files, within_open_files
from prfaas.cli.supervised import Supervisor, stop_event
from prfaas.cli.workers import Workers
from prfaas.config.sections import ClusterSection, FleetConfig, InstanceSection, Role, split_address
from prfaas.control.dial import Dialer
from prfaas.core.errors import ConfigError
from prfaas.telemetry.metrics import RouterMetrics

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Service:
    """Something that runs: `start` returns when it is ready (or frees all and raises), `stop` when all is freed."""

    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    broken: Callable[[], Awaitable[None]]
    """Ends, and raises why, when the service cannot go on by itself."""
    addresses: Callable[[], dict[str, str]]


Build = Callable[[], Awaitable[Service]]


async def run(build: Build, supervisor: Supervisor) -> None:
    """Builds, starts, reports readiness, waits for the stop event, stops. A stop during the start is obeyed too."""
    allow_open_files()
    # Building may load a model for minutes; until it is done there is nothing to drain, and signals end the process.
    service = await build()
    stop = stop_event(supervisor)
    starting = asyncio.ensure_future(service.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        supervisor.ready(service.addresses())
        await _until_stopped(stopping, service)
    else:
        starting.cancel()
        await service.stop()


async def _until_stopped(stopping: "asyncio.Task[Literal[True]]", service: Service) -> None:
    breaking = asyncio.ensure_future(service.broken())
    ends: set[asyncio.Future[Any]] = {stopping, breaking}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    broke = breaking.exception() if breaking.done() else None
    breaking.cancel()
    await service.stop()
    if broke is not None:
        raise broke


async def router(config: FleetConfig) -> Service:
    # Here and below: each role imports only what it runs, so that a router starts without torch.
    from prfaas.cli.build_router import build_router

    config = config.model_copy(update={"router": within_open_files(config.router)})
    metrics = RouterMetrics(CollectorRegistry())
    credentials = build_credentials(config, ROUTER_NAME, config.router_cluster, metrics.security)
    dialer = Dialer(config, config.router_cluster, credentials)
    server = build_router(config, dialer, credentials, metrics)

    async def stop() -> None:
        await server.drain_and_stop(config.router.drain_s)
        await dialer.close()

    def addresses() -> dict[str, str]:
        own = {"worker": server.worker_address} if server.worker_address else {}
        return {"http": server.http_address, "control": server.control_address, **own}

    return Service(server.start, stop, server.wait, addresses)


async def workers(config: FleetConfig, path: Path, overrides: tuple[str, ...], log_level: str) -> Service:
    """Several routers on one port. `overrides` are those that `config` was read with."""
    group = Workers(config, path, overrides, log_level)
    return Service(group.start, group.stop, group.watch, lambda: group.addresses)


async def instance(config: FleetConfig, role: Role, cluster: str | None, name: str | None) -> Service:
    """Raises ConfigError when role, cluster and name do not fit the file."""
    home, section = resolve_instance(config, role, cluster, name)
    from prfaas.cli.build_instance import build_instance

    # Threads that move KV need the interpreter between any two calls of the system, and get it from a busy loop of
    # requests only after this time: with Python's 5 ms they move a third of what they move with this.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    built = await build_instance(config, home.name, section)
    return Service(
        built.server.start,
        lambda: built.server.drain_and_stop(config.router.drain_s),
        built.server.wait,
        lambda: built.addresses,
    )


async def relay(config: FleetConfig, link_name: str) -> Service:
    """Raises ConfigError when there is no such link, or no relay on it."""
    from prfaas.relay.server import RelayServer, serve_relay
    from prfaas.relay.shaping import LinkProfile

    link = next((link for link in config.links if link.name == link_name), None)
    if link is None or link.relay is None:
        known = ", ".join(link.name for link in config.links if link.relay) or "none"
        raise ConfigError(f"no link {link_name!r} with a relay in the fleet file; links with one: {known}")
    host, port = split_address(link.relay.listen)
    profile = LinkProfile(
        gbit_s=link.gbit_s,
        rtt_ms=link.rtt_ms,
        jitter_ms=link.relay.jitter_ms,
        reset_every_s=link.relay.reset_every_s,
        flip_bits_per_gb=link.relay.flip_bits_per_gb,
    )
    running: list[RelayServer] = []

    async def start() -> None:
        running.append(await serve_relay(host, port, profile))

    async def stop() -> None:
        for server in running:
            await server.close()

    async def never() -> None:
        await asyncio.Event().wait()

    return Service(start, stop, never, lambda: {"listen": f"{host}:{running[0].port}"})


def with_engine(config: FleetConfig, name: str | None, *, emulated: bool) -> FleetConfig:
    """Where the command line says that the engine is emulated, an engine section of the instance's own is, too."""
    if not emulated:
        return config
    clusters = tuple(
        cluster.model_copy(update={"instances": tuple(_emulating(i, name, config) for i in cluster.instances)})
        for cluster in config.clusters
    )
    return config.model_copy(update={"clusters": clusters})


def _emulating(instance: InstanceSection, name: str | None, config: FleetConfig) -> InstanceSection:
    if instance.name != name or instance.engine is None:
        return instance
    own = instance.engine.model_copy(update={"emulated": config.engine.emulated})
    return instance.model_copy(update={"engine": own})


def resolve_instance(
    config: FleetConfig, role: Role, cluster: str | None, name: str | None
) -> tuple[ClusterSection, InstanceSection]:
    """The instance of the file with that name or, for a name that the file does not have, a new one with defaults."""
    for home in config.clusters:
        for section in home.instances:
            if name is not None and section.name == name:
                _check_listed(home, section, role, cluster)
                return home, section
    home_or_none = config.cluster(cluster) if cluster else _only_cluster_for(config, role)
    if home_or_none is None:
        names = ", ".join(c.name for c in config.clusters)
        raise ConfigError(f"--cluster {cluster or '(not given)'}: choose one of the file's clusters: {names}")
    if home_or_none.kind == "prfaas" and role == "decode":
        raise ConfigError(f"cluster {home_or_none.name!r} is of kind 'prfaas' and only prefills; use --role prefill")
    return home_or_none, InstanceSection(name=name or f"{home_or_none.name}-{role}-{token_hex(3)}", role=role)


def _check_listed(home: ClusterSection, section: InstanceSection, role: Role, cluster: str | None) -> None:
    if cluster is not None and cluster != home.name:
        raise ConfigError(f"instance {section.name!r} is in cluster {home.name!r}, not in {cluster!r}")
    if section.role != role:
        raise ConfigError(f"instance {section.name!r} has role {section.role!r}; use --role {section.role}")


def _only_cluster_for(config: FleetConfig, role: Role) -> ClusterSection | None:
    fitting = [c for c in config.clusters if role == "prefill" or c.kind == "pd"]
    return fitting[0] if len(fitting) == 1 else None
