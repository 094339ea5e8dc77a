"""Both loops of the PrfaaS paper (s3.4.3) at work on the live fleet. Knows no sockets; its clock is injected."""

from dataclasses import replace

from prfaas.config.sections import FleetConfig
from prfaas.core.clock import Clock
from prfaas.core.errors import ConfigError
from prfaas.gateway.long_loop import ChangeRole, LongLoop, SlowEgress
from prfaas.gateway.loop_state import LoopState
from prfaas.gateway.policy_params import LiveParams
from prfaas.gateway.registry import Registry
from prfaas.gateway.short_loop import FEWEST_REQUESTS, ShortLoop
from prfaas.gateway.traffic import Traffic
from prfaas.policy.fleet_deployment import Seats, deployment_of
from prfaas.policy.observe import outward, signals_of
from prfaas.policy.signals import Signals
from prfaas.policy.view import ClusterView
from prfaas.telemetry.loop_metrics import RouterLoopMetrics

MOVED = 0.05
"""What was measured is taken to be the same until it has changed by this share: else it would be searched anew at every
look."""


class Timescales:
    """To be called about once a second; looks when it is time."""

    def __init__(
        self,
        config: FleetConfig,
        registry: Registry,
        params: LiveParams,
        traffic: Traffic,
        metrics: RouterLoopMetrics,
        clock: Clock,
        change_role: ChangeRole | None = None,
    ) -> None:
        """`params` is what placements read. Without `change_role` roles stay."""
        self._config, self._registry, self._params, self._traffic = config, registry, params, traffic
        self._metrics, self._clock = metrics, clock
        self._short = ShortLoop(params, metrics, clock())
        self._long = LongLoop(config, change_role)
        self._egress = SlowEgress()
        self._retuned_s = self._allocated_s = clock()
        self._output_tokens, self._uncached = float(params.now.output_tokens), 1.0
        self._signals: Signals | None = None
        self._seats: Seats | None = None
        # Routers share the load, and each sees its own requests alone.
        self._routers = max(1, len(config.router.siblings)) + len(config.router.replicas)

    @property
    def state(self) -> LoopState:
        """As of the last look."""
        tuning, seats = self._short.tuning, self._seats
        return LoopState(
            threshold_tokens=self._params.now.threshold_tokens,
            reason=tuning.reason,
            factor=tuning.factor,
            off_because=self._short.off_because,
            roles_off_because=self._long.off_because,
            n_p=seats.n_p if seats else 0,
            n_d=seats.n_d if seats else 0,
            lambda_max=tuning.solved.lambda_max if tuning.solved else None,
            signals=self._signals,
            changes=tuple(self._short.changes),
            conversions=tuple(self._long.conversions),
        )

    async def tick(self) -> None:
        """Looks at whatever it is time to look at."""
        now_s, loops = self._clock(), self._config.loops
        if now_s - self._retuned_s >= loops.retune_s:
            self._retuned_s = now_s
            self._retune(now_s)
        if self._long.on and now_s - self._allocated_s >= loops.allocate_s:
            self._allocated_s = now_s
            await self._allocate()

    def _retune(self, now_s: float) -> None:
        view = self._registry.view()
        rate_req_s = self._traffic.rate_req_s() * self._routers
        signals = signals_of(view, self._params.now, at_s=now_s, rate_req_s=rate_req_s)
        self._signals = signals
        self._egress.observe(signals)
        self._metrics.queue_seconds.labels("prfaas").set(signals.prfaas_queue_s)
        self._metrics.queue_seconds.labels("pd").set(signals.pdp_queue_s)
        found = self._fleet(view, signals)
        self._seats = None if isinstance(found, str) else found
        if because := self._why_held(view, found):
            self._short.hold(because)
        else:
            assert not isinstance(found, str)
            self._short.look(signals, found, self._traffic.lengths)

    async def _allocate(self) -> None:
        if self._seats and self._signals and self._traffic.placed >= FEWEST_REQUESTS:
            deployment = replace(self._seats.deployment, egress_bytes_s=self._egress.bytes_s)
            seats = replace(self._seats, deployment=deployment)
            view = self._registry.view()
            await self._long.look(self._registry.entries(), view, self._signals, seats, self._traffic.lengths)

    def _fleet(self, view: ClusterView, signals: Signals) -> Seats | str:
        """The deployment that there is, or why there is none."""
        self._output_tokens = _held(self._output_tokens, self._registry.profiles.output_tokens)
        self._uncached = _held(self._uncached, 1 - self._traffic.hit_rate)
        self._params.retuned(output_tokens=self._output_tokens)
        try:
            return deployment_of(
                view,
                egress_bytes_s=signals.egress_bytes_s,
                output_tokens=self._output_tokens,
                hit_rate=1 - self._uncached,
            )
        except ConfigError as error:
            return str(error)

    def _why_held(self, view: ClusterView, found: Seats | str) -> str | None:
        policy, traffic = self._config.policy.name, self._traffic
        if policy != "prfaas":
            return f"policy.name is {policy}, which keeps the threshold of the file"
        if not self._config.loops.retune:
            return "loops.retune is off"
        if isinstance(found, str):
            return found
        if not found.deployment.offloads:
            return "no instance of a prfaas cluster is up"
        if not found.n_p:
            return "no pd instance prefills: for prompts that are prefilled where they are decoded there is no model"
        if not outward(view):
            return "no link from a prfaas cluster is described or measured"
        if traffic.placed < FEWEST_REQUESTS:
            return f"fewer than {FEWEST_REQUESTS} requests have come"
        return None


def _held(before: float, now: float) -> float:
    """`now` once it differs enough; 0: nothing is known of it."""
    return before if not now or abs(now - before) <= MOVED * before else now
