"""Time to first token of a prompt whose beginning was computed before, over that of the first such prompt.

An engine process behind its front's link, as an instance runs it, with the tiny checkpoint of the fairness benchmark.
"""

import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fairness_engine import DTYPE, FIRST_ORDINARY_ID, VOCAB, tiny_engine, write_checkpoint
from prfaas.cache.layout import lay_out
from prfaas.cli.start_engine import RunningEngine
from prfaas.config.sections import EngineSection
from prfaas.core.ids import RequestId
from prfaas.core.model_files import read_config
from prfaas.core.request import Request, SamplingParams
from prfaas.core.shape import model_shape
from prfaas.engine.messages import Failed, Generated, RequestEvent
from prfaas.scheduler.sequence import Mode

TAIL_TOKENS = 32
"""Of each prompt after the part that two share."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Starts:
    """Medians of the prompts that came first, and of those that share their beginning."""

    cold_ms: float
    warm_ms: float

    @property
    def ratio(self) -> float:
        return self.warm_ms / self.cold_ms


async def measure(shared_tokens: int, rounds: int, threads: int) -> Starts:
    """Each round has a beginning of its own. Raises ModelError or EngineError."""
    with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as scratch:
        directory = write_checkpoint(Path(scratch) / "model")
        async with tiny_engine(directory, _settings(directory, shared_tokens, threads)) as (running, _):
            await _first_token_ms(running, _tokens(shared_tokens + TAIL_TOKENS, "warms the engine up"))
            pairs = [await _pair(running, shared_tokens, number) for number in range(rounds)]
    cold_ms, warm_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Starts(cold_ms, warm_ms)


async def _pair(running: RunningEngine, shared_tokens: int, number: int) -> tuple[float, float]:
    shared = _tokens(shared_tokens, f"beginning {number}")
    cold_ms = await _first_token_ms(running, [*shared, *_tokens(TAIL_TOKENS, f"first {number}")])
    return cold_ms, await _first_token_ms(running, [*shared, *_tokens(TAIL_TOKENS, f"second {number}")])


async def _first_token_ms(running: RunningEngine, prompt: Sequence[int]) -> float:
    """Of a request that is alone. Raises the request's failure as RuntimeError."""
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def hear(event: RequestEvent) -> None:
        if isinstance(event, Generated):
            ended.set_result(time.perf_counter())
        elif isinstance(event, Failed):
            ended.set_exception(RuntimeError(event.message))

    sampling = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    request = Request(RequestId(f"start-{next(_numbers)}"), tuple(prompt), sampling)
    start_s = time.perf_counter()
    stream = running.front.open(request, Mode.SERVE, hear)
    try:
        return (await ended - start_s) * 1e3
    finally:
        stream.close()


def _settings(directory: Path, shared_tokens: int, threads: int) -> EngineSection:
    """Room for all of a few prompts: what is measured is not eviction."""
    section = EngineSection(threads=threads)
    layout = lay_out(model_shape(read_config(directory), DTYPE), section.page_tokens)
    one = (shared_tokens + TAIL_TOKENS) // section.page_tokens + 2 + 4 * layout.state_pages
    return section.model_copy(update={"num_pages": 8 * one})


def _tokens(count: int, seed: str) -> list[int]:
    return random.Random(seed).choices(range(FIRST_ORDINARY_ID, VOCAB), k=count)
