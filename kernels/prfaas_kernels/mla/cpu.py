"""Latent attention: expanded keys for long prefill, absorbed projections for short chunks and decode."""

import torch
from torch import Tensor

from prfaas_kernels.gqa import gqa_prefill
from prfaas_kernels.gqa.paged import decode_pages
from prfaas_kernels.linear import linear


def _absorb(q: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """Queries [T, H, nope + rope] moved into latent space: [H, T, rank + rope]."""
    nope = q.shape[-1] - rope_dim
    by_head = q.transpose(0, 1)
    return torch.cat([torch.bmm(by_head[..., :nope], kv_up[:, :nope]), by_head[..., nope:]], dim=-1)


def _expand_values(mixed: Tensor, kv_up: Tensor, nope: int) -> Tensor:
    """Attention outputs in latent space [H, T, rank] to values [T, H, v]."""
    return torch.bmm(mixed, kv_up[:, nope:].mT).transpose(0, 1)


def mla_prefill(q: Tensor, latents: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """Causal attention of the last T tokens of one sequence over all its L >= T tokens.

    `q` [T, H, nope + rope]; `latents` [L, rank + rope]: the normalised compressed keys and values, and the shared
    part of the keys; `kv_up` [H, nope + v, rank] expands them, keys first. Returns [T, H, v] in the dtype of `q`.
    """
    if _absorbed_is_cheaper(q, latents, kv_up, rope_dim):
        return _prefill_absorbed(q, latents, kv_up, rope_dim)
    return _prefill_expanded(q, latents, kv_up, rope_dim)


def _absorbed_is_cheaper(q: Tensor, latents: Tensor, kv_up: Tensor, rope_dim: int) -> bool:
    """Compares multiplications per head and cached token: longer dot products against expanding the token once."""
    tokens, _, width = q.shape
    rank, expanded = latents.shape[1] - rope_dim, kv_up.shape[1]
    values = expanded - (width - rope_dim)
    return tokens * (2 * rank + rope_dim) < tokens * (width + values) + rank * expanded


def _prefill_expanded(q: Tensor, latents: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    heads, expanded, rank = kv_up.shape
    nope = q.shape[-1] - rope_dim
    kv = torch.unflatten(linear(latents[:, :rank], kv_up.flatten(0, 1)), -1, (heads, expanded))  # [L, H, nope + v]
    shared = latents[:, None, rank:].expand(-1, heads, -1)
    keys = torch.cat([kv[..., :nope], shared], dim=-1)  # [L, H, nope + rope]
    return gqa_prefill(q, keys, kv[..., nope:], q.shape[-1] ** -0.5)


def _prefill_absorbed(q: Tensor, latents: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    width, rank = q.shape[-1], kv_up.shape[2]
    absorbed = _absorb(q, kv_up, rope_dim).transpose(0, 1)  # [T, H, rank + rope]
    keys = latents[:, None]  # one head of keys for all
    mixed = gqa_prefill(absorbed, keys, keys[..., :rank], width**-0.5)  # [T, H, rank]
    return _expand_values(mixed.transpose(0, 1), kv_up, width - rope_dim)


def mla_decode(q: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """One query for each of B sequences over paged latents, without expanding them.

    `q` [B, H, nope + rope], `cache` [pages, page_tokens, rank + rope], `block_table` [B, P] page ids (any valid id
    past a sequence's end), `lengths` [B] tokens that each may read, `kv_up` [H, nope + v, rank].
    Returns [B, H, v] in the dtype of `q`. Whatever lies in pages beyond a length, NaN included, has no effect.
    """
    width, rank = q.shape[-1], kv_up.shape[2]

    def read(page_ids: Tensor) -> tuple[Tensor, Tensor]:
        latents = cache.index_select(0, page_ids).float()[:, :, None]  # one head of keys for all
        return latents, latents[..., :rank]

    absorbed = _absorb(q, kv_up, rope_dim).transpose(0, 1)  # [B, H, rank + rope]
    scaled = absorbed[:, None].float() * width**-0.5
    mixed = decode_pages(scaled, read, block_table, lengths, cache.shape[1], rank, None)[:, 0]  # [B, H, rank]
    return _expand_values(mixed.to(q.dtype).transpose(0, 1), kv_up, width - rope_dim)
