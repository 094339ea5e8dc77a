"""What a probe found, as JSON or in words. Measures nothing."""

from collections.abc import Sequence
from typing import Self

import msgspec
from rich.console import Console
from rich.table import Table

from prfaas.transport.caller import Caller
from prfaas.transport.probe import ProbeRun, Reached
from prfaas.transport.probe_advice import Advice

LOSSY = 0.0005
"""Retransmitted share that is worth a word."""
BLOATED_MS = 50.0
"""Of waiting on the way, under load, that are worth one."""


class RunReport(msgspec.Struct, frozen=True):
    """One measurement; `rtt_ms` is under load."""

    streams: int
    gbit_s: float
    rtt_ms: float | None
    retransmitted: float | None
    congestion_control: str


class TransferReport(msgspec.Struct, frozen=True):
    """Time to move everything that the model caches of a prompt, unencoded."""

    tokens: int
    seconds: float


class ProbeReport(msgspec.Struct, frozen=True):
    """Of one path. `rtt_ms` is idle, from end to end, `rtt_added_ms` what load adds; `snippet` is for a fleet file."""

    to: str
    instance: str
    source: str
    target: str
    credit_bytes: int
    max_streams: int
    rtt_ms: float
    gbit_s: float
    streams: int
    congestion_control: str
    rtt_added_ms: float
    runs: list[RunReport]
    model: str | None
    transfers: list[TransferReport]
    snippet: str

    @classmethod
    def of(
        cls,
        to: str,
        caller: Caller,
        reached: Reached,
        runs: Sequence[ProbeRun],
        advice: Advice,
        model: str | None,
        *,
        automatic: bool,
    ) -> Self:
        welcome = reached.welcome
        rtt_ms = round(reached.greeting_rtt_s * 1e3, 3)
        return cls(
            to=to,
            instance=welcome.instance_id,
            source=caller.cluster,
            target=welcome.cluster,
            credit_bytes=welcome.credit_bytes,
            max_streams=welcome.max_streams,
            rtt_ms=rtt_ms,
            gbit_s=round(advice.gbit_s, 3),
            streams=advice.streams,
            congestion_control=advice.congestion_control,
            rtt_added_ms=round(advice.rtt_added_s * 1e3, 3),
            runs=[_run(run) for run in runs],
            model=model,
            transfers=[TransferReport(tokens, round(seconds, 3)) for tokens, seconds in advice.transfer_s],
            snippet=_snippet(caller.cluster, welcome.cluster, advice, rtt_ms, automatic=automatic),
        )


def show(report: ProbeReport, console: Console) -> None:
    """The report in words."""
    console.print(
        f"{report.to} is {report.instance} of cluster {report.target}; round trip {report.rtt_ms:.2f} ms, "
        f"{report.credit_bytes >> 20} MiB of credit, up to {report.max_streams} connections",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("streams", "congestion control", "Gbit/s", "RTT loaded, ms", "sent again, %")
    for run in report.runs:
        rtt = "-" if run.rtt_ms is None else f"{run.rtt_ms:.2f}"
        again = "-" if run.retransmitted is None else f"{100 * run.retransmitted:.3f}"
        table.add_row(str(run.streams), run.congestion_control, f"{run.gbit_s:.2f}", rtt, again)
    console.print(table)
    for line in words(report):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"\n{report.snippet}", highlight=False, markup=False)


def words(report: ProbeReport) -> list[str]:
    """What to make of it."""
    streams = f"{report.streams} stream{'s' if report.streams > 1 else ''}"
    lines = [f"The path carries {report.gbit_s:.2f} Gbit/s: use {streams} and {report.congestion_control}."]
    if report.rtt_added_ms >= BLOATED_MS:
        lines.append(
            f"Under load the round trip takes {report.rtt_added_ms:.0f} ms more: something on the way queues much, and "
            "other traffic will feel it."
        )
    chosen = (report.streams, report.congestion_control)
    best = next(run for run in report.runs if (run.streams, run.congestion_control) == chosen)
    if best.retransmitted is not None and best.retransmitted >= LOSSY:
        lines.append(f"{100 * best.retransmitted:.2f} % of the bytes were sent again: packets are lost.")
    lines += [f"KV of {t.tokens >> 10}K tokens of {report.model}: {t.seconds:.2f} s" for t in report.transfers]
    if report.model is None:
        lines.append("With --config and --name it also says how long the KV of your model takes.")
    return lines


def _run(run: ProbeRun) -> RunReport:
    return RunReport(
        streams=run.streams,
        gbit_s=round(run.bytes_per_s * 8e-9, 3),
        rtt_ms=None if run.rtt_s is None else round(run.rtt_s * 1e3, 3),
        retransmitted=None if run.retransmitted is None else round(run.retransmitted, 6),
        congestion_control=run.congestion_control,
    )


def _snippet(source: str, target: str, advice: Advice, rtt_ms: float, *, automatic: bool) -> str:
    lines = [
        "transport:",
        f"  min_streams: {advice.streams}",
        f"  congestion_control: {'auto' if automatic else advice.congestion_control}",
    ]
    if source != target:
        lines = [
            "links:",
            f"  - between: [{source}, {target}]",
            f"    gbit_s: {max(advice.gbit_s, 0.001):.3g}",
            f"    rtt_ms: {rtt_ms:.3g}",
            *lines,
        ]
    return "\n".join(lines)
