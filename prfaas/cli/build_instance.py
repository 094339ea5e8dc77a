"""Puts one prefill or decode instance together; nothing here, or below it, imports torch."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from prfaas.cache.layout import lay_out
from prfaas.cli.build_credentials import build_credentials
from prfaas.cli.build_data_plane import build_codec, build_data_plane, usable_codecs
from prfaas.cli.build_kv_events import BuiltKvEvents, build_kv_events
from prfaas.cli.emulation import served_shapes, sized_engine
from prfaas.cli.start_engine import Launch, RunningEngine, launch_process, start_engine
from prfaas.config.sections import EngineSection, FleetConfig, InstanceSection, split_address
from prfaas.control.convert import ROLE_TO_PB
from prfaas.control.credentials import Credentials
from prfaas.control.dial import Dialer
from prfaas.control.listen import advertised, listener, unusable
from prfaas.control.membership import Membership
from prfaas.control.registrar import Reports
from prfaas.control.serve_grpc import add_port, grpc_server
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import ConfigError
from prfaas.core.ids import new_epoch
from prfaas.core.shape import DType, ModelShape
from prfaas.instance.announce import AnnounceService
from prfaas.instance.attend import MAX_CONCURRENT_CALLS
from prfaas.instance.decode import DecodeService
from prfaas.instance.fetch import Fetcher
from prfaas.instance.front import nobody_listens
from prfaas.instance.identity import Identity
from prfaas.instance.kv_codec import KvCodec
from prfaas.instance.prefill import PrefillService
from prfaas.instance.prefix_fetch import PrefixFetches
from prfaas.instance.served_role import ServedRole
from prfaas.instance.server import InstanceServer
from prfaas.instance.servicer import Servicer
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.congestion import check_congestion_control


@dataclass(frozen=True, slots=True)
class BuiltInstance:
    """A server ready to start, and the addresses that it will have."""

    server: InstanceServer
    identity: Identity
    addresses: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What was opened before there was an identity."""

    engine: RunningEngine
    codec: KvCodec | None
    data_socket: socket.socket
    kv: BuiltKvEvents | None
    credentials: Credentials | None
    metrics: InstanceMetrics


async def build_instance(
    config: FleetConfig, cluster: str, section: InstanceSection, launch: Launch = launch_process
) -> BuiltInstance:
    """Has the engine load the model, then opens the ports. Raises ConfigError, ModelError or EngineError."""
    shapes = served_shapes(config, section.engine or config.engine)
    shape = shapes[config.model.dtype]
    settings = sized_engine(section.engine or config.engine, shape)
    section = section.model_copy(update={"engine": settings})
    _check_frames(config, shape)
    check_congestion_control(config.transport.congestion_control)
    metrics = InstanceMetrics(CollectorRegistry())
    credentials = build_credentials(config, section.name, cluster, metrics.security)
    async with AsyncExitStack() as undo:
        data_socket = listener(section.data, f"{_key(config, section)}.data")
        undo.callback(data_socket.close)
        kv = build_kv_events(section, _key(config, section), settings, shape, encrypted=credentials is not None)
        if kv:
            undo.push_async_callback(kv.events.close)
        tell = kv.events.take if kv else nobody_listens
        engine = await start_engine(section.name, config.model, settings, shape, metrics, launch, tell)
        undo.push_async_callback(engine.front.stop)
        # Bytes that stand for KV say nothing of how well KV can be compressed.
        codec = None if settings.emulated else await asyncio.to_thread(build_codec, metrics)
        parts = _Parts(engine, codec, data_socket, kv, credentials, metrics)
        built = await _serve(config, cluster, section, shapes, parts)
        undo.pop_all()
        return built


async def _serve(
    config: FleetConfig, cluster: str, section: InstanceSection, shapes: dict[DType, ModelShape], parts: _Parts
) -> BuiltInstance:
    """Opens the ports in front of an engine that is ready."""
    key = _key(config, section)
    shape = shapes[config.model.dtype]
    control = grpc_server(parts.credentials, MAX_CONCURRENT_CALLS)
    ports = {
        "control": _bind_grpc(control, section.control, parts.credentials, f"{key}.control"),
        "data": int(parts.data_socket.getsockname()[1]),
        "metrics": _serve_metrics(section.metrics, parts.metrics, f"{key}.metrics"),
    }
    addresses = {
        name: advertised(port, getattr(section, name), section.advertise_host, f"{key}.{name}")
        for name, port in ports.items()
    }
    if parts.kv:
        addresses |= {"kv_events": parts.kv.kv_events, "kv_replay": parts.kv.kv_replay}
    identity = Identity(
        instance_id=section.name,
        cluster=cluster,
        epoch=new_epoch(),
        data_address=addresses["data"],
        model_fingerprint=parts.engine.ready.fingerprint,
        shape=shape,
        kv_dtype=config.model.dtype,
        sent_shapes=shapes,
        codecs=usable_codecs(config.transport, parts.codec),
        vocab_size=parts.engine.ready.vocab_size,
        max_context_tokens=_context_tokens(config, section.engine or config.engine, shape),
        transport=config.transport,
    )
    server = _wire(config, section, identity, parts, control, addresses)
    return BuiltInstance(server, identity, addresses)


