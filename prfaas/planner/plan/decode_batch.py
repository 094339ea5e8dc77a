"""How many requests a decode instance may run at once and still keep its promise. Knows no rates."""

from dataclasses import replace

from prfaas.core.errors import ConfigError
from prfaas.policy.profile import Profile

ROUNDING = 1e-9
"""A step of exactly the SLO keeps it, whatever the last digit says."""


def within_slo(profile: Profile, tpot_s: float, context_tokens: float) -> Profile:
    """`BS_max` of the PrfaaS paper (s3.4): the largest batch up to the profile's `max_batch` whose step takes at most
    `tpot_s` while each request looks back at `context_tokens`.

    Raises ConfigError where a single request's step takes longer already.
    """

    def step_s(batch: int) -> float:
        return profile.decode.step_s(batch, batch * context_tokens)

    if step_s(1) > tpot_s * (1 + ROUNDING):
        raise ConfigError(
            f"slo.tpot_ms: a decode step of {profile.name} takes {step_s(1) * 1e3:.3g} ms with one request of "
            f"{context_tokens:,.0f} tokens, more than {tpot_s * 1e3:g} ms; allow more, or decode on faster instances"
        )
    low, high = 1, profile.decode.max_batch
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if step_s(middle) <= tpot_s * (1 + ROUNDING) else (low, middle - 1)
    return replace(profile, decode=replace(profile.decode, max_batch=low))
