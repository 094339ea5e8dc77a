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
    decimals: int
    best: Literal["most", "least"] | None = None

    def written(self, outcome: Outcome) -> str:
        """Of large figures fewer decimals."""
        value = self.value(outcome)
        decimals = self.decimals if value < 100 else min(1, self.decimals) if value < 1000 else 0
        return f"{value:,.{decimals}f}"


@dataclass(frozen=True, slots=True)
class FigureTable:
    """Figures that are read together."""

    title: str
    columns: tuple[FigureColumn, ...]


TABLES = (
    FigureTable(
        "What clients see",
        (
            FigureColumn("goodput\nreq/s", lambda o: o.goodput_req_s, 3, "most"),
            FigureColumn("in time\n%", lambda o: 100 * o.goodput_req_s * o.duration_s / o.requests, 1, "most"),
            FigureColumn("TTFT, s\nmean", lambda o: o.ttft_s.mean, 2, "least"),
            FigureColumn("\np50", lambda o: o.ttft_s.p50, 2, "least"),
            FigureColumn("\np90", lambda o: o.ttft_s.p90, 2, "least"),
            FigureColumn("\np99", lambda o: o.ttft_s.p99, 2, "least"),
            FigureColumn("TPOT, ms\nmean", lambda o: o.tpot_ms.mean, 1, "least"),
            FigureColumn("\np99", lambda o: o.tpot_ms.p99, 1, "least"),
        ),
    ),
    FigureTable(
        "Where the time to the first token goes, mean seconds",
        (
            FigureColumn("queue", lambda o: o.queue_s.mean, 3, "least"),
            FigureColumn("prefill", lambda o: o.prefill_s.mean, 3, "least"),
            FigureColumn("transfer", lambda o: o.transfer_s.mean, 3, "least"),
            FigureColumn("first token", lambda o: o.first_token_s.mean, 3, "least"),
            FigureColumn("queue, p90", lambda o: o.queue_s.p90, 3, "least"),
            FigureColumn("transfer, p90", lambda o: o.transfer_s.p90, 3, "least"),
        ),
    ),
    FigureTable(
        "What it takes",
        (
            FigureColumn("offloaded\n%", lambda o: 100 * o.offloaded_fraction, 1),
            FigureColumn("cached\n%", lambda o: 100 * o.cached_fraction, 1),
            FigureColumn("egress\nGbit/s", lambda o: o.egress_gbit_s.mean, 2),
            FigureColumn("p99 of\n10 s", lambda o: o.egress_gbit_s.p99_10s, 2),
            FigureColumn("link\nused %", lambda o: 100 * o.utilisation, 1),
            FigureColumn("fall-\nbacks", lambda o: sum(o.fallbacks.values()), 0),
            FigureColumn("\nlost", lambda o: o.lost, 0),
            FigureColumn("$ per\nMtoken", lambda o: o.usd_per_mtok, 3, "least"),
        ),
    ),
)


def cells(column: FigureColumn, outcomes: Sequence[Outcome]) -> list[str]:
    """As written, the best of the policies that can be chosen marked; none where all are written alike."""
    written = [column.written(o) for o in outcomes]
    live = [o for o in outcomes if o.policy != BOUND]
    if column.best is None or not live:
        return written
    best = column.written((max if column.best == "most" else min)(live, key=column.value))
    if all(column.written(o) == best for o in live):
        return written
    return [text + BEST if text == best and o in live else text for text, o in zip(written, outcomes, strict=True)]
