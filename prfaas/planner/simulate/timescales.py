"""The two loops of the PrfaaS paper (s3.4.3) at work: the threshold every few seconds, roles every few minutes."""

from collections.abc import Mapping
from math import inf

from prfaas.config.sections import LoopsSection
from prfaas.planner.simulate.fleet import Fleet, Member
from prfaas.planner.simulate.loop import EventLoop
from prfaas.planner.simulate.opening import Opening
from prfaas.planner.simulate.outcome import RoleChange, ThresholdChange
from prfaas.planner.simulate.tally import Tally
from prfaas.planner.simulate.way import Ends, Way, outwards
from prfaas.policy.allocate import AllocateParams, Allocation, Conversion, allocate
from prfaas.policy.arrival_rate import ArrivalRate
from prfaas.policy.observe import signals_of
from prfaas.policy.recent import Recent
from prfaas.policy.retune import RetuneParams, Signals, Tuning, retune
from prfaas.policy.view import ClusterView, PolicyParams

HALF_LIFE_REQUESTS = 1_000
"""Of what the lengths of latest prompts are remembered by."""
FIRST_LENGTHS = 200
"""That stand for what the plan expected, until prompts have come."""


class Timescales:
    """Both loops. Only the policy `prfaas` has its threshold retuned; the others keep the plan's."""

    def __init__(
        self,
        loop: EventLoop,
        fleet: Fleet,
        ways: Mapping[Ends, Way],
        tally: Tally,
        opening: Opening,
        loops: LoopsSection,
        params: PolicyParams,
        *,
        retunes: bool,
    ) -> None:
        self._loop, self._fleet, self._tally, self._opening, self._loops = loop, fleet, tally, opening, loops
        self._params = params
        self._retunes = retunes and loops.retune and bool(outwards(fleet, ways))
        self.lengths = Recent(HALF_LIFE_REQUESTS, opening.lengths.samples(FIRST_LENGTHS))
        self.tuning = Tuning.start(opening.threshold_tokens)
        self._retuned_s = self._allocated_s = 0.0
        self._converted_s = -inf
        self._draining: tuple[Member, float, Conversion] | None = None
        self._changed: Conversion | None = None
        self._rate = ArrivalRate()

    def tick(self, view: ClusterView) -> None:
        """To be called with every heartbeat."""
        now_s = self._loop.now_s
        self._rate.observe(now_s, self._tally.arrived)
        if self._retunes and now_s - self._retuned_s >= self._loops.retune_s:
            self._retune(view, now_s)
        if self._loops.convert:
            self._convert(view, now_s)

    def _retune(self, view: ClusterView, now_s: float) -> None:
        before = self.tuning.threshold_tokens
        signals = self._signals(view, now_s)
        self.tuning = retune(
            self.tuning,
            signals,
            self._opening.deployment,
            self.lengths,
            RetuneParams(),
            n_p=min(self._fleet.count("prefill"), self._opening.deployment.n_pd - 1),
        )
        self._retuned_s = now_s
        if self.tuning.threshold_tokens != before:
            self._tally.retunes(ThresholdChange(now_s, self.tuning.threshold_tokens, self.tuning.reason))

    def _convert(self, view: ClusterView, now_s: float) -> None:
        if self._draining:
            member, since_s, conversion = self._draining
            if not member.jobs:
                self._draining = None
                ready_s = now_s + self._loops.convert_s
                self._tally.converts(
                    RoleChange(since_s, ready_s, member.seat.instance_id, conversion.role_to, conversion.reason)
                )
                self._changed = conversion
                self._loop.at(ready_s, self._converted, member)
        elif not self._changed and now_s - self._allocated_s >= self._loops.allocate_s:
            self._allocated_s = now_s
            self._allocate(view, now_s)

    def _allocate(self, view: ClusterView, now_s: float) -> None:
        allocation = Allocation(self._fleet.count("prefill"), self._fleet.count("decode"), self._converted_s)
        conversion = allocate(
            allocation,
            self._signals(view, now_s),
            self._opening.deployment,
            self.lengths,
            AllocateParams(convert_s=self._loops.convert_s, cooldown_s=self._loops.cooldown_s),
        )
        if conversion and (member := self._fleet.drain(conversion.role_from)):
            self._converted_s = now_s
            self._draining = member, now_s, conversion

    def _converted(self, member: Member) -> None:
        self._fleet.convert(member)
        self._changed = None

    def _signals(self, view: ClusterView, now_s: float) -> Signals:
        return signals_of(view, self._params, at_s=now_s, rate_req_s=self._rate.req_s)
