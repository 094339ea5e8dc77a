"""A plan as figures. Knows no page."""

from collections.abc import Sequence
from math import exp, log

import plotly.graph_objects as go

from prfaas.planner.log_axis import log_axis
from prfaas.planner.page_style import colour, line, marker
from prfaas.planner.plan.forecast import first_tokens_of
from prfaas.planner.plan.plan import Plan, Planned
from prfaas.planner.plan.sensitivity import Curve
from prfaas.planner.plan.tables import TITLES
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Throughput, throughput

POINTS = 80
CEILING = 3.0
"""Times Lambda_max: stages that could do more leave the plot at its top."""


def stages_over_threshold(planned: Planned) -> go.Figure:
    """Figure 5, left, of the PrfaaS paper: what each stage could serve of all requests, over t at the best split."""
    fleet, at = planned.fleet, planned.at
    low, high = max(1.0, fleet.lengths.quantile(0.01)), fleet.lengths.quantile(1.0)
    thresholds = sorted({round(tokens) for tokens in _spaced(low, high)} | {at.threshold_tokens})
    deployment, lengths = fleet.deployment(), fleet.lengths
    swept = [throughput(deployment, lengths, t, at.n_p) for t in thresholds if t <= high]
    top = CEILING * max(found.lambda_max for found in swept)
    figure = go.Figure()
    for name, label, values in (
        ("lambda_max", "Λ<sub>max</sub>", [x.lambda_max for x in swept]),
        ("prfaas", "Θ<sub>prfaas</sub> / p", [_over(x.theta_prfaas, x.offloaded_fraction, top) for x in swept]),
        ("pdp", "Θ<sub>pdp</sub> / (1 − p)", [_over(x.theta_pdp, 1 - x.offloaded_fraction, top) for x in swept]),
        ("pdd", "Θ<sub>pdd</sub>", [x.theta_pdd for x in swept]),
    ):
        width = {"width": 7} if name == "lambda_max" else {}
        figure.add_scatter(x=_thresholds(swept), y=values, name=label, mode="lines", line={**line(name), **width})
    best = {"color": colour("prfaas"), "size": 11, "symbol": "circle-open", "line": {"width": 3}}
    figure.add_scatter(
        x=[at.threshold_tokens], y=[at.lambda_max], mode="markers", marker=best, name="best", showlegend=False
    )
    figure.update_xaxes(title="threshold t, uncached tokens", **log_axis(low, high))
    return figure.update_yaxes(title="requests/s", range=[0, top * 0.67])


def throughput_over_split(planned: Planned) -> go.Figure:
    """Figure 5, right: Lambda_max over N_p, each with its best t."""
    fleet = planned.fleet
    deployment = fleet.deployment()
    swept = [solve(deployment, fleet.lengths, n_p=n_p) for n_p in range(fleet.least_n_p, fleet.most_n_p + 1)]
    figure = go.Figure(
        go.Bar(
            x=[f"{x.n_p}/{x.n_d}" for x in swept],
            y=[x.lambda_max for x in swept],
            text=[f"{x.lambda_max:.2f}" for x in swept],
            customdata=[f"{x.threshold_tokens:,}" for x in swept],
            hovertemplate="%{y:.2f} requests/s at t = %{customdata}<extra></extra>",
            marker={"color": [colour("prfaas" if x.n_p == planned.at.n_p else "lambda_max") for x in swept]},
            textposition="outside",
            cliponaxis=False,
        )
    )
    figure.update_xaxes(title="N_p / N_d", type="category")
    return figure.update_yaxes(title="Λ<sub>max</sub>, requests/s")


def curves(curve: Curve) -> tuple[go.Figure, go.Figure]:
    """(Lambda_max, gain at equal cost) over what is changed; without prices the second is the threshold."""
    x = [point.value for point in curve.points]
    gains = [point.gain_at_equal_cost for point in curve.points]
    rates = _line(x, [point.lambda_max for point in curve.points], "prfaas", curve, "Λ<sub>max</sub>, requests/s")
    if any(gain is None for gain in gains):
        return rates, _line(x, [p.threshold_tokens for p in curve.points], "pdp", curve, "threshold t, tokens")
    figure = _line(x, [gain for gain in gains if gain is not None], "pdd", curve, "gain at equal cost")
    return rates, figure.update_yaxes(tickformat="+.0%").add_hline(y=0, line={"width": 1, "color": "#888"})


