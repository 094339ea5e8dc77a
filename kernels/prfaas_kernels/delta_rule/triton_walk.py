"""The walk over the chunks of each span, which carries the state and gives the outputs.

Does not know how keys and queries were decayed: by one number a row, or each channel by its own.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, capability, dot_type, launch, multiprocessors
from prfaas_kernels.span_chunks import CHUNK, SpanChunks
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_WIDEST_KEY = 128
"""Of a head, for chunks ahead to fit in shared memory; with wider ones a program has few columns, and none ahead."""


@dataclass(frozen=True, slots=True)
class Products:
    """Of N chunks and H heads, what does not depend on the state; rows past a chunk's end are 0. C = CHUNK."""

    solved: Tensor
    """[N, H, C, C]: (I + A)^-1 Diag(beta)."""
    scores: Tensor
    """[N, H, C, C]: P, the lower triangle with diagonal of decayed queries times keys."""
    scales: Tensor
    """[N, H, 3, C] fp32: what rows of keys are multiplied by to read, of queries to read, of keys to write."""
    decay: Tensor
    """[N, H, K or 1] fp32: what is left of the state after the chunk."""

    @classmethod
    def empty(cls, chunks: SpanChunks, v: Tensor, channels: int) -> "Products":
        """Uninitialised, for heads as in `v` [T, H, V] and decays of `channels`."""
        sizes = (len(chunks), v.shape[1])
        square = (*sizes, CHUNK, CHUNK)
        return cls(
            torch.empty(square, dtype=v.dtype, device=v.device),
            torch.empty(square, dtype=v.dtype, device=v.device),
            torch.empty(*sizes, 3, CHUNK, dtype=torch.float32, device=v.device),
            torch.empty(*sizes, channels, dtype=torch.float32, device=v.device),
        )


