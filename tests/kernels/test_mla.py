import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prfaas_kernels.mla import mla_decode, mla_prefill, mla_reference
from prfaas_kernels.spans import Spans
from tests.kernels.error_ratio import error_ratio

HEADS, NOPE, ROPE, VALUE, RANK = 3, 16, 8, 20, 24
PAGE = 16


def inputs(tokens: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    q = 2 * torch.randn(tokens, HEADS, NOPE + ROPE)
    return q, torch.randn(length, RANK + ROPE), torch.randn(HEADS, NOPE + VALUE, RANK) / RANK**0.5


def test_reference_agrees_with_sdpa() -> None:
    q, latents, kv_up = inputs(65, 65)
    kv = torch.einsum("lr,hdr->hld", latents[:, :RANK], kv_up)
    keys = torch.cat([kv[..., :NOPE], latents[:, RANK:].expand(HEADS, -1, -1)], dim=-1)
    theirs = scaled_dot_product_attention(q.transpose(0, 1)[None], keys[None], kv[None, ..., NOPE:], is_causal=True)
    assert error_ratio(mla_reference(q, latents, kv_up, ROPE), theirs[0].transpose(0, 1)) < 1e-6


def prefill(q: Tensor, latents: Tensor, kv_up: Tensor) -> Tensor:
    """Of the last tokens of one sequence, which is one page."""
    tokens = q.shape[0]
    spans = Spans.packed((tokens,), (latents.shape[0] - tokens,))
    return mla_prefill(q, latents[None], torch.zeros(1, 1, dtype=torch.int64), spans, kv_up, ROPE)


@pytest.mark.parametrize("tokens", [1, 5, 63, 64, 65, 200])
@pytest.mark.parametrize("context", [0, 1, 300])
def test_prefill_agrees_with_reference(tokens: int, context: int) -> None:
    q, latents, kv_up = inputs(tokens, context + tokens)
    out = prefill(q, latents, kv_up)
    assert error_ratio(out, mla_reference(q, latents, kv_up, ROPE)) < 2e-6


def test_prefill_in_bfloat16() -> None:
    q, latents, kv_up = (x.bfloat16() for x in inputs(65, 200))
    out = prefill(q, latents, kv_up)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, mla_reference(q, latents, kv_up, ROPE)) < 2e-2


@pytest.mark.parametrize("lengths", [[1, 15, 16, 17, 100], [100] * 9, [7, 50000, 5]])
def test_decode_over_scattered_pages_full_of_nan(lengths: list[int]) -> None:
    pages = 1 + sum(-(-length // PAGE) for length in lengths)
    cache = torch.full((pages, PAGE, RANK + ROPE), torch.nan)
    table = torch.zeros(len(lengths), -(-max(lengths) // PAGE), dtype=torch.int64)
    q, _, kv_up = inputs(len(lengths), 1)
    free = iter((torch.randperm(pages - 1) + 1).tolist())
    expected = []
    for i, length in enumerate(lengths):
        latents = torch.randn(length, RANK + ROPE)
        for page, part in enumerate(torch.split(latents, PAGE)):
            table[i, page] = next(free)
            cache[table[i, page], : len(part)] = part
        expected.append(mla_reference(q[i : i + 1], latents, kv_up, ROPE))
    out = mla_decode(q, cache, table, torch.tensor(lengths), kv_up, ROPE)
    assert error_ratio(out, torch.cat(expected)) < 2e-6


def test_decode_reads_a_strided_cache() -> None:
    q, latents, kv_up = inputs(1, 2 * PAGE)
    arena = torch.full((3, PAGE * 2, RANK + ROPE), torch.nan)
    cache = arena[:, :PAGE]
    cache[1], cache[2] = latents[:PAGE], latents[PAGE:]
    out = mla_decode(q, cache, torch.tensor([[1, 2]]), torch.tensor([2 * PAGE]), kv_up, ROPE)
    assert error_ratio(out, mla_reference(q, latents, kv_up, ROPE)) < 2e-6
