"""Whether KV that arrives in an instance's front holds up its engine's steps, or the front's own event loop.

An engine process decodes with a tiny checkpoint while KV moves at a given rate: not at all; between two other
processes, which is what the same load on the same cores costs anyway, and the floor; and through the engine's own
front, whose threads place it, with several of Python's switch intervals.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry

from benchmarks.data_plane import ends
from benchmarks.data_plane.ends import LOOPBACK, READY, STOP
from benchmarks.data_plane.memory import PromptMemory
from benchmarks.data_plane.pair import SPAWN, Pair
from benchmarks.data_plane.plain import default_congestion_control
from benchmarks.data_plane.prfaas_plane import PrfaasReceiver
from benchmarks.data_plane.setup import Setup
from benchmarks.fairness import DECODE_PROMPT_TOKENS, WARM_TOKENS, prompt, settings
from benchmarks.fairness_engine import Decoding, tiny_engine, write_checkpoint
from benchmarks.report import Column, progress, show
from prfaas.core.errors import PrfaasError
from prfaas.telemetry.metrics import InstanceMetrics

TICK_S = 0.002
ANSWER_TOKENS = 1000

COLUMNS = (
    Column("KV moves", "where"),
    Column("switch\nms", "switch_ms", ".1f"),
    Column("GB/s", "gb_s", ".2f"),
    Column("steps", "steps", ",d"),
    Column("step ms\np50", "step_p50_ms", ".2f"),
    Column("p99", "step_p99_ms", ".2f"),
    Column("TPOT ms\np50", "tpot_p50_ms", ".2f"),
    Column("p99", "tpot_p99_ms", ".2f"),
    Column("loop lag ms\np50", "lag_p50_ms", ".2f"),
    Column("p99", "lag_p99_ms", ".2f"),
)


class StepTimes(InstanceMetrics):
    """Remembers each step of the engine."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.steps_s: list[float] = []

    def stepped(self, seconds: float, forward_seconds: float, decode_tokens: int, prefill_tokens: int) -> None:
        super().stepped(seconds, forward_seconds, decode_tokens, prefill_tokens)
        self.steps_s.append(seconds)


@dataclass(slots=True)
class Phase:
    """What was seen while KV moved in one way."""

    where: str
    switch_s: float
    steps_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    gb_s: float = 0.0

    def row(self) -> dict[str, Any]:
        figures = {
            f"{name}_p{percent}_ms": _percentile_ms(values, percent)
            for name, values in (("step", self.steps_s), ("tpot", self.gaps_s), ("lag", self.lags_s))
            for percent in (50, 99)
        }
        row = {"where": self.where, "switch_ms": self.switch_s * 1e3, "gb_s": self.gb_s, "steps": len(self.steps_s)}
        return {**row, **figures}


