"""What was measured, as rows of tables and as the figures that the project asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.gateway.rounds import Loads, added_ms, at
from benchmarks.gateway.targets import OURS, PASSTHROUGH, STRAIGHT
from benchmarks.report import Column, Row

Times = Mapping[str, Sequence[float]]

COLUMNS = (
    Column("through", "name"),
    Column("answer,\nms p50", "answer_ms_p50", ".2f"),
    Column("added,\nms p50", "added_ms_p50", ".2f"),
    Column("added,\nms p99", "added_ms_p99", ".2f"),
    Column("requests/s", "req_s", ",.0f"),
    Column("of the\npass-through", "req_s_of_passthrough", ".2f"),
    Column("CPU s per 1,000\nrequests", "cpu_s_per_1k_requests", ".3f"),
    Column("CPU s per 1,000\nchunks", "cpu_s_per_1k_chunks", ".4f"),
    Column("first chunk,\nms p50", "first_chunk_ms_p50", ".2f"),
)
LONG_COLUMNS = (
    Column("the prompt", "case"),
    Column("added, ms p50", "added_ms", ".2f"),
    Column("of it the tokenizer's", "tokenizer_ms", ".2f"),
    Column("beyond it", "beyond_ms", ".2f"),
    Column("tokenizers library, ms", "library_ms", ".2f"),
)
MOST = {"added_ms_p50": 1.0, "added_ms_p50_100kb": 8.0, "chunks_of_passthrough": 1.0, "first_chunk_ms_p50": 2.0}
LEAST = {"req_s_of_passthrough": 0.3}
"""What the project asks of its gateway."""


@dataclass(frozen=True, slots=True)
class LongPrompts:
    """Of one kind of prompts: answers' times by target, and medians of what encoding one takes."""

    case: str
    times: Times
    tokenizer_ms: float
    library_ms: float

    @property
    def added_ms(self) -> float:
        return added_ms(self.times, OURS, 0.5)


def peer_rows(times: Times, loaded: Mapping[str, Loads]) -> list[dict[str, Any]]:
    """A row of each target; the backend's own has no added latency."""
    rows = []
    for name, load in loaded.items():
        row = {
            "name": name,
            "answer_ms_p50": at(times[name], 0.5),
            "req_s": median(load.req_s),
            "cpu_s_per_1k_requests": median(load.cpu_s_per_1k_requests),
            "cpu_s_per_1k_chunks": median(load.cpu_s_per_1k_chunks),
            "first_chunk_ms_p50": median(load.first_chunk_ms),
        }
        if name != STRAIGHT:
            row |= {"added_ms_p50": added_ms(times, name, 0.5), "added_ms_p99": added_ms(times, name, 0.99)}
        if floor := loaded.get(PASSTHROUGH):
            row["req_s_of_passthrough"] = _ratio(load.req_s, floor.req_s)
            row["chunks_of_passthrough"] = _ratio(load.cpu_s_per_1k_chunks, floor.cpu_s_per_1k_chunks)
        rows.append(row)
    return rows


def long_rows(measured: Sequence[LongPrompts]) -> list[dict[str, Any]]:
    return [
        {
            "case": long.case,
            "added_ms": long.added_ms,
            "tokenizer_ms": long.tokenizer_ms,
            "beyond_ms": long.added_ms - long.tokenizer_ms,
            "library_ms": long.library_ms,
        }
        for long in measured
    ]


def figures(rows: Sequence[Row], long: Sequence[LongPrompts]) -> dict[str, Any]:
    """The gateway's own on top, those of the others below `peers`, and which of those asked for are missed.

    The figure of 100 KB is what the gateway adds beyond its tokenizer to a prompt that it has never seen.
    """
    by_name = {row["name"]: {key: value for key, value in row.items() if key != "name"} for row in rows}
    unseen = long_rows(long)[0]
    found = by_name.pop(OURS) | {
        "added_ms_p50_100kb": unseen["beyond_ms"],
        "tokenizer_ms_100kb": unseen["tokenizer_ms"],
        "long_prompts": long_rows(long),
        "straight": by_name.pop(STRAIGHT),
        "peers": by_name,
    }
    missed = [key for key, most in MOST.items() if found.get(key, 0.0) > most]
    return found | {"targets_missed": missed + [key for key, least in LEAST.items() if found.get(key, least) < least]}


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios: what happens during a round happens to both."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
