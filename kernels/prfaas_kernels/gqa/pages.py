"""Tokens of one sequence out of its pages; knows nothing of attention."""

from torch import Tensor


def read_tokens(cache: Tensor, page_ids: Tensor, start: int, stop: int) -> Tensor:
    """Tokens [start, stop) of the sequence whose pages in `cache` [pages, page_tokens, ...] are `page_ids`: a copy."""
    page_tokens = cache.shape[1]
    first = start // page_tokens
    found = cache.index_select(0, page_ids[first : -(-stop // page_tokens)]).flatten(0, 1)
    return found[start - first * page_tokens : stop - first * page_tokens]
