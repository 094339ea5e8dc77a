"""Which of the pd instances prefill and which decode: the long one of the PrfaaS paper's two timescales (s3.4.3).

Decides one conversion at a time; knows nothing of how it is done. Instances of prfaas clusters keep their role.
"""

from dataclasses import dataclass, replace

from prfaas.policy.deployment import Deployment
from prfaas.policy.lengths import Lengths
from prfaas.policy.signals import Signals
from prfaas.policy.solve import solve
from prfaas.policy.throughput import Throughput
from prfaas.policy.view import Role


@dataclass(frozen=True, slots=True)
class Allocation:
    """Roles of the pd instances."""

    n_p: int
    n_d: int
    changed_s: float
    """When the last conversion began."""


@dataclass(frozen=True, slots=True)
class AllocateParams:
    """When a conversion is worth it."""

    margin: float = 0.05
    """Of Lambda_max, that it has to bring on average over the horizon."""
    convert_s: float = 30.0
    """That the instance is out of service, once it has drained..."""
    drain_s: float = 30.0
    """...for which it takes so long."""
    horizon_s: float = 600.0
    """What a conversion brings later than this does not count."""
    cooldown_s: float = 300.0
    """Between two conversions."""
    headroom: float = 1.25
    """So many times the present rate is worth being able to serve; capacity beyond that brings nothing."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One pd instance is to change its role."""

    role_from: Role
    role_to: Role
    reason: str


def allocate(
    allocation: Allocation, signals: Signals, deployment: Deployment, lengths: Lengths, params: AllocateParams
) -> Conversion | None:
    """The conversion that is worth its cost, one step towards the best split; None where there is none.

    Theta_prfaas + Theta_pdp << Theta_pdd is prefill-bound, >> decode-bound. The link is taken to deliver what
    `deployment` says, not what `signals` do: roles must not follow an outage of a minute. At least one instance always
    decodes.

    Nothing is lost while the instance is out of service: had its role not that much to spare, the other could not gain
    by having it. So what a conversion costs is the time during which it brings nothing yet.
    """
    if signals.at_s - allocation.changed_s < params.cooldown_s or not lengths.mean:
        return None
    pd = replace(deployment, n_pd=allocation.n_p + allocation.n_d)
    best = solve(pd, lengths)
    if best.n_p == allocation.n_p:
        return None
    step = 1 if best.n_p > allocation.n_p else -1
    now = solve(pd, lengths, n_p=allocation.n_p)
    after = solve(pd, lengths, n_p=allocation.n_p + step)
    wanted_req_s = signals.rate_req_s * params.headroom
    gain_req_s = min(after.lambda_max, wanted_req_s) - min(now.lambda_max, wanted_req_s)
    out_s = params.convert_s + params.drain_s
    if gain_req_s * max(0.0, 1 - out_s / params.horizon_s) <= params.margin * now.lambda_max:
        return None
    reason = f"{_bound(now)}; {_change(now, after)}, which pays for {out_s:.0f} s out of service"
    return Conversion("decode", "prefill", reason) if step > 0 else Conversion("prefill", "decode", reason)


def _bound(now: Throughput) -> str:
    bound = "prefill-bound" if now.prefill_req_s < now.theta_pdd else "decode-bound"
    return f"{bound}: prefill keeps up with {now.prefill_req_s:.2f} req/s, decode with {now.theta_pdd:.2f}"


def _change(now: Throughput, after: Throughput) -> str:
    gain = f" (+{after.lambda_max / now.lambda_max - 1:.0%})" if now.lambda_max else ""
    return (
        f"{now.n_p} prefill and {now.n_d} decode instances → {after.n_p} and {after.n_d}: "
        f"Lambda_max {now.lambda_max:.2f} → {after.lambda_max:.2f} req/s{gain}"
    )
