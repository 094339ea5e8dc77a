"""Latent attention: expanded keys for long prefill, absorbed projections for short chunks and decode."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from prfaas_kernels.gqa.causal import attend_causally
from prfaas_kernels.gqa.paged import decode_pages
from prfaas_kernels.gqa.pages import read_tokens
from prfaas_kernels.linear import linear
from prfaas_kernels.spans import Spans


def _absorb(q: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """Queries [T, H, nope + rope] moved into latent space: [H, T, rank + rope]."""
    nope = q.shape[-1] - rope_dim
    by_head = q.transpose(0, 1)
    return torch.cat([torch.bmm(by_head[..., :nope], kv_up[:, :nope]), by_head[..., nope:]], dim=-1)


def _expand_values(mixed: Tensor, kv_up: Tensor, nope: int) -> Tensor:
    """Attention outputs in latent space [H, T, rank] to values [T, H, v]."""
    return torch.bmm(mixed, kv_up[:, nope:].mT).transpose(0, 1)


def mla_prefill(q: Tensor, pages: Tensor, block_table: Tensor, spans: Spans, kv_up: Tensor, rope_dim: int) -> Tensor:
    """Causal attention of each span over its whole sequence, whose latents, the span's included, are in pages.

    `q` [T, H, nope + rope], `pages` [pages, page_tokens, rank + rope]: per token the normalised compressed keys and
    values and the shared part of the keys; `block_table` [S, P] page ids (any valid id past a sequence's end);
    `kv_up` [H, nope + v, rank] expands latents, keys first. Returns [T, H, v] in the dtype of `q`; rows outside of
    all spans are not written. Whatever lies in pages beyond a sequence, NaN included, has no effect.
    """
    parts = [
        mla_prefill_pages(q[start:stop], pages, ids, context + stop - start, kv_up, rope_dim)
        if stop > start
        else q.new_empty(0, q.shape[1], kv_up.shape[1] - q.shape[2] + rope_dim)
        for (start, stop), context, ids in zip(spans.rows, spans.context_lens, block_table, strict=True)
    ]
    return spans.join(parts, q.shape[0])


def mla_prefill_pages(q: Tensor, cache: Tensor, page_ids: Tensor, length: int, kv_up: Tensor, rope_dim: int) -> Tensor:
    """`mla_prefill` of one sequence, the last T of whose `length` tokens are new; `page_ids` [P] are its own.

    Memory grows with T, not with `length`.
    """

    def read(start: int, stop: int) -> Tensor:
        return read_tokens(cache, page_ids, start, stop)

    return _prefill(q, read, length, kv_up, rope_dim)


_ReadLatents: TypeAlias = Callable[[int, int], Tensor]
"""Positions [start, stop) to latents [n, rank + rope]."""


def _prefill(q: Tensor, read: _ReadLatents, length: int, kv_up: Tensor, rope_dim: int) -> Tensor:
    if _absorbed_is_cheaper(q, kv_up, rope_dim):
        return _prefill_absorbed(q, read, length, kv_up, rope_dim)
    return _prefill_expanded(q, read, length, kv_up, rope_dim)


def _absorbed_is_cheaper(q: Tensor, kv_up: Tensor, rope_dim: int) -> bool:
    """Compares multiplications per head and cached token: longer dot products against expanding the token once."""
    tokens, _, width = q.shape
    _, expanded, rank = kv_up.shape
    values = expanded - (width - rope_dim)
    return tokens * (2 * rank + rope_dim) < tokens * (width + values) + rank * expanded


def _prefill_expanded(q: Tensor, read: _ReadLatents, length: int, kv_up: Tensor, rope_dim: int) -> Tensor:
    heads, expanded, rank = kv_up.shape
    nope = q.shape[-1] - rope_dim

    def expand(start: int, stop: int) -> tuple[Tensor, Tensor]:
        latents = read(start, stop)
        kv = torch.unflatten(linear(latents[:, :rank], kv_up.flatten(0, 1)), -1, (heads, expanded))  # [n, H, nope + v]
        shared = latents[:, None, rank:].expand(-1, heads, -1)
        return torch.cat([kv[..., :nope], shared], dim=-1), kv[..., nope:]

    return attend_causally(q, expand, length, heads, expanded - nope, q.shape[-1] ** -0.5, sinks=None, window=None)[0]


def _prefill_absorbed(q: Tensor, read: _ReadLatents, length: int, kv_up: Tensor, rope_dim: int) -> Tensor:
    width, rank = q.shape[-1], kv_up.shape[2]
    absorbed = _absorb(q, kv_up, rope_dim).transpose(0, 1)  # [T, H, rank + rope]

    def one_head(start: int, stop: int) -> tuple[Tensor, Tensor]:
        latents = read(start, stop)[:, None]  # one head of keys for all
        return latents, latents[..., :rank]

    mixed, _ = attend_causally(
        absorbed, one_head, length, 1, rank, width**-0.5, sinks=None, window=None
    )  # [T, H, rank]
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
