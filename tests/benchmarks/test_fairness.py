"""What the fairness benchmark makes of the moments in which tokens came."""

import pytest

from benchmarks.fairness import Phase


def test_a_gap_counts_where_it_ends_and_never_between_two_answers() -> None:
    answers_s = [[0.0, 1.0, 3.0], [3.5, 4.5], [10.0]]
    phase = Phase.of("p", 1.0, 4.0, answers_s, own_mb=7.0)
    assert phase.gaps_s == (1.0, 2.0)
    assert phase.seconds == 3.0


def test_figures_are_beside_those_before() -> None:
    before = Phase("before", 1.0, tuple(i * 1e-3 for i in range(1, 102)), 1.0)
    during = Phase("during", 4.0, tuple(i * 2e-3 for i in range(1, 102)), 2.0)
    row = during.row(before, prefill_tokens=1000)
    assert row["p50_ms"] == pytest.approx(102)
    assert (row["times_p50"], row["times_p90"]) == pytest.approx((2, 2))
    assert row["max_ms"] == pytest.approx(202)
    assert row["prefill_tok_s"] == 250
    assert before.row(before, None)["prefill_tok_s"] is None
