"""The rate of a busy window against windows that are drawn."""

from dataclasses import replace
from random import Random

import pytest

from prfaas.planner.plan.egress import WINDOW_S, egress_quantile_bytes_s
from prfaas.planner.plan.forecast import all_remote
from prfaas.policy.lengths import Lognormal
from tests.planner.plan.fleets import fleet, profile


def _window_bytes(rng: Random, lengths: list[float], rate_req_s: float) -> float:
    total, at_s = 0.0, rng.expovariate(rate_req_s)
    while at_s < WINDOW_S:
        total += 1000.0 * rng.choice(lengths)
        at_s += rng.expovariate(rate_req_s)
    return total


@pytest.mark.parametrize("rate_req_s", [0.5, 3.0])
def test_p99_of_a_window(rate_req_s: float) -> None:
    prompts = Lognormal(7.0, 0.8, 100, 20_000)
    many = fleet(prompts, prfaas=profile("fast", per_token_s=1e-7), n_prfaas=1)
    at = all_remote(many)
    rng, lengths = Random(2), prompts.samples(2000)
    drawn = sorted(_window_bytes(rng, lengths, rate_req_s) for _ in range(8000))
    found = egress_quantile_bytes_s(many.deployment(), prompts, at, rate_req_s)
    assert found * WINDOW_S == pytest.approx(drawn[int(0.99 * len(drawn))], rel=0.05)


def test_no_more_than_the_instances_make_or_the_link_carries() -> None:
    slow = fleet(prfaas=profile("fast", per_token_s=1e-3), n_prfaas=2)
    at = all_remote(slow)
    made = egress_quantile_bytes_s(slow.deployment(), slow.lengths, at, 1.9)
    assert made == pytest.approx(2 * 1000.0 / 1e-3)
    narrow = replace(slow, egress_bytes_s=1.5e6)
    assert egress_quantile_bytes_s(narrow.deployment(), narrow.lengths, at, 1.4) == pytest.approx(1.5e6)


def test_nothing_crosses_where_nothing_is_offloaded() -> None:
    alone = fleet()
    assert egress_quantile_bytes_s(alone.deployment(), alone.lengths, all_remote(alone), 1.0) == 0.0
