"""Quantiles within one per cent, and series that stay short."""

from random import Random

import pytest

from prfaas.planner.simulate.histogram import Histogram
from prfaas.planner.simulate.series import BUCKET_S, MOST_BUCKETS, Buckets


def test_quantiles_are_within_one_per_cent_and_the_mean_is_exact() -> None:
    rng = Random(1)
    values = sorted(rng.lognormvariate(0, 2) for _ in range(20_001))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert histogram.mean == pytest.approx(sum(values) / len(values))
    for share, found in zip((0.1, 0.5, 0.9, 0.99), histogram.quantiles((0.1, 0.5, 0.9, 0.99)), strict=True):
        assert found == pytest.approx(values[int(share * 20_000)], rel=0.011)


def test_zeros_count() -> None:
    histogram = Histogram()
    for value in (0.0, 0.0, 0.0, 4.0):
        histogram.add(value)
    assert histogram.quantiles((0.0, 0.5, 1.0)) == [0.0, 0.0, pytest.approx(4.0, rel=0.01)]
    assert histogram.mean == 1.0


def test_of_nothing_all_is_zero() -> None:
    spread = Histogram().spread()
    assert (spread.mean, spread.p50, spread.p99) == (0.0, 0.0, 0.0)


def test_merging_is_counting_together() -> None:
    parts, whole = (Histogram(), Histogram()), Histogram()
    for i in range(1, 200):
        parts[i % 2].add(i)
        whole.add(i)
    parts[0].merge(parts[1])
    assert parts[0].spread() == whole.spread()


def test_a_long_run_has_wider_buckets_and_the_same_sums() -> None:
    buckets = Buckets()
    seconds = int(2.5 * MOST_BUCKETS * BUCKET_S)
    for second in range(0, seconds, 5):
        buckets.at(float(second)).arrivals += 1
    series = buckets.series()
    assert series.bucket_s == 4 * BUCKET_S
    assert len(series.time_s) <= MOST_BUCKETS
    assert sum(series.arrivals_req_s) * series.bucket_s == pytest.approx(seconds / 5)
    assert series.arrivals_req_s[3] == pytest.approx(0.2)
