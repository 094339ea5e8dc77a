"""Latent attention with keys and values expanded, a round of the context at a time, in Triton.

Knows nothing of when that pays.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_fold import LOG2_E, LOWEST, fold, load_tile
from prfaas_kernels.chunked_prefill_attention.triton_tiling import dense_tiling
from prfaas_kernels.launch import block, capability, dot_type, launch
from prfaas_kernels.mla.triton_plan import Expanded
from prfaas_kernels.mla.triton_rounds import Piece

_GATHERED_ROWS = 16  # of latents that a program copies


@triton.jit(do_not_specialize=["table_ptr", "table_stride"])
def _gather_kernel(
    pages_ptr,
    table_ptr,
    pieces_ptr,
    out_ptr,
    page_stride,
    row_stride,
    table_stride,
    out_stride,
    RANK: tl.constexpr,
    ROPE: tl.constexpr,
    PAGE: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    ROPE_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    piece_ptr = pieces_ptr + tl.program_id(1) * 8
    sequence, first, end = tl.load(piece_ptr + 3).to(tl.int64), tl.load(piece_ptr + 4), tl.load(piece_ptr + 5)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position = first + row
    there = position < end
    page = tl.load(table_ptr + sequence * table_stride + position // PAGE, mask=there, other=0)
    rows = pages_ptr + page * page_stride + position % PAGE * row_stride
    out_rows = out_ptr + (tl.load(piece_ptr + 6) + row).to(tl.int64) * out_stride
    column = tl.arange(0, RANK_BLOCK)
    copied = there[:, None] & (column < RANK)[None, :]
    tl.store(out_rows[:, None] + column[None, :], tl.load(rows[:, None] + column[None, :], mask=copied), mask=copied)
    if ROPE > 0:
        column = RANK + tl.arange(0, ROPE_BLOCK)
        copied = there[:, None] & (column < RANK + ROPE)[None, :]
        moved = tl.load(rows[:, None] + column[None, :], mask=copied)
        tl.store(out_rows[:, None] + column[None, :], moved, mask=copied)


@triton.jit
def _attend_expanded_kernel(
    q_ptr,
    kv_ptr,
    latents_ptr,
    pieces_ptr,
    mixed_ptr,
    lse_ptr,
    out_ptr,
    q_stride,
    q_head_stride,
    kv_stride,
    latents_stride,
    out_stride,
    heads,
    scale,
    NOPE: tl.constexpr,
    ROPE: tl.constexpr,
    RANK: tl.constexpr,
    VALUE: tl.constexpr,
    NOPE_BLOCK: tl.constexpr,
    ROPE_BLOCK: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DOT: tl.constexpr,
):
    piece_ptr = pieces_ptr + tl.program_id(2) * 8
    start, context, first = tl.load(piece_ptr), tl.load(piece_ptr + 2), tl.load(piece_ptr + 4)
    tokens = tl.load(piece_ptr + 1) - start
    # Blocks with most keys first: those with few fill the gaps at the end.
    block_start = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M
    length = context + tl.minimum(block_start + BLOCK_M, tokens)  # that the block's last query sees
    if (block_start >= tokens) | (length <= first):
        return
    place = block_start + tl.arange(0, BLOCK_M)
    token = tl.minimum(place, tokens - 1)  # rows past the end do the last token's work once more
    head = tl.program_id(1)
    at = (start + token).to(tl.int64)
    column = tl.arange(0, VALUE_BLOCK)
    mixed_tile = ((at * heads + head) * VALUE)[:, None] + column[None, :]
    written = (place < tokens)[:, None] & (column < VALUE)[None, :]

    q_rows = q_ptr + at * q_stride + head * q_head_stride
    q = load_tile(q_rows, None, NOPE, NOPE_BLOCK, DOT)
    q_rope = q
    if ROPE > 0:
        q_rope = load_tile(q_rows + NOPE, None, ROPE, ROPE_BLOCK, DOT)
    mixed = tl.zeros((BLOCK_M, VALUE_BLOCK), tl.float32)
    peak = tl.full((BLOCK_M,), LOWEST, tl.float32)
    total = tl.full((BLOCK_M,), 1.0, tl.float32)
    if first > 0:  # earlier rounds count as one key
        mixed = tl.load(mixed_ptr + mixed_tile, mask=written, other=0.0)
        peak = tl.load(lse_ptr + at * heads + head, mask=place < tokens, other=0.0)

    offset = tl.load(piece_ptr + 6).to(tl.int64)
    kv_start = kv_ptr + offset * kv_stride + head * (NOPE + VALUE)
    rope_start = latents_ptr + offset * latents_stride + RANK
    keys = tl.minimum(length, tl.load(piece_ptr + 5)) - first
    ahead = context + token - first  # keys of this piece before each query
    whole = tl.minimum(tl.maximum(context + block_start + 1 - first, 0), keys) // BLOCK_N * BLOCK_N
    lane = tl.arange(0, BLOCK_N)
    for part in tl.static_range(2):
        for n in range(whole * part, keys if part == 1 else whole, BLOCK_N):
            key = n + lane
            there = key < keys
            read = None if part == 0 else there
            k = load_tile(kv_start + key.to(tl.int64) * kv_stride, read, NOPE, NOPE_BLOCK, DOT)
            logits = tl.dot(q, tl.trans(k), input_precision="tf32")
            if ROPE > 0:
                k_rope = load_tile(rope_start + key.to(tl.int64) * latents_stride, read, ROPE, ROPE_BLOCK, DOT)
                logits = tl.dot(q_rope, tl.trans(k_rope), logits, input_precision="tf32")
            if part == 1:
                logits = tl.where((key[None, :] <= ahead[:, None]) & there[None, :], logits, float("-inf"))
            v = load_tile(kv_start + NOPE + key.to(tl.int64) * kv_stride, read, VALUE, VALUE_BLOCK, DOT)
            mixed, peak, total = fold(logits, v, mixed, peak, total, scale)

    mixed = mixed / total[:, None]
    if first + keys == length:
        out_tile = (at * out_stride + head * VALUE)[:, None] + column[None, :]
        tl.store(out_ptr + out_tile, mixed.to(out_ptr.dtype.element_ty), mask=written)
    else:
        tl.store(mixed_ptr + mixed_tile, mixed, mask=written)
        tl.store(lse_ptr + at * heads + head, peak + tl.math.log2(total), mask=place < tokens)


def attend_expanded(
    q: Tensor, pages: Tensor, block_table: Tensor, plan: Expanded, kv_up: Tensor, rope_dim: int, out: Tensor
) -> None:
    """Writes attention of the planned spans of `q` [T, H, nope + rope] to `out` [T, H, v], its rows dense."""
    heads, expanded, rank = kv_up.shape
    most = max(pieces[-1].offset + pieces[-1].keys for pieces in plan.rounds)
    latents = torch.empty(most, rank + rope_dim, dtype=q.dtype, device=q.device)
    carried = q.shape[0] if any(piece.first for pieces in plan.rounds for piece in pieces) else 0
    mixed = torch.empty(carried, heads, out.shape[-1], dtype=torch.float32, device=q.device)
    lse = torch.empty(carried, heads, dtype=torch.float32, device=q.device)
    for pieces, table in zip(plan.rounds, plan.tables, strict=True):
        _gather(pages, block_table, table, pieces, latents, rank)
        some = latents[: pieces[-1].offset + pieces[-1].keys]
        kv = torch.matmul(some[:, :rank], kv_up.view(heads * expanded, rank).mT)  # [n, H * (nope + v)]
        _attend(q, kv, some, table, pieces, mixed, lse, out, rank)


def _gather(
    pages: Tensor, block_table: Tensor, table: Tensor, pieces: Sequence[Piece], latents: Tensor, rank: int
) -> None:
    """Copies the latents of `pieces` out of their pages."""
    rope = latents.shape[1] - rank
    longest = max(piece.keys for piece in pieces)
    launch(
        _gather_kernel,
        (triton.cdiv(longest, _GATHERED_ROWS), len(pieces)),
        pages,
        block_table,
        table,
        latents,
        *pages.stride()[:2],
        block_table.stride(0),
        latents.stride(0),
        RANK=rank,
        ROPE=rope,
        PAGE=pages.shape[1],
        RANK_BLOCK=block(rank),
        ROPE_BLOCK=block(rope),
        ROWS=_GATHERED_ROWS,
    )


def _attend(
    q: Tensor,
    kv: Tensor,
    latents: Tensor,
    table: Tensor,
    pieces: Sequence[Piece],
    mixed: Tensor,
    lse: Tensor,
    out: Tensor,
    rank: int,
) -> None:
    """Takes a round's keys and values into `out`, or if more follow into `mixed` and `lse`, the logs of totals."""
    _, heads, width = q.shape
    rope, value = latents.shape[1] - rank, out.shape[-1]
    nope = width - rope
    tiles = dense_tiling(max(block(nope), block(value)), q.element_size(), capability(q))
    longest = max(piece.stop - piece.start for piece in pieces)
    launch(
        _attend_expanded_kernel,
        (triton.cdiv(longest, tiles.block_m), heads, len(pieces)),
        q,
        kv,
        latents,
        table,
        mixed,
        lse,
        out,
        *q.stride()[:2],
        kv.stride(0),
        latents.stride(0),
        out.stride(0),
        heads,
        width**-0.5 * LOG2_E.value,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        NOPE=nope,
        ROPE=rope,
        RANK=rank,
        VALUE=value,
        NOPE_BLOCK=block(nope),
        ROPE_BLOCK=block(rope),
        VALUE_BLOCK=block(value),
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        DOT=dot_type(q.dtype),
    )
