"""Plots of whole runs, one mark or line for each policy. Knows no page."""

from collections.abc import Sequence

import plotly.graph_objects as go

from prfaas.planner.log_axis import log_axis_of
from prfaas.planner.page_style import colour, line
from prfaas.planner.simulate.outcome import QUANTILES, Outcome, Spread

PARTS = ("queue", "prefill", "transfer", "first token")
SHADES = ("#3f4a57", "#73808f", "#a9b3be", "#d7dce2")
"""Of a TTFT's parts: greys, since colours mean policies."""


def goodput_bars(outcomes: Sequence[Outcome]) -> go.Figure:
    """What was answered within the objectives, above it what was answered too late."""
    names = [o.policy for o in outcomes]
    figure = go.Figure()
    figure.add_bar(
        x=names,
        y=[o.goodput_req_s for o in outcomes],
        marker_color=[colour(name) for name in names],
        name="within the objectives",
    )
    figure.add_bar(
        x=names,
        y=[max(0.0, o.throughput_req_s - o.goodput_req_s) for o in outcomes],
        marker={"color": [colour(name) for name in names], "opacity": 0.3},
        name="too late",
    )
    for o in outcomes:
        figure.add_annotation(
            x=o.policy,
            y=max(o.throughput_req_s, o.goodput_req_s),
            text=f"{o.goodput_req_s:.2f}",
            showarrow=False,
            yshift=9,
        )
    return figure.update_layout(barmode="stack", showlegend=False).update_yaxes(title="req/s")


def ttft_cdf(outcomes: Sequence[Outcome]) -> go.Figure:
    """The share of requests whose first token came within a time."""
    figure = go.Figure()
    for o in outcomes:
        figure.add_scatter(
            x=o.ttft_quantiles_s, y=[100 * q for q in QUANTILES], name=o.policy, line=line(o.policy), mode="lines"
        )
    seconds = log_axis_of(second for o in outcomes for second in o.ttft_quantiles_s)
    return figure.update_xaxes(title="TTFT, s", **seconds).update_yaxes(title="% of the requests")


def ttft_split(outcomes: Sequence[Outcome]) -> go.Figure:
    """The shares of the mean TTFT by what it was spent on, and that mean: policies differ by orders of magnitude."""
    figure = go.Figure()
    for part, shade in zip(PARTS, SHADES, strict=True):
        figure.add_bar(
            y=[o.policy for o in outcomes],
            x=[100 * _part(o, part).mean / max(o.ttft_s.mean, 1e-9) for o in outcomes],
            orientation="h",
            name=part,
            marker={"color": shade, "line": {"color": "#59636e", "width": 1}},
        )
    for o in outcomes:
        figure.add_annotation(
            y=o.policy, x=101, text=f"{_seconds(o.ttft_s.mean)}", showarrow=False, xanchor="left", align="left"
        )
    figure.update_layout(barmode="stack", hovermode="y unified")
    figure.update_xaxes(title="% of the mean TTFT", range=[0, 122], tickvals=[0, 25, 50, 75, 100])
    return figure.update_yaxes(autorange="reversed")


def _part(outcome: Outcome, part: str) -> Spread:
    return {
        "queue": outcome.queue_s,
        "prefill": outcome.prefill_s,
        "transfer": outcome.transfer_s,
        "first token": outcome.first_token_s,
    }[part]


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"
