"""What the rounds amount to: rows, floors, and what was asked against what was reached. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.engine_peers.rounds import BATCHES, Figures, Measured
from benchmarks.engine_peers.token_cost import TokenCost

Row = dict[str, Any]
PREFILL, B1, B8 = "prefill_tok_s", "decode_tok_s_b1", "decode_tok_s_b8"
FIGURES = (PREFILL, B1, B8)
QWENS = ("qwen3_5", "qwen3_next")
KIMI = "kimi_linear"
FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class Goal:
    """Ours must be at least `times` what `of` reaches."""

    models: tuple[str, ...]
    figure: str
    of: str
    times: float


GOALS = (
    Goal(QWENS, PREFILL, "transformers", 2.0),
    Goal(QWENS, PREFILL, "vllm", 1.25),
    Goal((KIMI,), PREFILL, "transformers", 8.0),
    Goal((*QWENS, KIMI), B1, "transformers", 2.0),
    Goal((*QWENS, KIMI), B8, "transformers", 2.2),
    Goal((*QWENS, KIMI), B1, "vllm", 1.1),
    Goal((*QWENS, KIMI), B8, "vllm", 1.1),
    Goal((*QWENS, KIMI), B1, FLOOR, 0.5),
)
MOST_OUTSIDE_MODEL = 0.10


def rows_of(model: str, measured: Measured) -> list[Row]:
    """A row per engine: medians, and the best of all rounds beside them."""
    return [_row(model, engine, figures) for engine, figures in measured.figures.items()]


def _row(model: str, engine: str, figures: Figures) -> Row:
    series = [figures.prefill_tok_s, *(figures.decode_tok_s[batch] for batch in BATCHES)]
    named = dict(zip(FIGURES, series, strict=True))
    return {
        "model": model,
        "engine": engine,
        **{figure: median(values) for figure, values in named.items()},
        "best": {figure: max(values) for figure, values in named.items()},
        "rounds": {figure: len(values) for figure, values in named.items()},
        "idle_cores": figures.idle_cores,
    }


def floor_of(measured: Measured, cost: TokenCost) -> Row:
    """What the machine allows for the model: bytes that must be read, operations that must be done, nothing else."""
    read_gb_s = median(reading["read_gb_s"] for reading in measured.machine)
    gemm_tflop_s = median(reading["gemm_tflop_s"] for reading in measured.machine)
    return {
        "read_gb_s": read_gb_s,
        "gemm_tflop_s": gemm_tflop_s,
        "weight_mb_per_token": cost.weight_bytes / 1e6,
        "prefill_mflop_per_token": cost.prefill_flop / 1e6,
        PREFILL: gemm_tflop_s * 1e12 / cost.prefill_flop,
        B1: read_gb_s * 1e9 / cost.weight_bytes,
    }


def outside_model(measured: Measured) -> Row:
    """Of our steps at the largest batch, the share of wall time outside the decoder."""
    return {
        "share": median(steady.outside_model for steady in measured.steady),
        "tokens_per_step": median(steady.tokens_per_step for steady in measured.steady),
    }


def with_ratios(rows: Sequence[Row], floors: Mapping[str, Row]) -> list[Row]:
    """The rows and the floors, model by model, each with how many times its figures ours are: `times_` + figure."""
    found: list[Row] = []
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        ours = of_model[0]
        for row in [*of_model, {"model": model, "engine": FLOOR, **floors[model]}]:
            times = {f"times_{f}": ours[f] / row[f] for f in FIGURES if f in row and row is not ours}
            found.append({**row, **times})
    return found


def targets(ratios: Sequence[Row], outside: Mapping[str, Row]) -> list[Row]:
    """Asked and reached, for what was measured in this run."""
    by_key = {(row["model"], row["engine"]): row for row in ratios}
    found = []
    for goal in GOALS:
        for model in goal.models:
            if row := by_key.get((model, goal.of)):
                reached = row[f"times_{goal.figure}"]
                what = f"{goal.figure} of {goal.of}"
                found.append(_target(model, what, goal.times, reached, met=reached >= goal.times))
    for model, share in outside.items():
        reached = share["share"]
        what = "share of a step at B=8 outside the model, at most"
        found.append(_target(model, what, MOST_OUTSIDE_MODEL, reached, met=reached <= MOST_OUTSIDE_MODEL))
    return found


def _target(model: str, what: str, asked: float, reached: float, *, met: bool) -> Row:
    return {"model": model, "what": what, "asked": asked, "reached": reached, "met": met}
