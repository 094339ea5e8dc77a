"""A plan as tables for a terminal of 100 columns. Computes nothing."""

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from prfaas.planner.plan.forecast import Forecast
from prfaas.planner.plan.plan import Plan
from prfaas.planner.plan.sensitivity import Curve

TITLES = {"prfaas": "this plan", "homogeneous_pd": "homogeneous", "naive_heterogeneous": "all remote"}
Row = tuple[str, ...]


def show(plan: Plan, console: Console) -> None:
    """The conclusion first."""
    for sentence in (plan.verdict.sentence, *plan.words):
        console.print(sentence, highlight=False, markup=False)
    for title, rows in (("Compared", list(compared_rows(plan))), ("Stages of this plan", list(stage_rows(plan)))):
        console.print(_table(title, rows))
    console.print(_table("What if", list(what_if_rows(plan))))
    for note in plan.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)


def compared_rows(plan: Plan) -> Iterator[Row]:
    """Header first; a column for each fleet."""
    forecasts = [planned.forecast for planned in plan.fleets.values()]
    yield ("", *(TITLES[name] for name in plan.fleets))
    for label, cell in _COMPARED:
        yield (label, *(cell(forecast) for forecast in forecasts))
    if plan.gain_at_equal_cost is not None:
        yield ("gain at equal cost", f"{plan.gain_at_equal_cost:+.1%}", *("" for _ in forecasts[1:]))


def stage_rows(plan: Plan) -> Iterator[Row]:
    """Header first; what each stage could serve if it were the only bound."""
    f = plan.best.forecast
    yield "stage", "instances", "share", "of its own, req/s", "of all, req/s"
    if f.theta_prfaas is not None:
        all_s = f.theta_prfaas / f.offloaded_fraction
        yield "prfaas", str(f.n_prfaas), f"{f.offloaded_fraction:.1%}", number(f.theta_prfaas), number(all_s)
    if f.theta_pdp is not None:
        here = 1 - f.offloaded_fraction
        yield "pd prefill", str(f.n_p), f"{here:.1%}", number(f.theta_pdp), number(f.theta_pdp / here)
    yield "pd decode", str(f.n_d), "100.0%", number(f.theta_pdd), number(f.theta_pdd)


def what_if_rows(plan: Plan) -> Iterator[Row]:
    """Header first; `*` marks what is planned."""
    yield "", "value", "t", "N_p/N_d", "away", "req/s", "$/Mtok", "gain"
    for curve in plan.sensitivity:
        yield from _curve_rows(curve)


def _curve_rows(curve: Curve) -> Iterator[Row]:
    for i, point in enumerate(curve.points):
        gain = "" if point.gain_at_equal_cost is None else f"{point.gain_at_equal_cost:+.1%}"
        yield (
            curve.label if i == 0 else "",
            f"{point.value:g}{'*' if point.planned else ''}",
            f"{point.threshold_tokens:,}",
            f"{point.n_p}/{point.n_d}",
            f"{point.offloaded_fraction:.1%}",
            number(point.lambda_max),
            number(point.usd_per_mtok),
            gain,
        )


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(*rows[0], title=title, title_justify="left", title_style="bold", row_styles=["", "dim"])
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows[1:]:
        table.add_row(*row, end_section=False)
    return table


def _threshold(f: Forecast) -> str:
    return "–" if f.threshold_tokens is None else f"{f.threshold_tokens:,}"


_COMPARED: list[tuple[str, Callable[[Forecast], str]]] = [
    ("threshold t, tokens", _threshold),
    ("prfaas / prefill / decode", lambda f: f"{f.n_prfaas} / {f.n_p} / {f.n_d}"),
    ("Lambda_max, req/s", lambda f: number(f.lambda_max)),
    ("  with E[T(L)]", lambda f: number(f.lambda_max_expected)),
    ("bound by", lambda f: f.bottleneck),
    ("offloaded", lambda f: f"{f.offloaded_fraction:.1%}"),
    ("TTFT alone, mean / P90, s", lambda f: f"{f.ttft_mean_s:.2f} / {f.ttft_p90_s:.2f}"),
    ("planned rate, req/s", lambda f: number(f.planned_req_s)),
    ("TTFT queued, mean / P90, s", lambda f: f"{number(f.ttft_queued_mean_s)} / {number(f.ttft_queued_p90_s)}"),
    ("egress, Eq 2, Gbit/s", lambda f: number(f.egress_gbit_s)),
    ("  that crosses / P99 of 10 s", lambda f: f"{f.egress_crossing_gbit_s:.2f} / {f.egress_p99_gbit_s:.2f}"),
    ("$/hour", lambda f: number(f.usd_per_hour)),
    ("$/Mtok out / all", lambda f: f"{number(f.usd_per_mtok)} / {number(f.usd_per_mtok_total)}"),
]
