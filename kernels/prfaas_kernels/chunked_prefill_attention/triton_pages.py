"""Flash attention of packed spans over keys and values in pages; knows nothing of what the keys are."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_fold import LOG2_E, LOWEST, fold, load_tile
from prfaas_kernels.chunked_prefill_attention.triton_join import empty_parts, join_parts, parts_of
from prfaas_kernels.chunked_prefill_attention.triton_tiling import Tiling, packed_heads, tiling
from prfaas_kernels.launch import block, capability, dot_type, launch, multiprocessors
from prfaas_kernels.spans import Spans


@triton.jit(do_not_specialize=["table_ptr", "table_stride", "part_rows", "parts"])
def _attend_pages_kernel(
    q_ptr,
    q_tail_ptr,
    k_ptr,
    k_tail_ptr,
    v_ptr,
    table_ptr,
    starts_ptr,
    stops_ptr,
    contexts_ptr,
    sinks_ptr,
    gate_ptr,
    out_ptr,
    lse_ptr,
    q_stride,
    q_head_stride,
    q_tail_stride,
    q_tail_head_stride,
    k_page_stride,
    k_stride,
    k_head_stride,
    v_page_stride,
    v_stride,
    v_head_stride,
    table_stride,
    gate_stride,
    gate_head_stride,
    heads,
    sharing,
    part_rows,
    parts,
    window,
    scale,
    WIDTH: tl.constexpr,
    TAIL: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    PAGE: tl.constexpr,
    PACK: tl.constexpr,
    K_BLOCK: tl.constexpr,
    TAIL_BLOCK: tl.constexpr,
    V_BLOCK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DOT: tl.constexpr,
):
    span = tl.program_id(2)
    start = tl.load(starts_ptr + span)
    tokens = tl.load(stops_ptr + span) - start
    # Blocks with most keys first: those with few fill the gaps at the end.
    block_start = (tl.num_programs(0) - 1 - tl.program_id(0)) // parts * (BLOCK_M // PACK)
    cut = tl.program_id(0) % parts
    if block_start >= tokens:
        return
    context = tl.load(contexts_ptr + span)
    row = tl.arange(0, BLOCK_M)
    place = block_start + row // PACK
    token = tl.minimum(place, tokens - 1)  # rows past the end do the last token's work once more
    head = (tl.program_id(1) * PACK + row % PACK).to(tl.int64)  # of latent queries heads lie far apart
    position = context + token
    at = (start + token).to(tl.int64)

    q = load_tile(q_ptr + at * q_stride + head * q_head_stride, None, WIDTH, K_BLOCK, DOT)
    q_tail = q
    if TAIL > 0:
        q_tail = load_tile(q_tail_ptr + at * q_tail_stride + head * q_tail_head_stride, None, TAIL, TAIL_BLOCK, DOT)
    group = tl.program_id(1) * PACK // sharing
    k_ptr += group * k_head_stride
    if TAIL > 0:
        k_tail_ptr += group * k_head_stride
    if v_ptr is not None:
        v_ptr += group * v_head_stride
    table_ptr += span.to(tl.int64) * table_stride

    mixed = tl.zeros((BLOCK_M, V_BLOCK), tl.float32)
    peak = tl.full((BLOCK_M,), LOWEST, tl.float32)
    total = tl.full((BLOCK_M,), 1.0, tl.float32)
    if sinks_ptr is not None:  # one more key, the first, with a value of zero
        peak = tl.where(cut == 0, tl.maximum(tl.load(sinks_ptr + head).to(tl.float32) * LOG2_E, LOWEST), peak)

    # Keys [whole_start, whole_stop) are seen by all rows; those at either side, whole blocks of them, by some.
    first_position = context + block_start
    length = context + tl.minimum(block_start + BLOCK_M // PACK, tokens)
    lowest = 0 if window is None else tl.maximum(first_position - window + 1, 0)
    whole_start = 0 if window is None else tl.cdiv(tl.maximum(length - window, 0), BLOCK_N) * BLOCK_N
    whole_stop = (first_position + 1) // BLOCK_N * BLOCK_N
    cut_keys = tl.cdiv(tl.cdiv(length, BLOCK_N), parts) * BLOCK_N
    lane = tl.arange(0, BLOCK_N)
    for part in tl.static_range(1 if window is None else 0, 3):
        if part == 0:
            first, stop = lowest // BLOCK_N * BLOCK_N, whole_start
        elif part == 1:
            first, stop = whole_start, whole_stop
        else:
            first, stop = tl.maximum(whole_start, whole_stop), length
        for n in range(tl.maximum(first, cut * cut_keys), tl.minimum(stop, (cut + 1) * cut_keys), BLOCK_N):
            key = n + lane
            there = None if part == 1 else (key >= lowest) & (key < length)
            if PAGE % BLOCK_N == 0:
                page = tl.load(table_ptr + n // PAGE)
                slot = n % PAGE + lane
            else:
                page = tl.load(table_ptr + key // PAGE, mask=there, other=None if part == 1 else 0)
                slot = key % PAGE
            k_offset = page * k_page_stride
            k = load_tile(k_ptr + k_offset + slot * k_stride, there, WIDTH, K_BLOCK, DOT)
            logits = tl.dot(q, tl.trans(k), input_precision="tf32")
            if TAIL > 0:
                k_tail = load_tile(k_tail_ptr + k_offset + slot * k_stride, there, TAIL, TAIL_BLOCK, DOT)
                logits = tl.dot(q_tail, tl.trans(k_tail), logits, input_precision="tf32")
            if part != 1:
                seen = key[None, :] <= position[:, None]
                if window is not None:
                    seen = seen & (key[None, :] > position[:, None] - window)
                logits = tl.where(seen, logits, float("-inf"))
            if v_ptr is None:
                v = k
            else:
                v = load_tile(v_ptr + page * v_page_stride + slot * v_stride, there, VALUE_WIDTH, V_BLOCK, DOT)
            mixed, peak, total = fold(logits, v, mixed, peak, total, scale)

    column = tl.arange(0, V_BLOCK)
    written = (place < tokens)[:, None] & (column < VALUE_WIDTH)[None, :]
    out = mixed / total[:, None]
    if gate_ptr is not None:
        gate_rows = gate_ptr + at * gate_stride + head * gate_head_stride
        gate = tl.load(gate_rows[:, None] + column[None, :], mask=written, other=0.0).to(tl.float32)
        out = out * tl.sigmoid(gate)
    out_row = cut.to(tl.int64) * part_rows + at * heads + head
    out_rows = out_ptr + out_row * VALUE_WIDTH
    tl.store(out_rows[:, None] + column[None, :], out.to(out_ptr.dtype.element_ty), mask=written)
    tl.store(lse_ptr + out_row, (peak + tl.math.log2(total)) / LOG2_E, mask=place < tokens)


def attend_pages(
    q: Tensor,
    q_tail: Tensor | None,
    k_pages: Tensor,
    k_tail_pages: Tensor | None,
    v_pages: Tensor | None,
    block_table: Tensor,
    spans: Spans,
    scale: float,
    *,
    sinks: Tensor | None = None,
    window: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`chunked_prefill_attention` with queries and keys in up to two parts, whose products add up.

    `q` [T, H, D] and `q_tail` [T, H, E], `k_pages` [pages, page_tokens, G, D] and `k_tail_pages`
    [pages, page_tokens, G, E] with the strides of `k_pages`. Without `v_pages` values are `k_pages`.
    """
    tokens, heads, width = q.shape
    groups, values = k_pages.shape[2], k_pages if v_pages is None else v_pages
    tiles = tiling(max(block(width), block(values.shape[-1])), q.element_size(), capability(q))
    pack = packed_heads(heads // groups, tiles.block_m)
    parts = 1
    if window is None:
        programs = sum(triton.cdiv(n * pack, tiles.block_m) for n in spans.lens) * heads // pack
        parts = parts_of(programs, multiprocessors(q), spans.longest_context + spans.longest)
    out = torch.empty(tokens, heads, values.shape[-1], dtype=q.dtype, device=q.device)
    lse = torch.empty(tokens, heads, dtype=torch.float32, device=q.device)
    found = (out, lse) if parts == 1 else empty_parts(parts, out)
    own_gate = gate if parts == 1 else None
    paged = (k_pages, k_tail_pages, v_pages, block_table)
    _launch((q, q_tail), paged, spans, sinks, own_gate, found, parts, window, scale, tiles, pack)
    if parts > 1:
        join_parts(*found, spans, gate, out, lse)
    return out, lse


def _launch(
    queries: tuple[Tensor, Tensor | None],
    paged: tuple[Tensor, Tensor | None, Tensor | None, Tensor],
    spans: Spans,
    sinks: Tensor | None,
    gate: Tensor | None,
    found: tuple[Tensor, Tensor],
    parts: int,
    window: int | None,
    scale: float,
    tiles: Tiling,
    pack: int,
) -> None:
    """Writes `found`, outputs [parts, T, H, Dv] and logs of totals [parts, T, H]; no first dimension for one part."""
    (q, q_tail), (k_pages, k_tail_pages, v_pages, block_table) = queries, paged
    tokens, heads, width = q.shape
    page_tokens, groups = k_pages.shape[1:3]
    values = k_pages if v_pages is None else v_pages
    tail = 0 if q_tail is None else q_tail.shape[-1]
    assert k_tail_pages is None or k_tail_pages.stride() == k_pages.stride()
    launch(
        _attend_pages_kernel,
        (triton.cdiv(spans.longest * pack, tiles.block_m) * parts, heads // pack, len(spans)),
        q,
        q_tail,
        k_pages,
        k_tail_pages,
        v_pages,
        block_table,
        spans.starts,
        spans.stops,
        spans.contexts,
        sinks,
        gate,
        *found,
        *q.stride()[:2],
        *(0, 0) if q_tail is None else q_tail.stride()[:2],
        *k_pages.stride()[:3],
        *values.stride()[:3],
        block_table.stride(0),
        *(0, 0) if gate is None else gate.stride()[:2],
        heads,
        heads // groups,
        tokens * heads,
        parts,
        window,
        scale * LOG2_E.value,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        WIDTH=width,
        TAIL=tail,
        VALUE_WIDTH=values.shape[-1],
        PAGE=page_tokens,
        PACK=pack,
        K_BLOCK=block(width),
        TAIL_BLOCK=block(tail),
        V_BLOCK=block(values.shape[-1]),
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        DOT=dot_type(q.dtype),
    )
