"""The latest placements: bounded, with what became of them, and the figures that the page draws."""

from dataclasses import replace

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId, RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.gateway.fleet_history import KEPT as KEPT_SAMPLES
from prfaas.gateway.fleet_history import FleetHistory
from prfaas.gateway.hit_rates import MAX_INSTANCES, HitRates
from prfaas.gateway.placement_log import KEPT, TTFTS, PlacementLog
from prfaas.policy.view import InstanceView, Placement
from tests.gateway.running_router import ManualClock

HERE = InstanceView(InstanceId("d"), ClusterName("home"), "pd", "decode")
FAR = InstanceView(InstanceId("p"), ClusterName("far"), "prfaas", "prefill")
LOCAL = Placement(HERE, None, 60, "short")
REMOTE = Placement(HERE, FAR, 100, "long")


def request(name: str) -> Request:
    return Request(RequestId(name), tuple(range(100)), SamplingParams(max_tokens=1))


def test_the_oldest_go_and_nothing_is_kept_of_them() -> None:
    log = PlacementLog(ManualClock())
    for i in range(KEPT + 50):
        log.placed(request(f"r{i}"), LOCAL)
    rows = log.latest()
    assert len(rows) == KEPT
    assert (rows[0].request_id, rows[-1].number) == ("r50", KEPT + 50)
    log.first_token(RequestId("r0"), 1.0)
    log.failed(RequestId("r0"), "internal")
    assert len(log.latest()) == KEPT


def test_a_row_tells_what_became_of_its_request() -> None:
    log = PlacementLog(ManualClock())
    for name, placement in (("a", LOCAL), ("b", REMOTE), ("c", REMOTE)):
        log.placed(request(name), placement)
    log.first_token(RequestId("a"), 0.25)
    log.ended(request("a"), LOCAL, pb.Account(prefill_instance="d", tokens_reused=30))
    log.ended(request("b"), REMOTE, pb.Account(prefill_instance="d", fallback="peer_lost"))
    log.failed(RequestId("c"), "unavailable")
    a, b, c = log.latest()
    assert (a.decision, a.outcome, a.ttft_s, a.code) == ("decode", "done", 0.25, "")
    assert (b.decision, b.outcome, b.code) == ("remote", "done", "peer_lost")
    assert (c.outcome, c.code) == ("failed", "unavailable")
    assert (log.hits.predicted, log.hits.realised) != (None, None)
    assert replace(LOCAL, prefill=replace(FAR, cluster=ClusterName("home"))).remote is False


def test_a_second_attempt_is_one_row_and_counts_twice() -> None:
    log = PlacementLog(ManualClock())
    log.placed(request("a"), REMOTE)
    log.placed(request("b"), LOCAL)
    log.placed(request("a"), LOCAL)
    assert [(row.request_id, row.attempt, row.number) for row in log.latest()] == [("b", 1, 2), ("a", 2, 3)]
    assert (log.placed_requests, log.remote_requests) == (3, 1)


def test_quantiles_are_of_the_last_minute() -> None:
    clock = ManualClock()
    log = PlacementLog(clock)
    assert log.ttft_s(0.5) == [None]
    log.first_token(RequestId("old"), 100.0)
    clock.now_s += 61
    for i in range(1, 11):
        log.first_token(RequestId(f"r{i}"), float(i))
    assert log.ttft_s(0.5, 0.9) == [6.0, 10.0]
    for _ in range(2 * TTFTS):
        log.first_token(RequestId("x"), 0.5)
    assert log.ttft_s(0.99) == [0.5]


def test_hit_rates_are_by_instance_and_bounded() -> None:
    hits = HitRates()
    hits.add("a", 100, 50, 20)
    hits.add("b", 100, 0, 400)  # more than there is: an instance that says so is believed up to the prompt
    assert hits.of("a") == 0.2
    assert hits.of("b") == 1.0
    assert hits.of("never") is None
    for i in range(MAX_INSTANCES):
        hits.add(f"i{i}", 10, 0, 0)
    assert hits.of("a") is None


def test_the_history_is_ten_minutes_of_rates_and_shares() -> None:
    log, history = PlacementLog(ManualClock()), FleetHistory()
    history.add(0.0, 100, log, 0, ())
    for i in range(6):
        log.placed(request(f"r{i}"), REMOTE if i < 2 else LOCAL)
    now = history.add(2.0, 100, log, 3, ())
    assert (now.requests_s, now.offloaded_share, now.waiting) == (3.0, 0.3333, 3)
    for i in range(KEPT_SAMPLES + 100):
        now = history.add(3.0 + i, 200, log, 0, ())
    assert len(history.samples) == KEPT_SAMPLES
    assert (now.requests_s, now.offloaded_share) == (0.0, None)
    assert history.latest is now
