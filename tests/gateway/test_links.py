"""What instances measured of links: kept with its age, put together for the policy, shown to operators."""

import logging
import math
from typing import Any

import pytest

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.measured_links import InstanceLink, link_views
from prfaas.policy.view import LinkView
from tests.gateway.running_router import RunningRouter
from tests.gateway.test_registry import STALE_S, Table

FAR = {"cluster": "far", "role": pb.ROLE_PREFILL}


def report(cluster: str = "home", **fields: Any) -> pb.LinkReport:
    measured: dict[str, Any] = {"bytes_per_s": 1e8, "rtt_s": 0.03, "min_rtt_s": 0.02, "utilisation": 1.0, "age_s": 1.0}
    return pb.LinkReport(cluster=cluster, **(measured | fields))


def beat(table: Table, *links: pb.LinkReport, name: str = "p") -> None:
    assert table.registry.heartbeat(name, 1, pb.Load(), links)


@pytest.fixture
def table() -> Table:
    table = Table()
    table.register("p", **FAR)
    return table


def test_a_report_reaches_the_policy_with_its_age(table: Table) -> None:
    assert table.registry.view().links == {}
    beat(table, report(queued_bytes=7, queued_s=0.5, retransmitted=0.01))
    table.clock.now_s += 2
    table.registry.sweep()
    (view,) = table.registry.view().links.values()
    assert (view.source, view.target) == ("far", "home")
    assert (view.bytes_per_s, view.rtt_s, view.min_rtt_s, view.retransmitted) == (1e8, 0.03, 0.02, 0.01)
    assert (view.queued_bytes, view.queued_s, view.age_s) == (7, 0.5, 3.0)
    metric = table.metrics.registry.get_sample_value
    assert metric("prfaas_router_link_bytes_per_second", {"source": "far", "cluster": "home"}) == 1e8
    assert metric("prfaas_router_link_age_seconds", {"source": "far", "cluster": "home"}) == 3.0


def test_the_last_heartbeat_counts(table: Table) -> None:
    beat(table, report(), report("second"))
    beat(table, report("second", bytes_per_s=5e7))
    assert [(link.report.cluster, link.report.bytes_per_s) for link in table.registry.links()] == [("second", 5e7)]


def test_the_silent_measure_nothing(table: Table) -> None:
    beat(table, report())
    table.registry.sweep()
    assert table.registry.view().links
    table.clock.now_s += STALE_S
    table.registry.sweep()
    assert table.registry.view().links == {}
    metric = table.metrics.registry.get_sample_value
    assert metric("prfaas_router_link_bytes_per_second", {"source": "far", "cluster": "home"}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        report("mars"),
        report(bytes_per_s=math.nan),
        report(rtt_s=math.inf),
        report(queued_s=-1),
        report(retransmitted=1.5),
        report(utilisation=-0.1),
    ],
)
def test_impossible_reports_are_left_out_and_cost_nobody_an_instance(
    table: Table, wrong: pb.LinkReport, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        beat(table, wrong, report("second"))
        beat(table, wrong)
    assert table.states() == {"p": "up"}
    assert table.registry.links() == []
    assert len([r for r in caplog.records if "left out" in r.message]) == 1
    assert table.metrics.registry.get_sample_value("prfaas_router_link_reports_refused_total") == 2


def link(instance: str = "a", heard_s: float = 0.0, **fields: Any) -> InstanceLink:
    return InstanceLink(InstanceId(instance), ClusterName("far"), report(**fields), heard_s)


def test_instances_that_send_at_the_same_time_have_the_link_together() -> None:
    (view,) = link_views([link("a"), link("b", bytes_per_s=5e7)])
    assert view.bytes_per_s == 1.5e8


def test_an_instance_that_was_alone_measured_the_whole_link() -> None:
    (view,) = link_views([link("a", utilisation=0.0), link("b", bytes_per_s=5e7, utilisation=0.1)])
    assert view.bytes_per_s == 1e8


DESCRIBED = {
    (ClusterName("far"), ClusterName("home")): LinkView(
        ClusterName("far"), ClusterName("home"), 1e9, 0.02, 0.02, 0.0, 0, 0.0, math.inf, usd_per_gb=0.02
    )
}


def test_what_crossed_is_no_limit_as_long_as_nothing_waited_for_the_link() -> None:
    (view,) = link_views([link(at_least=True)], DESCRIBED)
    assert (view.bytes_per_s, view.usd_per_gb) == (1e9, 0.02)
    assert view.utilisation == pytest.approx(0.1)
    (view,) = link_views([link(at_least=True, bytes_per_s=2e9)], DESCRIBED)
    assert view.bytes_per_s == 2e9
    (view,) = link_views([link(at_least=True), link("b", bytes_per_s=5e7, utilisation=0.0)], DESCRIBED)
    assert view.bytes_per_s == 1e8, "b saw its limit"


@pytest.mark.parametrize("at_least", [False, True])
def test_what_was_measured_before_the_link_became_slow_counts_no_more(at_least: bool) -> None:
    before = link("a", heard_s=30, at_least=at_least, utilisation=0.0)
    (view,) = link_views([before, link("b", bytes_per_s=1e6)], DESCRIBED)
    assert view.bytes_per_s == 1e6
    (view,) = link_views([before, link("b", bytes_per_s=1e6, at_least=True)])
    assert view.bytes_per_s == 1e8, "b had little to send"


def test_queues_add_up_and_the_latest_knows_the_round_trip() -> None:
    old = link("a", heard_s=5, rtt_s=0.5, min_rtt_s=0.01, queued_bytes=3, queued_s=2.0, retransmitted=0.2)
    (view,) = link_views([old, link("b", queued_bytes=4, queued_s=1.0)])
    assert (view.queued_bytes, view.queued_s, view.retransmitted) == (7, 2.0, 0.2)
    assert (view.rtt_s, view.min_rtt_s, view.age_s) == (0.03, 0.01, 1.0)


def test_a_link_that_was_never_measured_is_not_in_the_view() -> None:
    assert link_views([link(bytes_per_s=0.0)]) == ()


async def test_links_cross_grpc_and_are_shown(router: RunningRouter) -> None:
    fake = await router.add("prefill-1", **FAR)
    message = pb.HeartbeatRequest(instance_id=fake.name, epoch=fake.epoch, load=fake.load, links=[report(streams=8)])
    assert (await FleetStub(router.control).Heartbeat(message)).known
    router.clock.now_s += 2.5
    (shown,) = (await router.http.get("/fleet")).json()["links"]
    assert (shown["instance"], shown["source"], shown["target"]) == ("prefill-1", "far", "home")
    assert (shown["bytes_per_s"], shown["rtt_s"], shown["streams"], shown["age_s"]) == (1e8, 0.03, 8, 3.5)
