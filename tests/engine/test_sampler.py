"""Draws depend on the seed, the position and the logits, and on nothing else."""

import pytest
import torch

from prfaas.core.request import SamplingParams
from prfaas.engine.sampler import Draw, sample


def draw(position: int, seed: int = 5, temperature: float = 1.0, top_p: float = 1.0) -> Draw:
    return Draw(SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p, seed=seed), position)


def test_greedy_takes_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample(logits, [draw(0, temperature=0), draw(9, temperature=0)]) == [1, 0]


def test_same_seed_and_position_same_token_in_any_batch() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50)
    draws = [draw(i) for i in range(6)]
    together = sample(logits, draws)
    alone = [sample(logits[i : i + 1], draws[i : i + 1])[0] for i in range(6)]
    assert together == alone
    torch.manual_seed(99)
    assert sample(logits, draws) == together


def test_positions_and_seeds_are_independent() -> None:
    logits = torch.zeros(1, 1000)
    by_position = {sample(logits, [draw(i)])[0] for i in range(200)}
    by_seed = {sample(logits, [draw(0, seed=i)])[0] for i in range(200)}
    assert len(by_position) > 150
    assert len(by_seed) > 150


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    n = 4000
    counts = torch.zeros(4)
    for i in range(n):
        token = sample(logits, [draw(i, temperature=temperature)])[0]
        assert token is not None
        counts[token] += 1
    expected = (logits[0] / temperature).softmax(0)
    # Five standard deviations of a binomial count.
    assert ((counts / n - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all()


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    seen = {sample(logits, [draw(i, top_p=0.75)])[0] for i in range(300)}
    assert seen == {0, 1}
    assert {sample(logits, [draw(i, top_p=0.01)])[0] for i in range(50)} == {0}


def test_rows_that_are_not_finite_give_nothing() -> None:
    logits = torch.tensor([[1.0, float("nan")], [1.0, 2.0], [float("inf"), 0.0]])
    assert sample(logits, [draw(0, temperature=0)] * 3) == [None, 1, None]


def test_almost_no_temperature_is_greedy() -> None:
    assert sample(torch.tensor([[1.0, 2.0, 9.0, 3.0]]), [draw(0, temperature=1e-39)]) == [2]
