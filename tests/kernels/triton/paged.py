"""Sequences scattered over pages, with NaN wherever a kernel has no business; knows nothing of kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def paged(parts: list[list[Tensor]], page_tokens: int, unread: Sequence[int]) -> list[Tensor]:
    """Tensors of pages, one for each list of sequences' tensors [L, ...], and after them the block table [S, P].

    Pages of all parts lie in one tensor, so that their strides are odd. The first `unread` tokens of each sequence are
    left out; the table is a slice of a larger one, and past an end it points to a page of NaN.
    """
    counts = [-(-len(x) // page_tokens) for x in parts[0]]
    device = parts[0][0].device
    free = iter((torch.randperm(sum(counts)) + 1).tolist())
    sizes = [x[0][0].numel() * page_tokens for x in parts]
    memory = torch.full((sum(counts) + 1, sum(sizes)), torch.nan, dtype=parts[0][0].dtype, device=device)
    shapes = [(page_tokens, *x[0].shape[1:]) for x in parts]
    pages = [torch.unflatten(x, 1, shape) for x, shape in zip(torch.split(memory, sizes, dim=1), shapes, strict=True)]
    table = torch.zeros(len(counts), max(counts) + 3, dtype=torch.int64)
    for i, count in enumerate(counts):
        for page in range(count):
            table[i, page] = next(free)
            for x, sequences in zip(pages, parts, strict=True):
                first = page * page_tokens
                known = sequences[i][max(first, unread[i]) : first + page_tokens]
                if len(known):
                    end = min(page_tokens, len(sequences[i]) - first)
                    x[table[i, page], end - len(known) : end] = known
    return [*pages, table.to(device)[:, : max(counts) + 1]]
