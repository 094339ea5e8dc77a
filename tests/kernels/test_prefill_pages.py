"""Prefill whose context lies in scattered pages: equal to the reference, and never much of it copied at once."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gqa import gqa_prefill_pages, gqa_reference
from prfaas_kernels.gqa.causal import attend_causally
from prfaas_kernels.gqa.pages import read_tokens
from prfaas_kernels.mla import mla_prefill_pages, mla_reference
from tests.kernels.error_ratio import error_ratio

SCALE = 0.1
WIDE_GROUPS, WIDE = 8, 128
"""So wide that a segment is one span of 1,024 tokens."""


def page_ids(tokens: int, page_tokens: int) -> Tensor:
    """In random order; page 0 is nobody's."""
    return torch.randperm(-(-tokens // page_tokens)) + 1


def scattered(x: Tensor, ids: Tensor, page_tokens: int) -> Tensor:
    """[L, ...] in the pages `ids`, NaN wherever no token lies."""
    cache = torch.full((len(ids) + 1, page_tokens, *x.shape[1:]), torch.nan, dtype=x.dtype)
    for page_id, part in zip(ids.tolist(), torch.split(x, page_tokens), strict=True):
        cache[page_id, : len(part)] = part
    return cache


@pytest.mark.parametrize("page_tokens", [1, 7, 64])
def test_tokens_come_back_in_order(page_tokens: int) -> None:
    tokens = torch.arange(200)[:, None].float()
    ids = page_ids(200, page_tokens)
    cache = scattered(tokens, ids, page_tokens)
    for start, stop in ((0, 200), (0, 1), (63, 65), (128, 199), (199, 200)):
        assert torch.equal(read_tokens(cache, ids, start, stop), tokens[start:stop])


@pytest.mark.parametrize("page_tokens", [1, 7, 64])
@pytest.mark.parametrize(("tokens", "context"), [(1, 1), (1, 500), (16, 63), (65, 64), (300, 500)])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_gqa_agrees_with_reference(page_tokens: int, tokens: int, context: int, with_sinks: bool) -> None:
    q, k, v = torch.randn(tokens, 6, 24), torch.randn(context + tokens, 2, 24), torch.randn(context + tokens, 2, 20)
    sinks = 3 * torch.randn(6) if with_sinks else None
    ids = page_ids(context + tokens, page_tokens)
    k_cache, v_cache = (scattered(x, ids, page_tokens) for x in (k, v))
    out, _ = gqa_prefill_pages(q, k_cache, v_cache, ids, context + tokens, SCALE, sinks=sinks)
    assert error_ratio(out, gqa_reference(q, k, v, SCALE, sinks=sinks)) < 2e-6


@pytest.mark.parametrize("tokens", [1, 16, 70, 300])
@pytest.mark.parametrize("length", [1025, 2048, 3000])
def test_segments_join(tokens: int, length: int) -> None:
    q = torch.randn(tokens, WIDE_GROUPS, WIDE)
    k, v = torch.randn(2, length, WIDE_GROUPS, WIDE)
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        reads.append((start, stop))
        return k[start:stop], v[start:stop]

    sinks = torch.randn(WIDE_GROUPS)
    out, _ = attend_causally(q, read, length, WIDE_GROUPS, WIDE, SCALE, sinks=sinks, window=None)
    assert error_ratio(out, gqa_reference(q, k, v, SCALE, sinks=sinks)) < 2e-6
    # Each token once, and never many: what is held does not grow with the context.
    assert [start for start, _ in reads] == [0, *(stop for _, stop in reads[:-1])]
    assert reads[-1][1] == length
    assert max(stop - start for start, stop in reads) <= 1024


@pytest.mark.parametrize("tokens", [1, 16, 200])
@pytest.mark.parametrize(("context", "page_tokens"), [(1, 1), (300, 16), (3000, 64)])
@pytest.mark.parametrize(("heads", "rank"), [(3, 24), (16, 64)])
def test_mla_agrees_with_reference(tokens: int, context: int, page_tokens: int, heads: int, rank: int) -> None:
    nope, rope, value = 40, 8, 44
    q, latents = 2 * torch.randn(tokens, heads, nope + rope), torch.randn(context + tokens, rank + rope)
    kv_up = torch.randn(heads, nope + value, rank) / rank**0.5
    ids = page_ids(context + tokens, page_tokens)
    cache = scattered(latents, ids, page_tokens)
    out = mla_prefill_pages(q, cache, ids, context + tokens, kv_up, rope)
    assert error_ratio(out, mla_reference(q, latents, kv_up, rope)) < 3e-6
