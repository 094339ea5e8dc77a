"""What the router's two loops have decided, and why, as one value for pages and tools. Decides nothing."""

from dataclasses import dataclass

from prfaas.core.ids import InstanceId
from prfaas.policy.instance_view import Role
from prfaas.policy.signals import Signals


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """By the short loop."""

    at_s: float
    """On the router's clock, as in `Signals`."""
    before_tokens: int
    tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoleChange:
    """Asked for by the long loop."""

    at_s: float
    instance_id: InstanceId
    role: Role
    """From now on."""
    reason: str
    refusal: str = ""
    """Why the instance did not; empty: it began."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """As of the last look."""

    threshold_tokens: int
    reason: str
    """Of the last change, or of the first threshold."""
    factor: float
    """What the threshold is of the one that the throughput model finds best."""
    off_because: str | None
    """Why the threshold is held; None: it follows load and link."""
    roles_off_because: str | None
    """Why roles are."""
    n_p: int
    """pd instances that prefill..."""
    n_d: int
    """...and that decode."""
    lambda_max: float | None
    """Requests/s that the fleet keeps up with at the best threshold; None: not worked out yet."""
    signals: Signals | None
    """None before the first look."""
    changes: tuple[ThresholdChange, ...]
    """The latest last, up to 200."""
    conversions: tuple[RoleChange, ...]
    """The same."""
