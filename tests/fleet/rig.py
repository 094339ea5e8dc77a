"""A whole fleet in one process: real router, instances, relay and sockets, with their insides within reach."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from prfaas.cli.build_instance import BuiltInstance, build_instance
from prfaas.cli.build_router import build_router
from prfaas.config.sections import FleetConfig
from prfaas.control.dial import Dialer
from prfaas.control.v1.fleet_pb2_grpc import InstanceStub
from prfaas.engine.settings import EngineSettings
from prfaas.gateway.server import RouterServer
from prfaas.models.demo_text import demo_text
from prfaas.relay.server import RelayServer, serve_relay
from prfaas.relay.shaping import LinkProfile
from prfaas.telemetry.metrics import RouterMetrics
from tests.eventually import eventually_async
from tests.fleet.engine_thread import EngineThread

THRESHOLD = 300


def fleet_config(model: Path, relay_port: int, *, profile: Path | None = None, **sections: Any) -> FleetConfig:
    """East prefills through a relay, west does both; small pages, fast heartbeats. Nothing is cached unless asked.

    `profile`: of all instances.
    """
    raw: dict[str, Any] = {
        "model": {"path": str(model), "name": "tiny", "max_context_tokens": 8192},
        "router": {
            "http": "127.0.0.1:0",
            "control": "127.0.0.1:0",
            "threshold_tokens": THRESHOLD,
            "heartbeat_interval_s": 0.1,
            "missed_heartbeats": 100,
        },
        "policy": {"name": "static_threshold"},
        "engine": {
            "num_pages": 1024,
            "page_tokens": 16,
            "max_running_requests": 16,
            "step_tokens": 256,
            "prefix_cache": {"enabled": False},
        },
        "transport": {"stall_s": 2.0, "frame_bytes": 65536},
        "clusters": [
            {"name": "east", "kind": "prfaas", "instances": [{"name": "east-p", "role": "prefill"}]},
            {
                "name": "west",
                "kind": "pd",
                "instances": [{"name": "west-p", "role": "prefill"}, {"name": "west-d", "role": "decode"}],
            },
        ],
        "links": [
            {"between": ["east", "west"], "gbit_s": 1, "rtt_ms": 4, "relay": {"listen": f"127.0.0.1:{relay_port}"}}
        ],
    }
    for cluster in raw["clusters"]:
        cluster["profile"] = profile
    return FleetConfig.model_validate(raw | {key: raw.get(key, {}) | changes for key, changes in sections.items()})


@dataclass
class Answer:
    """One finished request."""

    text: str
    account: dict[str, Any]
    finish_reason: str

    @property
    def tokens(self) -> list[int]:
        return list(self.account["token_ids"])

    @property
    def crossed(self) -> bool:
        return bool(self.account["prefill"]["cluster"] != self.account["decode"]["cluster"])


@dataclass
class InProcessFleet:
    """Running parts by name."""

    config: FleetConfig
    relay: RelayServer
    router: RouterServer
    client: AsyncOpenAI
    dialer: Dialer
    """The router's."""
    instances: dict[str, BuiltInstance] = field(default_factory=dict)
    engines: dict[str, EngineThread] = field(default_factory=dict)

    async def ask(self, prompt: str, max_tokens: int = 8, prefill: str | None = None, **options: Any) -> Answer:
        headers = {"x-prfaas-trace": "1"} | ({"x-prfaas-prefill": prefill} if prefill else {})
        completion = await self.client.completions.create(
            model="tiny",
            prompt=prompt,
            max_tokens=max_tokens,
            extra_headers=headers,
            **{"temperature": 0, "extra_body": {"ignore_eos": True}, **options},
        )
        account = (completion.model_extra or {})["prfaas"]
        return Answer(completion.choices[0].text, account, str(completion.choices[0].finish_reason))

    @contextlib.asynccontextmanager
    async def calling(self, name: str) -> AsyncIterator[Any]:
        """A stub of one instance, past the router."""
        address = self.instances[name].addresses["control"]
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield InstanceStub(channel)

    async def settled(self) -> None:
        """Every pool is empty again and says so, and nobody listens any more."""
        for built in self.instances.values():
            front = built.server.front
            # A caller has its answer a moment before its stream is closed.
            await eventually_async(lambda front=front: _idle(front.stats) and front.num_open == 0)  # type: ignore[misc]

    async def start(self, name: str) -> None:
        """Starts an instance of the file, for the first time or again."""
        for cluster in self.config.clusters:
            for section in cluster.instances:
                if section.name == name:
                    self.instances[name] = await build_instance(self.config, cluster.name, section, self._launch)
                    await self.instances[name].server.start()

    async def _launch(self, settings: EngineSettings) -> EngineThread:
        self.engines[settings.instance] = EngineThread(settings)
        return self.engines[settings.instance]

    async def stop(self, name: str) -> None:
        """Ends one instance without waiting for what it is doing."""
        await self.instances.pop(name).server.drain_and_stop(0)

    async def restart_router(self) -> None:
        """Another one, which knows nothing, at the control address of the one that ends now, without waiting."""
        await self.router.drain_and_stop(0)
        await self.client.close()
        self.router = build_router(self.config, self.dialer, None, RouterMetrics(CollectorRegistry()))
        await self.router.start()
        self.client = _client_of(self.router)

    async def throttle(self, gbit_s: float) -> None:
        """Changes the link's rate from now on."""
        self.relay.set_profile(LinkProfile(gbit_s=gbit_s, rtt_ms=4.0))

    def fallbacks(self) -> dict[str, float]:
        """How often decode prefilled because a transfer failed, by error code."""
        metric = self.instances["west-d"].server.metrics.fallbacks
        return {s.labels["code"]: s.value for m in metric.collect() for s in m.samples if s.name.endswith("_total")}


def _client_of(router: RouterServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://{router.http_address}/v1", api_key="x", max_retries=0, timeout=60)


def _idle(stats: Any) -> bool:
    return (stats.pages_used, stats.waiting_requests, stats.running_requests) == (0, 0, 0)


@contextlib.asynccontextmanager
async def running(model: Path, **sections: Any) -> AsyncIterator[InProcessFleet]:
    """Starts everything on free ports and waits until the router knows all instances."""
    relay = await serve_relay("127.0.0.1", 0, LinkProfile(gbit_s=1.0, rtt_ms=4.0))
    config = fleet_config(model, relay.port, **sections)
    dialer = Dialer(config, config.router_cluster)
    router = build_router(config, dialer, None, RouterMetrics(CollectorRegistry()))
    await router.start()
    addressed = config.router.model_copy(update={"control": router.control_address})
    config = config.model_copy(update={"router": addressed})
    fleet = InProcessFleet(config, relay, router, _client_of(router), dialer)
    try:
        await asyncio.gather(*(fleet.start(i.name) for cluster in config.clusters for i in cluster.instances))
        yield fleet
        await fleet.settled()
    finally:
        await fleet.client.close()
        await fleet.router.drain_and_stop(5)
        for built in fleet.instances.values():
            await built.server.drain_and_stop(5)
        await dialer.close()
        await relay.close()
        # A fleet is 400 MB in cycles, and whole files of tests make many.
        gc.collect()


def prompt_of(words: int, skip: int = 0) -> str:
    """`words` words of real text, from word `skip` on; it starts over at the end."""
    text = demo_text().split()
    repeated = text * (1 + (skip + words) // len(text))
    return " ".join(repeated[skip : skip + words])
