"""A registry, its clock, and the loops over it: a fleet that only says how it stands."""

from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from prfaas.config.sections import FleetConfig, LinkSection, LoopsSection, PolicySection
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.blend import CacheBytes
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.gateway.policy_params import LiveParams, policy_params
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.registry import Registry
from prfaas.gateway.timescales import Timescales
from prfaas.gateway.traffic import Traffic
from prfaas.policy.profile import Profile
from prfaas.policy.view import Role
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.running_router import ManualClock, fleet_config
from tests.gateway.test_registry import instance
from tests.policy.paper import H20, H200, LENGTHS

HOME, FAR = ClusterName("home"), ClusterName("far")
CASE_STUDY = {HOME: H20, FAR: H200}


def loops_config(policy: str = "prfaas", gbit_s: float | None = 100.0, **loops: Any) -> FleetConfig:
    links = (LinkSection(between=("far", "home"), gbit_s=gbit_s, rtt_ms=20.0),) if gbit_s else ()
    return fleet_config(Path("unused"), threshold_tokens=1000).model_copy(
        update={
            "links": links,
            "policy": PolicySection.model_validate({"name": policy}),
            "loops": LoopsSection.model_validate(loops),
        }
    )


class LoopsRig:
    """Four prefill instances far away and eight at home, of which three prefill: the paper's case study."""

    def __init__(self, config: FleetConfig, profiles: dict[ClusterName, Profile] | None = None) -> None:
        self.config, self.clock = config, ManualClock()
        self.metrics = RouterMetrics(CollectorRegistry())
        given = CASE_STUDY if profiles is None else profiles
        live = LiveProfiles(given, CacheBytes(H20.kv_bytes_per_token, H20.state_bytes, 1e12), slots=20)
        self.registry = Registry(config, self.metrics, self.clock, live)
        self.params, self.traffic = LiveParams(policy_params(config)), Traffic(self.clock)
        self.asked: list[tuple[InstanceId, Role, str]] = []
        self.refusal = ""
        self.timescales = Timescales(
            config, self.registry, self.params, self.traffic, self.metrics.loops, self.clock, self._change_role
        )
        self.loads: dict[str, pb.Load] = {}
        self.links: dict[str, list[pb.LinkReport]] = {}
        self.rates: dict[str, pb.Rates] = {}

    def join(self, far: int = 4, prefill: int = 3, decode: int = 5) -> "LoopsRig":
        for kind, cluster, role, count in (
            ("x", "far", pb.ROLE_PREFILL, far),
            ("p", "home", pb.ROLE_PREFILL, prefill),
            ("d", "home", pb.ROLE_DECODE, decode),
        ):
            for i in range(count):
                name = f"{kind}{i}"
                self.loads[name] = pb.Load(role_age_s=1000.0)
                self.registry.register(
                    instance(name, cluster=cluster, role=role, control_address=f"10.0.0.{ord(kind)}:{i + 1}"),
                    self.loads[name],
                )
        return self

    def came(self, requests: int) -> None:
        """Prompts as long as the case study's."""
        for tokens in LENGTHS.samples(requests):
            self.traffic.add(round(tokens), round(tokens))

    async def passes(self, seconds: float) -> None:
        """Heartbeats, sweeps and looks, once a second."""
        for _ in range(round(seconds)):
            self.clock.now_s += 1
            for name, load in self.loads.items():
                load.role_age_s += 1
                self.registry.heartbeat(name, 1, load, self.links.get(name, []), self.rates.get(name))
            self.registry.sweep()
            await self.timescales.tick()

    async def _change_role(self, instance_id: InstanceId, role: Role, reason: str) -> None:
        self.asked.append((instance_id, role, reason))
        if self.refusal:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)
