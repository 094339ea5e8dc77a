"""An engine started here to be measured by its own events: `prefill_s` of prompts, time of steps. Fits no curves."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.cli.standalone import fleet_file
from prfaas.cli.start_engine import RunningEngine, launch_process, start_engine
from prfaas.config.sections import FleetConfig
from prfaas.core.errors import ConfigError
from prfaas.core.ids import RequestId
from prfaas.core.model_files import read_config
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import DType, ModelShape, model_shape
from prfaas.engine.messages import Generated, Prefilled
from prfaas.instance.stream import RequestStream
from prfaas.planner.fit import DecodeSample, PrefillSample
from prfaas.planner.measured import CachedSample
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics

STEPS = 32
"""Of a batch, that are measured."""
EDGE_STEPS = 4
"""Left out before them and after: not all requests begin and end in the same step."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Totals since the start."""

    count: float
    seconds: float


class ProfiledEngine:
    """Random prompts, of which no two begin alike: no prefix cache helps where none is meant to."""

    def __init__(
        self,
        running: RunningEngine,
        metrics: InstanceMetrics,
        fleet: FleetConfig,
        shape: ModelShape,
        layout: PageLayout,
    ) -> None:
        self._running = running
        self._metrics = metrics
        self._random = random.Random(0)
        self.fleet = fleet
        self.shape = shape
        self.layout = layout

    @property
    def device(self) -> str:
        """What it computes on."""
        device = self._running.ready.device
        return f"{device}, {self.fleet.engine.threads} threads" if device == "cpu" else device

    def check(self, tokens: int, requests: int) -> None:
        """Raises ConfigError for so many requests at once that it cannot hold, each of so many tokens."""
        longest = self.shape.max_context_tokens
        if tokens > longest:
            raise ConfigError(f"{tokens} tokens are more than the model's {longest}; give shorter --lengths")
        engine = self.fleet.engine
        each = -(-tokens // engine.page_tokens) + 2 * self.layout.state_pages
        most = min(engine.max_running_requests, engine.num_pages // each)
        if requests > most:
            raise ConfigError(
                f"{requests} requests of {tokens} tokens do not fit: this machine's memory has room for {most}; give "
                "smaller --batches or shorter --lengths"
            )

    async def prefill(self, tokens: int) -> PrefillSample:
        """One prompt, alone."""
        done = await self._prefill(self._prompt(tokens))
        return PrefillSample(tokens, done.queue_s + done.prefill_s)

    async def prefill_behind(self, tokens: int, cached: int) -> CachedSample | None:
        """A prompt whose beginning was asked for before; None where the cache kept nothing of it."""
        prompt = self._prompt(tokens)
        await self._prefill(prompt[:cached])
        done = await self._prefill(prompt)
        if not done.tokens_reused:
            return None
        return CachedSample(tokens, done.tokens_reused, done.queue_s + done.prefill_s)

    async def decode(self, requests: int, context: int) -> DecodeSample:
        """Steps of one batch, whose requests have so many tokens each when it begins."""
        streams = [self._open(self._prompt(context), STEPS + 2 * EDGE_STEPS) for _ in range(requests)]
        readings = []
        for tokens in (EDGE_STEPS, STEPS, EDGE_STEPS):
            for stream in streams:
                await _generated(stream, tokens)
            readings.append(self._steps())
        start, end, _ = readings
        for stream in streams:
            stream.close()
        middle = context + EDGE_STEPS + STEPS / 2
        return DecodeSample(requests, requests * middle, (end.seconds - start.seconds) / (end.count - start.count))

    def _prompt(self, tokens: int) -> list[int]:
        # Ids below 100 may mean something to the model.
        vocab = self._running.ready.vocab_size
        return [self._random.randrange(min(100, vocab - 1), vocab) for _ in range(tokens)]

    async def _prefill(self, prompt: Sequence[int]) -> Prefilled:
        stream = self._open(prompt, 1)
        try:
            prefilled = None
            while not isinstance(event := await stream.next(), Generated):
                if isinstance(event, Prefilled):
                    prefilled = event
        finally:
            stream.close()
        assert prefilled is not None, "a first token without its prefill"
        return prefilled

    def _open(self, prompt: Sequence[int], new_tokens: int) -> RequestStream:
        sampling = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        return self._running.front.open(Request(RequestId("profile"), tuple(prompt), sampling), Mode.SERVE)

    def _steps(self) -> Steps:
        # A step's tokens and its time come in one batch of events: what has been counted is what was computed.
        return Steps(self._value("prfaas_engine_step_seconds_count"), self._value("prfaas_engine_step_seconds_sum"))

    def _value(self, name: str) -> float:
        value = self._metrics.registry.get_sample_value(name)
        assert value is not None, f"no metric {name}"
        return value


@asynccontextmanager
async def profiled_engine(directory: Path, dtype: DType | None) -> AsyncIterator[ProfiledEngine]:
    """With the sizes that `prfaas serve --model` would choose here. Raises ModelError, ConfigError, EngineError."""
    metrics = InstanceMetrics(CollectorRegistry())
    with fleet_file(directory, "127.0.0.1:0", dtype, [f"engine.threads={os.cpu_count() or 1}"]) as (_, fleet):
        shape = model_shape(read_config(directory), fleet.model.dtype)
        running = await start_engine("profile", fleet.model, fleet.engine, shape, metrics, launch_process)
    try:
        yield ProfiledEngine(running, metrics, fleet, shape, lay_out(shape, fleet.engine.page_tokens))
    finally:
        await asyncio.shield(running.front.stop())


async def _generated(stream: RequestStream, count: int) -> None:
    """Waits for so many more tokens."""
    while count:
        count -= isinstance(await stream.next(), Generated)
