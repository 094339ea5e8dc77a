"""The view that requests are placed by: who is in it, and what links it has."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import ClusterSection, FleetConfig, LinkSection
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.described_links import described_links
from prfaas.gateway.live_profiles import LiveProfiles
from prfaas.gateway.live_view import LiveView
from prfaas.gateway.policy_params import policy_params
from prfaas.gateway.registry import Registry
from prfaas.policy.place import place
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.view import ClusterView, InstanceView, LinkView, PlacementRequest
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.running_router import ManualClock, fleet_config
from tests.gateway.test_registry import instance

HOME, FAR = ClusterName("home"), ClusterName("far")
D0 = InstanceView(InstanceId("d0"), HOME, "pd", "decode")
P0 = InstanceView(InstanceId("p0"), HOME, "pd", "prefill")
QUICK = Profile("quick", PrefillCurve(0.1, 1e-5), DecodeCurve(((1, 0.02),)), 1000.0, 1e6, 1e9)


def priced(**policy: float) -> FleetConfig:
    link = LinkSection(between=("far", "home"), gbit_s=8.0, rtt_ms=30.0, usd_per_gb=0.05)
    section = fleet_config(Path("unused")).policy.model_copy(update={"name": "prfaas", **policy})
    return fleet_config(Path("unused")).model_copy(update={"links": (link,), "policy": section})


def names(view: ClusterView) -> set[str]:
    return {i.instance_id for i in view.instances}


def test_the_silent_leave_when_they_are_asked_for() -> None:
    live = LiveView(10.0, {})
    live.put(D0, 0.0)
    live.put(P0, 5.0)
    assert names(live.at(9.9)) == {"d0", "p0"}
    assert names(live.at(10.0)) == {"p0"}
    live.put(D0, 11.0)
    assert names(live.at(14.9)) == {"d0", "p0"}
    assert names(live.at(21.0)) == set()


def test_nothing_is_made_anew_while_nothing_changes() -> None:
    live = LiveView(10.0, {})
    live.put(D0, 0.0)
    view, members = live.at(1.0), live.members
    live.put(D0, 5.0)
    assert live.members == members, "a heartbeat brings nobody"
    assert live.at(12.0) is live.at(6.0)
    assert view.find(D0.instance_id) == D0


def test_dropping_twice_does_no_harm() -> None:
    live = LiveView(10.0, {})
    live.put(D0, 0.0)
    live.drop(D0.instance_id)
    members = live.members
    live.drop(D0.instance_id)
    assert (live.members, names(live.at(0.0))) == (members, set())


def test_links_are_as_described_until_they_are_measured() -> None:
    described = described_links(priced())
    assert set(described) == {(FAR, HOME), (HOME, FAR)}
    live = LiveView(10.0, described)
    link = live.at(0.0).links[FAR, HOME]
    assert (link.bytes_per_s, link.rtt_s, link.usd_per_gb, link.up) == (1e9, 0.03, 0.05, True)
    live.measured([replace(link, bytes_per_s=5e8)])
    assert [live.at(0.0).links[ends].bytes_per_s for ends in ((FAR, HOME), (HOME, FAR))] == [5e8, 1e9]
    live.measured([])
    assert live.at(0.0).links == described


def registry(config: FleetConfig) -> Registry:
    profiles = LiveProfiles({HOME: QUICK, FAR: QUICK}, None, slots=64)
    return Registry(config, RouterMetrics(CollectorRegistry()), ManualClock(), profiles)


def test_a_measured_link_keeps_its_price_and_tells_how_busy_it_is() -> None:
    table = registry(priced())
    table.register(instance("x", cluster="far", role=pb.ROLE_PREFILL), pb.Load())
    report = pb.LinkReport(cluster="home", bytes_per_s=2e8, rtt_s=0.04, utilisation=0.25, age_s=1.0)
    assert table.heartbeat("x", 1, pb.Load(), [report])
    table.sweep()
    link: LinkView = table.view().links[FAR, HOME]
    assert (link.bytes_per_s, link.rtt_s, link.usd_per_gb, link.utilisation) == (2e8, 0.04, 0.05, 0.25)


def test_the_prfaas_policy_has_all_it_needs_of_a_live_fleet() -> None:
    config = priced(usd_per_ttft_s=100.0)
    table = registry(config)
    table.register(instance("d"), pb.Load())
    table.register(instance("p", role=pb.ROLE_PREFILL), pb.Load())
    table.register(instance("x", cluster="far", role=pb.ROLE_PREFILL), pb.Load())
    params = policy_params(config)
    placement = place(PlacementRequest(50_000), table.view(), params, config.policy.name)
    assert placement.prefill
    assert placement.prefill.instance_id == "x"
    assert placement.expected
    assert placement.expected.usd == pytest.approx(placement.expected.link_bytes / 1e9 * 0.05)


def test_the_policys_knobs_come_from_the_file() -> None:
    params = policy_params(priced(margin=0.5, margin_s=0.75, usd_per_ttft_s=0.125))
    assert (params.margin, params.margin_s, params.usd_per_ttft_s) == (0.5, 0.75, 0.125)
    assert (params.threshold_tokens, params.codecs) == (100, frozenset({"raw", "exact"}))


def test_a_clusters_profile_is_optional() -> None:
    assert ClusterSection(name="west", kind="pd").profile is None
