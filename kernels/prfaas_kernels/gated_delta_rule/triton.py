"""The gated delta rule in Triton: all chunks at once as far as they do not need the state, then the walk over them."""

import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.delta_rule.triton_decay import log_decay as _log_decay
from prfaas_kernels.delta_rule.triton_inverse import LEVELS, unit_lower_inverse
from prfaas_kernels.delta_rule.triton_walk import Products, walk
from prfaas_kernels.launch import block, dot_type, launch
from prfaas_kernels.span_chunks import CHUNK, SpanChunks
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHANNELS = 64  # of a step of the products over channels


@triton.jit
def _gdn_chunk_kernel(
    q_ptr,
    k_ptr,
    log_decay_ptr,
    beta_ptr,
    starts_ptr,
    stops_ptr,
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
    beta_stride,
    scale,
    SHARED: tl.constexpr,
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
    q_row = q_ptr + token[:, None] * q_stride + head // SHARED * q_head_stride
    k_row = k_ptr + token[:, None] * k_stride + head // SHARED * k_head_stride
    for block_start in range(0, K, CHANNELS):
        channel = block_start + tl.arange(0, CHANNELS)[None, :]
        full = there[:, None] & (channel < K)
        q = tl.load(q_row + channel, mask=full, other=0.0)
        k = tl.load(k_row + channel, mask=full, other=0.0)
        columns = tl.trans(k.to(DOT))
        similar = tl.dot(k.to(DOT), columns, similar, input_precision="tf32")
        scores = tl.dot(q.to(DOT), columns, scores, input_precision="tf32")
        q_square += tl.sum(q.to(tl.float32) * q.to(tl.float32), axis=1)
        k_square += tl.sum(k.to(tl.float32) * k.to(tl.float32), axis=1)
    k_unit = tl.rsqrt(k_square + 1e-6)
    q_unit = scale * tl.rsqrt(q_square + 1e-6)

    log_decay = tl.load(log_decay_ptr + token * decay_stride + head, mask=there, other=0.0)
    # Sums of the terms between two rows, not differences of sums from the start: a weak decay survives a strong one.
    terms = tl.where(late > early, log_decay[:, None], 0.0)
    between = tl.exp(tl.cumsum(terms, axis=0)) * k_unit[None, :]
    from_start = tl.exp(tl.cumsum(log_decay, axis=0))
    to_end = tl.exp(tl.sum(terms, axis=0))
    scales = scales_ptr + slot * 3 * C + index
    tl.store(scales, k_unit * from_start)
    tl.store(scales + C, q_unit * from_start)
    tl.store(scales + 2 * C, k_unit * to_end)
    tl.store(decay_ptr + slot, tl.exp(tl.sum(log_decay, axis=0)))

    square = slot * C * C + late * C + early
    scores = tl.where(late >= early, scores * between * q_unit[:, None], 0.0)
    tl.store(scores_ptr + square, scores.to(scores_ptr.dtype.element_ty))
    beta = tl.load(beta_ptr + token * beta_stride + head, mask=there, other=0.0).to(tl.float32)
    lower = tl.where(late > early, similar * between * (beta * k_unit)[:, None], 0.0)
    solved = unit_lower_inverse(lower, C, DOUBLINGS) * beta[None, :]
    tl.store(solved_ptr + square, solved.to(solved_ptr.dtype.element_ty))


def gdn_log_decay(a: Tensor, a_log: Tensor, dt_bias: Tensor) -> Tensor:
    """As `cpu.gdn_log_decay`."""
    return _log_decay(a, a_log, dt_bias)


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, states: StateRows, spans: Spans
) -> Tensor:
    """As `cpu.gated_delta_rule`."""
    heads, key = v.shape[1], q.shape[2]
    assert q.stride(2) == k.stride(2) == log_decay.stride(1) == beta.stride(1) == 1
    chunks = SpanChunks.of(spans)
    products = Products.empty(chunks, v, channels=1)
    launch(
        _gdn_chunk_kernel,
        (heads, len(chunks)),
        q,
        k,
        log_decay,
        beta,
        chunks.starts,
        chunks.stops,
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
        beta.stride(0),
        key**-0.5,
        SHARED=heads // q.shape[1],
        K=key,
        CHANNELS=min(_CHANNELS, block(key)),
        C=CHUNK,
        DOUBLINGS=LEVELS,
        DOT=dot_type(v.dtype),
        num_warps=4,
        num_stages=1,
    )
    return walk(q, k, None, v, products, chunks, states, spans)
