"""The page of a comparison: complete, alone, and the same for the same outcomes."""

import re
from pathlib import Path

import pytest

from prfaas.config.deployment import (
    AgenticSection,
    BurstSection,
    DeploymentFile,
    FixedSection,
    InputSection,
    LinkChangeSection,
    LognormalSection,
    PlannedClusterSection,
    PlannedLinkSection,
    TraceSection,
    WorkloadSection,
)
from prfaas.planner.page_style import colour
from prfaas.planner.simulate import figures, figures_over_time
from prfaas.planner.simulate.page import simulation_page
from prfaas.planner.simulate.page_words import described
from tests.planner.simulate.outcomes import outcome, series

OUTCOMES = [outcome("prfaas", 3.0), outcome("local_only", 1.0, fallbacks={"stalled": 7}), outcome("oracle", 3.3)]


def deployment(source: InputSection | None = None) -> DeploymentFile:
    change = LinkChangeSection(at_s=60, up=False), LinkChangeSection(at_s=90, up=True, gbit_s=5, rtt_ms=3, loss=0.01)
    return DeploymentFile(
        name="two <clusters>",
        workload=WorkloadSection(
            input=source or LognormalSection(mu=9.9, sigma=1.0), bursts=(BurstSection(at_s=5, for_s=6, factor=7),)
        ),
        clusters=(
            PlannedClusterSection(name="remote", kind="prfaas", profile=Path("p/h200.yaml"), instances=4),
            PlannedClusterSection(name="local", kind="pd", profile=Path("p/h20.yaml"), instances=8, prefill=3),
        ),
        links=(
            PlannedLinkSection(
                between=("remote", "local"), gbit_s=100, usd_per_gb=0.02, timeline=change, repeat_s=120.0
            ),
        ),
    )


def test_the_page_holds_all_figures_and_loads_nothing() -> None:
    page = simulation_page(deployment(), OUTCOMES, rate_req_s=2.9)
    assert "prfaas answers most within the objectives: 3.00 req/s" in page
    assert "two &lt;clusters&gt;" in page
    assert "local_only: 7 prompts fell back to their decode instance: stalled" in page
    assert "the link is 95 % busy" in page
    assert page.count('class="plotly-graph-div"') == 8
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="', page)


def test_the_same_outcomes_make_the_same_page() -> None:
    pages = {simulation_page(deployment(), OUTCOMES, rate_req_s=2.9) for _ in range(2)}
    assert len(pages) == 1


def test_a_policy_has_its_colour_in_every_figure() -> None:
    drawn = [
        figures.ttft_cdf(OUTCOMES),
        figures_over_time.link_use(OUTCOMES, "remote→local"),
        figures_over_time.threshold(OUTCOMES),
        figures_over_time.goodput(OUTCOMES),
        figures_over_time.ttft_p90(OUTCOMES),
        figures_over_time.waiting(OUTCOMES),
    ]
    for figure in drawn:
        colours = {trace.name: trace.line.color for trace in figure.data}
        assert [colours[o.policy] for o in OUTCOMES] == [colour(o.policy) for o in OUTCOMES]
    bars = figures.goodput_bars(OUTCOMES).data[0]
    assert list(bars.marker.color) == [colour(o.policy) for o in OUTCOMES]


def test_outages_are_shaded_from_their_begin_to_their_end() -> None:
    assert list(figures_over_time.outages(series(), ["remote→local"])) == [(10.0, 30.0)]
    assert list(figures_over_time.outages(series(3), ["remote→local"])) == [(10.0, 30.0)]
    (shape,) = figures_over_time.threshold(OUTCOMES).layout.shapes
    assert (shape.x0, shape.x1) == (10.0, 30.0)


def test_a_run_that_sent_nothing_has_a_page_without_links() -> None:
    alone = [outcome("local_only", links=(), threshold_changes=())]
    page = simulation_page(deployment(), alone, rate_req_s=1.0)
    assert page.count('class="plotly-graph-div"') == 7


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "2.9 a second: prompts log-normal with mu 9.9 and sigma 1 between 1 and 131,072 tokens"),
        (FixedSection(distribution="fixed", tokens=5000), "prompts of 5,000 tokens, answers of 1,024; 7 times as fast"),
        (
            TraceSection(distribution="trace", path=Path("/x/t.jsonl"), rate_scale=2),
            "Requests of t.jsonl, 2 times as fast as they came",
        ),
        (AgenticSection(distribution="agentic", sessions=50), "50 sessions at once, of 20 turns on average"),
    ],
)
def test_a_deployment_is_told_in_words(source: InputSection | None, words: str) -> None:
    told = described(deployment(source), rate_req_s=2.9)
    assert told[:3] == [
        "remote: 4 instances of h200 that only prefill.",
        "local: 8 instances of h20 that prefill and decode, 3 of them prefill at first.",
        (
            "remote and local are joined by 100 Gbit/s, 10 ms there and back, at 0.02 $/GB; from 60 s down, "
            "from 90 s up 5 Gbit/s 3 ms 1.00% lost, and again every 120 s."
        ),
    ]
    assert words in told[3]
    assert told[4].startswith("An answer is good if its first token comes within 10 s")
