"""What an instance measures of itself: known coefficients found again in steps that are mixed, noisy and disturbed."""

import random
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.ids import RequestId
from prfaas.engine.messages import Stepped
from prfaas.instance.prefill_fit import FORGOTTEN_S
from prfaas.instance.rates import REFIT_S, MeasuredRates

OVERHEAD_S, PER_TOKEN_S, PER_TOKEN2_S = 0.02, 1e-4, 2e-9
ALONE_S = {1: 0.010, 3: 0.012, 6: 0.015, 12: 0.020}
PER_CONTEXT_TOKEN_S = 1e-7
STEP_TOKENS = 1024


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Engine:
    """Steps as an engine would tell them, of prompts that share them in order, beside decodes or not."""

    def __init__(self, noise: Callable[[], float] = lambda: 1.0) -> None:
        self.clock = Clock()
        self.rates = MeasuredRates(self.clock)
        self._noise = noise
        self._done: dict[int, int] = {}

    def prefill(self, lengths: list[int], decodes: int = 0, cached: int = 0) -> None:
        """As chunks that fill every step."""
        todo = [(length, cached, True) for length in lengths]
        while todo:
            self._step(todo, decodes)

    def decode(self, requests: int, context: int) -> None:
        seconds = ALONE_S[requests] + context * PER_CONTEXT_TOKEN_S
        self._tell(Stepped(seconds * self._noise(), 0.0, requests, 0, context_tokens=context))

    def _step(self, todo: list[tuple[int, int, bool]], decodes: int) -> None:
        room, begun, done, tokens, squares = STEP_TOKENS, 0, 0, 0, 0
        while todo and room:
            length, start, first = todo.pop(0)
            end = min(length, start + room)
            begun += first
            done += end == length
            tokens, squares, room = tokens + end - start, squares + end**2 - start**2, room - (end - start)
            if end < length:
                todo.insert(0, (length, end, False))
        seconds = OVERHEAD_S * begun + PER_TOKEN_S * tokens + PER_TOKEN2_S * squares
        if decodes:
            seconds += ALONE_S[decodes] + 5000 * PER_CONTEXT_TOKEN_S
        facts = {"context_tokens": 5000 * bool(decodes), "prompts_begun": begun, "prompts_done": done}
        self._tell(Stepped(seconds * self._noise(), 0.0, decodes, tokens, squared_tokens=squares, **facts))

    def _tell(self, step: Stepped) -> None:
        self.clock.now_s += step.seconds
        self.rates.stepped(step)


def lengths(seed: int) -> Iterator[list[int]]:
    """One to three prompts that come together, log-uniform from 30 to 30,000 tokens."""
    rng = random.Random(seed)
    while True:
        yield [round(30 * 1000 ** rng.random()) for _ in range(rng.randint(1, 3))]


def prefill_s(engine: Engine, tokens: int) -> float:
    engine.clock.now_s += REFIT_S
    rates = engine.rates.rates()
    assert rates
    return rates.prefill_overhead_s + tokens * (rates.prefill_per_token_s + tokens * rates.prefill_per_token2_s)


def truth_s(tokens: int) -> float:
    return OVERHEAD_S + tokens * (PER_TOKEN_S + tokens * PER_TOKEN2_S)


def test_prompts_that_share_steps_are_told_apart() -> None:
    engine = Engine()
    for together, _ in zip(lengths(1), range(20), strict=False):
        engine.prefill(together)
    for tokens in (10, 100, 3000, 100_000):
        assert prefill_s(engine, tokens) == pytest.approx(truth_s(tokens), rel=1e-3)
    rates = engine.rates.rates()
    assert rates
    assert rates.prefill_samples == sum(len(t) for t, _ in zip(lengths(1), range(20), strict=False))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_noise_and_stalls_move_little(seed: int) -> None:
    """Every step is off by up to a tenth; one in thirty is held up and takes ten times as long."""
    rng = random.Random(seed)
    engine = Engine(lambda: rng.uniform(0.9, 1.1) * (10 if rng.random() < 1 / 30 else 1))
    for together, _ in zip(lengths(seed + 1), range(150), strict=False):
        engine.prefill(together)
        for requests in ALONE_S:
            engine.decode(requests, rng.randrange(200_000))
    for tokens in (300, 3000, 20_000):
        assert prefill_s(engine, tokens) == pytest.approx(truth_s(tokens), rel=0.12)
    rates = engine.rates.rates()
    assert rates
    for point in rates.decode:
        step_s = point.seconds + 50_000 * rates.decode_per_context_token_s
        assert step_s == pytest.approx(ALONE_S[point.requests] + 50_000 * PER_CONTEXT_TOKEN_S, rel=0.12)


