"""Caches in pages that lie anywhere, with NaN wherever no token lies."""

import torch
from torch import Tensor


def scattered_pages(*caches: list[Tensor], page_tokens: int, spare_pages: int = 2) -> tuple[Tensor, ...]:
    """Tokens [length, ...] of the same sequences in each cache, in pages of their own in random order.

    Returns each cache's pages, a strided view [pages, page_tokens, ...], and the block table [B, P] that serves all.
    Its ids past a sequence's end are any page's.
    """
    counts = [-(-len(tokens) // page_tokens) for tokens in caches[0]]
    number, device = sum(counts) + 1, caches[0][0].device
    table = torch.randint(number, (len(counts), max(counts) + spare_pages), device=device)
    free = torch.split(torch.randperm(number, device=device)[: sum(counts)], counts)
    for i, mine in enumerate(free):
        table[i, : len(mine)] = mine
    return *(_filled(tokens, table, number, page_tokens) for tokens in caches), table


def _filled(sequences: list[Tensor], table: Tensor, number: int, page_tokens: int) -> Tensor:
    shape = (number, 2, page_tokens, *sequences[0].shape[1:])
    pages = torch.full(shape, torch.nan, dtype=sequences[0].dtype, device=table.device)[:, 1]
    for i, tokens in enumerate(sequences):
        for page, part in enumerate(torch.split(tokens, page_tokens) if len(tokens) else ()):
            pages[table[i, page], : len(part)] = part
    return pages
