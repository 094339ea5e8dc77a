"""Our engine as an instance runs it: a process of its own behind a real link, with what `prfaas serve --model` sets."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from benchmarks.engine_peers.process_tree import children
from prfaas.cli.standalone import fleet_file
from prfaas.cli.start_engine import RunningEngine, launch_process, start_engine
from prfaas.core.ids import RequestId
from prfaas.core.model_files import read_config
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import model_shape
from prfaas.engine.messages import Generated
from prfaas.instance.stream import RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics

EDGE_TOKENS = 8
"""Left out of the steady phase on both sides: not all requests begin and end in the same step."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals at one moment."""

    wall_s: float
    forward_s: float
    steps: float
    decode_tokens: float


@dataclass(frozen=True, slots=True)
class Steady:
    """A stretch of decoding, from the end of one step to the end of a later one."""

    outside_model: float
    """The share of wall time that no decoder was running: scheduling, drawing, messages, whatever else."""
    tokens_per_step: float


def steady(start: Reading, end: Reading) -> Steady:
    """What lies between two readings."""
    return Steady(
        outside_model=1 - (end.forward_s - start.forward_s) / (end.wall_s - start.wall_s),
        tokens_per_step=(end.decode_tokens - start.decode_tokens) / (end.steps - start.steps),
    )


class PrfaasEngine:
    """An engine process, and the front that an instance would have, in this one."""

    name = "prfaas"

    def __init__(self, running: RunningEngine, metrics: InstanceMetrics, pid: int) -> None:
        self._running = running
        self._metrics = metrics
        self.pid = pid

    @classmethod
    async def start(cls, directory: Path, threads: int) -> "PrfaasEngine":
        """Raises ModelError, or EngineError when the engine ends before it is ready."""
        metrics = InstanceMetrics(CollectorRegistry())
        before = children(os.getpid())
        # As for the others: a prompt that comes again is computed again.
        settings = [f"engine.threads={threads}", "engine.prefix_cache.enabled=false"]
        with fleet_file(directory, "127.0.0.1:0", "bfloat16", settings) as (_, fleet):
            shape = model_shape(read_config(directory), fleet.model.dtype)
            running = await start_engine("bench", fleet.model, fleet.engine, shape, metrics, launch_process)
        (pid,) = children(os.getpid()) - before
        return cls(running, metrics, pid)

    @property
    def compiled_kernels(self) -> bool:
        return self._running.ready.compiled_kernels

    async def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
        """Seconds from the first request's submission to the last one's last token."""
        started = time.perf_counter()
        streams = [self._open(prompt, new_tokens) for prompt in prompts]
        await asyncio.gather(*(_tokens(stream, new_tokens) for stream in streams))
        return time.perf_counter() - started

    async def decode_steadily(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Steady:
        """Decodes all prompts together, and says where the time of the steps went."""
        assert new_tokens > 2 * EDGE_TOKENS
        streams = [self._open(prompt, new_tokens) for prompt in prompts]
        readings = []
        for tokens in (EDGE_TOKENS, new_tokens - 2 * EDGE_TOKENS, EDGE_TOKENS):
            for stream in streams:
                await _tokens(stream, tokens)
            readings.append(self._read())
        return steady(*readings[:2])

    async def close(self) -> None:
        await self._running.front.stop()

    def _open(self, prompt: Sequence[int], new_tokens: int) -> RequestStream:
        sampling = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        return self._running.front.open(Request(RequestId("bench"), tuple(prompt), sampling), Mode.SERVE)

    def _read(self) -> Reading:
        # Tokens and the measure of their step come in one batch of events: what has been counted is what was computed.
        return Reading(
            time.perf_counter(),
            self._value("prfaas_engine_forward_seconds_sum"),
            self._value("prfaas_engine_steps_total"),
            self._value("prfaas_engine_tokens_total", phase="decode"),
        )

    def _value(self, name: str, **labels: str) -> float:
        value = self._metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no metric {name}"
        return value


async def _tokens(stream: RequestStream, count: int) -> None:
    """Waits for so many more tokens; the last of all ends the stream."""
    while count:
        event = await stream.next()
        if isinstance(event, Generated):
            count -= 1
            if event.finish is not None:
                stream.close()
