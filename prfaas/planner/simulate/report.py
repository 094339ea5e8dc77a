"""What simulations of several policies came to, as one JSON object. Knows neither tables nor pages."""

from collections.abc import Sequence
from typing import Any

import msgspec

from prfaas.planner.simulate.outcome import Outcome

LEFT_OUT = ("series", "ttft_quantiles_s", "threshold_changes", "role_changes", "links", "fallbacks", "policy")
"""Of an outcome: shown in another form, or only on the page."""


def report(outcomes: Sequence[Outcome], *, requests: int, wall_s: float) -> dict[str, Any]:
    """`requests` were asked for of each policy; `wall_s` is what all runs together took."""
    return {
        "policies": {outcome.policy: _figures(outcome) for outcome in outcomes},
        "requests": requests,
        "wall_s": round(wall_s, 3),
    }


def _figures(outcome: Outcome) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    return {key: value for key, value in plain.items() if key not in LEFT_OUT} | {
        "fallbacks": sum(outcome.fallbacks.values()),
        "fallbacks_by_reason": dict(outcome.fallbacks),
        "links": {
            link.name: {key: value for key, value in told.items() if key not in ("source", "target")}
            for link, told in zip(outcome.links, plain["links"], strict=True)
        },
        "num_threshold_changes": len(outcome.threshold_changes),
        "num_role_changes": len(outcome.role_changes),
    }
