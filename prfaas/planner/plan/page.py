"""A plan as one page. Computes nothing."""

from prfaas.planner.page import PageSection, figure_html, grid_html, html_page, list_html, table_html, text_html
from prfaas.planner.plan.figures import (
    costs,
    curves,
    first_token_shares,
    stages_over_threshold,
    throughput_over_split,
)
from prfaas.planner.plan.plan import Plan
from prfaas.planner.plan.tables import Row, compared_rows, stage_rows, what_if_rows

CURVE_PX = 260


def page(plan: Plan) -> str:
    """HTML that loads nothing from anywhere."""
    sections = [
        PageSection("Break-even", list_html(plan.words)) if plan.words else None,
        PageSection("Compared", grid_html(_table(list(compared_rows(plan))), _stages_and_cost(plan))),
        PageSection("Throughput", grid_html(*_throughput(plan))),
        PageSection("Time to the first token", grid_html(_time(plan))),
        PageSection("What if", _what_if(plan)),
        PageSection("Notes", list_html(plan.notes)) if plan.notes else None,
    ]
    return html_page(f"Plan: {plan.name}", plan.verdict.sentence, [section for section in sections if section])


def _throughput(plan: Plan) -> list[str]:
    at = plan.best.at
    split = figure_html(throughput_over_split(plan.best), "Each split of the pd instances with its best threshold.")
    if not at.offloaded_fraction:
        return [split]
    caption = (
        f"What each stage could serve of all requests if nothing else bounded them, with {at.n_p} pd instances "
        f"that prefill and {at.n_d} that decode. The lowest is what the fleet serves."
    )
    return [figure_html(stages_over_threshold(plan.best), caption), split]


def _stages_and_cost(plan: Plan) -> str:
    stages = _table(list(stage_rows(plan)))
    if plan.best.forecast.usd_per_mtok is None:
        return stages
    return stages + figure_html(costs(plan), "Each fleet at 0.9 of what it can serve.", CURVE_PX)


def _time(plan: Plan) -> str:
    caption = (
        "Thick: with queues and transfer, each fleet at its planned rate; a fleet that cannot keep up with it has no "
        "such line. Thin: prefill alone, as table 6 of the paper counts."
    )
    return figure_html(first_token_shares(plan), caption, 380)


def _what_if(plan: Plan) -> str:
    figures = [
        figure_html(figure, height_px=CURVE_PX)
        for curve in plan.sensitivity
        if len(curve.points) > 1
        for figure in curves(curve)
    ]
    intro = text_html("One thing is changed, threshold and split are found anew. A ring marks what is planned.")
    return intro + grid_html(*figures) + _table(list(what_if_rows(plan)))


def _table(rows: list[Row]) -> str:
    return table_html(rows[0], rows[1:])
