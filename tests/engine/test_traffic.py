"""Much traffic through one step loop with little memory: shared prefixes, imports, exports, clients that go, faults."""

from pathlib import Path

import pytest

from tests.engine.traffic_rig import Traffic


@pytest.mark.parametrize("seed", range(6))
def test_all_ends_with_the_right_tokens_and_nothing_is_left(tmp_path: Path, seed: int) -> None:
    traffic = Traffic(tmp_path, seed)
    traffic.run(150)
    traffic.stop()
    assert (traffic.memory.faults, traffic.wrong) == ([], [])
    assert set(traffic.ended) == {"finished", "exported", "cancelled"}


@pytest.mark.parametrize("seed", range(6))
def test_steps_that_fail_and_numbers_that_are_not_finite_cost_their_requests_alone(tmp_path: Path, seed: int) -> None:
    traffic = Traffic(tmp_path, seed, bad=0.01, raises=0.02)
    traffic.run(150)
    traffic.stop()
    assert (traffic.memory.faults, traffic.wrong) == ([], [])
    assert set(traffic.ended) == {"finished", "exported", "cancelled", "engine_failed"}
