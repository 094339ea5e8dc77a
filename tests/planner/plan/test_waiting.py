"""Queueing formulas against cases that have closed forms."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.planner.plan.times_to_first_token import FirstTokens, Prompt
from prfaas.planner.plan.waiting import Station, erlang_c


@pytest.mark.parametrize(
    ("servers", "offered", "expected"), [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (2, 1.5, 9 / 14), (5, 0.0, 0.0)]
)
def test_erlang_c(servers: int, offered: float, expected: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(expected)


@given(servers=st.integers(1, 200), share=st.floats(0.01, 0.99))
def test_more_servers_at_the_same_share_wait_less_often(servers: int, share: float) -> None:
    assert 0 <= erlang_c(servers + 1, share * (servers + 1)) <= erlang_c(servers, share * servers) <= 1


def test_one_server_that_shares() -> None:
    assert Station(1, 2.0, 0.4).stretch == pytest.approx(1 / (1 - 0.8))


def test_pollaczek_khinchine() -> None:
    # M/D/1: rho s / 2 (1 - rho).
    assert Station(1, 2.0, 0.4).wait_s(scv=0.0) == pytest.approx(0.8 * 2.0 / (2 * 0.2))


def test_a_station_that_cannot_keep_up() -> None:
    assert not Station(2, 1.0, 2.0).stable
    assert Station(2, 1.0, 2.0).busy_chance == 1.0


def test_quantiles_are_those_of_drawn_times() -> None:
    prompts = (Prompt(busy_s=2.0, busy_chance=0.6, rest_s=1.0), Prompt(busy_s=0.5, busy_chance=0.6, rest_s=3.0))
    mix, rng = FirstTokens(prompts, decode_chance=0.3, decode_wait_s=4.0), Random(1)
    drawn = []
    for _ in range(40_000):
        prompt = rng.choice(prompts)
        busy_s = rng.expovariate(1 / prompt.busy_s) if rng.random() < prompt.busy_chance else 0.0
        decode_s = rng.expovariate(1 / 4.0) if rng.random() < 0.3 else 0.0
        drawn.append(prompt.rest_s + busy_s + decode_s)
    drawn.sort()
    assert mix.mean_s == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
    for q in (0.3, 0.5, 0.9, 0.99):
        assert mix.quantile_s(q) == pytest.approx(drawn[int(q * len(drawn))], rel=0.03)


def test_equal_means_are_no_special_case() -> None:
    near = [FirstTokens((Prompt(2.0, 1.0, 0.0),), 1.0, mean).share_within(3.0) for mean in (2.0, 2.0001)]
    assert near[0] == pytest.approx(near[1], abs=1e-4)
