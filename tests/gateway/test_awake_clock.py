"""Time that a process did not live through is nobody's silence."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prometheus_client import CollectorRegistry

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.gateway.awake_clock import MOST_S, TICK_S, AwakeClock
from prfaas.gateway.registry import Registry
from prfaas.telemetry.awake_metrics import AwakeMetrics
from prfaas.telemetry.metrics import RouterMetrics
from tests.gateway.running_router import ManualClock, fleet_config
from tests.gateway.test_registry import instance

STALLED = "prfaas_router_stalled_seconds_total"


def awake(clock: ManualClock) -> tuple[AwakeClock, CollectorRegistry]:
    registry = CollectorRegistry()
    return AwakeClock(clock, AwakeMetrics(registry)), registry


def test_a_stall_counts_as_half_a_second_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    seen, registry = awake(clock)
    before_s = seen()
    clock.now_s += 10
    assert seen() == before_s + MOST_S, "also before anything else ran"
    seen.tick()
    assert seen() == before_s + MOST_S
    assert registry.get_sample_value(STALLED) == 10 - MOST_S
    assert "did not run for 9.5 s" in caplog.text


def test_while_it_runs_nothing_is_lost() -> None:
    clock = ManualClock()
    seen, registry = awake(clock)
    before_s = seen()
    for _ in range(100):
        clock.now_s += TICK_S
        seen.tick()
    assert seen() == before_s + 100 * TICK_S
    assert registry.get_sample_value(STALLED) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_it_never_runs_backwards_nor_faster(steps: list[tuple[float, bool]]) -> None:
    clock = ManualClock(0.0)
    seen, _ = awake(clock)
    last_s = seen()
    for seconds, ticks in steps:
        clock.now_s += seconds
        if ticks:
            seen.tick()
        assert last_s - 1e-9 <= seen() <= last_s + seconds + 1e-9
        last_s = seen()


def test_a_router_that_was_stopped_still_knows_its_instances() -> None:
    clock = ManualClock()
    seen, _ = awake(clock)
    registry = Registry(fleet_config(Path()), RouterMetrics(CollectorRegistry()), seen)
    registry.register(instance("d"), pb.Load(pages_total=1))
    clock.now_s += 10_000
    seen.tick()
    registry.sweep()
    assert [i.instance_id for i in registry.view().instances] == ["d"]
    for _ in range(1000):
        clock.now_s += TICK_S
        seen.tick()
    assert not registry.view().instances, "it runs, and hears nothing"
