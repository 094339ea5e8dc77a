"""A whole router on real sockets, composed as the command line does, with a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx2
from fastapi import FastAPI
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from prfaas.config.sections import FleetConfig
from prfaas.control.dial import Dialer
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.gateway.app import build_app
from prfaas.gateway.calls import InstanceCalls
from prfaas.gateway.directory import Directory
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.fleet_state import FleetState
from prfaas.gateway.fleet_watch import FleetWatch
from prfaas.gateway.gate import Gate
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.registry import Registry
from prfaas.gateway.role_calls import RoleCalls
from prfaas.gateway.server import RouterServer
from prfaas.gateway.tokenizer import ModelTokenizer
from prfaas.gateway.waiting_room import WaitingRoom
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.fake_instance import FakeInstance

CONTEXT_TOKENS = 2000
UNIX_TIME = 1_700_000_000.0
DRAWN_SEED = 4242


@dataclass
class ManualClock:
    """Monotonic seconds that pass when a test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def fleet_config(model: Path, **router: Any) -> FleetConfig:
    """Two `pd` clusters and a `prfaas` one; system-chosen ports; heartbeats so rare that only tests move time."""
    return FleetConfig.model_validate(
        {
            "model": {"path": str(model), "name": "tiny"},
            "router": {
                "http": "127.0.0.1:0",
                "control": "127.0.0.1:0",
                "heartbeat_interval_s": 10.0,
                "threshold_tokens": 100,
                **router,
            },
            "policy": {"name": "static_threshold"},
            "clusters": [
                {"name": "home", "kind": "pd"},
                {"name": "second", "kind": "pd"},
                {"name": "far", "kind": "prfaas"},
            ],
        }
    )


@dataclass
class RunningRouter:
    """What a test needs of a router that serves."""

    config: FleetConfig
    clock: ManualClock
    registry: Registry
    directory: Directory
    dispatcher: Dispatcher
    metrics: RouterMetrics
    gate: Gate
    app: FastAPI
    server: RouterServer
    roles: RoleCalls
    watch: FleetWatch
    control: grpc.aio.Channel
    http: httpx2.AsyncClient
    openai: AsyncOpenAI
    tokenizer: Tokenizer
    fakes: list[FakeInstance] = field(default_factory=list)

    async def add(self, name: str = "decode-1", **options: Any) -> FakeInstance:
        """Starts a fake instance and registers it."""
        fake = FakeInstance(name, self.tokenizer, **options)
        await fake.start()
        self.fakes.append(fake)
        await self.register(fake)
        return fake

    async def register(self, fake: FakeInstance) -> None:
        await FleetStub(self.control).Register(pb.RegisterRequest(instance=fake.info(), load=fake.load))

    async def heartbeat(self, fake: FakeInstance) -> bool:
        message = pb.HeartbeatRequest(instance_id=fake.name, epoch=fake.epoch, load=fake.load)
        return (await FleetStub(self.control).Heartbeat(message)).known

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def eventually(condition: Callable[[], bool]) -> None:
    """For what has no event to wait for, such as a metric."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running_router(model: Path, **router: Any) -> AsyncIterator[RunningRouter]:
    """Starts a router; at the end, stops it and every fake that was added."""
    async with router_of(fleet_config(model, **router)) as running:
        yield running


@asynccontextmanager
async def router_of(config: FleetConfig) -> AsyncIterator[RunningRouter]:
    """The same for a fleet of one's own."""
    model = config.model.path
    clock = ManualClock()
    metrics = RouterMetrics(CollectorRegistry())
    registry = Registry(config, metrics, clock)
    dialer = Dialer(config, config.router_cluster)
    directory = Directory(has_states=True)
    room = WaitingRoom(config.admission, metrics.admission, clock)
    dispatcher = Dispatcher(config, registry, directory, InstanceCalls(dialer, metrics), metrics, clock, room)
    gate = Gate(metrics, room)
    tokenizer = ModelTokenizer.load(model)
    watch = FleetWatch(
        FleetState(config, registry, directory, dispatcher, gate, clock, lambda: UNIX_TIME), metrics.watch
    )
    app = build_app(
        config,
        tokenizer,
        CONTEXT_TOKENS,
        registry,
        directory,
        dispatcher,
        gate,
        metrics,
        clock,
        watch,
        unix_time=lambda: UNIX_TIME,
        seeds=lambda: DRAWN_SEED,
    )
    follower = KvFollower(directory, dialer, metrics, probe_s=0.05)
    roles = RoleCalls(registry, dialer, metrics.roles)
    server = RouterServer(config.router, app, registry, dispatcher, follower, gate, None, roles, watch)
    await server.start()
    url = f"http://{server.http_address}"
    async with (
        httpx2.AsyncClient(base_url=url, trust_env=False, verify=False) as http,
        httpx2.AsyncClient(trust_env=False, verify=False) as sdk_http,
        grpc.aio.insecure_channel(server.control_address) as channel,
    ):
        openai = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=sdk_http)
        raw_tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        router_ = RunningRouter(
            config,
            clock,
            registry,
            directory,
            dispatcher,
            metrics,
            gate,
            app,
            server,
            roles,
            watch,
            channel,
            http,
            openai,
            raw_tokenizer,
        )
        yield router_
        await server.drain_and_stop(0.0)
        await dialer.close()
        for fake in router_.fakes:
            await fake.stop()
        assert registry.outstanding == 0, "whatever a test did, nothing stays counted as load"
