"""Both loops on a fleet that only talks: what they see, what they change, and what they say where they do not."""

import logging
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from prfaas.config.sections import ClusterSection
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName
from prfaas.gateway.short_loop import FEWEST_REQUESTS, HISTORY
from prfaas.planner.profiles import read_profile
from prfaas.planner.simulate.run import simulate
from prfaas.planner.simulate.workloads.build import build_workload
from prfaas.policy.deployment import Deployment
from prfaas.policy.observe import signals_of
from prfaas.policy.signals import Signals
from prfaas.policy.solve import solve
from prfaas.policy.view import ClusterView, PolicyParams
from tests.gateway.loops_rig import FAR, HOME, LoopsRig, loops_config
from tests.gateway.test_registry import instance
from tests.planner.simulate.deployments import deployment, lognormal
from tests.planner.simulate.links import section
from tests.policy.paper import H20, H200


def measured(bytes_per_s: float, age_s: float = 0.0, queued_s: float = 0.0) -> list[pb.LinkReport]:
    return [
        pb.LinkReport(
            cluster="home",
            bytes_per_s=bytes_per_s,
            rtt_s=0.02,
            min_rtt_s=0.02,
            age_s=age_s,
            queued_s=queued_s,
            queued_bytes=int(queued_s * bytes_per_s),
        )
    ]


async def test_the_threshold_becomes_what_the_model_finds_best() -> None:
    rig = LoopsRig(loops_config()).join()
    rig.came(500)
    await rig.passes(6)
    state, pd = rig.timescales.state, replace(H20, decode=replace(H20.decode, max_batch=20))
    model = Deployment(H200, pd, 4, 8, 12.5e9, 512)
    assert state.threshold_tokens == solve(model, rig.traffic.lengths, n_p=3).threshold_tokens > 10_000
    assert rig.params.now.threshold_tokens == state.threshold_tokens
    assert rig.metric("prfaas_router_threshold_tokens") == state.threshold_tokens
    (change,) = state.changes
    assert (change.before_tokens, change.tokens, change.reason) == (1000, state.threshold_tokens, state.reason)
    assert state.reason.startswith("best for 100 Gbit/s")
    assert (state.off_because, state.n_p, state.n_d) == (None, 3, 5)
    assert state.lambda_max is not None
    assert state.lambda_max > 2


async def test_a_link_that_is_cut_moves_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    rig = LoopsRig(loops_config()).join()
    rig.came(500)
    rig.links["x0"] = measured(12.5e9)
    await rig.passes(6)
    before = rig.params.now.threshold_tokens
    rig.links["x0"] = measured(0.5e9)
    caplog.set_level(logging.INFO)
    await rig.passes(6)
    assert rig.params.now.threshold_tokens > 1.3 * before
    assert f"threshold {before} → {rig.params.now.threshold_tokens}" in caplog.text
    assert "4 Gbit/s" in rig.timescales.state.reason
    rig.links["x0"] = measured(0.5e9, age_s=100.0, queued_s=60.0)
    await rig.passes(6)
    assert "nothing gets through far→home" in rig.timescales.state.reason


async def test_queues_of_the_far_side_raise_it() -> None:
    rig = LoopsRig(loops_config()).join()
    rig.came(500)
    await rig.passes(6)
    before = rig.params.now.threshold_tokens
    for name in ("x0", "x1", "x2", "x3"):
        rig.loads[name].waiting_tokens, rig.loads[name].waiting_requests = 500_000, 10
    await rig.passes(20)
    assert rig.params.now.threshold_tokens > before
    assert "prompts wait" in rig.timescales.state.reason
    seconds = rig.metric("prfaas_router_queue_seconds", kind="prfaas")
    assert seconds is not None
    assert seconds > 10