def main(
    gb_s: Annotated[float, typer.Option(min=0.01, help="KV that moves.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of each phase.")] = 8.0,
    requests: Annotated[int, typer.Option(min=1, help="That decode all the time.")] = 4,
    streams: Annotated[int, typer.Option(min=1, max=64, help="TCP connections.")] = 4,
    switch_ms: Annotated[list[float] | None, typer.Option(help="Switch intervals besides Python's own 5.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure decoding beside KV that arrives."""
    setup = Setup("checked", default_congestion_control(), streams, gb_s=gb_s)
    switches_s = [sys.getswitchinterval(), *(ms / 1e3 for ms in (switch_ms or [0.5, 20.0]))]
    try:
        with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as scratch:
            progress.print("writing the checkpoint")
            directory = write_checkpoint(Path(scratch) / "model")
            phases = asyncio.run(_measure(directory, setup, requests, seconds, switches_s))
    except PrfaasError as error:
        progress.print(f"no figures: {error}")
        raise typer.Exit(1) from error
    facts = {"asked_gb_s": gb_s, "requests": requests, "streams": streams, "seconds": seconds}
    show("decoding beside KV that arrives", COLUMNS, [p.row() for p in phases], facts, json_output=json_output)


async def _measure(
    directory: Path, setup: Setup, requests: int, seconds: float, switches_s: Sequence[float]
) -> list[Phase]:
    metrics = StepTimes()
    phases = []
    default_s = sys.getswitchinterval()
    async with tiny_engine(directory, settings(directory, requests, 0, threads=1), metrics) as (running, _):
        decoding = [Decoding(running, prompt(DECODE_PROMPT_TOKENS, seed), ANSWER_TOKENS) for seed in range(requests)]
        await asyncio.gather(*(one.has(WARM_TOKENS) for one in decoding))
        watch = _Watch(metrics, decoding, seconds)
        phases.append(await watch.phase(Phase("nowhere", default_s), None))
        pair = await asyncio.to_thread(Pair, setup, "")
        try:
            phases.append(
                await watch.phase(
                    Phase("between two other processes", default_s), lambda: asyncio.to_thread(pair.round, 1)
                )
            )
        finally:
            await asyncio.to_thread(pair.close)
        inward = await asyncio.to_thread(_Inward, setup)
        try:
            for switch_s in switches_s:
                sys.setswitchinterval(switch_s)
                phases.append(await watch.phase(Phase("through this front", switch_s), inward.round))
        finally:
            sys.setswitchinterval(default_s)
            await asyncio.to_thread(inward.close)
        for one in decoding:
            one.close()
    return phases


class _Watch:
    """Sees what happens while something moves."""

    def __init__(self, metrics: StepTimes, decoding: Sequence[Decoding], seconds: float) -> None:
        self._metrics = metrics
        self._decoding = decoding
        self._seconds = seconds

    async def phase(self, phase: Phase, move: Callable[[], Awaitable[object]] | None) -> Phase:
        """`move` moves one prompt, and is called again and again; its first call is not counted."""
        if move is not None:
            await move()
        self._metrics.steps_s.clear()
        started_s, prompts = time.perf_counter(), 0
        lagging = asyncio.create_task(_lags(phase.lags_s))
        while (now_s := time.perf_counter()) < started_s + self._seconds:
            if move is None:
                await asyncio.sleep(started_s + self._seconds - now_s)
            else:
                await move()
                prompts += 1
        lagging.cancel()
        phase.gb_s = prompts * Setup("plain", "", 1).prompt_bytes / 1e9 / (now_s - started_s)
        phase.steps_s = list(self._metrics.steps_s)
        for one in self._decoding:
            for answer_s in one.answers_s:
                moments = [at for at in answer_s if started_s <= at <= now_s]
                phase.gaps_s += [later - earlier for earlier, later in pairwise(moments)]
        progress.print(f"KV {phase.where}, switch interval {phase.switch_s * 1e3:g} ms: done")
        return phase


class _Inward:
    """A receiver in this process, and a sender in another."""

    def __init__(self, setup: Setup) -> None:
        self._line, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=ends.send, args=(theirs, setup, ""), daemon=True)
        self._process.start()
        theirs.close()
        assert self._line.recv_bytes() == READY
        self._receiver = PrfaasReceiver(PromptMemory(2), LOOPBACK, setup, "")
        self._line.send_bytes(self._receiver.address.encode())
        assert self._line.recv_bytes() == READY

    async def round(self) -> None:
        self._receiver.expect(1)
        self._line.send_bytes(b"1")
        await asyncio.to_thread(self._line.recv_bytes)
        await asyncio.to_thread(self._receiver.wait)

    def close(self) -> None:
        self._line.send_bytes(STOP)
        self._process.join()


async def _lags(found_s: list[float]) -> None:
    """How late this loop's timers are."""
    while True:
        started_s = time.perf_counter()
        await asyncio.sleep(TICK_S)
        found_s.append(time.perf_counter() - started_s - TICK_S)


def _percentile_ms(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] * 1e3


if __name__ == "__main__":
    typer.run(main)
