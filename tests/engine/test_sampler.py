"""Draws depend on the seed, the position, the logits and the tokens so far, and on nothing else."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.request import SamplingParams
from prfaas.engine.sampler import Draw, sample, uniform
from prfaas.engine.token_counts import TokenCounts

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


def draw(position: int = 0, **options: Any) -> Draw:
    """Counts, masks and bans by their names; the rest are sampling parameters."""
    extra = {name: options.pop(name) for name in ("counts", "banned", "allowed") if name in options}
    return Draw(SamplingParams(**{"max_tokens": 100, "seed": 5, **options}), position, **extra)


def counted(prompt: list[int], output: list[int]) -> TokenCounts:
    counts = TokenCounts(prompt, CPU)
    counts.update(output)
    return counts


def frequencies(logits: torch.Tensor, times: int, **options: Any) -> torch.Tensor:
    """How often each token is drawn at `times` positions."""
    tokens = sample(logits.expand(times, -1), [draw(i, **options) for i in range(times)])
    return torch.bincount(torch.tensor(tokens), minlength=logits.shape[-1])


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    """In standard deviations above its mean, by the normal approximation; impossible tokens must not occur."""
    assert counts[probs == 0].sum() == 0
    possible = probs > 0
    expected = probs[possible] * counts.sum()
    degrees = int(possible.sum()) - 1
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    return (statistic - degrees) / math.sqrt(2 * degrees)


def test_greedy_takes_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample(logits, [draw(temperature=0), draw(9, temperature=0)]) == [1, 0]
    assert sample(logits[:0], []) == []


@pytest.mark.parametrize("rules", [{}, {"top_p": 0.9}, {"top_k": 7}, {"min_p": 0.05}, {"logit_bias": ((3, 2.0),)}])
def test_same_seed_and_position_same_token_in_any_batch(rules: dict[str, Any]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50)
    neighbours: list[dict[str, Any]] = [{"temperature": 0}, {}, {"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.2}]
    for neighbour in neighbours:
        draws = [draw(i, **(neighbour if i % 2 else rules)) for i in range(6)]
        together = sample(logits, draws)
        assert together == [sample(logits[i : i + 1], draws[i : i + 1])[0] for i in range(6)]
        torch.manual_seed(99)
        assert sample(logits, draws) == together


def test_the_logits_stay_as_they_are() -> None:
    logits = torch.randn(2, 30)
    before = logits.clone()
    sample(logits, [draw(banned=(1,), counts=counted([1], [2]), presence_penalty=1.0), draw(logit_bias=((0, 5.0),))])
    assert torch.equal(logits, before)


def test_positions_and_seeds_are_independent() -> None:
    logits = torch.zeros(1, 1000)
    by_position = {sample(logits, [draw(i)])[0] for i in range(200)}
    by_seed = {sample(logits, [draw(seed=i)])[0] for i in range(200)}
    assert len(by_position) > 150
    assert len(by_seed) > 150


def test_uniform_numbers_are_uniform_along_seeds_and_positions() -> None:
    for line in ([uniform(i, 3) for i in range(5000)], [uniform(3, i) for i in range(5000)]):
        assert all(0 <= number < 1 for number in line)
        assert abs(chi_square(torch.histc(torch.tensor(line), 50, 0, 1), torch.full((50,), 1 / 50))) < 5
        pairs = torch.tensor([line[:-1], line[1:]])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.07, "neighbours are unrelated"
    assert uniform(2**63 - 1, 2**31) < 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5, 0.5]])
    counts = frequencies(logits, 6000, temperature=temperature)
    assert abs(chi_square(counts, (logits[0] / temperature).softmax(0))) < 5


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"top_p": 0.75}, [0.5, 0.3, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_k": 3}, [0.5, 0.3, 0.15, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"min_p": 0.25}, [0.5, 0.3, 0.15, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0]),
        # Of the three that top-k leaves, two have 84 % of their probability.
        ({"top_k": 3, "top_p": 0.84}, [0.5, 0.3, 0, 0]),
        ({"min_p": 0.25, "top_p": 0.85}, [0.5, 0.3, 0.15, 0]),
        ({"top_k": 0}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": -1}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 400}, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_what_truncation_keeps_and_in_which_proportion(rules: dict[str, Any], expected: list[float]) -> None:
    counts = frequencies(torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), 3000, **rules)
    probs = torch.tensor(expected, dtype=torch.float) / sum(expected)
    assert set(counts.nonzero().flatten().tolist()) == set(probs.nonzero().flatten().tolist())
    assert probs.max() == 1 or abs(chi_square(counts, probs)) < 5


def reference_adjust(row: list[float], prompt: list[int], output: list[int], s: SamplingParams) -> list[float]:
    """Bias, then repetition, frequency and presence, token by token."""
    bias = dict(s.logit_bias)
    out = []
    for token, logit in enumerate(row):
        value = logit + bias.get(token, 0.0)
        if token in prompt or token in output:
            value = value / s.repetition_penalty if value > 0 else value * s.repetition_penalty
        times = output.count(token)
        out.append(value - s.frequency_penalty * times - s.presence_penalty * (times > 0))
    return out


@settings(max_examples=60)
@given(
    row=st.lists(st.floats(-8, 8, width=32), min_size=12, max_size=12),
    prompt=st.lists(st.integers(0, 11), min_size=1, max_size=8),
    output=st.lists(st.integers(0, 11), max_size=8),
    repetition=st.floats(0.5, 2.0),
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    bias=st.dictionaries(st.integers(0, 11), st.floats(-10, 10), max_size=4),
)
def test_penalties_and_bias_as_their_formulas_say(
    row: list[float],
    prompt: list[int],
    output: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
) -> None:
    rules = draw(
        len(output),
        temperature=0,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=tuple(sorted(bias.items())),
        counts=counted(prompt, output),
    )
    expected = reference_adjust(row, prompt, output, rules.sampling)
    (token,) = sample(torch.tensor([row]), [rules])
    assert token is not None
    assert expected[token] >= max(expected) - 1e-4


def test_counts_are_the_same_however_they_grow() -> None:
    prompt, output = [3, 3, 7], [5, 3, 5, 9]
    stepwise = TokenCounts(prompt, CPU)
    for end in range(len(output) + 1):
        stepwise.update(output[:end])
    at_once = counted(prompt, output)
    for counts in (stepwise, at_once):
        assert sorted(counts.seen_ids.tolist()) == [3, 5, 7, 9]
        times = zip(counts.output_ids.tolist(), counts.output_times.tolist(), strict=True)
        assert dict(times) == {5: 2, 3: 1, 9: 1}


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_masks_are_exact(temperature: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 40) * 5
    allowed = torch.zeros(40, dtype=torch.bool)
    allowed[[4, 17, 30]] = True
    for i in range(50):
        (token,) = sample(logits, [draw(i, temperature=temperature, allowed=allowed, banned=(17,))])
        assert token in (4, 30)
    assert sample(logits, [draw(temperature=0, banned=(int(logits.argmax()),))]) != [int(logits.argmax())]


@pytest.mark.parametrize("spoil", [NAN, INF, -INF])
@pytest.mark.parametrize("rules", [{"temperature": 0}, {}, {"top_k": 2}, {"logit_bias": ((1, 9.0),)}])
def test_rows_that_are_not_finite_give_nothing(spoil: float, rules: dict[str, Any]) -> None:
    logits = torch.tensor([[1.0, spoil, 0.0], [1.0, 20.0, 0.0], [spoil, 0.0, 0.0]])
    assert sample(logits, [draw(**rules)] * 3) == [None, 1, None]


@pytest.mark.parametrize("rules", [{}, {"top_p": 0.9}])
def test_almost_no_temperature_is_greedy(rules: dict[str, Any]) -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0, 3.0]])
    for temperature in (1e-39, 1.1e-5):
        assert sample(logits * 1e30, [draw(temperature=temperature, **rules)]) == [2]


@pytest.mark.parametrize("make", [lambda: torch.randn(3, 20), lambda: torch.zeros(3, 20)])
def test_a_request_continues_alike_wherever_it_was_begun(make: Callable[[], torch.Tensor]) -> None:
    """What was drawn elsewhere comes back as output tokens; nothing else may matter."""
    torch.manual_seed(2)
    logits = make()
    rules = {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "top_p": 0.9}
    here: list[int] = []
    counts = TokenCounts([1, 2], CPU)
    for position in range(3):
        counts.update(here)
        (token,) = sample(logits[position : position + 1], [draw(position, counts=counts, **rules)])
        assert token is not None
        here.append(token)
    for cut in range(3):
        moved = sample(logits[cut : cut + 1], [draw(cut, counts=counted([1, 2], here[:cut]), **rules)])
        assert moved == here[cut : cut + 1]