async def test_a_loop_that_is_off_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def why(rig: LoopsRig, requests: int = 500) -> str:
        rig.came(requests)
        await rig.passes(12)
        assert rig.params.now.threshold_tokens == 1000
        assert rig.timescales.state.changes == ()
        assert rig.metric("prfaas_router_retuning") == 0
        reason = rig.timescales.state.off_because
        assert reason
        assert caplog.text.count(reason) == 1, "once, not at every look"
        caplog.clear()
        return reason

    assert "static_threshold" in await why(LoopsRig(loops_config("static_threshold")).join())
    assert "loops.retune" in await why(LoopsRig(loops_config(retune=False)).join())
    assert "what a prompt takes in far" in await why(LoopsRig(loops_config(), {HOME: H20}).join())
    assert "no decode instance" in await why(LoopsRig(loops_config()).join(decode=0))
    assert "prfaas cluster is up" in await why(LoopsRig(loops_config()).join(far=0))
    assert "no pd instance prefills" in await why(LoopsRig(loops_config()).join(prefill=0))
    assert "no link" in await why(LoopsRig(loops_config(gbit_s=None)).join())
    assert "fewer than" in await why(LoopsRig(loops_config()).join(), FEWEST_REQUESTS - 1)


async def test_a_held_threshold_goes_on_when_it_can() -> None:
    rig = LoopsRig(loops_config()).join(prefill=0)
    rig.came(500)
    await rig.passes(6)
    assert "no pd instance" in (rig.timescales.state.off_because or "")
    rig.join()
    await rig.passes(6)
    assert rig.timescales.state.off_because is None
    assert rig.params.now.threshold_tokens > 10_000


async def test_profiles_that_are_measured_make_the_loop_begin() -> None:
    rig = LoopsRig(loops_config(), {}).join()
    rig.came(500)
    rates = {
        name: pb.Rates(prefill_per_token_s=2e-4 if name[0] == "p" else 5e-5, prefill_samples=5) for name in rig.loads
    }
    rig.rates = {name: told for name, told in rates.items() if name[0] != "d"}
    rig.rates["d0"] = pb.Rates(decode=[pb.DecodePoint(requests=1, seconds=0.02)], output_tokens=300.0)
    await rig.passes(12)
    view = rig.registry.view()
    assert view.profiled
    assert len({id(i.profile) for i in view.parts[HOME].members.values()}) == 1, "one object for a cluster"
    assert rig.timescales.state.off_because is None
    assert rig.params.now.output_tokens == 300
    assert rig.metric("prfaas_router_profile_measured", cluster="far") == 1


async def test_history_is_bounded() -> None:
    rig = LoopsRig(loops_config()).join()
    rig.came(500)
    for i in range(HISTORY + 5):
        rig.links["x0"] = measured(12.5e9 if i % 2 else 0.5e9)
        await rig.passes(5)
    assert len(rig.timescales.state.changes) == HISTORY
    total = rig.metric("prfaas_router_threshold_changes_total")
    assert total is not None
    assert total > HISTORY


async def test_a_lying_heartbeat_is_refused_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rig = LoopsRig(loops_config()).join()
    rig.came(100)
    rig.rates["x0"] = pb.Rates(prefill_per_token_s=nan, prefill_samples=99)
    rig.rates["x1"] = pb.Rates(prefill_per_token_s=1e-9, prefill_samples=2**31)
    rig.links["x2"] = measured(1e30)
    await rig.passes(12)
    assert rig.registry.profiles.of(FAR) is H200
    assert rig.registry.view().links[FAR, HOME].bytes_per_s == 12.5e9
    assert len([r for r in caplog.records if "is left out" in r.message]) == 3, "one line an instance"
    assert rig.metric("prfaas_router_reports_refused_total", what="rates") == 12
    assert rig.metric("prfaas_router_reports_refused_total", what="outlier") == 2


def convertible_rig() -> LoopsRig:
    """Five of eight prefill: decode takes 1.9 req/s less than it should."""
    rig = LoopsRig(loops_config(convert=True, allocate_s=30.0, cooldown_s=300.0)).join(prefill=5, decode=3)
    for name in ("d0", "d1", "d2"):
        rig.rates[name] = pb.Rates(output_tokens=1024.0)
    return rig


async def busy(rig: LoopsRig, seconds: int) -> None:
    """Three requests come every second."""
    for _ in range(seconds):
        rig.came(3)
        await rig.passes(1)


async def test_the_long_loop_asks_the_least_loaded_to_change() -> None:
    rig = convertible_rig()
    rig.loads["p0"].waiting_requests, rig.loads["p0"].waiting_tokens = 1, 10
    await busy(rig, 125)
    name, role, reason = rig.asked[0]
    assert (name, role) == ("p1", "decode")
    assert "decode-bound" in reason
    change = rig.timescales.state.conversions[0]
    assert (change.instance_id, change.role, change.refusal) == ("p1", "decode", "")


