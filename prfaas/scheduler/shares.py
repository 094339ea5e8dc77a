"""How the prefill tokens of one step are divided over prompts. Knows neither sequences nor where its budget comes from.

First come, first served would let one long prompt hold up every short one behind it; equal shares bound the wait.
Shares are whole pages, so that few chunks are small and cuts lie where pages end.
"""

from typing import NamedTuple

MAX_SHARES = 4
"""Prompts that one step works on at most: more would make the chunks small, and chunks pay for being many."""
CUT_TOKENS = 16
"""Cuts inside a page fall on multiples of this, which the kernels work in."""


class Want(NamedTuple):
    """A prompt of which tokens [start, start + remaining) are still to be computed."""

    start: int
    remaining: int


def divide(wants: list[Want], budget: int, page_tokens: int) -> list[int]:
    """Tokens for each of `wants`, whose order is the precedence: at most `budget` in all, at least one for the first.

    As many equal shares of whole pages as the budget has room for; what is left over flows on in the same order.
    """
    places = max(1, min(len(wants), MAX_SHARES, budget // page_tokens))
    share = budget // places // page_tokens * page_tokens or budget
    lengths: list[int] = []
    for want in wants[:places]:
        lengths.append(_cut(want, min(share, budget), page_tokens))
        budget -= lengths[-1]
    lengths += [0] * (min(len(wants), MAX_SHARES) - places)
    for i, done in enumerate(lengths):
        more = _cut_at_page(Want(wants[i].start + done, wants[i].remaining - done), budget, page_tokens)
        lengths[i] += more
        budget -= more
    return lengths + [0] * (len(wants) - len(lengths))


def _cut(want: Want, room: int, page_tokens: int) -> int:
    """As `_cut_at_page`, or else at a multiple of CUT_TOKENS, or else wherever the room ends."""
    at_page = _cut_at_page(want, room, page_tokens)
    return at_page or _cut_at_page(want, room, CUT_TOKENS) or min(want.remaining, room)


def _cut_at_page(want: Want, room: int, page_tokens: int) -> int:
    """The longest chunk within `room` that ends the prompt or a page; 0 if there is none."""
    if want.remaining <= room:
        return want.remaining
    return max(0, (want.start + room) // page_tokens * page_tokens - want.start)
