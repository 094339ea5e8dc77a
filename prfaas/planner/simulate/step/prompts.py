"""Token ids that stand for what a workload describes by names of blocks. Does not know what a token means.

Equal blocks from the start on give equal tokens, and so equal page names; all else differs between requests. A page's
name holds all that comes before it, so one number repeated is as good as a real text.
"""

from functools import lru_cache
from itertools import chain

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import ID_TOKENS, Arrival

FINGERPRINT = "simulated"
"""Of the model: all instances serve the same one."""
_OWN = 1 << 31
"""From here on numbers stand for requests, below it for blocks; token ids have 32 bits."""
_REMEMBERED = 64
"""Arrivals: each is asked for by every instance when it is placed, and by two soon after."""


def snapshot_unit(page_tokens: int) -> int:
    """Where snapshots of states lie, in tokens: at the ends of what a workload names, as far as pages end there.

    The live engine takes them at the ends of pages. But of a prompt's last, unnamed part nobody can tell that the next
    turn repeats it, as in truth it does: a snapshot inside of it would be of no use to anybody.
    """
    return page_tokens if ID_TOKENS % page_tokens else ID_TOKENS


def prompt_tokens(arrival: Arrival) -> tuple[int, ...]:
    """Its prompt; what no block names is of its own."""
    return _text(arrival)[: arrival.prompt_tokens]


def answer_tokens(arrival: Arrival) -> tuple[int, ...]:
    """Its answer, which the next turn's prompt repeats as far as `answer_blocks` reach."""
    return _text(arrival)[arrival.prompt_tokens :]


@lru_cache(_REMEMBERED)
def page_names(arrival: Arrival, page_tokens: int) -> tuple[BlockHash, ...]:
    """Of the prompt's whole pages, as the scheduler names them."""
    return tuple(block_hashes(root_hash(FINGERPRINT, ""), prompt_tokens(arrival), page_tokens))


@lru_cache(_REMEMBERED)
def _text(arrival: Arrival) -> tuple[int, ...]:
    length = arrival.prompt_tokens + arrival.output_tokens
    named = chain.from_iterable((block % _OWN,) * ID_TOKENS for block in (*arrival.blocks, *arrival.answer_blocks))
    text = tuple(named)[:length]
    return text + (_OWN + arrival.number % _OWN,) * (length - len(text))
