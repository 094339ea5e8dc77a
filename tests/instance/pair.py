"""A prefill and a decode instance with real services, gRPC and sockets around engines that are played."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from prfaas.cli.build_data_plane import build_data_plane, usable_codecs
from prfaas.config.sections import FleetConfig
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub, add_InstanceServicer_to_server
from prfaas.core.ids import new_epoch
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.engine.link import listen
from prfaas.engine.messages import Stats
from prfaas.instance.announce import AnnounceService
from prfaas.instance.decode import DecodeService
from prfaas.instance.fetch import Fetcher
from prfaas.instance.front import Front, nobody_listens
from prfaas.instance.identity import Identity
from prfaas.instance.prefill import PrefillService
from prfaas.instance.prefix_fetch import PrefixFetches
from prfaas.instance.served_role import ServedRole
from prfaas.instance.servicer import Servicer
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.inbox import Inbox
from tests.generating import Generating
from tests.instance.paged_memory import PagedMemory
from tests.instance.played_engine import PlayedEngine

PAGE_TOKENS = 4
MAX_TOKENS = 64
MLA = LayerCache("mla", paged=True, tensors=(CacheTensor("latent", (256,), "float32"),))
GQA = LayerCache("gqa", paged=True, tensors=(CacheTensor("k", (2, 8), "float32"), CacheTensor("v", (2, 4), "float32")))
KDA = LayerCache(
    "kda",
    paged=False,
    tensors=(CacheTensor("state", (5, 16, 16), "float32"), CacheTensor("conv", (3, 8), "float32")),
)
HYBRID = ModelShape("hybrid", (KDA, MLA, KDA, GQA), MAX_TOKENS)
DENSE = ModelShape("dense", (MLA, GQA), MAX_TOKENS)
# Four rows of a latent or of a state to a frame: objects are cut.
TRANSPORT = {"frame_bytes": 4096, "stall_s": 5.0, "min_streams": 2}
CONFIG: dict[str, Any] = {
    "model": {"path": ".", "name": "tiny"},
    "clusters": [{"name": "west", "kind": "pd", "instances": [{"name": "near", "role": "decode"}]}],
}
SAMPLING = pb.Sampling(max_tokens=1, temperature=0, top_p=1)


@dataclass
class Member:
    """One running instance, with its insides in reach."""

    identity: Identity
    engine: PlayedEngine
    memory: PagedMemory
    metrics: InstanceMetrics
    address: str
    stub: Any
    inbox: Inbox
    decode: DecodeService
    prefill: PrefillService
    fetches: PrefixFetches
    control: grpc.aio.Server

    @property
    def target(self) -> pb.PrefillTarget:
        return pb.PrefillTarget(
            instance_id=self.identity.instance_id, cluster=self.identity.cluster, control_address=self.address
        )


@dataclass
class Pair:
    """`near` decodes what `far` prefills."""

    near: Member
    far: Member

    async def ask(self, *token_ids: int, remote: bool = True, salt: str = "") -> tuple[list[int], pb.Account]:
        """Tokens and account of one request to `near`."""
        call = Generating(self.near.stub, self.request(*token_ids, remote=remote, salt=salt))
        events = [event async for event in call]
        assert events[-1].WhichOneof("event") == "finished", events[-1]
        return [i for event in events for i in event.tokens.token_ids], events[-1].finished.account

    def request(self, *token_ids: int, remote: bool = True, salt: str = "") -> pb.GenerateRequest:
        target = self.far.target if remote else None
        return pb.GenerateRequest(
            request_id="r", prompt_token_ids=token_ids, sampling=SAMPLING, prefill=target, cache_salt=salt
        )


@contextlib.asynccontextmanager
async def running(
    shape: ModelShape = HYBRID, *, relay_port: int | None = None, **transport: Any
) -> AsyncIterator[Pair]:
    """`relay_port`: of a relay between the two, which then are in two clusters. `transport` changes its section."""
    config = _config(relay_port, transport)
    far_cluster = "west" if relay_port is None else "east"
    async with _member("near", "west", shape, config) as near, _member("far", far_cluster, shape, config) as far:
        yield Pair(near, far)


def _config(relay_port: int | None, transport: dict[str, Any]) -> FleetConfig:
    raw: dict[str, Any] = CONFIG | {"transport": TRANSPORT | transport}
    if relay_port is not None:
        east = {"name": "east", "kind": "prfaas", "instances": [{"name": "far", "role": "prefill"}]}
        way = {"between": ["east", "west"], "gbit_s": 1, "relay": {"listen": f"127.0.0.1:{relay_port}"}}
        raw |= {"clusters": [*CONFIG["clusters"], east], "links": [way]}
    return FleetConfig.model_validate(raw)


@contextlib.asynccontextmanager
async def _member(name: str, cluster: str, shape: ModelShape, config: FleetConfig) -> AsyncIterator[Member]:
    metrics, link, memory = InstanceMetrics(CollectorRegistry()), listen(), PagedMemory(shape, PAGE_TOKENS)
    engine = PlayedEngine(os.dup(link.fd), shape, memory, PAGE_TOKENS)
    front = Front(link, engine, metrics, Stats(), nobody_listens)
    await front.ready()
    data = socket.create_server(("127.0.0.1", 0))
    identity = _identity(name, cluster, f"127.0.0.1:{data.getsockname()[1]}", shape, config)
    dialer, now = Dialer(config, cluster), time.monotonic
    plane = build_data_plane(config, identity, data, None, None, metrics)
    fetcher = Fetcher(identity, plane.inbox, memory, dialer, metrics, now, front.prefill_s, None)
    fetches = PrefixFetches(
        front,
        fetcher,
        metrics.prefix_fetches,
        now,
        stall_s=config.transport.stall_s,
        announced_s=10.0,
        prefill_s=front.prefill_s,
    )
    prefill = PrefillService(identity, front, memory, plane.outbox, dialer, plane.encodings, fetches, metrics, now)
    decode = DecodeService(identity, front, fetcher, fetches, metrics, now)
    servicer = Servicer(
        name,
        decode,
        prefill,
        AnnounceService(identity, front, fetches, MAX_TOKENS // PAGE_TOKENS),
        ServedRole(name, "decode", "pd", 0.0, now),
    )
    control = grpc.aio.server()
    add_InstanceServicer_to_server(servicer, control)
    address = f"127.0.0.1:{control.add_insecure_port('127.0.0.1:0')}"
    plane.server.start()
    await control.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            yield Member(
                identity,
                engine,
                memory,
                metrics,
                address,
                InstanceStub(channel),
                plane.inbox,
                decode,
                prefill,
                fetches,
                control,
            )
        finally:
            await control.stop(grace=0)
            await dialer.close()
            await asyncio.to_thread(plane.outbox.close)
            await asyncio.to_thread(plane.server.close)
            await front.stop()


def _identity(name: str, cluster: str, data_address: str, shape: ModelShape, config: FleetConfig) -> Identity:
    return Identity(
        instance_id=name,
        cluster=cluster,
        epoch=new_epoch(),
        data_address=data_address,
        model_fingerprint="f" * 32,
        shape=shape,
        kv_dtype="float32",
        sent_shapes={"float32": shape},
        codecs=usable_codecs(config.transport, None),
        vocab_size=1000,
        max_context_tokens=MAX_TOKENS,
        transport=config.transport,
    )
