"""Plans a deployment: the best threshold and split, two baselines, and whether offloading pays. Prints nothing."""

from dataclasses import asdict, dataclass
from typing import Any

from prfaas.config.deployment import DeploymentFile
from prfaas.core.errors import ConfigError
from prfaas.planner.plan.cost import BreakEven, break_even, gain_at_equal_cost
from prfaas.planner.plan.fleet import Fleet, baseline_of, fleet_of
from prfaas.planner.plan.forecast import Forecast, all_remote, best, forecast
from prfaas.planner.plan.notes import notes
from prfaas.planner.plan.sensitivity import Curve, sensitivity
from prfaas.planner.plan.verdict import Verdict, break_even_words, verdict
from prfaas.policy.throughput import Throughput


@dataclass(frozen=True, slots=True)
class Planned:
    """A fleet, what it is run with, and what follows."""

    fleet: Fleet
    at: Throughput
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `prfaas plan` shows."""

    name: str
    verdict: Verdict
    words: tuple[str, ...]
    """Break-even points."""
    notes: tuple[str, ...]
    best: Planned
    homogeneous: Planned
    naive: Planned | None
    """None without prfaas clusters."""
    gain_at_equal_cost: float | None
    break_even: BreakEven
    sensitivity: tuple[Curve, ...]

    @property
    def fleets(self) -> dict[str, Planned]:
        """By their names in the JSON object; `prfaas` is the plan."""
        found = {"prfaas": self.best, "homogeneous_pd": self.homogeneous}
        return found | ({"naive_heterogeneous": self.naive} if self.naive else {})


def plan(file: DeploymentFile) -> Plan:
    """Raises ConfigError for a profile or trace that cannot be used, and for an SLO that no instance can keep."""
    fleet = fleet_of(file)
    _check_ttft(file, fleet)
    homogeneous = baseline_of(file, fleet)
    at, other = best(fleet), best(homogeneous)
    here, there = Planned(fleet, at, forecast(fleet, at)), Planned(homogeneous, other, forecast(homogeneous, other))
    naive = Planned(fleet, all_remote(fleet), forecast(fleet, all_remote(fleet))) if fleet.prfaas else None
    gain = gain_at_equal_cost(fleet, at, homogeneous, other)
    even = break_even(fleet, at, homogeneous, other)
    ratio = fleet.prfaas.usd_per_hour / fleet.pd.usd_per_hour if fleet.prfaas and fleet.pd.usd_per_hour else None
    forecasts = {"This plan": here.forecast, "Homogeneous": there.forecast}
    return Plan(
        name=file.name,
        verdict=verdict(here.forecast, there.forecast, gain, fleet.lengths.quantile(1.0)),
        words=tuple(break_even_words(even, fleet.usd_per_gb, ratio, fleet.link_gbit_s)),
        notes=tuple(notes(file, fleet, forecasts | ({"Naive": naive.forecast} if naive else {}))),
        best=here,
        homogeneous=there,
        naive=naive,
        gain_at_equal_cost=gain,
        break_even=even,
        sensitivity=sensitivity(fleet, homogeneous, even.link_gbit_s),
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """One object: the plan's forecast, and the baselines' under `baselines`."""
    fleets = {name: asdict(planned.forecast) for name, planned in plan.fleets.items()}
    return {
        **fleets.pop("prfaas"),
        "baselines": fleets,
        "gain_at_equal_cost": plan.gain_at_equal_cost,
        "break_even": asdict(plan.break_even),
        "offloading_pays": plan.verdict.pays,
        "conclusion": " ".join([plan.verdict.sentence, *plan.words]),
        "notes": list(plan.notes),
        "sensitivity": {curve.name: [asdict(point) for point in curve.points] for curve in plan.sensitivity},
    }


def _check_ttft(file: DeploymentFile, fleet: Fleet) -> None:
    deployment, shortest = fleet.deployment(), fleet.lengths.quantile(0.0)
    pools = [pool for pool in (deployment.prfaas, deployment.pd) if pool]
    fastest = min(pools, key=lambda pool: deployment.prefill_s(pool, shortest))
    seconds = deployment.prefill_s(fastest, shortest)
    if seconds > file.slo.ttft_s:
        raise ConfigError(
            f"slo.ttft_s: the shortest prompt, {shortest:,.0f} uncached tokens, takes {seconds:.3g} s to prefill even "
            f"on {fastest.name}, more than {file.slo.ttft_s:g} s; allow more, or prefill on faster instances"
        )
