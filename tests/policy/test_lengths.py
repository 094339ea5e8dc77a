"""Distributions of lengths: closed forms against sums, and what all of them have in common."""

import random
from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.core.errors import ConfigError
from prfaas.policy.lengths import Empirical, Fixed, Lengths, Lognormal
from prfaas.policy.recent import Recent
from tests.policy.paper import LENGTHS

FEW = settings(max_examples=40, deadline=None)
ALL: list[Lengths] = [
    LENGTHS,
    Lognormal(6.0, 2.0, 1, 1_000_000),
    Lognormal(2.0, 1.0, 1000, 5000),
    Lognormal(12.0, 0.5, 128, 4096),
    Fixed(1000),
    Empirical([5, 1, 1, 100, 7]),
    Recent(1000, [5, 1, 1, 100, 7]),
]


@pytest.mark.parametrize(
    "lognormal",
    [
        LENGTHS,
        Lognormal(6.0, 2.0, 1, 1_000_000),
        # Truncated far above and far below the median: only the outermost tail is left.
        Lognormal(2.0, 1.0, 1000, 5000),
        Lognormal(12.0, 0.5, 128, 4096),
    ],
)
def test_closed_forms_agree_with_integration(lognormal: Lognormal) -> None:
    # The density on a fine logarithmic grid, each step at its middle.
    steps = 5_000
    ratio = (lognormal.high / lognormal.low) ** (1 / steps)
    points = [lognormal.low * ratio ** (i + 0.5) for i in range(steps)]
    # exp(-z²/2) against that at the mode within the limits, so that nothing underflows.
    exponents = [-(lognormal._z(x) ** 2) / 2 for x in points]
    mode = max(exponents)
    weights = [exp(e - mode) for e in exponents]
    seen = Empirical(points, [w + 1e-300 for w in weights])
    assert lognormal.mean == pytest.approx(seen.mean, rel=1e-5)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        t = lognormal.low * ratio ** round(share * steps)
        assert lognormal.above(t) == pytest.approx(seen.above(t), rel=1e-4, abs=1e-9)
        assert lognormal.mean_above(t) == pytest.approx(seen.mean_above(t), rel=1e-4)
        assert lognormal.mean_below(t) == pytest.approx(seen.mean_below(t), rel=1e-4)
    for q in (0.01, 0.3, 0.5, 0.9, 0.999):
        assert 1 - lognormal.above(lognormal.quantile(q)) == pytest.approx(q)


def test_lengths_of_the_paper() -> None:
    # Table 6: mean ~27K; 49.6 % are longer than 19.4K, and of ~44K (x 1024) on average.
    assert LENGTHS.mean == pytest.approx(27_486, rel=1e-4)
    assert LENGTHS.above(19_400) == pytest.approx(0.496, abs=0.001)
    assert LENGTHS.mean_above(19_400) == pytest.approx(44.0 * 1024, rel=0.002)


def test_lognormal_outside_its_limits_is_refused() -> None:
    with pytest.raises(ConfigError, match="the median is 7; move the limits"):
        Lognormal(2.0, 0.01, 1000, 5000)


@pytest.mark.parametrize("lengths", ALL)
def test_the_whole_is_the_sum_of_its_parts(lengths: Lengths) -> None:
    shortest, longest = lengths.quantile(0.0), lengths.quantile(1.0)
    for t in (0, shortest / 2, shortest, lengths.mean, longest * 0.99, longest, longest * 2):
        p = lengths.above(t)
        assert p * lengths.mean_above(t) + (1 - p) * lengths.mean_below(t) == pytest.approx(lengths.mean)
        assert lengths.mean_below(t) <= t or p == 1
        assert lengths.mean_above(t) > t or p == 0
    assert (lengths.above(shortest / 2), lengths.above(longest)) == (1.0, 0.0)
    assert (lengths.mean_below(shortest / 2), lengths.mean_above(longest)) == (0.0, 0.0)


@pytest.mark.parametrize("lengths", ALL)
def test_samples_stand_for_the_distribution(lengths: Lengths) -> None:
    samples = lengths.samples(2000)
    assert len(samples) == 2000
    assert samples == sorted(samples)
    assert sum(samples) / 2000 == pytest.approx(lengths.mean, rel=0.001)
    assert samples[1000] == pytest.approx(lengths.quantile(0.50025), rel=0.001)


def test_empirical_by_hand() -> None:
    # 10 and 30 once, 20 twice: half of them exceed... none of the 20s exceeds 20.
    seen = Empirical([30, 20, 10, 20])
    assert seen.above(20) == 0.25
    assert seen.above(19.5) == 0.75
    assert seen.mean_above(19.5) == pytest.approx(70 / 3)
    assert seen.mean_below(20) == pytest.approx(50 / 3)
    assert [seen.quantile(q) for q in (0, 0.25, 0.26, 0.75, 0.76, 1)] == [10, 10, 20, 20, 30, 30]
    with pytest.raises(ConfigError, match="at least one request"):
        Empirical([])


@FEW
@given(lengths=st.lists(st.integers(1, 200_000), min_size=1, max_size=200), t=st.integers(0, 250_000))
def test_empirical_is_what_counting_says(lengths: list[int], t: int) -> None:
    above = [tokens for tokens in lengths if tokens > t]
    seen = Empirical(lengths)
    assert seen.above(t) == pytest.approx(len(above) / len(lengths))
    assert seen.mean_above(t) == pytest.approx(sum(above) / len(above) if above else 0.0)


def test_recent_is_within_a_bin_of_what_was_added() -> None:
    rng = random.Random(1)
    lengths = [min(rng.lognormvariate(9.9, 1.0), 1e6) for _ in range(5000)]
    recent, exact = Recent(1e9, lengths), Empirical(lengths)
    assert recent.mean == pytest.approx(exact.mean, rel=1e-4)
    for q in (0.05, 0.5, 0.9, 0.99):
        assert recent.quantile(q) == pytest.approx(exact.quantile(q), rel=0.02)
    assert recent.above(19_400) == pytest.approx(exact.above(19_400), abs=0.01)


def test_recent_forgets_by_half_every_half_life() -> None:
    # 100 requests later the old length counts 2^-(100/50) = 1/4 of what a new one does.
    recent = Recent(50, [1000])
    for _ in range(99):
        recent.add(10.0)
    recent.add(3000)
    assert recent.above(2000) / (recent.above(500) - recent.above(2000)) == pytest.approx(4)


def test_recent_by_time() -> None:
    recent = Recent(60.0)
    recent.add(1000, at_s=0.0)
    recent.add(10, at_s=120.0)
    assert recent.above(500) == pytest.approx(1 / 5)


@pytest.mark.parametrize("gap_s", [1.0, 1e4, 1e9])
def test_recent_goes_on_for_ever_in_bounded_space(gap_s: float) -> None:
    recent = Recent(1.0)
    for i in range(3000):
        recent.add(1.0 + i * 1e7, at_s=i * gap_s)
    assert len(recent._weights) <= 1024
    assert recent.mean == pytest.approx(3e10, rel=0.1)
    assert sum(recent.samples(10)) > 0


def test_recent_of_nothing() -> None:
    nothing = Recent(10)
    assert nothing.empty
    assert (nothing.mean, nothing.above(0), nothing.quantile(0.5), nothing.samples(3)) == (0.0, 0.0, 0.0, [])
