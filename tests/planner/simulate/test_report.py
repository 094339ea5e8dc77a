"""Comparisons as words, tables and JSON."""

import json

import pytest
from rich.console import Console

from prfaas.planner.simulate.outcome import Outcome
from prfaas.planner.simulate.report import report
from prfaas.planner.simulate.report_columns import TABLES, cells
from prfaas.planner.simulate.report_tables import show
from prfaas.planner.simulate.report_words import conclusion
from tests.planner.simulate.outcomes import outcome


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([outcome("prfaas", 3.0)], "prfaas answers 3.00 req/s within the objectives, 75% of what is asked"),
        (
            [outcome("local_only", 1.5), outcome("prfaas", 3.0), outcome("all_remote", 2.0)],
            (
                "prfaas answers most within the objectives: 3.00 req/s, 75% of what is asked, 1.50 times all_remote "
                "and 2.00 times local_only."
            ),
        ),
        ([outcome("prfaas", 3.0), outcome("local_only", 0.0)], "while local_only answers none"),
        ([outcome("prfaas", 0.0), outcome("local_only", 0.0)], "No policy keeps any of 400 requests"),
        (
            [outcome("prfaas", 3.0, 2.0), outcome("isl_or_load", 2.999, 1.5), outcome("local_only", 1.0)],
            (
                "prfaas and isl_or_load answer about as much within the objectives (3.00 req/s, 75% of what is asked); "
                "of them isl_or_load has the lowest P90 TTFT, 3.00 s against up to 4.00 s (prfaas)."
            ),
        ),
        ([outcome("prfaas"), outcome("all_remote")], "All policies answer about as much"),
        ([outcome("prfaas"), outcome("all_remote")], "P90 TTFT of 4.00 s is the same"),
        (
            [outcome("prfaas", 3.0), outcome("local_only", 1.5), outcome("oracle", 3.2)],
            "That is 93.8% of what the oracle, which sees everything, does.",
        ),
        ([outcome("oracle", 3.2)], "oracle answers 3.20 req/s"),
    ],
)
def test_the_conclusion_names_who_is_best_and_by_how_much(outcomes: list[Outcome], words: str) -> None:
    assert words in conclusion(outcomes)


def test_the_oracle_is_no_choice() -> None:
    outcomes = [outcome("prfaas", 3.0), outcome("local_only", 1.0), outcome("oracle", 3.2)]
    assert conclusion(outcomes).startswith("prfaas answers most")
    assert cells(TABLES[0].columns[0], outcomes) == ["3.000*", "1.000", "3.200"]


def test_the_best_is_marked_only_where_there_is_one() -> None:
    goodput, offloaded = TABLES[0].columns[0], TABLES[2].columns[0]
    assert cells(goodput, [outcome("a", 3.0), outcome("b", 3.0), outcome("c", 1.0)]) == ["3.000*", "3.000*", "1.000"]
    assert cells(goodput, [outcome("a", 3.0), outcome("b", 3.0)]) == ["3.000", "3.000"]
    assert cells(offloaded, [outcome("a"), outcome("b", offloaded_fraction=0.9)]) == ["50.0", "90.0"]
    mean_ttft = TABLES[0].columns[2]
    assert cells(mean_ttft, [outcome("a", 3.0, 5.0), outcome("b", 3.0, 4.0)]) == ["5.00", "4.00*"]


def test_tables_fit_a_hundred_columns() -> None:
    console = Console(width=100, record=True)
    names = ("prfaas", "static_threshold", "local_only", "all_remote", "isl_or_load", "oracle")
    show([outcome(name, 3.0 + i, 10 * i, fallbacks={"stalled": 1234}) for i, name in enumerate(names)], console)
    text = console.export_text()
    assert "…" not in text
    assert text.count("static_threshold") == 4, "in three tables, and once for its fallbacks"
    assert "1,234 stalled" in text


def test_json_has_the_keys_that_are_documented() -> None:
    runs = [outcome("prfaas", fallbacks={"stalled": 2, "too slow": 1}), outcome("local_only", links=())]
    told = json.loads(json.dumps(report(runs, requests=400, wall_s=1.23456)))
    assert told["requests"] == 400
    assert told["wall_s"] == 1.235
    assert list(told["policies"]) == ["prfaas", "local_only"]
    prfaas = told["policies"]["prfaas"]
    assert prfaas["goodput_req_s"] == 3.0
    assert prfaas["ttft_s"] == {"mean": 2.0, "p50": 1.8, "p90": 4.0, "p99": 6.0}
    assert prfaas["tpot_ms"].keys() == {"mean", "p50", "p90", "p99"}
    assert prfaas["egress_gbit_s"] == {"mean": 12.0, "p99_10s": 20.0}
    assert prfaas["fallbacks"] == 3
    assert prfaas["fallbacks_by_reason"] == {"stalled": 2, "too slow": 1}
    assert prfaas["lost"] == 0
    assert prfaas["usd_per_mtok"] == 1.5
    assert prfaas["offloaded_fraction"] == 0.5
    assert prfaas["links"]["remote→local"]["out_bytes"] == 4e10
    assert "series" not in prfaas