def _wire(
    config: FleetConfig,
    section: InstanceSection,
    identity: Identity,
    parts: _Parts,
    control: grpc.aio.Server,
    addresses: dict[str, str],
) -> InstanceServer:
    front, memory, metrics, now = parts.engine.front, parts.engine.memory, parts.metrics, time.monotonic
    dialer = Dialer(config, identity.cluster, parts.credentials)
    plane = build_data_plane(config, identity, parts.data_socket, parts.codec, parts.credentials, metrics)
    fetcher = Fetcher(identity, plane.inbox, memory, dialer, metrics, now, front.prefill_s, parts.codec)
    home = config.cluster(identity.cluster)
    assert home
    served = ServedRole(identity.instance_id, section.role, home.kind, config.loops.cooldown_s, now)
    engine = section.engine or config.engine
    fetches = PrefixFetches(
        front,
        fetcher,
        metrics.prefix_fetches,
        now,
        stall_s=config.transport.stall_s,
        announced_s=engine.prefix_cache.announced_s,
        prefill_s=front.prefill_s,
    )
    servicer = Servicer(
        identity.instance_id,
        DecodeService(identity, front, fetcher, fetches, metrics, now),
        PrefillService(identity, front, memory, plane.outbox, dialer, plane.encodings, fetches, metrics, now),
        AnnounceService(identity, front, fetches, identity.max_context_tokens // engine.page_tokens),
        served,
    )
    kv_key, computes = parts.kv.public_key if parts.kv else "", parts.engine.ready.device
    return InstanceServer(
        servicer=servicer,
        grpc_server=control,
        data_server=plane.server,
        outbox=plane.outbox,
        links=plane.links,
        front=front,
        kv_events=parts.kv.events if parts.kv else None,
        dialer=dialer,
        served=served,
        membership=lambda load: Membership(
            (config.router.control_dial, *config.router.replicas),
            lambda address: dialer.channel(address, config.router_cluster),
            dialer.forget,
            Reports(
                lambda: _info(config, section, identity, addresses, kv_key, served, computes),
                load,
                plane.links.reports,
                front.rates.rates,
            ),
            parts.kv.allow if parts.kv else lambda _: None,
        ),
        metrics=metrics,
        drain_s=config.router.drain_s,
    )


def _info(
    config: FleetConfig,
    section: InstanceSection,
    identity: Identity,
    addresses: dict[str, str],
    kv_key: str,
    served: ServedRole,
    computes: str,
) -> pb.InstanceInfo:
    return pb.InstanceInfo(
        instance_id=identity.instance_id,
        cluster=identity.cluster,
        role=ROLE_TO_PB[served.role],
        epoch=identity.epoch,
        control_address=addresses["control"],
        data_address=addresses["data"],
        metrics_address=addresses["metrics"],
        model_name=config.model.name,
        model_fingerprint=identity.model_fingerprint,
        max_context_tokens=identity.max_context_tokens,
        block_tokens=(section.engine or config.engine).page_tokens,
        kv_events_address=addresses.get("kv_events", ""),
        kv_replay_address=addresses.get("kv_replay", ""),
        kv_events_key=kv_key,
        engine=computes,
    )


def _key(config: FleetConfig, section: InstanceSection) -> str:
    """The dotted key of an instance, as `--set` takes it."""
    for i, cluster in enumerate(config.clusters):
        for j, instance in enumerate(cluster.instances):
            if instance.name == section.name:
                return f"clusters.{i}.instances.{j}"
    return section.name


def _context_tokens(config: FleetConfig, settings: EngineSection, shape: ModelShape) -> int:
    """What one request can have here at most: the model's context, the file's limit, and the pool beside its state."""
    kv_pages = settings.num_pages - lay_out(shape, settings.page_tokens).state_pages
    if kv_pages < 1:
        raise ConfigError(
            f"engine.num_pages is {settings.num_pages}, but the linear states of one request take "
            f"{settings.num_pages - kv_pages} pages of this model; raise it well above that"
        )
    pool_tokens = kv_pages * settings.page_tokens
    return min(shape.max_context_tokens, config.model.max_context_tokens or pool_tokens, pool_tokens)


def _check_frames(config: FleetConfig, shape: ModelShape) -> None:
    if config.transport.frame_bytes < shape.largest_row_bytes:
        raise ConfigError(
            f"transport.frame_bytes is {config.transport.frame_bytes}, but this model's largest indivisible piece has "
            f"{shape.largest_row_bytes} bytes; raise it to at least that"
        )


def _bind_grpc(server: grpc.aio.Server, address: str, credentials: Credentials | None, key: str) -> int:
    try:
        return add_port(server, address, credentials)
    except RuntimeError:
        # gRPC does not say why; asking the system for the same port does.
        listener(address, key).close()
        raise


def _serve_metrics(address: str, metrics: InstanceMetrics, key: str) -> int:
    host, port = split_address(address)
    try:
        server, _ = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise ConfigError(unusable(address, key, error)) from error
    return int(server.server_port)
