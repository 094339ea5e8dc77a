"""One new token of each of several sequences over the ring of its sliding window, in Triton, and its place there.

Knows nothing of prefill: a ring's rows are read where the last call left them.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, dot_type, launch
from prfaas_kernels.paged_decode_attention.triton_tile import first_part, load_tile
from prfaas_kernels.state_rows import StateRows

_TOKENS = 64  # of a tile: the least that Hopper's matrix unit takes


@triton.jit
def _row(table_ptr, position, stop, ELEMENT_BYTES: tl.constexpr):
    rows = tl.load(table_ptr + position, mask=position < stop, other=0) // ELEMENT_BYTES
    return tl.multiple_of(rows, [16])  # multiples of 64 bytes: loads can be wide


@triton.jit(do_not_specialize=["k_read_ptr", "k_written_ptr", "v_read_ptr", "v_written_ptr"])
def _window_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    k_arena_ptr,
    k_read_ptr,
    k_written_ptr,
    v_arena_ptr,
    v_read_ptr,
    v_written_ptr,
    lengths_ptr,
    sinks_ptr,
    out_ptr,
    scale,
    ring,
    k_first,
    v_first,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    k_read_stride,
    k_written_stride,
    v_read_stride,
    v_written_stride,
    GROUPS: tl.constexpr,
    RATIO: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    TAIL_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    VALUE: tl.constexpr,
    QUERIES: tl.constexpr,
    TOKENS: tl.constexpr,
    ELEMENT_BYTES: tl.constexpr,
    DOT: tl.constexpr,
):
    group, sequence = tl.program_id(0), tl.program_id(1).to(tl.int64)
    query, token = tl.arange(0, QUERIES), tl.arange(0, TOKENS)
    head, value = tl.arange(0, HEAD), tl.arange(0, VALUE)
    known = query < RATIO
    before = tl.load(lengths_ptr + sequence) - 1
    valid = tl.minimum(before, ring).to(tl.int32)

    q_ptr += sequence * q_stride + group * RATIO * q_head_stride
    k_ptr += sequence * k_stride + group * k_head_stride
    v_ptr += sequence * v_stride + group * v_head_stride
    q_rows = q_ptr + (query * q_head_stride)[:, None]
    one, some = tl.zeros([1, 1], tl.int32), tl.full([1], 1, tl.int1)
    q = load_tile(q_rows, head, known, HEAD, HEAD_SIZE)
    own_k = load_tile(k_ptr + one, head, some, HEAD, HEAD_SIZE)
    peak = tl.sum(q.to(tl.float32) * own_k.to(tl.float32), axis=1)
    q = tl.trans(q.to(DOT))  # [HEAD, QUERIES]
    if TAIL_SIZE > 0:
        tail = tl.arange(0, TAIL)
        q_tail = load_tile(q_rows + HEAD_SIZE, tail, known, TAIL, TAIL_SIZE)
        own_tail = load_tile(k_ptr + HEAD_SIZE + one, tail, some, TAIL, TAIL_SIZE)
        peak += tl.sum(q_tail.to(tl.float32) * own_tail.to(tl.float32), axis=1)
        q_tail = tl.trans(q_tail.to(DOT))
    own_v = tl.trans(load_tile(v_ptr + one, value, some, VALUE, VALUE_SIZE))  # [VALUE, 1]

    # The token's own key and value come first; the ring is not told of them before all of it is read.
    peak = peak * scale
    total = tl.full([QUERIES], 1.0, tl.float32)
    mixed = tl.zeros([VALUE, QUERIES], tl.float32) + own_v.to(tl.float32)
    k_arena_ptr += k_first + group * (HEAD_SIZE + TAIL_SIZE)
    v_arena_ptr += v_first + group * VALUE_SIZE
    k_read_ptr += sequence * k_read_stride
    v_read_ptr += sequence * v_read_stride
    k_row, v_row = _row(k_read_ptr, token, valid, ELEMENT_BYTES), _row(v_read_ptr, token, valid, ELEMENT_BYTES)
    for first in tl.range(0, valid, TOKENS):
        there = first + token < valid
        k_rows = (k_arena_ptr + k_row)[:, None]
        keys = load_tile(k_rows, head, there, HEAD, HEAD_SIZE).to(DOT)
        scores = tl.dot(keys, q, input_precision="tf32x3")  # [TOKENS, QUERIES]
        if TAIL_SIZE > 0:
            tails = load_tile(k_rows + HEAD_SIZE, tail, there, TAIL, TAIL_SIZE).to(DOT)
            scores = tl.dot(tails, q_tail, acc=scores, input_precision="tf32x3")
        values = load_tile((v_arena_ptr + v_row)[:, None], value, there, VALUE, VALUE_SIZE).to(DOT)
        scores = tl.where(there[:, None], scores * scale, float("-inf"))
        highest = tl.maximum(peak, tl.max(scores, axis=0))
        fade = tl.exp(peak - highest)
        weights = tl.exp(scores - highest[None, :])
        total = total * fade + tl.sum(weights, axis=0)
        mixed = tl.dot(tl.trans(values), weights.to(DOT), acc=mixed * fade[None, :], input_precision="tf32x3")
        peak = highest
        k_row = _row(k_read_ptr, first + TOKENS + token, valid, ELEMENT_BYTES)
        v_row = _row(v_read_ptr, first + TOKENS + token, valid, ELEMENT_BYTES)

    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + group * RATIO + query, mask=known, other=0.0).to(tl.float32)
        highest = tl.maximum(peak, sink)
        fade = tl.exp(peak - highest)
        total = total * fade + tl.exp(sink - highest)
        mixed *= fade[None, :]
    out_ptr += (sequence * GROUPS + group) * RATIO * VALUE_SIZE
    tl.store(
        out_ptr + query[None, :] * VALUE_SIZE + value[:, None],
        (mixed / total[None, :]).to(out_ptr.dtype.element_ty),
        mask=known[None, :] & (value < VALUE_SIZE)[:, None],
    )

    tl.debug_barrier()  # other warps' reads of the row that is overwritten
    slot = before % ring
    k_row = tl.load(k_written_ptr + sequence * k_written_stride + slot) // ELEMENT_BYTES
    v_row = tl.load(v_written_ptr + sequence * v_written_stride + slot) // ELEMENT_BYTES
    own = tl.load(k_ptr + head, mask=head < HEAD_SIZE)
    tl.store(k_arena_ptr + k_row + head, own, mask=head < HEAD_SIZE)
    if TAIL_SIZE > 0:
        rest = tl.load(k_ptr + HEAD_SIZE + tail, mask=tail < TAIL_SIZE)
        tl.store(k_arena_ptr + k_row + HEAD_SIZE + tail, rest, mask=tail < TAIL_SIZE)
    own = tl.load(v_ptr + value, mask=value < VALUE_SIZE)
    tl.store(v_arena_ptr + v_row + value, own, mask=value < VALUE_SIZE)


def window_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_rings: StateRows,
    v_rings: StateRows,
    lengths: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `cpu.window_decode`."""
    (sequences, heads, key), groups, value = q.shape, k.shape[1], v.shape[2]
    ring = k_rings.read.shape[1]
    head = first_part(key)
    assert k_rings.dtype is v_rings.dtype is k.dtype is v.dtype
    assert len(k_rings.parts) == len(v_rings.parts) == 1
    assert v_rings.read.shape[1] == ring
    tables = (k_rings.read, k_rings.written, v_rings.read, v_rings.written)
    assert all(x.stride(-1) == 1 for x in (q, k, v, lengths, *tables))
    out = torch.empty(sequences, heads, value, dtype=q.dtype, device=q.device)
    k_arena, v_arena = k_rings.arena.view(k_rings.dtype), v_rings.arena.view(v_rings.dtype)
    launch(
        _window_kernel,
        (groups, sequences),
        q,
        k,
        v,
        k_arena,
        k_rings.read,
        k_rings.written,
        v_arena,
        v_rings.read,
        v_rings.written,
        lengths,
        sinks,
        out,
        scale,
        ring,
        k_rings.parts[0][0],
        v_rings.parts[0][0],
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *(table.stride(0) for table in (k_rings.read, k_rings.written, v_rings.read, v_rings.written)),
        num_warps=4,
        num_stages=2,
        GROUPS=groups,
        RATIO=heads // groups,
        HEAD_SIZE=head,
        TAIL_SIZE=key - head,
        VALUE_SIZE=value,
        HEAD=block(head),
        TAIL=block(key - head),
        VALUE=block(value),
        QUERIES=block(heads // groups),
        TOKENS=_TOKENS,
        ELEMENT_BYTES=k.element_size(),
        DOT=dot_type(k.dtype),
    )
    return out