async def test_one_change_at_a_time_and_a_cool_down_that_all_routers_see() -> None:
    rig = convertible_rig()
    rig.loads["p4"].converting_to = pb.ROLE_DECODE
    rig.loads["p4"].draining = True
    await busy(rig, 125)
    assert rig.asked == []
    rig.loads["p4"].converting_to, rig.loads["p4"].draining = pb.ROLE_UNSPECIFIED, False
    rig.loads["p4"].role_age_s = 0.0
    await busy(rig, 290)
    assert rig.asked == [], "it has served in its role for less than the cool-down"
    await busy(rig, 60)
    assert rig.asked


async def test_a_refusal_is_remembered() -> None:
    rig = convertible_rig()
    rig.refusal = "it is busy"
    await busy(rig, 125)
    assert {c.refusal for c in rig.timescales.state.conversions} == {"it is busy"}


async def test_two_routers_that_see_the_same_ask_the_same() -> None:
    one, other = convertible_rig(), convertible_rig()
    await busy(one, 125)
    await busy(other, 125)
    assert one.asked == other.asked != []


async def test_roles_stay_where_they_are_not_to_change() -> None:
    rig = LoopsRig(loops_config(allocate_s=30.0)).join(prefill=5, decode=3)
    await busy(rig, 125)
    assert (rig.asked, rig.timescales.state.roles_off_because) == ([], "loops.convert is off")


def told(rig: LoopsRig, view: ClusterView) -> None:
    """A live router hears all that is in a view."""
    for i in view.instances:
        role = pb.ROLE_PREFILL if i.role == "prefill" else pb.ROLE_DECODE
        address = f"10.0.0.1:{9000 + len(rig.loads)}"
        load = pb.Load(
            waiting_tokens=i.waiting_tokens,
            waiting_requests=i.waiting_requests,
            running_requests=i.running_requests,
            pages_total=i.pages_free,
        )
        rig.loads[i.instance_id] = load
        rig.registry.register(instance(i.instance_id, cluster=i.cluster, role=role, control_address=address), load)
    for link in view.links.values():
        source = next(i for i in view.instances if i.cluster == link.source)
        report = pb.LinkReport(
            cluster=link.target,
            bytes_per_s=link.bytes_per_s,
            rtt_s=link.rtt_s,
            min_rtt_s=link.min_rtt_s,
            queued_bytes=link.queued_bytes,
            queued_s=link.queued_s,
            utilisation=link.utilisation,
            age_s=link.age_s,
        )
        rig.links.setdefault(source.instance_id, []).append(report)


async def test_router_and_simulator_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated fleet under load tells at every look how it stands: a live router makes the same signals of it."""
    seen: list[tuple[ClusterView, Signals]] = []

    def watched(view: ClusterView, params: PolicyParams, *, at_s: float, rate_req_s: float) -> Signals:
        seen.append((view, signals_of(view, params, at_s=at_s, rate_req_s=rate_req_s)))
        return seen[-1][1]

    monkeypatch.setattr("prfaas.planner.simulate.timescales.signals_of", watched)
    file = deployment(tmp_path, section(8_000.0), workload=lognormal())
    simulate(file, build_workload(file.workload, rate_req_s=3.0, seed=1), "prfaas", requests=150, seed=1)
    assert len(seen) > 5
    assert any(signals.pdp_queue_s > 0 for _, signals in seen)
    assert any(signals.link_queue_s > 0 for _, signals in seen)
    profiles = {ClusterName(cluster.name): read_profile(cluster.profile) for cluster in file.clusters}
    clusters = tuple(ClusterSection(name=cluster.name, kind=cluster.kind) for cluster in file.clusters)
    for view, signals in seen:
        rig = LoopsRig(loops_config().model_copy(update={"clusters": clusters, "links": ()}), profiles)
        told(rig, view)
        await rig.passes(5)
        live = rig.timescales.state.signals
        assert live
        assert replace(live, at_s=signals.at_s, rate_req_s=signals.rate_req_s) == signals
