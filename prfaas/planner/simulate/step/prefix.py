"""What an instance's cache has of an arrival, and prefixes that come to it from elsewhere. Knows no scheduler."""

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.planner.simulate.arrival import Arrival
from prfaas.planner.simulate.step.prompts import page_names, prompt_tokens

_FIRST_LOOK = 16
"""Pages."""


def cached_tokens(cache: PrefixCache, arrival: Arrival) -> int:
    """Tokens of its prompt that need not be computed now; at least one always is. Changes nothing."""
    if not cache.enabled or not (arrival.blocks or arrival.answer_blocks):
        return 0
    names = page_names(arrival, cache.block_tokens)
    usable = (arrival.prompt_tokens - 1) // cache.block_tokens
    looked_at = _FIRST_LOOK
    # Most instances hold little of most prompts: what lies far behind the last page held need not be looked up.
    while len((match := cache.match(names[:looked_at], usable)).pages) == looked_at:
        looked_at *= 4
    return match.usable_blocks * cache.block_tokens


def import_prefix(cache: PrefixCache, arrival: Arrival, tokens: int) -> None:
    """Caches the whole pages of the first `tokens` of a prompt, and the states at their end where there are any.

    What finds no room is left out: without states the last pages, with them everything, as nobody could go on from it.
    """
    page_tokens = cache.block_tokens
    names = page_names(arrival, page_tokens)[: tokens // page_tokens]
    if not cache.enabled or not names:
        return
    # Held while room is made for the others, or they could be evicted for them.
    match = cache.match(names)
    held = cache.hold(match.pages)
    states = 0 if cache.has_snapshot(names[-1]) else cache.state_pages
    missing = len(names) - len(match.pages)
    fits = min(missing, cache.available - states)
    fresh = cache.allocate(fits + states) if fits >= (missing if cache.state_pages else 0) else None
    if fresh is not None:
        known = len(match.pages)
        whole = prompt_tokens(arrival)
        starts = range(known * page_tokens, (known + fits) * page_tokens, page_tokens)
        new = [whole[start : start + page_tokens] for start in starts]
        parent = names[known - 1] if known else None
        cache.insert_blocks(parent, names[known : known + fits], fresh[:fits], new)
        if states:
            cache.insert_snapshot(names[-1], fresh[fits:])
        cache.release((*held, *fresh))
    else:
        cache.release(held)
