"""Waiting times against queueing theory, within 2 %. Seeds are fixed; arrivals are stratified, so that what is left of
chance is how they cluster."""

import random
from heapq import heappop, heappush
from math import factorial, inf, log

import pytest

from tests.planner.simulate.fluid.stage import STEP_S, TOKEN_S, Stage, arrival, engine, profile

SEEDS = (1, 2)
NEAR = 0.02


def exponentials(rng: random.Random, count: int, mean: float) -> list[float]:
    """One from each of `count` equally likely strata, in random order."""
    values = [-mean * log(1 - (i + rng.random()) / count) for i in range(count)]
    rng.shuffle(values)
    return values


def feed(stage: Stage, how: str, gaps_s: list[float], prompts: list[int], outputs: list[int]) -> None:
    """Runs it all. Each arrival is put before the instance when the one before it has been."""
    what = getattr(stage.instance, how)

    def come(number: int) -> None:
        if number < len(gaps_s):
            stage.at(stage.loop.now_s, what, arrival(number, prompts[number], outputs[number]))
            stage.arrived_s.append(stage.loop.now_s)
            stage.loop.after(gaps_s[number], come, number + 1)

    come(0)
    stage.loop.run()


def mean_s(stage: Stage, end: str) -> float:
    """From arrival to when `end` happened."""
    times_s = [float(getattr(j, end)) - at_s for j, at_s in zip(stage.jobs, stage.arrived_s, strict=True)]
    return sum(times_s) / len(times_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_prompt_at_a_time_is_m_d_1(seed: int) -> None:
    rng, count, load, tokens = random.Random(seed), 8_000, 0.5, 1000
    stage = Stage("prefill", profile(), engine(max_running=1, cache=False))
    service_s = tokens * TOKEN_S
    feed(stage, "export", exponentials(rng, count, service_s / load), [tokens] * count, [1] * count)
    # Pollaczek and Khinchin, of a constant service time.
    assert mean_s(stage, "prefilled_s") == pytest.approx(service_s * (1 + load / (2 * (1 - load))), rel=NEAR)


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_shares_are_m_g_1_processor_sharing(seed: int) -> None:
    rng, count, load = random.Random(seed), 2_000, 0.5
    lengths = [120] * (count * 3 // 4) + [600] * (count // 4)
    rng.shuffle(lengths)
    stage = Stage("prefill", profile(), engine(step_tokens=12, page_tokens=1, max_running=1000, cache=False))
    work_s = [length * TOKEN_S for length in lengths]
    gaps_s = exponentials(rng, count, sum(work_s) / count / load)
    feed(stage, "export", gaps_s, lengths, [1] * count)
    # What chance did to theory's queue on these very arrivals it did to this one: that much is taken out.
    chance_s = shared_mean_s(gaps_s, work_s) - sum(work_s) / count / (1 - load)
    assert mean_s(stage, "prefilled_s") - chance_s == pytest.approx(sum(work_s) / count / (1 - load), rel=NEAR)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_of_c_places_is_m_m_c(seed: int) -> None:
    rng, count, load, places, tokens = random.Random(seed), 8_000, 0.5, 2, 500
    stage = Stage("decode", profile(), engine(max_running=places, cache=False))
    outputs = [2 + int(x) for x in exponentials(rng, count, tokens)]
    service_s = (sum(outputs) / count - 1) * STEP_S
    feed(stage, "reserve", exponentials(rng, count, service_s / (load * places)), [10] * count, outputs)
    # Erlang's C formula.
    offered = load * places
    all_busy = offered**places / factorial(places) / (1 - load)
    waits = all_busy / (sum(offered**k / factorial(k) for k in range(places)) + all_busy)
    waiting_s = waits * service_s / (places * (1 - load))
    assert mean_s(stage, "finished_s") == pytest.approx(waiting_s + service_s, rel=NEAR)


def shared_mean_s(gaps_s: list[float], work_s: list[float]) -> float:
    """Mean time in a server that divides itself equally among all that are there, exactly."""
    now_s, served_s, total_s = 0.0, 0.0, 0.0
    present: list[tuple[float, float]] = []
    for gap_s, own_s in zip([*gaps_s[:-1], inf], work_s, strict=True):
        heappush(present, (served_s + own_s, now_s))
        left_s = gap_s
        while present and (takes_s := (present[0][0] - served_s) * len(present)) <= left_s:
            now_s, left_s = now_s + takes_s, left_s - takes_s
            served_s, came_s = heappop(present)
            total_s += now_s - came_s
        if present:
            served_s += left_s / len(present)
        now_s += left_s
    return total_s / len(work_s)
