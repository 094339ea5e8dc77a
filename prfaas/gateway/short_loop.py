"""The threshold, every few seconds: the short one of the PrfaaS paper's two timescales (s3.4.3), on the live fleet.

Decides nothing itself: `policy.retune` does. Its clock is its caller's.
"""

import logging
from collections import deque

from prfaas.gateway.loop_state import ThresholdChange
from prfaas.gateway.policy_params import LiveParams
from prfaas.policy.fleet_deployment import Seats
from prfaas.policy.lengths import Lengths
from prfaas.policy.retune import RetuneParams, Tuning, retune
from prfaas.policy.signals import Signals
from prfaas.telemetry.loop_metrics import RouterLoopMetrics

HISTORY = 200
FEWEST_REQUESTS = 20
"""Whose lengths say something about the next ones."""

log = logging.getLogger(__name__)


class ShortLoop:
    """Moves the threshold that placements read; while it is off, the last one holds."""

    def __init__(self, params: LiveParams, metrics: RouterLoopMetrics, now_s: float) -> None:
        self._params, self._metrics = params, metrics
        self.tuning = Tuning.start(params.now.threshold_tokens, now_s)
        self.changes: deque[ThresholdChange] = deque(maxlen=HISTORY)
        self.off_because: str | None = "it has not looked yet"
        metrics.threshold_tokens.set(params.now.threshold_tokens)

    def hold(self, because: str) -> None:
        """The threshold stays, for that reason; which is logged when it is not the last one."""
        if because != self.off_because:
            log.info("the threshold stays at %d tokens: %s", self.tuning.threshold_tokens, because)
        self.off_because = because
        self._metrics.retuning.set(0)

    def look(self, signals: Signals, seats: Seats, lengths: Lengths) -> None:
        """Follows load and link, if they call for it."""
        if self.off_because is not None:
            log.info("the threshold of %d tokens now follows load and link", self.tuning.threshold_tokens)
        self.off_because = None
        self._metrics.retuning.set(1)
        before = self.tuning.threshold_tokens
        self.tuning = retune(self.tuning, signals, seats.deployment, lengths, RetuneParams(), n_p=seats.n_p)
        if self.tuning.solved:
            self._metrics.lambda_max.set(self.tuning.solved.lambda_max)
        after = self.tuning.threshold_tokens
        if after != before:
            self._params.retuned(threshold_tokens=after)
            self.changes.append(ThresholdChange(signals.at_s, before, after, self.tuning.reason))
            self._metrics.threshold_tokens.set(after)
            self._metrics.threshold_changes.inc()
            log.info("%s", self.tuning.reason)
