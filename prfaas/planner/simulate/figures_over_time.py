"""Plots of runs as they went, one line for each policy; outages are shaded. Knows no page.

They end some time after the last arrival, so that a policy that is hours behind does not hide the others.
"""

from collections.abc import Callable, Iterator, Sequence

import plotly.graph_objects as go

from prfaas.planner.log_axis import log_axis_of
from prfaas.planner.page_style import line
from prfaas.planner.simulate.outcome import Outcome, Series

GREY = "#8c95a1"
AFTER = 1.2
"""Times the last arrival: until then is drawn."""
Values = Callable[[Series], Sequence[float | None]]


def used_links(outcomes: Sequence[Outcome]) -> list[str]:
    """Directions in which any policy sent anything."""
    names = dict.fromkeys(link.name for o in outcomes for link in o.links if link.in_bytes > 0)
    return list(names)


def link_use(outcomes: Sequence[Outcome], link: str) -> go.Figure:
    """What crossed one direction of one link, and what could have."""
    figure = _lines(outcomes, lambda series: series.gbit_s.get(link, ()), shape="linear")
    _grey(figure, outcomes, "capacity", lambda series: series.capacity_gbit_s.get(link, ()), shape="hv")
    return _shaded(figure, outcomes, [link]).update_yaxes(title="Gbit/s")


def threshold(outcomes: Sequence[Outcome]) -> go.Figure:
    figure = _lines(outcomes, lambda series: [tokens or None for tokens in series.threshold_tokens], shape="hv")
    return _shaded(figure, outcomes).update_yaxes(title="tokens", **_drawn_axis(figure))


def goodput(outcomes: Sequence[Outcome]) -> go.Figure:
    """What was asked, and what was answered within the objectives."""
    figure = _lines(outcomes, lambda series: series.goodput_req_s, shape="linear")
    _grey(figure, outcomes, "asked", lambda series: series.arrivals_req_s, shape="linear")
    return _shaded(figure, outcomes).update_yaxes(title="req/s")


def ttft_p90(outcomes: Sequence[Outcome]) -> go.Figure:
    figure = _lines(outcomes, lambda series: [p90 or None for p90 in series.ttft_p90_s], shape="linear")
    return _shaded(figure, outcomes).update_yaxes(title="P90 TTFT, s", **_drawn_axis(figure))


def waiting(outcomes: Sequence[Outcome]) -> go.Figure:
    """Requests that are not yet begun, of all clusters and roles."""
    figure = _lines(
        outcomes,
        lambda series: [sum(counts) for counts in zip(*series.waiting_requests.values(), strict=True)],
        shape="linear",
    )
    return _shaded(figure, outcomes).update_yaxes(title="requests")


def outages(series: Series, links: Sequence[str]) -> Iterator[tuple[float, float]]:
    """(from, to) in seconds, where none of the links carries anything."""
    closed = [all(series.capacity_gbit_s[link][i] <= 0 for link in links) for i in range(len(series.time_s))]
    begin: float | None = None
    for time_s, now_closed in zip(series.time_s, closed, strict=True):
        if now_closed and begin is None:
            begin = time_s
        elif begin is not None and not now_closed:
            yield begin, time_s
            begin = None
    if begin is not None:
        yield begin, series.time_s[-1] + series.bucket_s


def end_s(outcomes: Sequence[Outcome]) -> float:
    """Until when is drawn."""
    series = _longest(outcomes)
    last = max((t for t, came in zip(series.time_s, series.arrivals_req_s, strict=True) if came > 0), default=0.0)
    return AFTER * (last + series.bucket_s)


def _lines(outcomes: Sequence[Outcome], values: Values, *, shape: str) -> go.Figure:
    figure = go.Figure()
    until_s = end_s(outcomes)
    for o in outcomes:
        _add(figure, o.policy, o.series, values, until_s, line(o.policy) | {"shape": shape})
    return figure.update_xaxes(title="s")


def _drawn_axis(figure: go.Figure) -> dict[str, object]:
    return log_axis_of(y for drawn in figure.data for y in drawn.y)


def _grey(figure: go.Figure, outcomes: Sequence[Outcome], name: str, values: Values, *, shape: str) -> None:
    """What is the same for all policies."""
    _add(figure, name, _longest(outcomes), values, end_s(outcomes), {"color": GREY, "width": 1, "shape": shape})


def _add(
    figure: go.Figure, name: str, series: Series, values: Values, until_s: float, drawn: dict[str, object]
) -> None:
    shown = sum(time_s < until_s for time_s in series.time_s)
    figure.add_scatter(x=series.time_s[:shown], y=values(series)[:shown], name=name, line=drawn, mode="lines")


def _shaded(figure: go.Figure, outcomes: Sequence[Outcome], links: Sequence[str] = ()) -> go.Figure:
    series = _longest(outcomes)
    until_s = end_s(outcomes)
    shown = [link for link in links or used_links(outcomes) if link in series.capacity_gbit_s]
    for begin, end in outages(series, shown) if shown else ():
        if begin >= until_s:
            break
        figure.add_vrect(x0=begin, x1=min(end, until_s), fillcolor="rgba(191,67,0,0.16)", line_width=0, layer="below")
    return figure


def _longest(outcomes: Sequence[Outcome]) -> Series:
    return max((o.series for o in outcomes), key=lambda series: series.time_s[-1:])
