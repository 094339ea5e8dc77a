"""Decode over latents in Triton against keys and values written out."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.merge_partials.triton import merge_partials
from prfaas_kernels.mla.reference import mla_reference
from prfaas_kernels.mla.triton_decode import mla_decode, mla_decode_partial
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.scattered_pages import scattered_pages

NOPE, VALUE = 16, 20
LENGTHS = [1, 63, 65, 400]


def case(
    device: torch.device, heads: int, rank: int, rope: int, dtype: torch.dtype, lengths: list[int]
) -> tuple[Tensor, list[Tensor], Tensor]:
    q = 2 * torch.randn(len(lengths), heads, NOPE + rope, device=device).to(dtype)
    latents = [torch.randn(length, rank + rope, device=device).to(dtype) for length in lengths]
    return q, latents, (torch.randn(heads, NOPE + VALUE, rank, device=device) / rank**0.5).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "rank", "rope"), [(3, 24, 8), (20, 32, 0), (2, 64, 16)])
@pytest.mark.parametrize("page_tokens", [16, 64])
def test_heads_and_ranks(
    heads: int, rank: int, rope: int, page_tokens: int, dtype: torch.dtype, device: torch.device
) -> None:
    q, latents, kv_up = case(device, heads, rank, rope, dtype, LENGTHS)
    cache, table = scattered_pages(latents, page_tokens=page_tokens)
    out = mla_decode(q, cache, table, torch.tensor(LENGTHS, device=device), kv_up, rope)
    assert out.dtype is dtype
    wanted = torch.cat([mla_reference(q[i : i + 1], latent, kv_up, rope) for i, latent in enumerate(latents)])
    assert error_ratio(out, wanted) < (5e-6 if dtype is torch.float32 else 2e-2)


def test_the_size_of_models(device: torch.device) -> None:
    q, latents, kv_up = case(device, 17, 512, 64, torch.float32, [100])
    cache, table = scattered_pages(latents, page_tokens=64)
    out = mla_decode(q, cache, table, torch.tensor([100], device=device), kv_up, 64)
    assert error_ratio(out, mla_reference(q, latents[0], kv_up, 64)) < 5e-6


@pytest.mark.parametrize("rope", [0, 8])
def test_latents_on_two_instances(rope: int, device: torch.device) -> None:
    lengths = [300, 64, 5]
    q, latents, kv_up = case(device, 3, 32, rope, torch.float32, lengths)
    absorbed = torch.cat([torch.einsum("bhn,hnr->bhr", q[..., :NOPE], kv_up[:, :NOPE]), q[..., NOPE:]], dim=-1)
    parts = []
    for held in ([x[:64] for x in latents], [x[64:] for x in latents]):
        cache, table = scattered_pages(held, page_tokens=16)
        lens = torch.tensor([len(x) for x in held], device=device)
        parts.append(mla_decode_partial(absorbed, cache, table, lens, (NOPE + rope) ** -0.5, rope))
    stacked = (torch.stack([getattr(part, name) for part in parts]) for name in ("out", "peak", "total"))
    mixed = merge_partials(*stacked, dtype=torch.float32)
    out = torch.einsum("bhr,hvr->bhv", mixed, kv_up[:, NOPE:])
    wanted = torch.cat([mla_reference(q[i : i + 1], latent, kv_up, rope) for i, latent in enumerate(latents)])
    assert error_ratio(out, wanted) < 5e-6


def test_scores_far_apart(device: torch.device) -> None:
    q, latents, kv_up = case(device, 3, 32, 8, torch.float32, [300])
    cache, table = scattered_pages(latents, page_tokens=64)
    out = mla_decode(300 * q, cache, table, torch.tensor([300], device=device), kv_up, 8)
    assert error_ratio(out, mla_reference(300 * q, latents[0], kv_up, 8)) < 1e-3
