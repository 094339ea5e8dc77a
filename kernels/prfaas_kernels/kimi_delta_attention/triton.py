"""Kimi Delta Attention in Triton: all chunks at once as far as they do not need the state, then the walk over them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.delta_rule.triton_decay import log_decay as _log_decay
from prfaas_kernels.delta_rule.triton_inverse import LEVELS, joins, unit_lower_inverse
from prfaas_kernels.delta_rule.triton_walk import Products, walk
from prfaas_kernels.launch import block, dot_type, launch
from prfaas_kernels.span_chunks import CHUNK, SpanChunks
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHANNELS = 32  # that a program works on at once: two matrices of scores must stay in registers beside them


@triton.jit
def _kda_chunk_kernel(
    q_ptr,
    k_ptr,
    log_decay_ptr,
    beta_ptr,
    starts_ptr,
    stops_ptr,
    read_q_ptr,
    read_k_ptr,
    kept_k_ptr,
    solved_ptr,
    scores_ptr,
    scales_ptr,
    decay_ptr,
    heads,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    decay_stride,
    decay_head_stride,
    beta_stride,
    scale,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
    C: tl.constexpr,
    DOUBLINGS: tl.constexpr,
    DOT: tl.constexpr,
):
    head = tl.program_id(0)
    chunk = tl.program_id(1)
    slot = chunk.to(tl.int64) * heads + head
    start = tl.load(starts_ptr + chunk)
    stop = tl.load(stops_ptr + chunk)
    index = tl.arange(0, C)
    late = index[:, None]
    early = index[None, :]
    there = start + index < stop
    token = (start + index).to(tl.int64)

    similar = tl.zeros((C, C), dtype=tl.float32)
    scores = tl.zeros((C, C), dtype=tl.float32)
    k_square = tl.zeros((C,), dtype=tl.float32)
    q_square = tl.zeros((C,), dtype=tl.float32)
    for block_start in range(0, K, CHANNELS):
        channel = block_start + tl.arange(0, CHANNELS)
        wide = (channel < K)[None, :]
        full = there[:, None] & wide
        q = tl.load(q_ptr + token[:, None] * q_stride + head * q_head_stride + channel[None, :], mask=full, other=0.0)
        k = tl.load(k_ptr + token[:, None] * k_stride + head * k_head_stride + channel[None, :], mask=full, other=0.0)
        decay_cell = token[:, None] * decay_stride + head * decay_head_stride + channel[None, :]
        q = q.to(tl.float32)
        k = k.to(tl.float32)
        q_square += tl.sum(q * q, axis=1)
        k_square += tl.sum(k * k, axis=1)
        scores += tl.where(late == early, tl.sum(q * k, axis=1)[:, None], 0.0)
        # Products of decays from the start of a row's block up to it, and from after it to the block's end. They are
        # at most 1, and never the quotient of two: nothing overflows, and what underflows is 0 in truth.
        prefix = tl.exp(tl.load(log_decay_ptr + decay_cell, mask=full, other=0.0))
        suffix = tl.full((C, CHANNELS), 1.0, dtype=tl.float32)
        for level in range(DOUBLINGS):
            second = ((index >> level) & 1)[:, None] == 1
            reach = tl.where(second, prefix, suffix)
            k_reach = (k * reach).to(DOT)
            q_reach = (q * reach).to(DOT)
            joined = joins(level, C)
            columns = tl.trans(k_reach)
            similar += tl.where(joined, tl.dot(k_reach, columns, input_precision="tf32"), 0.0)
            scores += tl.where(joined, tl.dot(q_reach, columns, input_precision="tf32"), 0.0)
            sibling_end = (((index >> level) ^ 1) << level) + (1 << level) - 1
            grown = tl.gather(prefix, tl.broadcast_to(sibling_end[:, None], (C, CHANNELS)), axis=0)
            prefix *= tl.where(second, grown, 1.0)
            suffix *= tl.where(second, 1.0, grown)
        cell = slot * C * K + index[:, None] * K + channel[None, :]
        tl.store(read_q_ptr + cell, (q * prefix).to(read_q_ptr.dtype.element_ty), mask=wide)
        tl.store(read_k_ptr + cell, (k * prefix).to(read_k_ptr.dtype.element_ty), mask=wide)
        tl.store(kept_k_ptr + cell, (k * suffix).to(kept_k_ptr.dtype.element_ty), mask=wide)
        left = tl.sum(tl.where(index[:, None] == C - 1, prefix, 0.0), axis=0)
        tl.store(decay_ptr + slot * K + channel, left, mask=channel < K)

    k_unit = tl.rsqrt(k_square + 1e-6)
    q_unit = scale * tl.rsqrt(q_square + 1e-6)
    scales = scales_ptr + slot * 3 * C + index
    tl.store(scales, k_unit)
    tl.store(scales + C, q_unit)
    tl.store(scales + 2 * C, k_unit)
    square = slot * C * C + late * C + early
    scores = scores * q_unit[:, None] * k_unit[None, :]
    tl.store(scores_ptr + square, scores.to(scores_ptr.dtype.element_ty))
    beta = tl.load(beta_ptr + token * beta_stride + head, mask=there, other=0.0).to(tl.float32)
    lower = similar * (beta * k_unit)[:, None] * k_unit[None, :]
    solved = unit_lower_inverse(lower, C, DOUBLINGS) * beta[None, :]
    tl.store(solved_ptr + square, solved.to(solved_ptr.dtype.element_ty))


def kda_log_decay(x: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """As `cpu.kda_log_decay`."""
    return torch.unflatten(_log_decay(x, a_log, dt_bias), -1, (a_log.shape[0], -1))


def kimi_delta_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, states: StateRows, spans: Spans
) -> Tensor:
    """As `cpu.kimi_delta_attention`."""
    heads, key = q.shape[1:]
    assert q.stride(2) == k.stride(2) == log_decay.stride(2) == beta.stride(1) == 1
    chunks = SpanChunks.of(spans)
    products = Products.empty(chunks, v, channels=key)
    decayed = torch.empty(3, len(chunks), heads, CHUNK, key, dtype=v.dtype, device=v.device)
    read_q, read_k, kept_k = decayed.unbind()
    launch(
        _kda_chunk_kernel,
        (heads, len(chunks)),
        q,
        k,
        log_decay,
        beta,
        chunks.starts,
        chunks.stops,
        read_q,
        read_k,
        kept_k,
        products.solved,
        products.scores,
        products.scales,
        products.decay,
        heads,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        log_decay.stride(0),
        log_decay.stride(1),
        beta.stride(0),
        key**-0.5,
        K=key,
        CHANNELS=min(_CHANNELS, block(key)),
        C=CHUNK,
        DOUBLINGS=LEVELS,
        DOT=dot_type(v.dtype),
        num_warps=4,
        num_stages=1,
    )
    return walk(read_q, read_k, kept_k, v, products, chunks, states, spans)
