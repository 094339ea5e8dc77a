"""Rounds in which all engines of a model answer the same prompts in turn. Knows how to ask, not who answers."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.engine_peers.checkpoints import FIRST_ORDINARY_ID, VOCAB
from benchmarks.engine_peers.child import Child, PeerError
from benchmarks.engine_peers.peers import Engine
from benchmarks.engine_peers.prfaas_engine import PrfaasEngine, Steady
from benchmarks.engine_peers.process_tree import TICK_S, cpu_s
from benchmarks.report import progress

BATCHES = (1, 8)
DECODE_PROMPT_TOKENS = 16
DECODE_TOKENS = 128
WARM_TOKENS = 32
SLOW_S = 5.0
SLOW_ROUNDS = 2
"""Prefills that take longer than `SLOW_S` are not repeated further."""
IDLE_S = 1.0
MOST_IDLE_CORES = 0.05
SETTLE_S, MOST_SETTLE_S = 0.1, 5.0
"""How long an engine must have computed nothing before the next one is asked, and how long that is waited for."""


@dataclass(slots=True)
class Figures:
    """What one engine did, round by round: tokens per second."""

    prefill_tok_s: list[float] = field(default_factory=list)
    decode_tok_s: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    """By batch size; of all requests together."""
    idle_cores: float = 0.0
    """Processor cores that it kept busy while nobody asked."""


@dataclass(slots=True)
class Measured:
    """What all engines did with one model."""

    figures: dict[str, Figures]
    steady: list[Steady] = field(default_factory=list)
    """Of ours, at the largest batch."""
    machine: list[dict[str, float]] = field(default_factory=list)


async def measure(
    ours: PrfaasEngine, engines: Sequence[Engine], machine: Child, prompt_tokens: int, rounds: int
) -> Measured:
    """Warms up, then `rounds` that count. Raises PeerError when a peer ends after it has warmed up."""
    prompts = Prompts(prompt_tokens)
    engines = [engine for engine in engines if await _warms_up(engine, prompts)]
    measured = Measured({engine.name: Figures() for engine in engines})
    await _idle(engines, measured)
    for i in range(rounds):
        progress.print(f"round {i + 1} of {rounds}")
        await _round(measured, ours, engines, machine, prompts)
    return measured


class Prompts:
    """Random tokens; no two prompts begin alike, so that no prefix cache can help. The same in every run."""

    def __init__(self, long_tokens: int) -> None:
        self._random = random.Random(0)
        self._long_tokens = long_tokens

    def long(self) -> list[int]:
        return self._ids(self._long_tokens)

    def short(self, batch: int) -> list[list[int]]:
        return [self._ids(DECODE_PROMPT_TOKENS) for _ in range(batch)]

    def _ids(self, count: int) -> list[int]:
        return [self._random.randrange(FIRST_ORDINARY_ID, VOCAB) for _ in range(count)]


async def _warms_up(engine: Engine, prompts: Prompts) -> bool:
    """Has it do once what will be measured. False: it cannot, although it started."""
    try:
        await _generate(engine, [prompts.long()], 1)
        for batch in BATCHES:
            await _generate(engine, prompts.short(batch), WARM_TOKENS)
    except PeerError as error:
        progress.print(f"no row for {engine.name}: {error}")
        return False
    return True


async def _round(
    measured: Measured, ours: PrfaasEngine, engines: Sequence[Engine], machine: Child, prompts: Prompts
) -> None:
    """Figure by figure, so that the engines' turns at one lie close together."""
    measured.machine.append(await machine.ask({}))
    prompt = prompts.long()
    for engine in engines:
        done = measured.figures[engine.name].prefill_tok_s
        if len(done) < SLOW_ROUNDS or len(prompt) / done[-1] < SLOW_S:
            done.append(len(prompt) / await _generate(engine, [prompt], 1))
    for batch in BATCHES:
        short = prompts.short(batch)
        for engine in engines:
            # The first token is the prompt's; what further ones take is decoding.
            first_s = await _generate(engine, short, 1)
            all_s = await _generate(engine, short, 1 + DECODE_TOKENS)
            measured.figures[engine.name].decode_tok_s[batch].append(batch * DECODE_TOKENS / (all_s - first_s))
    measured.steady.append(await ours.decode_steadily(prompts.short(BATCHES[-1]), DECODE_TOKENS))


async def _generate(engine: Engine, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
    """As the engine's own; then waits until it rests. vLLM's processes poll for a second after their last answer."""
    seconds = await engine.generate(prompts, new_tokens)
    for _ in range(round(MOST_SETTLE_S / SETTLE_S)):
        before = cpu_s(engine.pid)
        await asyncio.sleep(SETTLE_S)
        if cpu_s(engine.pid) - before < 2 * TICK_S:
            break
    return seconds


async def _idle(engines: Sequence[Engine], measured: Measured) -> None:
    """An engine that computes while others are measured would slow them down: it is named."""
    before = {engine.name: cpu_s(engine.pid) for engine in engines}
    await asyncio.sleep(IDLE_S)
    for engine in engines:
        cores = max(0.0, cpu_s(engine.pid) - before[engine.name]) / IDLE_S
        measured.figures[engine.name].idle_cores = cores
        if cores > MOST_IDLE_CORES:
            progress.print(f"{engine.name} keeps {cores:.2f} cores busy while it idles: the others' figures suffer")
