"""A policy section and what router and simulator make of it."""

from dataclasses import fields
from typing import Any

import pytest

from prfaas.config.sections import PolicySection
from prfaas.policy.knobs import knobs

CHANGED: dict[str, Any] = {
    "margin": 0.5,
    "margin_s": 0.75,
    "usd_per_ttft_s": 0.125,
    "cache_transfers": False,
    "slo_ttft_s": 3.0,
    "slo_patience": 4.0,
    "max_queued_requests": 7,
}


@pytest.mark.parametrize("knob", sorted(set(PolicySection.model_fields) - {"name"}))
def test_no_knob_of_the_section_is_ignored(knob: str) -> None:
    before = knobs(PolicySection(), 100)
    after = knobs(PolicySection.model_validate({knob: CHANGED[knob]}), 100)
    assert getattr(after, knob) == CHANGED[knob]
    others = {field.name for field in fields(after)} - {knob} - ({"in_time_s"} if knob == "slo_ttft_s" else set())
    assert all(getattr(before, name) == getattr(after, name) for name in others)


def test_a_first_token_that_is_due_is_to_be_in_time() -> None:
    assert knobs(PolicySection(slo_ttft_s=3.0), 100).in_time_s == 3.0
    assert knobs(PolicySection(), 100).in_time_s is None


def test_raw_is_always_there() -> None:
    assert knobs(PolicySection(), 7, ["int8"]).codecs == {"raw", "int8"}
    assert knobs(PolicySection(), 7).threshold_tokens == 7
