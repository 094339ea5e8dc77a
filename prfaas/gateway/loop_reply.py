"""The two loops' state as `GET /fleet` shows it. Knows no loop."""

import msgspec

from prfaas.gateway.loop_state import LoopState
from prfaas.policy.signals import Signals


class SignalsReply(msgspec.Struct, frozen=True):
    """What the loops saw at their last look; waits are seconds until a prompt's prefill begins."""

    egress_bytes_s: float
    link_utilisation: float
    link_queue_s: float
    prfaas_queue_s: float
    pdp_queue_s: float
    rate_req_s: float


class ThresholdChangeReply(msgspec.Struct, frozen=True):
    unix_s: float
    before_tokens: int
    tokens: int
    reason: str


class RoleChangeReply(msgspec.Struct, frozen=True):
    """`refusal`: why the instance did not begin; empty: it did."""

    unix_s: float
    instance: str
    role: str
    reason: str
    refusal: str


class LoopsReply(msgspec.Struct, frozen=True):
    """`…_off_because`: why the threshold, or the roles, are held; null: they follow load and link.

    `threshold_factor`: what the threshold is of the one that the throughput model finds best; at that one the fleet
    keeps up with `lambda_max_req_s`.
    """

    threshold_off_because: str | None
    roles_off_because: str | None
    threshold_reason: str
    threshold_factor: float
    lambda_max_req_s: float | None
    pd_prefill: int
    pd_decode: int
    signals: SignalsReply | None
    threshold_changes: list[ThresholdChangeReply]
    role_changes: list[RoleChangeReply]


def loops_reply(state: LoopState, offset_s: float) -> LoopsReply:
    """Of changes, the latest last. `offset_s`: Unix time less the router's clock."""
    return LoopsReply(
        threshold_off_because=state.off_because,
        roles_off_because=state.roles_off_because,
        threshold_reason=state.reason,
        threshold_factor=round(state.factor, 4),
        lambda_max_req_s=state.lambda_max,
        pd_prefill=state.n_p,
        pd_decode=state.n_d,
        signals=_signals(state.signals) if state.signals else None,
        threshold_changes=[
            ThresholdChangeReply(round(c.at_s + offset_s, 1), c.before_tokens, c.tokens, c.reason)
            for c in state.changes
        ],
        role_changes=[
            RoleChangeReply(round(c.at_s + offset_s, 1), c.instance_id, c.role, c.reason, c.refusal)
            for c in state.conversions
        ],
    )


def _signals(signals: Signals) -> SignalsReply:
    return SignalsReply(
        egress_bytes_s=round(signals.egress_bytes_s),
        link_utilisation=round(signals.link_utilisation, 3),
        link_queue_s=round(signals.link_queue_s, 3),
        prfaas_queue_s=round(signals.prfaas_queue_s, 3),
        pdp_queue_s=round(signals.pdp_queue_s, 3),
        rate_req_s=round(signals.rate_req_s, 3),
    )