def test_decodes_beside_a_prompt_are_not_held_against_it() -> None:
    engine = Engine()
    for context in (1000, 5000, 9000, 13_000, 17_000):
        engine.decode(6, context)
    engine.clock.now_s += REFIT_S
    assert engine.rates.rates()
    for together, _ in zip(lengths(2), range(20), strict=False):
        engine.prefill(together, decodes=6)
    assert prefill_s(engine, 3000) == pytest.approx(truth_s(3000), rel=0.01)


def test_prompts_beside_decodes_of_unknown_cost_teach_nothing() -> None:
    engine = Engine()
    engine.prefill([3000, 500, 40, 60], decodes=6)
    engine.clock.now_s += REFIT_S
    rates = engine.rates.rates()
    assert rates is None or rates.prefill_samples == 0


def test_what_is_cached_is_not_computed() -> None:
    engine = Engine()
    for start, rest in ((0, 300), (0, 3000), (2048, 40), (8192, 2900), (0, 700), (4096, 150), (16_384, 1000)):
        engine.prefill([start + rest], cached=start)
    assert prefill_s(engine, 11_000) == pytest.approx(truth_s(11_000), rel=0.01)


def test_contexts_are_told_apart_where_they_differ() -> None:
    engine = Engine()
    for requests, context in ((r, c) for r in ALONE_S for c in (100, 40_000, 80_000, 120_000)):
        engine.decode(requests, context)
    engine.clock.now_s += REFIT_S
    rates = engine.rates.rates()
    assert rates
    assert rates.decode_per_context_token_s == pytest.approx(PER_CONTEXT_TOKEN_S, rel=0.01)
    assert {p.requests: p.seconds for p in rates.decode} == pytest.approx(ALONE_S, rel=0.01)


def test_where_contexts_are_alike_the_batch_has_it_all() -> None:
    engine = Engine()
    for _ in range(5):
        engine.decode(3, 50_000)
    engine.clock.now_s += REFIT_S
    rates = engine.rates.rates()
    assert rates
    assert rates.decode_per_context_token_s == 0
    assert rates.decode[0].seconds == pytest.approx(ALONE_S[3] + 50_000 * PER_CONTEXT_TOKEN_S, rel=1e-3)


def test_the_past_fades_and_ends() -> None:
    engine = Engine()
    for together, _ in zip(lengths(3), range(10), strict=False):
        engine.prefill(together)
    assert prefill_s(engine, 3000) > 0
    engine.clock.now_s += FORGOTTEN_S
    engine.prefill([500])
    engine.clock.now_s += REFIT_S
    rates = engine.rates.rates()
    assert rates
    assert rates.prefill_samples == 0, "one prompt is too few, and the others are forgotten"


def test_a_thousand_prompts_take_no_more_memory_than_a_hundred() -> None:
    engine = Engine()
    samples = []
    for i in count(1):
        engine.prefill([700])
        if i in (100, 1000):
            engine.clock.now_s += REFIT_S
            rates = engine.rates.rates()
            assert rates
            samples.append(rates.prefill_samples)
        if i == 1000:
            break
    assert samples == [32, 32]


def test_answers() -> None:
    rates = Engine().rates
    assert rates.rates() is None
    one, other, lost = RequestId("a"), RequestId("b"), RequestId("c")
    for _ in range(9):
        rates.generated(one, ended=False)
        rates.generated(lost, ended=False)
    rates.forget(lost)
    rates.forget(lost)
    rates.generated(one, ended=True)
    rates.generated(other, ended=True)
    told = rates.rates()
    assert told
    assert told.output_tokens == pytest.approx((10 + 1) / 2)
    assert not told.decode
