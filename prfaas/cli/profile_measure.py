"""Which prompts and batches are measured, in which order, and what is said of the machine. Shows its progress."""

import platform
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prfaas.cli.profile_engine import STEPS, ProfiledEngine, profiled_engine
from prfaas.config.profile_file import HardwareSection, ProfileFile, ProfileModelSection
from prfaas.core.errors import ConfigError
from prfaas.core.shape import DType
from prfaas.planner.fit import DecodeSample, PrefillSample
from prfaas.planner.measured import CachedSample, Measured, profile_measured
from prfaas.planner.profiles import GIB
from prfaas.planner.roofline import rounded

SHORT_CONTEXT = 16
S = TypeVar("S")
Timed = TypeVar("Timed", PrefillSample, CachedSample)


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What to measure on which model."""

    model: Path
    dtype: DType | None
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    repeats: int
    threads: int | None
    """Of the engine, on the CPU; None: one for each core."""

    @classmethod
    def parsed(
        cls,
        model: Path,
        dtype: DType | None,
        lengths: str | None,
        batches: str | None,
        repeats: int | None,
        threads: int | None,
    ) -> Self:
        """Raises ConfigError for what are not lists of numbers."""
        found = _numbers("--lengths", lengths or "256,1024,4096", 1 << 22)
        if len(found) < 2:
            raise ConfigError("--lengths: one length makes no line; give two or more, e.g. 256,1024,4096")
        return cls(model, dtype, found, _numbers("--batches", batches or "1,4,8", 1024), repeats or 3, threads)

    @property
    def long_context(self) -> int:
        """A middle length: contexts of the longest would take a prefill for each request of the largest batch."""
        return self.lengths[(len(self.lengths) - 1) // 2]


class Measurable(Protocol):
    """An engine, or a test's formulas."""

    async def prefill(self, tokens: int) -> PrefillSample: ...

    async def prefill_behind(self, tokens: int, cached: int) -> CachedSample | None: ...

    async def decode(self, requests: int, context: int) -> DecodeSample: ...


async def measured_profile(options: MeasureOptions, console: Console) -> tuple[Measured, ProfileFile]:
    """Starts an engine, measures it, stops it. Raises ConfigError, ModelError, EngineError."""
    console.print(f"starting the engine with {options.model}", highlight=False)
    async with profiled_engine(options.model, options.dtype, options.threads) as engine:
        _check(engine, options)
        measured = await measure(engine, options, console)
    return measured, profile_measured(measured, _source(engine, options), *_described(engine))


def _check(engine: ProfiledEngine, options: MeasureOptions) -> None:
    engine.check(options.lengths[-1] + 1, 1)
    engine.check(options.long_context + 2 * STEPS, options.batches[-1])


async def measure(engine: Measurable, options: MeasureOptions, console: Console) -> Measured:
    """Longest first, once, for nothing: what is allocated and compiled then is there when it counts."""
    contexts = sorted({SHORT_CONTEXT, options.long_context})
    halves = [(tokens, tokens // 2) for tokens in options.lengths[1:]]
    total = 2 + options.repeats * (len(options.lengths) + len(halves)) + len(options.batches) * len(contexts)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("warming up", total=total)

        async def one(what: str, measurement: Awaitable[S]) -> S:
            progress.update(task, description=what)
            result = await measurement
            progress.advance(task)
            return result

        await one("warming up", engine.prefill(options.lengths[-1]))
        await one("warming up", engine.decode(options.batches[-1], SHORT_CONTEXT))
        prefills = [
            [await one(f"prefill {tokens:,}", engine.prefill(tokens)) for _ in range(options.repeats)]
            for tokens in options.lengths
        ]
        behind = [
            [await one(f"prefill {a:,} behind {b:,}", engine.prefill_behind(a, b)) for _ in range(options.repeats)]
            for a, b in halves
        ]
        decodes = [
            await one(f"decode {batch} x {context:,}", engine.decode(batch, context))
            for batch in options.batches
            for context in contexts
        ]
    found = tuple(_middle(samples) for samples in prefills)
    reused = [[sample for sample in samples if sample is not None] for samples in behind]
    return Measured(found, tuple(_middle(samples) for samples in reused if samples), tuple(decodes))


def _middle(samples: Sequence[Timed]) -> Timed:
    """The median: a machine that does something else at times is not that slow."""
    return sorted(samples, key=lambda sample: sample.seconds)[(len(samples) - 1) // 2]


def _source(engine: ProfiledEngine, options: MeasureOptions) -> str:
    model = engine.fleet.model
    lengths, batches = ", ".join(f"{n:,}" for n in options.lengths), ", ".join(map(str, options.batches))
    return (
        f"Measured by prfaas profile on {engine.device} ({platform.machine()}), {model.dtype}: prompts of {lengths} "
        f"tokens alone, the median of {options.repeats}; the median of {STEPS} steps of {batches} "
        f"requests with {SHORT_CONTEXT} and {options.long_context:,} tokens each. "
        "max_batch and cache_gib are what prfaas serve --model chooses on that machine."
    )


def _described(engine: ProfiledEngine) -> tuple[ProfileModelSection, HardwareSection, int]:
    settings, shape = engine.fleet.engine, engine.shape
    return (
        ProfileModelSection(
            name=engine.fleet.model.name,
            kv_bytes_per_token=shape.kv_bytes_per_token,
            state_bytes=shape.state_bytes,
        ),
        HardwareSection(name=engine.device, cache_gib=rounded(engine.layout.num_bytes(settings.num_pages) / GIB)),
        settings.max_running_requests,
    )


def _numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise ConfigError(f"{option} {text}: give numbers from 1 to {most}, with commas between them")
    return tuple(sorted({int(part) for part in parts}))