# Of tables of many layers each takes its columns: where these begin must not make a kernel of its own.
@triton.jit(do_not_specialize_on_alignment=["read_ptr", "written_ptr"])
def _walk_kernel(
    q_ptr,
    k_ptr,
    kept_ptr,
    v_ptr,
    solved_ptr,
    scores_ptr,
    scales_ptr,
    decay_ptr,
    out_ptr,
    arena_ptr,
    read_ptr,
    written_ptr,
    starts_ptr,
    stops_ptr,
    contexts_ptr,
    first_ptr,
    heads,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    read_stride,
    written_stride,
    part,
    SHARED: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    C: tl.constexpr,
    BY_CHANNEL: tl.constexpr,
    DOT: tl.constexpr,
):
    head = tl.program_id(1)
    span = tl.program_id(2)
    key = tl.arange(0, KEYS)
    value = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    row = tl.arange(0, C)
    square = row[:, None] * C + row[None, :]
    start = tl.load(starts_ptr + span)
    stop = tl.load(stops_ptr + span)
    first = tl.load(first_ptr + span)

    cell = part + key[:, None] * V + value[None, :]
    within = (key < K)[:, None] & (value < V)[None, :]
    read = tl.multiple_of(tl.load(read_ptr + span.to(tl.int64) * read_stride + head) // 4, 16)
    known = tl.where(tl.load(contexts_ptr + span) > 0, K, 0)
    state = tl.load(arena_ptr + read + cell, mask=within & (key < known)[:, None], other=0.0)

    # Offsets within a chunk are the same in each; only where it begins is 64 bits wide.
    rows = row[:, None]
    q_tile = rows * (K if BY_CHANNEL else q_stride) + key[None, :]
    k_tile = rows * (K if BY_CHANNEL else k_stride) + key[None, :]
    v_tile = rows * v_stride + value[None, :]
    out_tile = rows * (heads * V) + value[None, :]
    for chunk in range(tl.cdiv(stop - start, C)):
        slot = (first + chunk).to(tl.int64) * heads + head
        token = (start + chunk * C).to(tl.int64)
        there = rows < stop - start - chunk * C
        full = (key < K)[None, :]
        if BY_CHANNEL:
            q = tl.load(q_ptr + slot * C * K + q_tile, mask=full, other=0.0)
            k = tl.load(k_ptr + slot * C * K + k_tile, mask=full, other=0.0)
            kept = tl.load(kept_ptr + slot * C * K + k_tile, mask=full, other=0.0)
            decay = tl.load(decay_ptr + slot * K + key, mask=key < K, other=0.0)[:, None]
        else:
            full = full & there
            q = tl.load(q_ptr + token * q_stride + head // SHARED * q_head_stride + q_tile, mask=full, other=0.0)
            k = tl.load(k_ptr + token * k_stride + head // SHARED * k_head_stride + k_tile, mask=full, other=0.0)
            kept = k
            decay = tl.load(decay_ptr + slot)
        solved = tl.load(solved_ptr + slot * C * C + square)
        scores = tl.load(scores_ptr + slot * C * C + square)
        to_recall = tl.load(scales_ptr + slot * 3 * C + row)
        to_read = tl.load(scales_ptr + slot * 3 * C + C + row)
        to_write = tl.load(scales_ptr + slot * 3 * C + 2 * C + row)
        cells = there & (value < V)[None, :]
        v = tl.load(v_ptr + token * v_stride + head * v_head_stride + v_tile, mask=cells, other=0.0)

        before = state.to(DOT)
        recalled = tl.dot(k.to(DOT), before, input_precision="tf32")
        out = tl.dot(q.to(DOT), before, input_precision="tf32")
        missing = (v.to(tl.float32) - recalled * to_recall[:, None]).to(DOT)
        written = tl.dot(solved.to(DOT), missing, input_precision="tf32")
        out = out * to_read[:, None]
        out = tl.dot(scores.to(DOT), written.to(DOT), out, input_precision="tf32")
        written = (written * to_write[:, None]).to(DOT)
        state = tl.dot(tl.trans(kept.to(DOT)), written, state * decay, input_precision="tf32")
        out_at = out_ptr + (token * heads + head) * V + out_tile
        tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=cells)

    to = tl.multiple_of(tl.load(written_ptr + span.to(tl.int64) * written_stride + head) // 4, 16)
    tl.store(arena_ptr + to + cell, state, mask=within)


def walk(
    q: Tensor,
    k: Tensor,
    kept: Tensor | None,
    v: Tensor,
    products: Products,
    chunks: SpanChunks,
    states: StateRows,
    spans: Spans,
) -> Tensor:
    """Outputs [T, H, V] in the dtype of `v` [T, H, V]; what rows of keys and queries lack is in `products.scales`.

    With decays per head `q` and `k` [T, Hk, K] are as projected and `kept` is None; with decays per channel `q`, `k`
    and `kept` [N, H, C, K] are decayed to be read, recalled and written.
    """
    (tokens, heads, size), key = v.shape, q.shape[-1]
    by_channel = kept is not None
    assert states.dtype is torch.float32, "states are carried in fp32"
    assert len(states.parts) == 1, "a rank has whole states"
    assert states.dims == (key, size)
    assert v.stride(2) == q.stride(-1) == k.stride(-1) == states.read.stride(1) == states.written.stride(1) == 1
    out = torch.empty(tokens, heads, size, dtype=v.dtype, device=v.device)
    values = _values(size, key, len(spans) * heads, by_channel, v)
    launch(
        _walk_kernel,
        (triton.cdiv(size, values), heads, len(spans)),
        q,
        k,
        kept,
        v,
        products.solved,
        products.scores,
        products.scales,
        products.decay,
        out,
        states.arena.view(torch.float32),
        states.read,
        states.written,
        spans.starts,
        spans.stops,
        spans.contexts,
        chunks.first,
        heads,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        states.read.stride(0),
        states.written.stride(0),
        states.parts[0][0],
        SHARED=1 if by_channel else heads // q.shape[1],
        K=key,
        V=size,
        KEYS=block(key),
        VALUES=values,
        C=CHUNK,
        BY_CHANNEL=by_channel,
        DOT=dot_type(v.dtype),
        num_warps=8 if values == 64 or capability(v) < 90 else 4,
        num_stages=1 if v.dtype is torch.float32 or key > _WIDEST_KEY else 3,
    )
    return out


def _values(size: int, key: int, walks: int, by_channel: bool, x: Tensor) -> int:
    """Columns of the state that a program carries: 64, or 32 where that would leave a fourth of the GPU idle.

    Each program reads all keys and queries, so narrower ones cost bandwidth of the L2 cache. Decays by channel bring a
    third tile of them, and three stages of that leave no shared memory for 64; on an A100 registers do not suffice.
    16 for the widest keys, which no model so far has.
    """
    fits = 16 if key > _WIDEST_KEY else 32 if by_channel or capability(x) < 90 else 64
    widest = min(fits, block(size))
    fills = 4 * walks * triton.cdiv(size, widest) >= 3 * multiprocessors(x)
    return widest if fills else min(32, widest)