def costs(plan: Plan) -> go.Figure:
    """$ per million output tokens, instances and egress apart."""
    priced = {name: p for name, p in plan.fleets.items() if p.forecast.usd_per_mtok and p.forecast.usd_per_hour}
    names = [TITLES[name] for name in priced]
    figure = go.Figure().update_layout(barmode="stack")
    own = [colour(name) for name in priced]
    for label, colours, share in (("instances", own, _instance_share), ("egress", colour("egress"), _egress_share)):
        values = [share(p) * (p.forecast.usd_per_mtok or 0.0) for p in priced.values()]
        figure.add_bar(x=names, y=values, name=label, marker={"color": colours}, showlegend=False)
    whole = [planned.forecast.usd_per_mtok for planned in priced.values()]
    labels = [f"{usd:.2f}" for usd in whole if usd]
    figure.add_scatter(x=names, y=whole, mode="text", text=labels, textposition="top center", showlegend=False)
    top = max((usd for usd in whole if usd), default=1.0)
    return figure.update_yaxes(title="$ per million output tokens", range=[0, 1.15 * top])


def first_token_shares(plan: Plan) -> go.Figure:
    """P(TTFT <= x): queued where the fleet can keep up with its planned rate, and prefill alone, thin."""
    figure = go.Figure()
    for name, planned in plan.fleets.items():
        found = first_tokens_of(planned.fleet, planned.at)
        alone = sorted(_alone_s(planned))
        shares = [(i + 0.5) / len(alone) for i in range(len(alone))]
        thin = {**line(name), "width": 1}
        figure.add_scatter(x=alone, y=shares, mode="lines", line=thin, name=f"{TITLES[name]}, prefill alone")
        if found:
            times = _spaced(alone[0], found.quantile_s(0.99))
            within = [found.share_within(seconds) for seconds in times]
            figure.add_scatter(x=times, y=within, mode="lines", line=line(name), name=TITLES[name])
    figure.update_xaxes(title="seconds until the first token", **log_axis(0.1, 30.0))
    return figure.update_yaxes(title="share of requests", tickformat=".0%", range=[0, 1])


def _alone_s(planned: Planned) -> list[float]:
    deployment, threshold = planned.fleet.deployment(), planned.at.threshold_tokens
    remote = deployment.prfaas or deployment.pd
    return [
        deployment.prefill_s(remote if tokens > threshold else deployment.pd, tokens)
        for tokens in planned.fleet.lengths.samples(100)
    ]


def _instance_share(planned: Planned) -> float:
    return planned.fleet.usd_per_hour / (planned.forecast.usd_per_hour or 1.0)


def _egress_share(planned: Planned) -> float:
    return max(0.0, 1 - _instance_share(planned))


def _spaced(low: float, high: float) -> list[float]:
    """Evenly in their logarithm, both ends included."""
    return [low * exp(i * log(high / low) / (POINTS - 1)) for i in range(POINTS)]


def _over(rate: float, share: float, top: float) -> float | None:
    """The rate of all; None where that is beyond the plot."""
    return rate / share if share > 0 and rate / share <= top else None


def _thresholds(swept: Sequence[Throughput]) -> list[int]:
    return [found.threshold_tokens for found in swept]


def _line(x: Sequence[float], y: Sequence[float], series: str, curve: Curve, title: str) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(x=x, y=y, mode="lines+markers", line=line(series), marker=marker(series), showlegend=False)
    planned = [i for i, point in enumerate(curve.points) if point.planned]
    ring = {"size": 14, "symbol": "circle-open", "color": colour(series), "line": {"width": 2}}
    figure.add_scatter(
        x=[x[i] for i in planned], y=[y[i] for i in planned], mode="markers", marker=ring, showlegend=False
    )
    figure.update_xaxes(title=curve.label, **(log_axis(min(x), max(x)) if curve.name == "link_gbit_s" else {}))
    return figure.update_yaxes(title=title)
