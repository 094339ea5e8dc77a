"""What is known at some moments only, as a series over all buckets."""

from prfaas.planner.simulate.series import BUCKET_S, Buckets


def test_what_was_last_known_of_a_threshold_holds_until_the_end() -> None:
    buckets = Buckets()
    buckets.at(0.0).threshold_tokens = 20_000.0
    buckets.at(BUCKET_S).threshold_tokens = 10_000.0
    buckets.at(3 * BUCKET_S).arrivals += 1
    assert buckets.series().threshold_tokens == (20_000.0, 10_000.0, 10_000.0, 10_000.0)


def test_names_are_those_of_all_buckets() -> None:
    buckets = Buckets()
    buckets.at(0.0).waiting = {"local prefill": 3}
    buckets.at(0.0).link_bytes["remote→local"] = 1.25e9 * BUCKET_S
    buckets.at(BUCKET_S).arrivals += 1
    series = buckets.series()
    assert series.waiting_requests == {"local prefill": (3.0, 0.0)}
    assert series.gbit_s == {"remote→local": (10.0, 0.0)}
