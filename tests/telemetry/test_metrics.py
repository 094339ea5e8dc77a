"""The table of metrics: documented, and readable by who reads vLLM's."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from prfaas.telemetry.metrics import InstanceMetrics, RouterMetrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def names(registry: CollectorRegistry) -> set[str]:
    return {f.name + ("_total" if f.type == "counter" else "") for f in registry.collect()}


def test_every_metric_is_documented_and_nothing_else() -> None:
    router, instance = CollectorRegistry(), CollectorRegistry()
    RouterMetrics(router)
    InstanceMetrics(instance)
    documented = set(re.findall(r"^\| `([a-z:_]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert documented == names(router) | names(instance)


@pytest.mark.parametrize("name", ["vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"])
def test_names_that_endpoint_pickers_read(name: str) -> None:
    registry = CollectorRegistry()
    metrics = InstanceMetrics(registry)
    metrics.read(pages_used=5, pages_cached=1, pages_total=20)
    metrics.queues(waiting=2, running=3)
    expected = {"vllm:num_requests_waiting": 2, "vllm:num_requests_running": 3, "vllm:kv_cache_usage_perc": 0.25}
    assert registry.get_sample_value(name) == expected[name]
