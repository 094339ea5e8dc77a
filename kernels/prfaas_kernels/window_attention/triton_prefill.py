"""Prefill with a sliding window in Triton: one kernel reads rings and new tokens, another then renews the rings."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_fold import LOG2_E, LOWEST, fold, load_tile
from prfaas_kernels.chunked_prefill_attention.triton_tiling import packed_heads, split_width, window_tiling
from prfaas_kernels.launch import block, capability, dot_type, launch
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_ELEMENTS = 8192  # of a ring that a program moves, more where one entry has more


@triton.jit(do_not_specialize=["k_rows_ptr", "v_rows_ptr"])
def _attend_window_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    k_arena_ptr,
    v_arena_ptr,
    k_rows_ptr,
    v_rows_ptr,
    starts_ptr,
    stops_ptr,
    contexts_ptr,
    sinks_ptr,
    out_ptr,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    k_first,
    v_first,
    k_table_stride,
    v_table_stride,
    heads,
    sharing,
    window,
    scale,
    WIDTH: tl.constexpr,
    TAIL: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    PACK: tl.constexpr,
    K_BLOCK: tl.constexpr,
    TAIL_BLOCK: tl.constexpr,
    V_BLOCK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DOT: tl.constexpr,
    K_BYTES: tl.constexpr,
    V_BYTES: tl.constexpr,
):
    span = tl.program_id(2)
    start = tl.load(starts_ptr + span)
    tokens = tl.load(stops_ptr + span) - start
    block_start = tl.program_id(0) * (BLOCK_M // PACK)
    if block_start >= tokens:
        return
    context = tl.load(contexts_ptr + span)
    row = tl.arange(0, BLOCK_M)
    place = block_start + row // PACK
    token = tl.minimum(place, tokens - 1)  # rows past the end do the last token's work once more
    head = tl.program_id(1) * PACK + row % PACK
    position = context + token
    at = (start + token).to(tl.int64)

    q_rows = q_ptr + at * q_stride + head * q_head_stride
    q = load_tile(q_rows, None, WIDTH, K_BLOCK, DOT)
    q_tail = q
    if TAIL > 0:
        q_tail = load_tile(q_rows + WIDTH, None, TAIL, TAIL_BLOCK, DOT)
    group = tl.program_id(1) * PACK // sharing

    mixed = tl.zeros((BLOCK_M, V_BLOCK), tl.float32)
    peak = tl.full((BLOCK_M,), LOWEST, tl.float32)
    total = tl.full((BLOCK_M,), 1.0, tl.float32)
    if sinks_ptr is not None:  # one more key, the first, with a value of zero
        peak = tl.maximum(tl.load(sinks_ptr + head).to(tl.float32) * LOG2_E, LOWEST)

    lowest = tl.maximum(context + block_start - window + 1, 0)
    length = context + tl.minimum(block_start + BLOCK_M // PACK, tokens)
    lane = tl.arange(0, BLOCK_N)
    for part in tl.static_range(2):
        if part == 0:  # in the ring
            first, stop = lowest, context
            k_start = k_arena_ptr + k_first + group * (WIDTH + TAIL)
            v_start = v_arena_ptr + v_first + group * VALUE_WIDTH
        else:  # new
            first, stop = tl.maximum(lowest, context), length
            k_start = k_ptr + group * k_head_stride
            v_start = v_ptr + group * v_head_stride
        for n in range(first, stop, BLOCK_N):
            key = n + lane
            there = key < stop
            if part == 0:
                entry = key % (window - 1)
                k_bytes = tl.load(k_rows_ptr + span * k_table_stride + entry, mask=there, other=0)
                v_bytes = tl.load(v_rows_ptr + span * v_table_stride + entry, mask=there, other=0)
                k_rows = k_start + tl.multiple_of(k_bytes // K_BYTES, [16])  # rows begin at multiples of 64 bytes
                v_rows = v_start + tl.multiple_of(v_bytes // V_BYTES, [16])
            else:
                new = (start + key - context).to(tl.int64)
                k_rows = k_start + new * k_stride
                v_rows = v_start + new * v_stride
            k = load_tile(k_rows, there, WIDTH, K_BLOCK, DOT)
            logits = tl.dot(q, tl.trans(k), input_precision="tf32")
            if TAIL > 0:
                k_tail = load_tile(k_rows + WIDTH, there, TAIL, TAIL_BLOCK, DOT)
                logits = tl.dot(q_tail, tl.trans(k_tail), logits, input_precision="tf32")
            ago = position[:, None] - key[None, :]
            logits = tl.where((ago >= 0) & (ago < window) & there[None, :], logits, float("-inf"))
            v = load_tile(v_rows, there, VALUE_WIDTH, V_BLOCK, DOT)
            mixed, peak, total = fold(logits, v, mixed, peak, total, scale)

    column = tl.arange(0, V_BLOCK)
    out_rows = out_ptr + (at * heads + head) * VALUE_WIDTH
    tl.store(
        out_rows[:, None] + column[None, :],
        (mixed / total[:, None]).to(out_ptr.dtype.element_ty),
        mask=(place < tokens)[:, None] & (column < VALUE_WIDTH)[None, :],
    )


@triton.jit(do_not_specialize=["read_ptr", "written_ptr"])
def _renew_ring_kernel(
    new_ptr,
    arena_ptr,
    read_ptr,
    written_ptr,
    starts_ptr,
    stops_ptr,
    contexts_ptr,
    new_stride,
    new_head_stride,
    ring_first,
    read_stride,
    written_stride,
    entries,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
    ENTRIES: tl.constexpr,
    BYTES: tl.constexpr,
):
    span = tl.program_id(1)
    start = tl.load(starts_ptr + span)
    context = tl.load(contexts_ptr + span)
    length = context + tl.load(stops_ptr + span) - start
    row = tl.arange(0, ENTRIES * HEADS_BLOCK)
    entry, head = tl.program_id(0) * ENTRIES + row // HEADS_BLOCK, row % HEADS_BLOCK
    position = entry + (length - 1 - entry) // entries * entries  # the newest that lies in this entry
    used = (entry < tl.minimum(entries, length)) & (head < HEADS)
    to = tl.load(written_ptr + span * written_stride + entry, mask=used, other=0)
    origin = tl.load(read_ptr + span * read_stride + entry, mask=used & (position < context), other=0)

    column = tl.arange(0, WIDTH_BLOCK)[None, :]
    ring_start = arena_ptr + ring_first + head * WIDTH
    to_rows = (ring_start + tl.multiple_of(to // BYTES, [16]))[:, None] + column
    origin_rows = (ring_start + tl.multiple_of(origin // BYTES, [16]))[:, None] + column
    new_rows = (new_ptr + (start + position - context).to(tl.int64) * new_stride + head * new_head_stride)[:, None]
    fresh = (used & (position >= context))[:, None] & (column < WIDTH)
    tl.store(to_rows, tl.load(new_rows + column, mask=fresh), mask=fresh)
    moved = (used & (position < context) & (origin != to))[:, None] & (column < WIDTH)
    tl.store(to_rows, tl.load(origin_rows, mask=moved), mask=moved)


def window_prefill(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_rings: StateRows,
    v_rings: StateRows,
    spans: Spans,
    scale: float,
    window: int,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `cpu.window_prefill`, of rings whose rows are each written where they are read, or where no row is read."""
    out = _attend(q, k, v, k_rings, v_rings, spans, scale, window, sinks)
    _renew(k_rings, k, spans, window - 1)
    _renew(v_rings, v, spans, window - 1)
    return out


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_rings: StateRows,
    v_rings: StateRows,
    spans: Spans,
    scale: float,
    window: int,
    sinks: Tensor | None,
) -> Tensor:
    tokens, heads, _ = q.shape
    groups, value_width = v.shape[1:]
    assert k_rings.read.shape[1] == v_rings.read.shape[1] == window - 1
    assert len(k_rings.parts) == len(v_rings.parts) == 1
    width, tail = split_width(q.shape[-1])
    sharing = heads // groups
    tiles = window_tiling(max(width, block(value_width)), q.element_size(), capability(q))
    pack = packed_heads(sharing, tiles.block_m)
    out = torch.empty(tokens, heads, value_width, dtype=q.dtype, device=q.device)
    launch(
        _attend_window_kernel,
        (triton.cdiv(spans.longest * pack, tiles.block_m), heads // pack, len(spans)),
        q,
        k,
        v,
        k_rings.arena.view(k_rings.dtype),
        v_rings.arena.view(v_rings.dtype),
        k_rings.read,
        v_rings.read,
        spans.starts,
        spans.stops,
        spans.contexts,
        sinks,
        out,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        k_rings.parts[0][0],
        v_rings.parts[0][0],
        k_rings.read.stride(0),
        v_rings.read.stride(0),
        heads,
        sharing,
        window,
        scale * LOG2_E.value,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        WIDTH=width,
        TAIL=tail,
        VALUE_WIDTH=value_width,
        PACK=pack,
        K_BLOCK=block(width),
        TAIL_BLOCK=block(tail),
        V_BLOCK=block(value_width),
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        DOT=dot_type(q.dtype),
        K_BYTES=k_rings.dtype.itemsize,
        V_BYTES=v_rings.dtype.itemsize,
    )
    return out


def _renew(rings: StateRows, new: Tensor, spans: Spans, entries: int) -> None:
    """Puts the last of `new` [T, G, D] into the rings, and beside them what stays of the context."""
    groups, width = new.shape[1:]
    together = max(1, _ELEMENTS // (block(groups, 1) * block(width)))
    launch(
        _renew_ring_kernel,
        (triton.cdiv(entries, together), len(spans)),
        new,
        rings.arena.view(rings.dtype),
        rings.read,
        rings.written,
        spans.starts,
        spans.stops,
        spans.contexts,
        *new.stride()[:2],
        rings.parts[0][0],
        rings.read.stride(0),
        rings.written.stride(0),
        entries,
        HEADS=groups,
        WIDTH=width,
        HEADS_BLOCK=block(groups, 1),
        WIDTH_BLOCK=block(width),
        ENTRIES=together,
        BYTES=rings.dtype.itemsize,
    )
