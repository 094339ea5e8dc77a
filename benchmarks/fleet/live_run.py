"""A workload through a live fleet, and what came of it, in the case study's seconds and bytes."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.engine_peers.process_tree import cpu_s
from benchmarks.fleet.client import Answer, Prompts, RefusedError, ask
from benchmarks.fleet.live_fleet import LiveFleet
from benchmarks.fleet.machine import CpuTime, Lateness, lateness
from benchmarks.fleet.spread import spread
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.outcome import Spread

BITS_PER_GBIT = 1e9
SETTLES_S = 2.0
"""Before the first arrival: what the last run left is over."""


@dataclass(frozen=True, slots=True)
class LinkCut:
    """From `at_s` on, for `for_s` seconds, the link has `share` of what it has."""

    at_s: float
    for_s: float
    share: float
    gbit_s: float
    """That it has before and after."""

    def covers(self, at_s: float) -> bool:
        return self.at_s <= at_s < self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Served:
    """One request that ended well."""

    at_s: float
    """When it was to come."""
    ttft_s: float
    ended_s: float
    queue_s: float
    prefill_s: float
    remote: bool
    wire_bytes: float
    fell_back: bool

    @property
    def rest_s(self) -> float:
        """Of the time to the first token: requests on their way, the end of a transfer, the first step that decodes."""
        return self.ttft_s - self.queue_s - self.prefill_s


@dataclass(slots=True)
class LiveRun:
    """All requests of one workload: those that ended well, and what became of the others."""

    served: list[Served] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    cpu_share: float = 0.0
    own_cores: float = 0.0
    """Of the fleet and its client, on average."""
    lateness: Lateness = field(default_factory=Lateness)
    thresholds: list[int] = field(default_factory=list)
    """Every one that was seen in force."""

    @property
    def ttft_s(self) -> Spread:
        return spread([request.ttft_s for request in self.served])

    @property
    def duration_s(self) -> float:
        """From the first arrival until the last answer has ended."""
        return max(r.ended_s for r in self.served) - min(r.at_s for r in self.served)

    @property
    def throughput_req_s(self) -> float:
        return len(self.served) / self.duration_s

    @property
    def egress_gbit_s(self) -> float:
        """Of KV that left `prfaas` clusters, mean over the run."""
        return sum(r.wire_bytes for r in self.served if r.remote) * 8 / BITS_PER_GBIT / self.duration_s

    def goodput_req_s(self, slo_ttft_s: float) -> float:
        """Requests whose first token was in time, over the time in which requests came."""
        came_s = max(r.at_s for r in self.served) - min(r.at_s for r in self.served)
        return sum(r.ttft_s <= slo_ttft_s for r in self.served) / came_s

    def in_time(self, slo_ttft_s: float) -> float:
        """Share of all requests, lost ones included."""
        return sum(r.ttft_s <= slo_ttft_s for r in self.served) / (len(self.served) + len(self.lost))


async def run_live(
    live: LiveFleet,
    prompts: Prompts,
    arrivals: Sequence[Arrival],
    on_ended: Callable[[], None],
    cut: LinkCut | None = None,
) -> LiveRun:
    """Sends every request when it is due, whatever became of those before."""
    run = LiveRun()
    cpu, late = CpuTime.now(), await lateness(live.metrics_addresses)
    began_s, own_s = time.monotonic(), cpu_s(os.getpid())
    start_s = began_s + SETTLES_S
    side = [asyncio.create_task(_watch_threshold(live, run))]
    if cut is not None:
        side.append(asyncio.create_task(_cut_link(live, cut, start_s)))
    try:
        async with asyncio.TaskGroup() as requests:
            for arrival in arrivals:
                # A due time is the workload's: whatever delays us counts as the fleet's.
                body = prompts.body(arrival.prompt_tokens, arrival.output_tokens)
                due_s = start_s + arrival.at_s / live.scales.time
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                requests.create_task(_one(live, run, arrival, body, due_s, on_ended))
    finally:
        await _end(side)
    run.cpu_share = CpuTime.now().share_since(cpu)
    run.own_cores = (cpu_s(os.getpid()) - own_s) / (time.monotonic() - began_s)
    run.lateness = (await lateness(live.metrics_addresses)).since(late)
    return run


async def _end(side: "list[asyncio.Task[None]]") -> None:
    """Raises what ended one of them before its time: a cut that was none is no figure."""
    for task in side:
        task.cancel()
    for outcome in await asyncio.gather(*side, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _one(
    live: LiveFleet, run: LiveRun, arrival: Arrival, body: bytes, due_s: float, on_ended: Callable[[], None]
) -> None:
    host, port = live.http
    try:
        run.served.append(_served(live, arrival, due_s, await ask(host, port, body, time.monotonic)))
    except (RefusedError, OSError) as error:
        run.lost.append(f"{type(error).__name__}: {error}")
    on_ended()


def _served(live: LiveFleet, arrival: Arrival, due_s: float, answer: Answer) -> Served:
    scales = live.scales
    kinds = {cluster.name: cluster.kind for cluster in live.config.clusters}
    trace = answer.trace
    return Served(
        at_s=arrival.at_s,
        ttft_s=(answer.first_token_s - due_s) * scales.time,
        ended_s=arrival.at_s + (answer.ended_s - due_s) * scales.time,
        queue_s=trace["queue_ms"] / 1e3 * scales.time,
        prefill_s=trace["prefill_ms"] / 1e3 * scales.time,
        remote=kinds[trace["prefill"]["cluster"]] == "prfaas",
        wire_bytes=trace["kv"]["bytes_wire"] / scales.kv,
        fell_back=bool(trace["fallback"]),
    )


async def _cut_link(live: LiveFleet, cut: LinkCut, start_s: float) -> None:
    begins_s = start_s + cut.at_s / live.scales.time
    await asyncio.sleep(begins_s - time.monotonic())
    await live.set_link(cut.gbit_s * cut.share)
    await asyncio.sleep(begins_s + cut.for_s / live.scales.time - time.monotonic())
    await live.set_link(cut.gbit_s)


async def _watch_threshold(live: LiveFleet, run: LiveRun) -> None:
    while True:
        threshold = await live.threshold_tokens()
        if run.thresholds[-1:] != [threshold]:
            run.thresholds.append(threshold)
        await asyncio.sleep(1.0)
