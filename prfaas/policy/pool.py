"""Several clusters' instances as equal ones that do together what those do. Knows no links."""

from collections.abc import Sequence
from math import exp, log

from prfaas.core.errors import ConfigError
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile

LONGEST_TOKENS = 4_194_304
LENGTHS = 96
"""Prompt lengths at which a pool's rate is exact; straight lines between them."""

Part = tuple[Profile, int]
"""A profile and the number of instances that have it."""


def pooled(parts: Sequence[Part]) -> Profile:
    """One profile for all. Where all are equal, it is that one.

    Rates are added: at each prompt length N / T = sum(n_i / T_i), and a decode instance runs the mean batch at the step
    that gives the sum of all tokens/s. Dollars and memory are means. Raises ConfigError for profiles of several models.
    """
    assert parts
    first = parts[0][0]
    if all(profile == first for profile, _ in parts):
        return first
    check_one_model([profile for profile, _ in parts])
    return Profile(
        name=" + ".join(dict.fromkeys(profile.name for profile, _ in parts)),
        prefill=_prefill(parts),
        decode=_decode(parts),
        kv_bytes_per_token=first.kv_bytes_per_token,
        state_bytes=first.state_bytes,
        cache_bytes=_mean([(p.cache_bytes, n) for p, n in parts]),
        gpus=round(_mean([(p.gpus, n) for p, n in parts])),
        usd_per_hour=_mean([(p.usd_per_hour, n) for p, n in parts]),
    )


def check_one_model(profiles: Sequence[Profile]) -> None:
    """Raises ConfigError for profiles whose KV would not fit together."""
    if len({_cached(profile) for profile in profiles}) > 1:
        names = ", ".join(sorted({profile.name for profile in profiles}))
        raise ConfigError(f"clusters: {names} differ in what a token caches; all clusters must serve one model")


def _cached(profile: Profile) -> tuple[float, float]:
    return profile.kv_bytes_per_token, profile.state_bytes


def _prefill(parts: Sequence[Part]) -> PrefillCurve:
    step = log(LONGEST_TOKENS) / (LENGTHS - 1)
    measured = {tokens for profile, _ in parts for tokens, _ in profile.prefill.points}
    lengths = sorted(measured | {round(exp(i * step)) for i in range(LENGTHS)})
    points = tuple((tokens, _together(parts, tokens)) for tokens in lengths)
    last = parts[0][0].prefill
    return PrefillCurve(last.overhead_s, last.per_token_s, last.per_token2_s, points)


def _together(parts: Sequence[Part], tokens: float) -> float:
    return sum(n for _, n in parts) / sum(n / profile.prefill.seconds(tokens) for profile, n in parts)


def _decode(parts: Sequence[Part]) -> DecodeCurve:
    batch = max(1, round(_mean([(p.decode.max_batch, n) for p, n in parts])))
    tokens_s = _mean([(p.decode.max_batch / p.decode.step_s(p.decode.max_batch), n) for p, n in parts])
    per_context_token_s = _mean([(p.decode.per_context_token_s, n) for p, n in parts])
    return DecodeCurve(((batch, batch / tokens_s),), per_context_token_s, batch)


def _mean(values: Sequence[tuple[float, int]]) -> float:
    return sum(value * n for value, n in values) / sum(n for _, n in values)
