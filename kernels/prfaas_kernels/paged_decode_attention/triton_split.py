"""Decode over pages in Triton: each program takes one span of a sequence for the queries of one key head.

Knows neither sinks nor gates, nor how the spans are put together.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, capability, dot_type, launch, multiprocessors
from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.paged_decode_attention.splits import choose_splits
from prfaas_kernels.paged_decode_attention.triton_tile import load_tile

_SHARED = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes that a program may have


@triton.jit
def _page(table_ptr, first, stop, token, page_tokens, BY_PAGE: tl.constexpr):
    position = first if BY_PAGE else first + token
    return tl.load(table_ptr + position // page_tokens, mask=position < stop, other=0)


@triton.jit
def _rows(ptr, page, page_stride, first, token, page_tokens, stride, BY_PAGE: tl.constexpr):
    slot = first % page_tokens + token if BY_PAGE else (first + token) % page_tokens
    return ptr + (page * page_stride + slot.to(tl.int64) * stride)[:, None]


@triton.jit(do_not_specialize=["table_ptr", "table_stride", "least_tokens"])
def _split_kernel(
    q_ptr,
    q_tail_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    lengths_ptr,
    out_ptr,
    peak_ptr,
    total_ptr,
    scale,
    heads,
    ratio,
    page_tokens,
    least_tokens,
    q_stride,
    q_head_stride,
    tail_stride,
    tail_head_stride,
    k_page_stride,
    k_token_stride,
    k_head_stride,
    v_page_stride,
    v_token_stride,
    v_head_stride,
    table_stride,
    KEY_SIZE: tl.constexpr,
    TAIL_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    KEY: tl.constexpr,
    TAIL: tl.constexpr,
    VALUE: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
    BY_PAGE: tl.constexpr,
    DOT: tl.constexpr,
):
    blocks = tl.cdiv(ratio, HEADS)
    group, split, sequence = tl.program_id(0) // blocks, tl.program_id(1), tl.program_id(2)
    of_group = tl.program_id(0) % blocks * HEADS + tl.arange(0, HEADS)
    known = of_group < ratio
    token, key, value = tl.arange(0, TOKENS), tl.arange(0, KEY), tl.arange(0, VALUE)

    length = tl.load(lengths_ptr + sequence).to(tl.int32)
    share = tl.cdiv(tl.cdiv(length, tl.num_programs(1)), TOKENS) * TOKENS
    share = tl.maximum(share, least_tokens)
    start = split * share
    stop = tl.minimum(start + share, length)
    row = (split.to(tl.int64) * tl.num_programs(2) + sequence) * heads + group * ratio  # of the group's first head
    if start >= stop:  # what lies in `out` is then not read
        tl.store(peak_ptr + row + of_group, tl.full([HEADS], float("-inf"), tl.float32), mask=known)
        tl.store(total_ptr + row + of_group, tl.zeros([HEADS], tl.float32), mask=known)
        return

    q_ptr += sequence.to(tl.int64) * q_stride + (group * ratio).to(tl.int64) * q_head_stride
    q = load_tile(q_ptr + (of_group.to(tl.int64) * q_head_stride)[:, None], key, known, KEY, KEY_SIZE)
    q = tl.trans(q.to(DOT))  # [KEY, HEADS]
    if TAIL_SIZE > 0:
        tail = tl.arange(0, TAIL)
        q_tail_ptr += sequence.to(tl.int64) * tail_stride + group * ratio * tail_head_stride
        q_tail = load_tile(q_tail_ptr + (of_group * tail_head_stride)[:, None], tail, known, TAIL, TAIL_SIZE)
        q_tail = tl.trans(q_tail.to(DOT))
    table_ptr += sequence.to(tl.int64) * table_stride
    k_ptr += group.to(tl.int64) * k_head_stride
    if v_ptr is not None:
        v_ptr += group.to(tl.int64) * v_head_stride

    peak = tl.full([HEADS], float("-inf"), tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    mixed = tl.zeros([VALUE, HEADS], tl.float32)
    page = _page(table_ptr, start, stop, token, page_tokens, BY_PAGE)
    for first in tl.range(start, stop, TOKENS):
        there = first + token < stop
        k_rows = _rows(k_ptr, page, k_page_stride, first, token, page_tokens, k_token_stride, BY_PAGE)
        keys = load_tile(k_rows, key, there, KEY, KEY_SIZE).to(DOT)
        scores = tl.dot(keys, q, input_precision="tf32x3")  # [TOKENS, HEADS]
        if TAIL_SIZE > 0:
            tails = load_tile(k_rows + KEY_SIZE, tail, there, TAIL, TAIL_SIZE).to(DOT)
            scores = tl.dot(tails, q_tail, acc=scores, input_precision="tf32x3")
        if v_ptr is None:
            values = keys
        else:
            v_rows = _rows(v_ptr, page, v_page_stride, first, token, page_tokens, v_token_stride, BY_PAGE)
            values = load_tile(v_rows, value, there, VALUE, VALUE_SIZE).to(DOT)
        scores = tl.where(there[:, None], scores * scale, float("-inf"))
        highest = tl.maximum(peak, tl.max(scores, axis=0))
        fade = tl.exp(peak - highest)
        weights = tl.exp(scores - highest[None, :])
        total = total * fade + tl.sum(weights, axis=0)
        mixed = tl.dot(tl.trans(values), weights.to(DOT), acc=mixed * fade[None, :], input_precision="tf32x3")
        peak = highest
        page = _page(table_ptr, first + TOKENS, stop, token, page_tokens, BY_PAGE)

    tl.store(peak_ptr + row + of_group, peak, mask=known)
    tl.store(total_ptr + row + of_group, total, mask=known)
    tl.store(
        out_ptr + row * VALUE_SIZE + (of_group[None, :] * VALUE_SIZE + value[:, None]),
        mixed,
        mask=known[None, :] & (value < VALUE_SIZE)[:, None],
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a program's work is cut, and what it needs."""

    heads: int
    tokens: int
    stages: int
    warps: int
    resident: int
    """Programs that a multiprocessor holds at once."""


