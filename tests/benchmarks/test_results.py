"""Rows, floors and targets of a run whose figures are known."""

from typing import Any

import pytest

from benchmarks.engine_peers.prfaas_engine import Reading, Steady, steady
from benchmarks.engine_peers.results import (
    B1,
    B8,
    FLOOR,
    GOALS,
    PREFILL,
    floor_of,
    outside_model,
    rows_of,
    targets,
    with_ratios,
)
from benchmarks.engine_peers.rounds import Figures, Measured
from benchmarks.engine_peers.token_cost import TokenCost

COST = TokenCost(weight_bytes=100e6, prefill_flop=50e6)


def figures(prefill: list[float], one: list[float], eight: list[float]) -> Figures:
    return Figures(prefill, {1: one, 8: eight}, idle_cores=0.0)


def run() -> Measured:
    return Measured(
        {
            "prfaas": figures([900, 1000, 5000], [200, 210, 190], [800, 820, 700]),
            "transformers": figures([400, 600], [100, 100, 90], [400, 410, 390]),
        },
        steady=[Steady(0.05, 8), Steady(0.2, 8), Steady(0.04, 7)],
        machine=[{"read_gb_s": r, "gemm_tflop_s": g} for r, g in ((30, 0.1), (40, 0.5), (50, 1.0))],
    )


def all_of(model: str = "qwen3_5") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows with ratios, and targets."""
    measured = run()
    ratios = with_ratios(rows_of(model, measured), {model: floor_of(measured, COST)})
    return ratios, targets(ratios, {model: outside_model(measured)})


def test_rows_have_medians_and_the_best() -> None:
    ours, theirs = rows_of("m", run())
    assert (ours["engine"], ours[PREFILL], ours[B1], ours[B8]) == ("prfaas", 1000, 200, 800)
    assert ours["best"] == {PREFILL: 5000, B1: 210, B8: 820}
    assert (theirs[PREFILL], theirs["rounds"][PREFILL]) == (500, 2)


def test_the_floor_is_bytes_to_read_and_operations_to_do() -> None:
    floor = floor_of(run(), COST)
    assert floor[B1] == pytest.approx(400)
    assert floor[PREFILL] == pytest.approx(10_000)
    assert B8 not in floor


def test_ratios_say_how_many_times_ours_is() -> None:
    (ours, theirs, floor), _ = all_of()
    assert not any(key.startswith("times_") for key in ours)
    assert {key: value for key, value in theirs.items() if key.startswith("times_")} == {
        f"times_{PREFILL}": 2.0,
        f"times_{B1}": 2.0,
        f"times_{B8}": 2.0,
    }
    assert floor["engine"] == FLOOR
    assert floor[f"times_{B1}"] == pytest.approx(0.5)
    assert f"times_{B8}" not in floor


def test_targets_are_met_or_missed_and_unmeasured_ones_left_out() -> None:
    _, asked = all_of()
    assert {(t["what"], t["met"]) for t in asked} == {
        (f"{PREFILL} of transformers", True),
        (f"{B1} of transformers", True),
        (f"{B8} of transformers", False),
        (f"{B1} of floor", True),
        ("share of a step at B=8 outside the model, at most", True),
    }
    assert next(t["reached"] for t in asked if t["what"].startswith("share")) == 0.05


def test_each_model_has_its_own_goals() -> None:
    asked_prefill = {(model, g.of): g.times for g in GOALS if g.figure == PREFILL for model in g.models}
    assert asked_prefill["kimi_linear", "transformers"] == 8.0
    assert ("kimi_linear", "vllm") not in asked_prefill
    kimi = [t for t in all_of("kimi_linear")[1] if t["what"] == f"{PREFILL} of transformers"]
    assert [(t["asked"], t["reached"], t["met"]) for t in kimi] == [(8.0, 2.0, False)]


def test_what_is_not_in_the_model_includes_the_time_between_steps() -> None:
    start = Reading(wall_s=10.0, forward_s=3.0, steps=7, decode_tokens=20)
    end = Reading(wall_s=12.0, forward_s=4.5, steps=17, decode_tokens=100)
    assert steady(start, end) == Steady(outside_model=0.25, tokens_per_step=8)
