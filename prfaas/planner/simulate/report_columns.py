"""The figures of a comparison that people read: what each is called, how it is written, and when it is good."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from prfaas.planner.simulate.outcome import Outcome
from prfaas.planner.simulate.report_words import BOUND

BEST = "*"
"""Stands behind the best figure of a column."""


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """One figure of every policy. `best`: which of them is marked; None: more is neither better nor worse."""

    heading: str
    value: Callable[[Outcome], float]
    form: str
    best: Literal["most", "least"] | None = None


@dataclass(frozen=True, slots=True)
class FigureTable:
    """Figures that are read together."""

    title: str
    columns: tuple[FigureColumn, ...]


TABLES = (
    FigureTable(
        "What clients see",
        (
            FigureColumn("goodput\nreq/s", lambda o: o.goodput_req_s, ".3f", "most"),
            FigureColumn("in time\n%", lambda o: 100 * o.goodput_req_s * o.duration_s / o.requests, ".1f", "most"),
            FigureColumn("TTFT, s\nmean", lambda o: o.ttft_s.mean, ".2f", "least"),
            FigureColumn("\np50", lambda o: o.ttft_s.p50, ".2f", "least"),
            FigureColumn("\np90", lambda o: o.ttft_s.p90, ".2f", "least"),
            FigureColumn("\np99", lambda o: o.ttft_s.p99, ".2f", "least"),
            FigureColumn("TPOT, ms\nmean", lambda o: o.tpot_ms.mean, ".1f", "least"),
            FigureColumn("\np99", lambda o: o.tpot_ms.p99, ".1f", "least"),
        ),
    ),
    FigureTable(
        "Where the time to the first token goes, mean seconds",
        (
            FigureColumn("queue", lambda o: o.queue_s.mean, ".3f", "least"),
            FigureColumn("prefill", lambda o: o.prefill_s.mean, ".3f", "least"),
            FigureColumn("transfer", lambda o: o.transfer_s.mean, ".3f", "least"),
            FigureColumn("first token", lambda o: o.first_token_s.mean, ".3f", "least"),
            FigureColumn("queue, p90", lambda o: o.queue_s.p90, ".3f", "least"),
            FigureColumn("transfer, p90", lambda o: o.transfer_s.p90, ".3f", "least"),
        ),
    ),
    FigureTable(
        "What it takes",
        (
            FigureColumn("offloaded\n%", lambda o: 100 * o.offloaded_fraction, ".1f"),
            FigureColumn("cached\n%", lambda o: 100 * o.cached_fraction, ".1f"),
            FigureColumn("egress\nGbit/s", lambda o: o.egress_gbit_s.mean, ".2f"),
            FigureColumn("p99 of\n10 s", lambda o: o.egress_gbit_s.p99_10s, ".2f"),
            FigureColumn("link\nused %", lambda o: 100 * o.utilisation, ".1f"),
            FigureColumn("fall-\nbacks", lambda o: sum(o.fallbacks.values()), ".0f"),
            FigureColumn("\nlost", lambda o: o.lost, ".0f"),
            FigureColumn("$ per\nMtoken", lambda o: o.usd_per_mtok, ".3f", "least"),
        ),
    ),
)


def cells(column: FigureColumn, outcomes: Sequence[Outcome]) -> list[str]:
    """As written, the best of the policies that can be chosen marked; none where all are written alike."""
    values = {o.policy: column.value(o) for o in outcomes if o.policy != BOUND}
    written = [format(column.value(o), column.form) for o in outcomes]
    if column.best is None or not values:
        return written
    best = format(max(values.values()) if column.best == "most" else min(values.values()), column.form)
    if all(format(value, column.form) == best for value in values.values()):
        return written
    return [
        text + BEST if text == best and o.policy in values else text for text, o in zip(written, outcomes, strict=True)
    ]
