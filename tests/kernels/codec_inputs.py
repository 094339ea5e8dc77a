"""What the tests of the codec encode, dense and in pages of which all else is NaN."""

import torch
from torch import Tensor

from prfaas_kernels.codec import PageSpan


def values_of(n: int, dims: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Normal, of another size in each channel."""
    return (torch.randn(n, *dims) * torch.randn(dims).exp()).to(dtype)


def all_patterns() -> Tensor:
    """Every bf16 once, in random order: [65536, 1]."""
    return torch.randperm(2**16).to(torch.int16).view(torch.bfloat16)[:, None]


def with_escapes(count: int, n: int) -> Tensor:
    """[n, 1] ones, and `count` zeros among them, whose exponent `exact` has no code for."""
    values = torch.ones(n, 1, dtype=torch.bfloat16)
    values[torch.randperm(n)[:count]] = 0
    return values


def in_pages(values: Tensor, page_tokens: int, start: int) -> tuple[Tensor, PageSpan]:
    """Shuffled pages, a part of wider ones, with `values` from token `start` on."""
    stop = start + values.shape[0]
    count = -(-stop // page_tokens)
    wide = torch.full((count + 2, 3, page_tokens, *values.shape[1:]), torch.nan, dtype=values.dtype)
    pages, page_ids = wide[:, 1], torch.randperm(count + 2)[:count]
    token = torch.arange(start, stop)
    pages[page_ids[token // page_tokens], token % page_tokens] = values
    return pages, PageSpan(page_ids, start, stop)


def delta_rule_state(tokens: int, heads: int, width: int) -> Tensor:
    """What [heads, width, width] a gated delta rule (arXiv 2412.06464, Eq. 10) leaves after random tokens."""
    state = torch.zeros(heads, width, width)
    decay = torch.rand(heads, 1, 1) * 0.1 + 0.9
    for _ in range(tokens):
        key = torch.nn.functional.normalize(torch.randn(heads, width), dim=-1)
        value, beta = torch.randn(heads, width), torch.rand(heads, 1)
        state = state * decay
        found = torch.einsum("hk,hkv->hv", key, state)
        state = state + torch.einsum("hk,hv->hkv", key, beta * (value - found))
    return state


def bits_of(x: Tensor) -> Tensor:
    """Equal where values are the same bits, NaN included."""
    return x.contiguous().view(torch.uint8)
