"""Curves through measurements: least squares on the relative error, with no coefficient below 0. Knows no engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from prfaas.config.profile_file import BatchPointSection, DecodeSection, PointSection, PrefillSection
from prfaas.core.errors import ConfigError
from prfaas.planner.roofline import rounded
from prfaas.policy.least_squares import nonnegative


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """One prompt, nothing of it cached."""

    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodeSample:
    """Steps of one batch, on average."""

    requests: int
    context_tokens: float
    """Of all requests together."""
    seconds: float


def fit_prefill(samples: Sequence[PrefillSample]) -> PrefillSection:
    """One sample a length, in rising order, becomes the points; the formula is for what lies beyond the last.

    Raises ConfigError for fewer than two lengths, and where a longer prompt took less time.
    """
    if len(samples) < 2:
        raise ConfigError("one length makes no line; give two or more, e.g. --lengths 256,1024,4096")
    for before, after in pairwise(samples):
        if after.seconds < before.seconds:
            raise ConfigError(
                f"{after.tokens} tokens took {after.seconds:.4f} s and {before.tokens} tokens {before.seconds:.4f} s: "
                "this machine is too noisy for lengths so close; give --lengths further apart, or more --repeats"
            )
    tokens = np.array([s.tokens for s in samples], dtype=np.float64)
    seconds = np.array([s.seconds for s in samples])
    powers = np.stack([tokens**0, tokens, tokens**2], axis=1)
    overhead_s, per_token_s, per_token2_s = nonnegative(powers, seconds, optional=range(3))
    return PrefillSection(
        overhead_s=rounded(overhead_s),
        per_token_s=rounded(per_token_s),
        per_token2_s=rounded(per_token2_s),
        points=tuple(PointSection(tokens=s.tokens, seconds=rounded(s.seconds)) for s in samples),
    )


def fit_decode(samples: Sequence[DecodeSample], max_batch: int) -> DecodeSection:
    """A time for each batch at no context, and one time for every token looked back at, whatever the batch."""
    batches = sorted({s.requests for s in samples})
    seconds = np.array([s.seconds for s in samples])
    terms = np.array([[*(float(s.requests == batch) for batch in batches), s.context_tokens] for s in samples])
    *alone, per_context_token_s = nonnegative(terms, seconds, optional=[len(batches)])
    return DecodeSection(
        points=tuple(BatchPointSection(requests=b, seconds=rounded(s)) for b, s in zip(batches, alone, strict=True)),
        per_context_token_s=rounded(per_context_token_s),
        max_batch=max_batch,
    )
