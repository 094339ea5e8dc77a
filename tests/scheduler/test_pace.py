"""The pace against machines whose cost is known: how much slower decodes get, and how little throws it off."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.scheduler.pace import FLOOR_TOKENS, MOST_PAUSED, RARE_UNTIL_TOKENS, STALL, Pace

STEP_TOKENS, PAGE = 4096, 64


@dataclass(frozen=True)
class Machine:
    """Seconds of a step: a + b · decodes + c · prefill tokens · (1 + context / k)."""

    a: float = 10e-3
    b: float = 0.1e-3
    c: float = 20e-6
    k: float = 30_000.0

    def decode_s(self, num_decodes: int) -> float:
        return self.a + self.b * num_decodes

    def seconds(self, num_decodes: int, tokens: int, context: int = 0) -> float:
        return self.decode_s(num_decodes) + self.c * tokens * (1 + context / self.k)


@dataclass(frozen=True)
class Step:
    """What it prefilled, and how much longer it took than its decodes alone."""

    tokens: int
    slowdown: float


def prefill(
    pace: Pace, machine: Machine, num_decodes: Callable[[int], int], prompt_tokens: int, context: int = 0
) -> list[Step]:
    """Every step while a prompt of so many tokens is prefilled beside decodes, `num_decodes` by step."""
    steps: list[Step] = []
    end = context + prompt_tokens
    while context < end:
        decodes = num_decodes(len(steps))
        tokens = min(end - context, pace.prefill_tokens(decodes, STEP_TOKENS, PAGE))
        seconds = machine.seconds(decodes, tokens, context)
        pace.observe(decodes, tokens, seconds)
        steps.append(Step(tokens, seconds / machine.decode_s(decodes)))
        context += tokens
    return steps


def worst(steps: list[Step]) -> float:
    """Slowdown of the slowest step above the floor, and above the probes there."""
    return max(step.slowdown for step in steps if step.tokens > 2 * FLOOR_TOKENS)


def most(steps: list[Step]) -> float:
    """Slowdown that nine of ten steps stay below."""
    return sorted(step.slowdown for step in steps)[len(steps) * 9 // 10]


def settled(machine: Machine, slowdown: float = 2.0, num_decodes: int = 8) -> Pace:
    pace = Pace(slowdown)
    prefill(pace, machine, lambda _: num_decodes, 20_000)
    return pace


MACHINES = [
    pytest.param(Machine(), id="gpu"),
    pytest.param(Machine(a=2e-3, b=2e-3, c=50e-6, k=5_000.0), id="cpu, batches cost"),
    pytest.param(Machine(a=0.1e-3, b=0.5e-3, c=5e-6, k=1_000.0), id="dear attention"),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("slowdown", [1.5, 2.0, 3.0])
def test_a_long_prompt_slows_decodes_as_much_as_was_asked(machine: Machine, slowdown: float) -> None:
    steps = prefill(Pace(slowdown), machine, lambda _: 16, 60_000)[20:]
    assert worst(steps) < 1.1 * slowdown
    # Whole pages are rounded down, and every so often a light step is asked for.
    assert mean(step.slowdown for step in steps) > 1 + 0.6 * (slowdown - 1)


BATCHES = [
    pytest.param(lambda step: 1 + step // 4 % 64, id="sawtooth"),
    pytest.param(lambda step: 1 + step * 7 % 64, id="every step another"),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("num_decodes", BATCHES)
def test_decodes_that_join_and_leave_in_the_middle_are_slowed_no_more(
    machine: Machine, num_decodes: Callable[[int], int]
) -> None:
    steps = prefill(Pace(2.0), machine, num_decodes, 100_000)[20:]
    assert most(steps) < 2.6
    assert 1.6 < mean(step.slowdown for step in steps) < 2.1


def test_it_follows_a_machine_that_becomes_slower_or_faster() -> None:
    pace = settled(Machine())
    for machine in (Machine(c=200e-6), Machine(a=20e-3, b=1e-3), Machine()):
        prefill(pace, machine, lambda _: 8, 60_000)
        later = prefill(pace, machine, lambda _: 8, 20_000)
        assert worst(later) < 2.2
        assert mean(step.slowdown for step in later) > 1.6


def test_a_dearer_context_is_followed_within_a_few_steps() -> None:
    pace = settled(Machine())
    steps = prefill(pace, Machine(), lambda _: 8, 2_000, context=300_000)
    assert steps[0].slowdown > 5
    assert max(step.slowdown for step in [step for step in steps if step.tokens][3:]) < 2.2


def test_without_decodes_the_whole_budget_is_used() -> None:
    assert Pace(2.0).prefill_tokens(0, 1000, PAGE) == 1000
    assert settled(Machine()).prefill_tokens(0, 1000, PAGE) == 1000


def test_before_anything_was_seen_a_step_takes_a_share_of_whole_pages() -> None:
    assert Pace(2.0).prefill_tokens(1, 1024, 64) == 128
    assert Pace(2.0).prefill_tokens(1, 300, 64) == 32
    assert Pace(2.0).prefill_tokens(1, 100, 64) == FLOOR_TOKENS


LONG = Machine(a=2e-3, b=0.0, c=0.35e-3, k=1e9)
"""Six tokens of prefill take as long as the decodes."""


@pytest.mark.parametrize("machine", [LONG, Machine(a=0.0, b=1e-3, c=1e-3), Machine(a=1e-3, b=0.0, c=20e-3)])
def test_where_every_chunk_costs_many_decode_steps_most_steps_have_none(machine: Machine) -> None:
    steps = prefill(Pace(2.0), machine, lambda _: 2, 20_000)[100:]
    assert most(steps) == 1.0
    assert max(step.slowdown for step in steps) < 20 or max(step.tokens for step in steps) == RARE_UNTIL_TOKENS
    paid = mean(step.slowdown for step in steps)
    # A prompt goes on even where it costs more than was asked.
    assert 1.7 < paid < 2.4 or max(gaps(steps)) == MOST_PAUSED


def gaps(steps: list[Step]) -> list[int]:
    """How many steps without prefill lie between those with."""
    at = [i for i, step in enumerate(steps) if step.tokens]
    return [later - earlier - 1 for earlier, later in pairwise(at)]


@dataclass(frozen=True)
class FixedCosts(Machine):
    """Reading the context costs 15 ms a chunk, however short the chunk is."""

    def seconds(self, num_decodes: int, tokens: int, context: int = 0) -> float:
        return super().seconds(num_decodes, tokens, context) + 15e-3 * (tokens > 0)


def test_what_a_chunk_costs_beside_its_tokens_counts() -> None:
    machine = FixedCosts(a=2e-3, b=0.0, c=0.1e-3, k=1e9)
    steps = prefill(Pace(2.0), machine, lambda _: 4, 30_000)[100:]
    assert most(steps) == 1.0
    assert mean(step.slowdown for step in steps) < 2.3


def test_it_leaves_the_floor_when_prefill_becomes_cheap() -> None:
    pace = settled(Machine(c=5e-3))
    assert pace.prefill_tokens(8, STEP_TOKENS, PAGE) <= 2 * FLOOR_TOKENS
    prefill(pace, Machine(), lambda _: 8, 20_000)
    # 10.8 ms of decodes pay for 324 tokens at the end of that prompt.
    assert pace.prefill_tokens(8, STEP_TOKENS, PAGE) >= 256


@pytest.mark.parametrize("tokens", [0, 512])
def test_one_stall_changes_next_to_nothing(tokens: int) -> None:
    pace = settled(Machine())
    for _ in range(4):
        pace.observe(8, 0, Machine().seconds(8, 0))
        pace.observe(8, 512, Machine().seconds(8, 512))
    before = pace.prefill_tokens(8, STEP_TOKENS, PAGE)
    pace.observe(8, tokens, 100 * Machine().seconds(8, tokens))
    for _ in range(STALL):
        pace.observe(8, 0, Machine().seconds(8, 0))
    assert pace.prefill_tokens(8, STEP_TOKENS, PAGE) == pytest.approx(before, abs=PAGE)


def test_a_first_step_that_warms_up_is_forgotten() -> None:
    pace = Pace(2.0)
    pace.observe(8, 0, 30.0)
    assert worst(prefill(pace, Machine(), lambda _: 8, 40_000)[8:]) < 2.2


@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 4096), st.floats(0, 1e6)), max_size=100),
    st.integers(1, 64),
    st.integers(1, 4096),
    st.integers(1, 512),
)
def test_whatever_was_seen_a_budget_fits_and_there_is_one_in_the_end(
    seen: list[tuple[int, int, float]], num_decodes: int, spare: int, page_tokens: int
) -> None:
    pace = Pace(2.0)
    for observed in seen:
        pace.observe(*observed)
    tokens = pace.prefill_tokens(num_decodes, num_decodes + spare, page_tokens)
    assert 0 <= tokens <= spare
    whole = tokens % page_tokens == 0 or (tokens < page_tokens and tokens % FLOOR_TOKENS == 0)
    assert whole or tokens in (spare, FLOOR_TOKENS)
    for _ in range(MOST_PAUSED):
        pace.observe(num_decodes, 0, 1.0)
    assert pace.prefill_tokens(num_decodes, num_decodes + spare, page_tokens) >= min(spare, FLOOR_TOKENS)
