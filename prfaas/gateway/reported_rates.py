"""What an instance may not say about its own speed: rules over one report, without memory of others."""

from itertools import pairwise
from math import isfinite

from prfaas.control.v1 import fleet_pb2 as pb

MAX_POINTS = 64
MAX_REQUESTS = 2**20
"""Of a batch."""
MAX_STEP_S = 600.0
"""No decode step takes longer."""
MAX_ANSWER_TOKENS = 2**24
LONG_TOKENS, MAX_LONG_S = 2**20, 1e6
"""No prompt of so many tokens takes so long..."""
LEAST_LONG_S = 1e-4
"""...nor less than this."""


def rates_fault(rates: pb.Rates) -> str | None:
    """Why a report cannot be used; None for one that can."""
    prefill = (rates.prefill_overhead_s, rates.prefill_per_token_s, rates.prefill_per_token2_s)
    numbers = (*prefill, rates.decode_per_context_token_s, rates.output_tokens, *(p.seconds for p in rates.decode))
    if not all(isfinite(number) and number >= 0 for number in numbers):
        return f"its numbers are impossible: {str(rates).split()}"
    if rates.output_tokens > MAX_ANSWER_TOKENS:
        return f"its mean answer has {rates.output_tokens:g} tokens"
    return _prefill_fault(rates) or _decode_fault(rates)


def prefill_s(rates: pb.Rates, tokens: float) -> float:
    """`T_prefill` of a prompt of which nothing is cached."""
    return rates.prefill_overhead_s + tokens * (rates.prefill_per_token_s + tokens * rates.prefill_per_token2_s)


def _prefill_fault(rates: pb.Rates) -> str | None:
    if not rates.prefill_samples:
        return None
    long_s = prefill_s(rates, LONG_TOKENS)
    if not LEAST_LONG_S <= long_s <= MAX_LONG_S:
        return f"a prompt of {LONG_TOKENS} tokens takes it {long_s:g} s"
    return None


def _decode_fault(rates: pb.Rates) -> str | None:
    points = rates.decode
    if len(points) > MAX_POINTS:
        return f"it has {len(points)} decode points"
    if any(not 0 < p.requests <= MAX_REQUESTS or not 0 < p.seconds <= MAX_STEP_S for p in points):
        return f"its decode points are impossible: {str(points).split()}"
    if any(a.requests >= b.requests or a.seconds > b.seconds for a, b in pairwise(points)):
        return "its decode points do not rise"
    if rates.decode_per_context_token_s > MAX_STEP_S / LONG_TOKENS:
        return f"a token of context takes it {rates.decode_per_context_token_s:g} s"
    return None
