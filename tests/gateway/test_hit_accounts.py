"""Predicted against realised hits, by cluster, and which of them the directory is to blame for."""

import logging

import pytest
from prometheus_client import CollectorRegistry

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import ClusterName, InstanceId, RequestId
from prfaas.gateway.hit_accounts import compare_hits
from prfaas.policy.view import InstanceView, Placement
from prfaas.telemetry.hit_metrics import HitMetrics

DECODE = InstanceView(InstanceId("d"), ClusterName("home"), "pd", "decode", "h:1")
PREFILL = InstanceView(InstanceId("p"), ClusterName("far"), "prfaas", "prefill", "h:2")


@pytest.mark.parametrize(
    ("prefill", "reused", "fallback", "over"),
    [(PREFILL, 64, "", 0), (PREFILL, 80, "", 0), (PREFILL, 48, "", 16), (None, 0, "", 64), (PREFILL, 0, "deadline", 0)],
)
def test_predictions_are_compared_where_they_were_made(
    caplog: pytest.LogCaptureFixture, prefill: InstanceView | None, reused: int, fallback: str, over: int
) -> None:
    registry = CollectorRegistry()
    account = pb.Account(tokens_reused=reused, fallback=fallback, prefill_cluster="what it says itself")
    with caplog.at_level(logging.DEBUG):
        placement = Placement(DECODE, prefill, uncached_tokens=36, reason="")
        compare_hits(HitMetrics(registry), RequestId("r-7"), 100, placement, account)

    def metric(name: str) -> float:
        cluster = "far" if prefill else "home"
        return registry.get_sample_value(f"prfaas_router_{name}_total", {"cluster": cluster}) or 0

    assert metric("predicted_hit_tokens") == 64
    assert metric("realised_hit_tokens") == reused
    assert metric("overpredicted_hits") == bool(over)
    assert metric("overpredicted_hit_tokens") == over
    assert [("r-7" in message) for message in caplog.messages] == [True] * bool(over)
