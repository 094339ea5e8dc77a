"""What a long prompt costs the requests that decode beside it: time per token before, while and after it prefills.

An engine process behind its front's link, as an instance runs it, with a tiny random checkpoint of qwen3_5's kind. The
floor is the same requests' time per token with nothing beside them; `engine.decode_slowdown` says what steps may take.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.fairness_engine import (
    DTYPE,
    FIRST_ORDINARY_ID,
    VOCAB,
    Decoding,
    own_mb,
    tiny_engine,
    write_checkpoint,
)
from benchmarks.report import Column, progress, show
from prfaas.cache.layout import lay_out
from prfaas.config.sections import EngineSection, PrefixCacheSection
from prfaas.core.errors import PrfaasError
from prfaas.core.model_files import read_config
from prfaas.core.shape import model_shape

DECODE_PROMPT_TOKENS = 64
WARM_TOKENS = 200
"""Of each request, before anything is counted; the engine has learned by then what steps cost."""
ANSWER_TOKENS = 1000
"""Then a request is asked again: its own context must not make it slower in the course of a long prefill."""

COLUMNS = (
    Column("the long prompt", "phase"),
    Column("seconds", "seconds", ".1f"),
    Column("tokens of\nthe others", "tokens", ",d"),
    Column("TPOT ms\np50", "p50_ms", ".2f"),
    Column("p90", "p90_ms", ".2f"),
    Column("p99", "p99_ms", ".2f"),
    Column("longest", "max_ms", ".1f"),
    Column("p50, times\nbefore", "times_p50", ".2f"),
    Column("p90, times\nbefore", "times_p90", ".2f"),
    Column("prefill\ntok/s", "prefill_tok_s", ",.0f"),
    Column("engine's own\nmemory MB", "own_mb", ",.0f"),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time, and how long each token of the decoding requests took in it."""

    name: str
    seconds: float
    gaps_s: tuple[float, ...]
    own_mb: float

    @classmethod
    def of(
        cls, name: str, start_s: float, end_s: float, answers_s: Iterable[Sequence[float]], own_mb: float
    ) -> "Phase":
        """Of the moments in which tokens came, answer by answer, those that end a gap within the phase."""
        gaps = [
            later - earlier
            for answer_s in answers_s
            for earlier, later in pairwise(answer_s)
            if start_s <= later <= end_s
        ]
        return cls(name, end_s - start_s, tuple(gaps), own_mb)

    def row(self, before: "Phase", prefill_tokens: int | None) -> dict[str, Any]:
        return {
            "phase": self.name,
            "seconds": self.seconds,
            "tokens": len(self.gaps_s),
            "p50_ms": self.percentile_ms(50),
            "p90_ms": self.percentile_ms(90),
            "p99_ms": self.percentile_ms(99),
            "max_ms": max(self.gaps_s) * 1e3,
            "times_p50": self.percentile_ms(50) / before.percentile_ms(50),
            "times_p90": self.percentile_ms(90) / before.percentile_ms(90),
            "prefill_tok_s": prefill_tokens / self.seconds if prefill_tokens else None,
            "own_mb": self.own_mb,
        }

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.gaps_s, n=100, method="inclusive")[percent - 1] * 1e3


def main(
    requests: Annotated[int, typer.Option(min=1, help="That decode all the time.")] = 4,
    prompt_tokens: Annotated[int, typer.Option(min=1000, max=200_000, help="Of the long prompt.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of the phases before and after.")] = 5.0,
    threads: Annotated[int, typer.Option(min=1, help="Of the engine.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Measure decoding beside a long prefill."""
    try:
        with tempfile.TemporaryDirectory(prefix="prfaas-bench-") as scratch:
            progress.print("writing the checkpoint")
            directory = write_checkpoint(Path(scratch) / "model")
            phases = asyncio.run(_measure(directory, requests, prompt_tokens, seconds, threads))
    except PrfaasError as error:
        progress.print(f"no figures: {error}")
        raise typer.Exit(1) from error
    before = phases[0]
    rows = [phase.row(before, prompt_tokens if phase.name == "prefills" else None) for phase in phases]
    facts = {
        "requests": requests,
        "prompt_tokens": prompt_tokens,
        "threads": threads,
        "dtype": DTYPE,
        "decode_slowdown": EngineSection().decode_slowdown,
    }
    show("decoding beside a long prompt", COLUMNS, rows, facts, json_output=json_output)


async def _measure(directory: Path, requests: int, prompt_tokens: int, seconds: float, threads: int) -> list[Phase]:
    section = settings(directory, requests, prompt_tokens, threads)
    async with tiny_engine(directory, section) as (running, pid):
        decoding = [Decoding(running, prompt(DECODE_PROMPT_TOKENS, seed), ANSWER_TOKENS) for seed in range(requests)]
        await asyncio.gather(*(one.has(WARM_TOKENS) for one in decoding))
        progress.print("before")
        times, memory = [time.perf_counter()], []
        await asyncio.sleep(seconds)
        times.append(time.perf_counter())
        memory.append(own_mb(pid))
        progress.print(f"prefilling {prompt_tokens:,} tokens")
        long = Decoding(running, prompt(prompt_tokens, requests), 2)
        await long.has(1)
        times.append(time.perf_counter())
        memory.append(own_mb(pid))
        long.close()
        progress.print("after")
        await asyncio.sleep(seconds)
        times.append(time.perf_counter())
        memory.append(own_mb(pid))
        for one in decoding:
            one.close()
    names = ("is not there", "prefills", "has ended")
    answers_s = [answer_s for one in decoding for answer_s in one.answers_s]
    return [
        Phase.of(name, start, end, answers_s, own_mb)
        for name, start, end, own_mb in zip(names, times, times[1:], memory, strict=False)
    ]


def settings(directory: Path, requests: int, prompt_tokens: int, threads: int) -> EngineSection:
    """A pool that never decides anything: room for all tokens and states, and nothing is kept or reused."""
    page_tokens = EngineSection().page_tokens
    layout = lay_out(model_shape(read_config(directory), DTYPE), page_tokens)
    tokens = prompt_tokens + requests * (ANSWER_TOKENS + DECODE_PROMPT_TOKENS)
    pages = -(-tokens // page_tokens) + (requests + 1) * (1 + layout.state_pages)
    return EngineSection(
        num_pages=pages,
        max_running_requests=requests + 1,
        threads=threads,
        prefix_cache=PrefixCacheSection(enabled=False),
    )


def prompt(tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(FIRST_ORDINARY_ID, VOCAB), k=tokens)


if __name__ == "__main__":
    typer.run(main)
