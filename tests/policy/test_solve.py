"""The best threshold and split: table 6 of the PrfaaS paper, and what must hold for any deployment."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.policy.lengths import Empirical, Fixed, Lengths, Lognormal
from prfaas.policy.recent import Recent
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Deployment, balance, throughput
from tests.policy.paper import H20, H200, HOMOGENEOUS, LENGTHS, PRFAAS_PD

FEW = settings(max_examples=30, deadline=None)
NEARLY = 1 - 2e-3
"""How near to the best the search comes."""

lengths_of = st.one_of(
    st.builds(Lognormal, st.floats(6, 11), st.floats(0.3, 2), st.just(128), st.just(131_072)),
    st.builds(Empirical, st.lists(st.integers(1, 131_072), min_size=1, max_size=30)),
    st.builds(Fixed, st.integers(1, 131_072)),
)
deployments = st.builds(
    Deployment,
    prfaas=st.sampled_from([H200, None]),
    pd=st.just(H20),
    n_prfaas=st.integers(0, 8),
    n_pd=st.integers(2, 16),
    egress_bytes_s=st.floats(0, 2e10),
    output_tokens=st.floats(16, 4096),
)


def test_prfaas_pd_of_table_6() -> None:
    best = solve(PRFAAS_PD, LENGTHS)
    assert (best.n_p, best.n_d) == (3, 5)
    assert best.threshold_tokens == pytest.approx(19_400, rel=0.05)
    assert best.lambda_max == pytest.approx(3.24, rel=0.04)
    # Eq 7; Eq 8 only as far as whole instances allow.
    assert balance(best).prefill_ratio == pytest.approx(1, abs=0.005)
    assert 0.7 < balance(best).decode_ratio < 1.3


def test_homogeneous_pd_of_table_6() -> None:
    best = solve(HOMOGENEOUS, LENGTHS)
    assert (best.n_p, best.n_d, best.offloaded_fraction) == (9, 3, 0.0)
    assert solve(PRFAAS_PD, LENGTHS).lambda_max / best.lambda_max == pytest.approx(1.54, rel=0.02)


def test_no_link_sends_nothing() -> None:
    best = solve(replace(PRFAAS_PD, egress_bytes_s=0.0), LENGTHS)
    assert (best.threshold_tokens, best.offloaded_fraction) == (131_072, 0.0)
    assert best.lambda_max == pytest.approx(solve(replace(HOMOGENEOUS, n_pd=8), LENGTHS).lambda_max)


def test_without_local_prefill_everything_is_sent() -> None:
    best = solve(PRFAAS_PD, LENGTHS, n_p=0)
    assert (best.threshold_tokens, best.offloaded_fraction) == (0, 1.0)


def test_idle_ends_of_a_flat_optimum_are_not_wasted() -> None:
    # Decode takes 1.56/s at best, whatever the threshold: prefill is balanced all the same.
    best = solve(replace(PRFAAS_PD, n_pd=5), LENGTHS, n_p=3)
    assert best.bottleneck == "pdd"
    assert balance(best).prefill_ratio == pytest.approx(1, abs=0.005)


def test_expected_times_are_longer() -> None:
    assert solve(PRFAAS_PD, LENGTHS, expected=True).lambda_max < solve(PRFAAS_PD, LENGTHS).lambda_max


def test_recent_lengths_are_as_good_as_the_distribution() -> None:
    best = solve(PRFAAS_PD, Recent(1e9, LENGTHS.samples(5000)))
    assert best.threshold_tokens == pytest.approx(solve(PRFAAS_PD, LENGTHS).threshold_tokens, rel=0.03)


@FEW
@given(deployment=deployments, lengths=lengths_of, data=st.data())
def test_nothing_on_a_grid_is_better(deployment: Deployment, lengths: Lengths, data: st.DataObject) -> None:
    best = solve(deployment, lengths)
    n_p = data.draw(st.integers(0, deployment.n_pd - 1))
    threshold = data.draw(st.one_of(st.just(0), st.integers(1, 140_000)))
    assert best.lambda_max >= NEARLY * throughput(deployment, lengths, threshold, n_p).lambda_max
    assert solve(deployment, lengths, n_p=n_p).lambda_max <= best.lambda_max / NEARLY
    assert best.n_p + best.n_d == deployment.n_pd
    assert best.n_d >= 1
    assert 0 <= best.threshold_tokens <= lengths.quantile(1.0) + 1
    if deployment.prfaas is not None:
        assert best.egress_bytes_s <= deployment.egress_bytes_s * (1 + 1e-9)


@FEW
@given(deployment=deployments, lengths=lengths_of, factor=st.floats(1, 100))
def test_more_never_hurts(deployment: Deployment, lengths: Lengths, factor: float) -> None:
    best = solve(deployment, lengths).lambda_max
    wider = replace(deployment, egress_bytes_s=deployment.egress_bytes_s * factor)
    for more in (wider, replace(deployment, n_prfaas=deployment.n_prfaas + 1), replace(deployment, n_pd=17)):
        assert solve(more, lengths).lambda_max >= NEARLY * best
