"""A comparison of policies as one page that needs nothing but itself. Knows no figures of its own."""

from collections.abc import Sequence

from prfaas.config.deployment import DeploymentFile
from prfaas.planner.page import PageSection, figure_html, grid_html, html_page, list_html, table_html
from prfaas.planner.simulate import figures, figures_over_time
from prfaas.planner.simulate.outcome import Outcome
from prfaas.planner.simulate.page_words import described
from prfaas.planner.simulate.report_columns import BEST, TABLES, FigureTable, cells
from prfaas.planner.simulate.report_words import conclusion


def simulation_page(deployment: DeploymentFile, outcomes: Sequence[Outcome], *, rate_req_s: float) -> str:
    """HTML; at least one outcome. The same outcomes make the same page."""
    first = outcomes[0]
    return html_page(
        f"prfaas simulate: {deployment.name}",
        conclusion(outcomes),
        [
            PageSection("In short", _in_short(outcomes)),
            PageSection("Over time", _over_time(outcomes)),
            PageSection("All figures", "".join(_table(table, outcomes) for table in TABLES)),
            PageSection("What was simulated", list_html([*described(deployment, rate_req_s=rate_req_s), _run(first)])),
            *_reasons(outcomes),
        ],
    )


def _in_short(outcomes: Sequence[Outcome]) -> str:
    return grid_html(
        figure_html(
            figures.goodput_bars(outcomes), "Requests answered within the objectives; paler: answered, but too late."
        ),
        figure_html(figures.ttft_cdf(outcomes), "How many first tokens had come after how long."),
        figure_html(
            figures.ttft_split(outcomes), "What the mean time to the first token was spent on, and how long it was."
        ),
    )


def _over_time(outcomes: Sequence[Outcome]) -> str:
    seconds = outcomes[0].series.bucket_s
    links = [
        figure_html(
            figures_over_time.link_use(outcomes, link),
            f"{link}: what crossed, and what could have (grey). Nothing could where it is shaded.",
        )
        for link in figures_over_time.used_links(outcomes)
    ]
    return grid_html(
        *links,
        figure_html(figures_over_time.threshold(outcomes), "The threshold above which a prompt is long."),
        figure_html(
            figures_over_time.goodput(outcomes),
            f"Answers within the objectives, and requests that came (grey), by {seconds:g} s.",
        ),
        figure_html(figures_over_time.ttft_p90(outcomes), f"P90 of the first tokens of each {seconds:g} s."),
        figure_html(figures_over_time.waiting(outcomes), "Requests that wait to be begun, wherever."),
    )


def _table(table: FigureTable, outcomes: Sequence[Outcome]) -> str:
    header = ["policy", *(column.heading.replace("-\n", "").replace("\n", " ").strip() for column in table.columns)]
    by_column = [cells(column, outcomes) for column in table.columns]
    rows = [[o.policy, *(column[row] for column in by_column)] for row, o in enumerate(outcomes)]
    return table_html(header, rows, f"{table.title}. {BEST} the best of its column.")


def _run(outcome: Outcome) -> str:
    return (
        f"{outcome.requests:,} requests for each policy, fidelity {outcome.fidelity}, seed {outcome.seed}; "
        f"{outcome.duration_s:,.0f} simulated seconds with {outcome.policy}."
    )


def _reasons(outcomes: Sequence[Outcome]) -> list[PageSection]:
    told = [
        f"{o.policy}, {change.at_s:,.0f} s: {change.threshold_tokens:,} tokens: {change.reason}"
        for o in outcomes
        for change in o.threshold_changes[:SHOWN]
    ] + [
        f"{o.policy}, {change.at_s:,.0f} s: {change.instance_id} becomes {change.role_to}: {change.reason}"
        for o in outcomes
        for change in o.role_changes[:SHOWN]
    ]
    fallen = [
        f"{o.policy}: {count:,} prompts fell back to their decode instance: {reason}"
        for o in outcomes
        for reason, count in sorted(o.fallbacks.items())
    ]
    sections = [PageSection("Fallbacks", list_html(fallen))] if fallen else []
    return sections + ([PageSection("Decisions over time", list_html(told))] if told else [])


SHOWN = 20
"""Changes of a policy that the page tells in words."""