def _cut(ratio: int, token_bytes: int, value: int, element_bytes: int, target: int) -> _Cut:
    """For `ratio` queries of a key head; `token_bytes` of keys and values, each counted once, go with a token.

    Tiles of 64 tokens are the least that Hopper's matrix unit takes; fp32, and latents elsewhere, have to do with
    less. As many tiles as fit are under way, four at most. Two programs side by side hide each other's softmax, if
    that leaves each enough tiles. Sums of 64 heads of 512 channels leave registers for the rest on Hopper only.
    """
    hopper, whole = target == 90, element_bytes == 4
    heads = min(block(ratio), 64, (8192 if whole else 32768 if hopper else 16384) // block(value))
    tokens = 32 if whole or (token_bytes > 1024 and not hopper) else 64
    kept = heads * token_bytes + 4096  # queries, weights, what reductions pass between warps
    half, full = ((bytes_ - kept) // (tokens * token_bytes) for bytes_ in (_SHARED[target] // 2, _SHARED[target]))
    spare = int(target == 80)  # a tile that is read into registers leaves its buffer to the next
    buffers, resident = (half, 2) if half + spare >= 3 else (full, 1)
    warps = 8 if heads * value > (16384 if hopper else 8192) else 4
    return _Cut(heads, tokens, max(2, min(4, buffers + spare)), warps, resident)


def split_attention(
    q: Tensor,
    q_tail: Tensor | None,
    k_pages: Tensor,
    v_pages: Tensor | None,
    block_table: Tensor,
    lengths: Tensor,
    scale: float,
) -> Partial:
    """Attention of one query of each of B sequences over N spans of its keys: `out` [N, B, H, Dv].

    `q` [B, H, D] and `q_tail` [B, H, T] are the two parts of queries, `k_pages` [pages, page_tokens, G, D + T] keys;
    `v_pages` [pages, page_tokens, G, Dv], or None where values are the first D channels of keys. `block_table` [B, P]
    int64, `lengths` [B] int64 >= 0. `out` is not written for spans without tokens, whose `total` is 0.
    """
    (sequences, heads, key), (page_tokens, groups) = q.shape, k_pages.shape[1:3]
    tail = 0 if q_tail is None else q_tail.shape[2]
    value = key if v_pages is None else v_pages.shape[3]
    assert k_pages.shape[3] == key + tail
    assert all(x is None or x.stride(-1) == 1 for x in (q, q_tail, k_pages, v_pages, block_table, lengths))
    assert v_pages is None or v_pages.dtype is k_pages.dtype
    token_bytes = (key + tail + (0 if v_pages is None else value)) * k_pages.element_size()
    ratio = heads // groups
    cut = _cut(ratio, token_bytes, value, k_pages.element_size(), capability(q))
    columns = groups * triton.cdiv(ratio, cut.heads)
    capacity_tokens = block_table.shape[1] * page_tokens
    slots, split_bytes = multiprocessors(q) * cut.resident, 4 * sequences * heads * (value + 2)
    splits = choose_splits(sequences * columns, capacity_tokens, slots, split_bytes)
    numbers = torch.empty(splits.count, sequences, heads, value, dtype=torch.float32, device=q.device)
    peak, total = (torch.empty(splits.count, sequences, heads, dtype=torch.float32, device=q.device) for _ in range(2))
    launch(
        _split_kernel,
        (columns, splits.count, sequences),
        q,
        q_tail,
        k_pages,
        v_pages,
        block_table,
        lengths,
        numbers,
        peak,
        total,
        scale,
        heads,
        ratio,
        page_tokens,
        splits.least_tokens,
        *q.stride()[:2],
        *(q_tail.stride()[:2] if q_tail is not None else (0, 0)),
        *k_pages.stride()[:3],
        *(v_pages.stride()[:3] if v_pages is not None else (0, 0, 0)),
        block_table.stride(0),
        num_warps=cut.warps,
        num_stages=cut.stages,
        KEY_SIZE=key,
        TAIL_SIZE=tail,
        VALUE_SIZE=value,
        KEY=block(key),
        TAIL=block(tail),
        VALUE=block(value),
        HEADS=cut.heads,
        TOKENS=cut.tokens,
        BY_PAGE=page_tokens % cut.tokens == 0,
        DOT=dot_type(k_pages.dtype),
    )
    return Partial(numbers, peak, total)
