"""An engine started here to be measured by its own events: `prefill_s` of prompts, time of steps. Fits no curves."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from prometheus_client import CollectorRegistry

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.cli.standalone import fleet_file
from prfaas.cli.start_engine import Launch, RunningEngine, launch_process, start_engine
from prfaas.config.sections import FleetConfig
from prfaas.core.errors import ConfigError
from prfaas.core.ids import RequestId
from prfaas.core.model_files import read_config
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import DType, ModelShape, model_shape
from prfaas.engine.messages import Generated, Prefilled, RequestEvent
from prfaas.instance.stream import Listener, RequestStream
from prfaas.planner.fit import DecodeSample, PrefillSample
from prfaas.planner.measured import CachedSample
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics

STEPS = 32
"""Of a batch, that are measured."""
MAX_ANSWER_TOKENS = 1 << 14
"""The first of a batch goes on while the last one's prompt is prefilled beside it, in small chunks."""


@dataclass(frozen=True, slots=True)
class Step:
    """As the engine told of it."""

    seconds: float
    decode_tokens: int
    prefill_tokens: int


class Answer:
    """Counts a request's tokens as they come, read or not."""

    def __init__(self) -> None:
        self.tokens = 0

    def hear(self, event: RequestEvent) -> None:
        self.tokens += isinstance(event, Generated)


class StepLog(InstanceMetrics):
    """Keeps every step besides counting it."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.log: list[Step] = []

    def stepped(self, seconds: float, forward_seconds: float, decode_tokens: int, prefill_tokens: int) -> None:
        super().stepped(seconds, forward_seconds, decode_tokens, prefill_tokens)
        self.log.append(Step(seconds, decode_tokens, prefill_tokens))


class ProfiledEngine:
    """Random prompts, of which no two begin alike: no prefix cache helps where none is meant to."""

    def __init__(
        self,
        running: RunningEngine,
        steps: StepLog,
        fleet: FleetConfig,
        shape: ModelShape,
        layout: PageLayout,
    ) -> None:
        self._running = running
        self._steps = steps
        self._random = random.Random(0)
        self.fleet = fleet
        self.shape = shape
        self.layout = layout

    @property
    def device(self) -> str:
        """What it computes on."""
        device = self._running.ready.device
        threads = self.fleet.engine.threads
        return f"{device}, {threads} thread{'s' * (threads > 1)}" if device == "cpu" else device

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
        """Steps of one batch, with prompts of so many tokens: the median of those that carry all of it and no prefill.

        Answers go on until all prompts are prefilled, and are given up when enough steps were seen.
        """
        answers = [Answer() for _ in range(requests)]
        longest = min(MAX_ANSWER_TOKENS, self.shape.max_context_tokens - context)
        streams = [self._open(self._prompt(context), longest, answer.hear) for answer in answers]
        try:
            for stream in streams:
                await _generated(stream, 1)
            before, first = sum(a.tokens for a in answers), len(self._steps.log)
            await _generated(streams[-1], STEPS)
            after = sum(a.tokens for a in answers)
        finally:
            for stream in streams:
                stream.close()
        whole = [s.seconds for s in self._steps.log[first:] if s.decode_tokens == requests and not s.prefill_tokens]
        if not whole:
            raise ConfigError(
                f"{requests} requests of {context} tokens never decoded together: give smaller --batches or shorter "
                "--lengths"
            )
        return DecodeSample(requests, requests * context + (before + after) / 2, median(whole))

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

    def _open(self, prompt: Sequence[int], new_tokens: int, listener: Listener | None = None) -> RequestStream:
        sampling = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        return self._running.front.open(Request(RequestId("profile"), tuple(prompt), sampling), Mode.SERVE, listener)


@asynccontextmanager
async def profiled_engine(
    directory: Path, dtype: DType | None, threads: int | None = None, launch: Launch = launch_process
) -> AsyncIterator[ProfiledEngine]:
    """With the sizes that `prfaas serve --model` would choose here. Raises ModelError, ConfigError, EngineError."""
    steps = StepLog()
    overrides = [] if threads is None else [f"engine.threads={threads}"]
    with fleet_file(directory, "127.0.0.1:0", dtype, overrides) as (_, fleet):
        shape = model_shape(read_config(directory), fleet.model.dtype)
        running = await start_engine("profile", fleet.model, fleet.engine, shape, steps, launch)
    try:
        yield ProfiledEngine(running, steps, fleet, shape, lay_out(shape, fleet.engine.page_tokens))
    finally:
        await asyncio.shield(running.front.stop())


async def _generated(stream: RequestStream, count: int) -> None:
    """Waits for so many more tokens."""
    while count:
        count -= isinstance(await stream.next(), Generated)
