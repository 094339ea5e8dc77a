"""The live table: who may register, who gets requests, and who is forgotten."""

import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId
from prfaas.gateway.registration import RefusedError
from prfaas.gateway.registry import FORGET_AFTER_S, Registry
from prfaas.policy.view import InstanceView, Placement
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.running_router import ManualClock, fleet_config

STALE_S = 30.0
EVENTS: dict[str, Any] = {"kv_events_address": "h:7", "block_tokens": 4}


class Table:
    """A registry, its clock and its metrics, with short words for what tests do often."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = RouterMetrics(CollectorRegistry())
        config = fleet_config(Path("unused"), heartbeat_interval_s=10.0, missed_heartbeats=3)
        self.registry = Registry(config, self.metrics, self.clock)

    def register(self, name: str = "d", **changes: Any) -> pb.InstanceInfo:
        info = instance(name, **changes)
        self.registry.register(info, pb.Load(pages_total=10))
        return info

    def heartbeat(self, name: str = "d", epoch: int = 1, **load: Any) -> bool:
        return self.registry.heartbeat(name, epoch, pb.Load(pages_total=10, **load))

    def names(self) -> list[str]:
        return [i.instance_id for i in self.registry.view().instances]

    def states(self) -> dict[str, str]:
        return {entry.info.instance_id: entry.state for entry in self.registry.entries()}


def instance(name: str, **changes: Any) -> pb.InstanceInfo:
    fields: dict[str, Any] = {
        "instance_id": name,
        "cluster": "home",
        "role": pb.ROLE_DECODE,
        "epoch": 1,
        "control_address": f"10.0.0.1:{1000 + sum(name.encode())}",
        "model_fingerprint": "f1",
    }
    return pb.InstanceInfo(**(fields | changes))


@pytest.fixture
def table() -> Table:
    return Table()


def refusal(table: Table, name: str = "d", **changes: Any) -> RefusedError:
    before = table.states()
    with pytest.raises(RefusedError) as refused:
        table.register(name, **changes)
    assert table.states() == before
    return refused.value


def test_what_a_registration_says_is_what_the_policy_sees(table: Table) -> None:
    load = pb.Load(waiting_requests=1, running_requests=2, waiting_tokens=300, pages_used=4, pages_total=10)
    info = instance("p", cluster="far", role=pb.ROLE_PREFILL)
    table.registry.register(info, load)
    (view,) = table.registry.view().instances
    assert view == InstanceView(
        InstanceId("p"), ClusterName("far"), "prfaas", "prefill", info.control_address, 300, 1, 2, 6, 64
    )


def test_silence_makes_stale_and_a_heartbeat_heals(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    table.register()
    table.clock.now_s += STALE_S - 0.1
    assert table.names() == ["d"]
    table.clock.now_s += 0.1
    assert table.names() == []
    assert table.states() == {"d": "stale"}
    table.registry.sweep()
    table.registry.sweep()
    assert len([r for r in caplog.records if "silent" in r.message]) == 1
    assert table.heartbeat()
    assert table.names() == ["d"]


def test_a_draining_instance_gets_nothing(table: Table) -> None:
    table.register()
    assert table.heartbeat(draining=True)
    assert (table.names(), table.states()) == ([], {"d": "draining"})
    assert table.heartbeat()
    assert table.names() == ["d"]


def test_the_dead_are_forgotten_in_the_end(table: Table) -> None:
    info = table.register()
    table.clock.now_s += FORGET_AFTER_S
    table.registry.sweep()
    assert table.registry.addresses() == {info.control_address}
    table.clock.now_s += 1
    table.registry.sweep()
    assert table.registry.addresses() == set()
    assert not table.heartbeat()


def test_a_new_life_replaces_the_old(table: Table) -> None:
    table.register(epoch=1)
    table.register(epoch=2)
    assert not table.heartbeat(epoch=1)
    assert table.heartbeat(epoch=2)
    table.registry.deregister("d", 1)
    assert table.names() == ["d"], "a late word of the old life changes nothing"
    table.registry.deregister("d", 2)
    assert table.states() == {}
    table.registry.deregister("d", 2)


def test_unknown_instances_are_told_to_register(table: Table) -> None:
    assert not table.heartbeat("who")


def test_a_name_belongs_to_the_first_while_it_lives(table: Table) -> None:
    table.register(control_address="10.0.0.1:1")
    refused = refusal(table, control_address="10.0.0.2:1", epoch=2)
    assert refused.status is grpc.StatusCode.ALREADY_EXISTS
    assert "10.0.0.1:1" in refused.message
    table.clock.now_s += STALE_S
    table.register(control_address="10.0.0.2:1", epoch=2)
    assert table.registry.view().instances[0].control_address == "10.0.0.2:1"


def test_another_model_is_refused_while_the_first_lives(table: Table) -> None:
    table.register("a")
    refused = refusal(table, "b", model_fingerprint="f2", role=pb.ROLE_PREFILL)
    assert refused.status is grpc.StatusCode.FAILED_PRECONDITION
    assert "f2" in refused.message
    assert "f1" in refused.message
    assert "not interchangeable" in refused.message
    table.register("a", model_fingerprint="f2", epoch=2)
    table.register("b", model_fingerprint="f2")


def test_a_silent_instance_does_not_return_with_another_model(table: Table) -> None:
    table.register("a", model_fingerprint="f1")
    table.clock.now_s += STALE_S
    table.register("b", model_fingerprint="f2")
    assert not table.heartbeat("a")
    assert table.names() == ["b"]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"instance_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "without instance_id"),
        ({"epoch": 0}, grpc.StatusCode.INVALID_ARGUMENT, "epoch"),
        ({"role": pb.ROLE_UNSPECIFIED}, grpc.StatusCode.INVALID_ARGUMENT, "role"),
        ({"role": 7}, grpc.StatusCode.INVALID_ARGUMENT, "unknown role 7"),
        ({"model_fingerprint": ""}, grpc.StatusCode.INVALID_ARGUMENT, "model_fingerprint"),
        ({"control_address": "0.0.0.0:80"}, grpc.StatusCode.INVALID_ARGUMENT, "advertise_host"),
        ({"control_address": "[::]:80"}, grpc.StatusCode.INVALID_ARGUMENT, "advertise_host"),
        ({"control_address": "host"}, grpc.StatusCode.INVALID_ARGUMENT, "host"),
        ({"control_address": "host:0"}, grpc.StatusCode.INVALID_ARGUMENT, "host:0"),
        ({"kv_events_address": "0.0.0.0:7", "block_tokens": 4}, grpc.StatusCode.INVALID_ARGUMENT, "advertise_host"),
        (EVENTS | {"kv_replay_address": "h"}, grpc.StatusCode.INVALID_ARGUMENT, "h:7 and h, which nobody can dial"),
        (EVENTS | {"block_tokens": 0}, grpc.StatusCode.INVALID_ARGUMENT, "without"),
        ({"kv_replay_address": "h:7", "block_tokens": 4}, grpc.StatusCode.INVALID_ARGUMENT, "without"),
        ({"cluster": "mars"}, grpc.StatusCode.FAILED_PRECONDITION, "far, home, second"),
        ({"cluster": "far"}, grpc.StatusCode.FAILED_PRECONDITION, "only prefills"),
    ],
)
def test_what_no_instance_may_say(table: Table, changes: dict[str, Any], status: grpc.StatusCode, words: str) -> None:
    refused = refusal(table, **changes)
    assert refused.status is status
    assert words in refused.message


@pytest.mark.parametrize(
    "load",
    [
        {"pages_used": 11},
        {"pages_used": 2, "pages_cached": 9},
        {"waiting_tokens": 2**63},
        {"running_requests": 2**31},
        {"waiting_requests": 2**31},
        {"role_age_s": float("nan")},
        {"role_age_s": -1.0},
        {"converting_to": 7},
    ],
)
def test_impossible_loads(table: Table, load: dict[str, Any]) -> None:
    table.register()
    with pytest.raises(RefusedError, match="impossible load"):
        table.heartbeat(**load)
    with pytest.raises(RefusedError, match="impossible load"):
        table.registry.register(instance("e"), pb.Load(pages_total=10, **load))
    assert table.registry.view().instances[0].waiting_tokens == 0


def test_an_impossible_load_is_counted_each_time_and_logged_once(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.register()
    for _ in range(3):
        with pytest.raises(RefusedError):
            table.heartbeat(role_age_s=float("inf"))
    registry = table.metrics.registry
    assert registry.get_sample_value("prfaas_router_reports_refused_total", {"what": "load"}) == 3
    assert len([r for r in caplog.records if "impossible load" in r.message]) == 1


def loads(table: Table) -> list[tuple[str, int, int, int]]:
    """Tokens and requests that wait, and requests that run."""
    views = table.registry.view().instances
    return [(i.instance_id, i.waiting_tokens, i.waiting_requests, i.running_requests) for i in views]


def test_placements_count_until_their_first_token(table: Table) -> None:
    """Heartbeats of the prefill instance cannot count them while the decode instance has no pages."""
    table.register("a")
    table.register("p", role=pb.ROLE_PREFILL)
    decode, prefill = table.registry.view().instances
    beside = table.registry.placed(Placement(decode, prefill, 500, "why"))
    whole = table.registry.placed(Placement(decode, None, 20, "why"))
    assert loads(table) == [("a", 20, 0, 2), ("p", 500, 1, 0)]
    for _ in range(2):
        table.heartbeat("p")
        table.heartbeat("a", waiting_requests=1, running_requests=1, waiting_tokens=20)
        assert loads(table) == [("a", 20, 1, 1), ("p", 500, 1, 0)]
    table.heartbeat("p", waiting_tokens=7, running_requests=1)
    assert loads(table)[1] == ("p", 7, 0, 1), "it is there, and nearly prefilled"
    table.registry.first_token(beside)
    table.heartbeat("p")
    assert loads(table)[1] == ("p", 0, 0, 0)
    for ticket in (beside, whole):
        table.registry.ended(ticket)
    table.heartbeat("a")
    assert (loads(table)[0], table.registry.outstanding) == (("a", 0, 0, 0), 0)


def test_a_new_life_has_nothing_of_the_old_ones_load(table: Table) -> None:
    table.register("a")
    table.register("p", role=pb.ROLE_PREFILL)
    decode, prefill = table.registry.view().instances
    ticket = table.registry.placed(Placement(decode, prefill, 500, "why"))
    table.heartbeat("p", draining=True)
    table.heartbeat("p")
    assert loads(table)[1] == ("p", 500, 1, 0)
    table.register("p", role=pb.ROLE_PREFILL, epoch=2)
    assert loads(table)[1] == ("p", 0, 0, 0)
    table.registry.ended(ticket)
    assert table.registry.outstanding == 0


def test_the_same_life_in_another_role(table: Table) -> None:
    table.register("a", max_context_tokens=100)
    table.register("b", max_context_tokens=300)
    assert table.registry.max_context_tokens() == 300
    here, _ = table.registry.view().instances
    ticket = table.registry.placed(Placement(here, None, 20, "why"))
    table.heartbeat("a", draining=True, converting_to=pb.ROLE_PREFILL)
    table.register("a", role=pb.ROLE_PREFILL, max_context_tokens=100)
    assert loads(table) == [("b", 0, 0, 0), ("a", 20, 1, 0)], "what has not ended still counts"
    assert table.registry.max_context_tokens() == 300
    assert table.registry.too_small_for(200) == set()
    table.registry.ended(ticket)
    table.heartbeat("a")
    assert loads(table)[1] == ("a", 0, 0, 0)
    table.register("b", role=pb.ROLE_PREFILL)
    assert table.registry.max_context_tokens() is None
    table.register("a", max_context_tokens=100)
    assert table.registry.max_context_tokens() == 100
    assert [i.role for i in table.registry.view().instances if i.instance_id == "a"] == ["decode"]


def test_one_that_begins_to_convert_gets_nothing_new(table: Table) -> None:
    table.register("a")
    before = table.registry.entries()[0].load
    table.registry.converting("a", pb.ROLE_PREFILL)
    (entry,) = table.registry.entries()
    assert (table.names(), entry.state, entry.load.converting_to) == ([], "draining", pb.ROLE_PREFILL)
    assert not before.draining, "what an entry said it says still"
    table.registry.converting("nobody", pb.ROLE_PREFILL)
    table.heartbeat("a")
    assert table.names() == ["a"]


def test_a_partial_heartbeat_leaves_links_as_they_were(table: Table) -> None:
    table.register("a")
    link = pb.LinkReport(cluster="far", bytes_per_s=1e9)
    table.registry.heartbeat("a", 1, pb.Load(pages_total=10), [link])
    table.clock.now_s += 5
    assert table.registry.heartbeat("a", 1, pb.Load(pages_total=10, waiting_tokens=7), partial=True)
    ((told,), (entry,)) = table.registry.links(), table.registry.entries()
    assert (told.report, told.age_s) == (link, 5.0), "as old as what told it"
    assert (entry.load.waiting_tokens, entry.age_s) == (7, 0.0)
    table.registry.heartbeat("a", 1, pb.Load(pages_total=10))
    assert table.registry.links() == []


def test_contexts(table: Table) -> None:
    assert table.registry.max_context_tokens() is None
    table.register("a", max_context_tokens=100)
    table.register("b", max_context_tokens=200)
    table.register("p", role=pb.ROLE_PREFILL, max_context_tokens=9)
    assert table.registry.max_context_tokens() == 200
    assert table.registry.too_small_for(100) == set()
    assert table.registry.too_small_for(101) == {"a"}
    table.register("c")
    assert table.registry.max_context_tokens() is None, "one without a limit of its own"


def test_the_gauge(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    def gauge(role: str, state: str) -> float | None:
        labels = {"cluster": "home", "role": role, "state": state}
        return table.metrics.registry.get_sample_value("prfaas_router_instances", labels)

    with caplog.at_level(logging.INFO):
        table.register("a")
        table.register("p", role=pb.ROLE_PREFILL)
    assert len(caplog.records) == 2
    assert (gauge("decode", "up"), gauge("prefill", "up"), gauge("decode", "stale")) == (1, 1, 0)
    table.clock.now_s += STALE_S
    table.heartbeat("p", draining=True)
    table.registry.sweep()
    assert (gauge("decode", "up"), gauge("decode", "stale"), gauge("prefill", "draining")) == (0, 1, 1)


@pytest.mark.parametrize(
    "said",
    [
        {"instance_id": "d\r\nd2 of home registered"},
        {"instance_id": "D"},
        {"instance_id": "d" * 64},
        {"instance_id": "d\N{RIGHT-TO-LEFT OVERRIDE}"},
        {"engine": "e" * 1025},
        {"model_name": "tiny\n"},
        {"metrics_address": "\x1b[2J"},
        {"control_address": "unix:/run/other.sock:80"},
        {"control_address": "10.0.0.1 x:80"},
        {"control_address": "dns:///10.0.0.1:80"},
    ],
)
def test_words_that_would_deceive_a_reader_or_a_dialler(table: Table, said: dict[str, Any]) -> None:
    refused = refusal(table, **said)
    assert refused.status is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.isprintable()
    assert len(refused.message) < 500
