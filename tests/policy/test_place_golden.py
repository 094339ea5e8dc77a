"""Equal views give the placements that were recorded."""

import json
from typing import Any

import pytest

from tests.policy.golden import FILE, told

CASES: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['policy']}" for i, case in enumerate(CASES)])
def test_recorded(case: dict[str, Any]) -> None:
    assert told(case) == case["placement"]


def test_the_record_shows_all_that_a_placement_can_be() -> None:
    placements = [case["placement"] for case in CASES]
    prefills = {(placement["prefill"] or "itself")[0] for placement in placements}
    assert prefills >= {"p", "x"}
    assert any(placement["moved"] for placement in placements)
    assert any("but the first token is expected" in placement["reason"] for placement in placements)
    assert {placement["codec"] for placement in placements} == {"raw", "exact"}
