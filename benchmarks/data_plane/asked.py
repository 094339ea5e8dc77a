"""What the project asks of its data plane, beside what a run reached."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.report import Column

COLUMNS = (
    Column("figure", "figure"),
    Column("asked", "asked"),
    Column("reached", "reached", ".3g"),
    Column("", "met"),
)


class Asked(NamedTuple):
    """A bound on one figure of the result, which may lack it."""

    figure: str
    at_least: float | None
    at_most: float | None
    reached: Callable[[dict[str, Any]], float | None]

    def row(self, result: dict[str, Any]) -> dict[str, Any] | None:
        reached = self.reached(result)
        if reached is None:
            return None
        low, high = self.at_least, self.at_most
        met = (low is None or reached >= low) and (high is None or reached <= high)
        bound = f"at least {low:g}" if low is not None else f"at most {high:g}"
        return {"figure": self.figure, "asked": bound, "reached": reached, "met": "met" if met else "missed"}


ASKED = (
    Asked("raw, of iperf3", 0.90, None, lambda r: r.get("of_iperf3", {}).get("raw")),
    Asked("checked and placed, of iperf3", 0.70, None, lambda r: r.get("of_iperf3", {}).get("checked")),
    Asked("mTLS, Gbit/s", 10.0, None, lambda r: r.get("loopback_gbit_s", {}).get("mtls")),
    Asked("CPU of both ends, s/GB", None, 0.5, lambda r: r.get("cpu_s_per_gb")),
    Asked("wide area, of the link", 0.90, None, lambda r: _of_link(r.get("wan"))),
    Asked("sent twice under resets, fraction", None, 0.05, lambda r: r.get("resets", {}).get("resent_fraction")),
)


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of what this run measured."""
    return [row for asked in ASKED if (row := asked.row(result)) is not None]


def _of_link(wan: dict[str, float] | None) -> float | None:
    return wan["achieved_gbit_s"] / wan["link_gbit_s"] if wan else None
