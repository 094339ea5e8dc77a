"""Which runs there are, one after the other, and which of them are compared. Prints nothing."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from random import Random

from benchmarks.fleet.client import Prompts
from benchmarks.fleet.fleet_file import MODEL_NAME
from benchmarks.fleet.live_fleet import LiveFleet, running
from benchmarks.fleet.live_run import LinkCut, LiveRun, run_live
from benchmarks.fleet.predicted import arrivals, best_rate, grid, planned_rate, predict, rate_in_time
from benchmarks.fleet.scales import Scales
from benchmarks.fleet.studies import Study
from prfaas.config.deployment import LinkChangeSection
from prfaas.core.families.registry import decoder_spec
from prfaas.core.model_files import read_config
from prfaas.planner.simulate.opening import opening
from prfaas.planner.simulate.outcome import Outcome

SEED = 7
CUT_SHARE, CUT_S = 0.1, 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One deployment at one rate, live and simulated."""

    name: str
    rate_req_s: float
    planned_req_s: float
    live: LiveRun
    simulated: Outcome
    rate_in_time_req_s: float | None = None
    """The highest of the grid at which nine of ten first tokens are in time, simulated. None: none, or not asked."""

    @property
    def p90_error(self) -> float:
        """Of the simulator's P90 of the time to first token."""
        return abs(self.live.ttft_s.p90 / self.simulated.ttft_s.p90 - 1)


@dataclass(frozen=True, slots=True)
class Series:
    """How many requests each run has, and on what."""

    scales: Scales
    model: Path
    requests: int
    at_most_s: float = inf
    """Of the case study's: at low rates fewer requests come."""
    on_begin: Callable[[str], None] = lambda _: None
    on_ended: Callable[[], None] = lambda: None
    on_trial: Callable[["Trial"], None] = lambda _: None

    def count(self, rate_req_s: float) -> int:
        """Requests of a run."""
        return max(1, min(self.requests, int(self.at_most_s * rate_req_s)))

    def prompts(self) -> Prompts:
        return Prompts(MODEL_NAME, decoder_spec(read_config(self.model)).vocab_size, Random(SEED))

    def fleet(self, study: Study, stack: AsyncExitStack) -> "Bench":
        return Bench(self, study, stack)


class Bench:
    """One deployment's fleet, started when it is first asked for, and the trials that it is put through."""

    def __init__(self, series: Series, study: Study, stack: AsyncExitStack) -> None:
        self._series, self._study, self._stack = series, study, stack
        self._prompts = series.prompts()
        self._live: LiveFleet | None = None

    async def at_best(self) -> Trial:
        """At the rate of the grid at which the simulator has most first tokens in time per second."""
        self._series.on_begin(f"{self._study.name}: looking for its best rate")
        loads = grid(self._study, self._series.count, SEED)
        return replace(await self.at(best_rate(loads)), rate_in_time_req_s=rate_in_time(loads))

    async def at(self, rate_req_s: float, cut: LinkCut | None = None) -> Trial:
        """At a given rate."""
        study, series = self._study, self._series
        what = f"{study.name}, {rate_req_s:.2f} requests/s{', link cut' if cut else ''}"
        series.on_begin(f"{what}: simulated")
        count = series.count(rate_req_s)
        simulated = predict(with_cut(study, cut) if cut else study, rate_req_s, count, SEED)
        series.on_begin(what)
        live = await self._running()
        came = arrivals(study, rate_req_s, count, SEED)
        run = await run_live(live, self._prompts, came, series.on_ended, cut)
        trial = Trial(study.name, rate_req_s, planned_rate(study), run, simulated)
        series.on_trial(trial)
        return trial

    def cut_at(self, rate_req_s: float) -> LinkCut:
        """In the middle of a run."""
        middle_s = self._series.count(rate_req_s) / rate_req_s / 2
        return LinkCut(max(0.0, middle_s - CUT_S / 2), CUT_S, CUT_SHARE, self._study.deployment.links[0].gbit_s)

    async def _running(self) -> LiveFleet:
        if self._live is None:
            started = running(self._study, self._series.scales, self._series.model, self._prompts)
            self._live = await self._stack.enter_async_context(started)
        return self._live


def with_cut(study: Study, cut: LinkCut) -> Study:
    """The same deployment with the link's change in its file."""
    timeline = (
        LinkChangeSection(at_s=cut.at_s, gbit_s=cut.gbit_s * cut.share),
        LinkChangeSection(at_s=cut.at_s + cut.for_s, gbit_s=cut.gbit_s),
    )
    links = tuple(link.model_copy(update={"timeline": timeline}) for link in study.deployment.links)
    return Study(study.name, study.deployment.model_copy(update={"links": links}), study.policy)


def local_only(study: Study, rate_req_s: float, requests: int, cut: LinkCut) -> float:
    """The least P90 of any ten seconds of the cut, simulated, where the same fleet sends nothing away at all."""
    local = next(cluster for cluster in study.deployment.clusters if cluster.kind == "pd")
    roles = _prefills(study)
    clusters = tuple(c.model_copy(update={"prefill": roles}) if c is local else c for c in study.deployment.clusters)
    alone = Study(study.name, study.deployment.model_copy(update={"clusters": clusters}), "local_only")
    series = predict(alone, rate_req_s, requests, SEED).series
    within = [p90 for at_s, p90 in zip(series.time_s, series.ttft_p90_s, strict=True) if cut.covers(at_s) and p90]
    return min(within)


def _prefills(study: Study) -> int:
    return sum(s.kind == "pd" and s.role == "prefill" for s, _ in opening(study.deployment, study.policy).seats)
