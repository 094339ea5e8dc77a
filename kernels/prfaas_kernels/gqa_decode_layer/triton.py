"""An attention layer's decode between its projections in Triton: heads are put in place, then attention over pages."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.gqa_decode_layer.layer import GqaHeads
from prfaas_kernels.launch import block, launch
from prfaas_kernels.paged_decode_attention.triton import paged_decode_attention

Angles = tuple[Tensor, Tensor]


@triton.jit
def _placed(
    x_ptr,
    norm_ptr,
    cos_ptr,
    sin_ptr,
    eps,
    half,
    channel,
    SIZE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """One head, normalised and rotated, in fp32."""
    known, turned = channel < SIZE, channel < 2 * half
    if INTERLEAVED:
        first, other, angle = channel % 2 == 0, channel ^ 1, channel // 2
    else:
        first = channel < half
        angle = tl.where(first, channel, channel - half)
        other = tl.where(first, channel + half, angle)
    x = tl.load(x_ptr + channel, mask=known, other=0.0).to(tl.float32)
    pair = tl.load(x_ptr + other, mask=turned, other=0.0).to(tl.float32)
    if norm_ptr is not None:
        inverse = tl.rsqrt(tl.sum(x * x, axis=0) / SIZE + eps)
        x *= inverse * tl.load(norm_ptr + channel, mask=known, other=0.0).to(tl.float32)
        pair *= inverse * tl.load(norm_ptr + other, mask=turned, other=0.0).to(tl.float32)
    if cos_ptr is not None:
        cos = tl.load(cos_ptr + angle, mask=turned, other=1.0)
        sin = tl.load(sin_ptr + angle, mask=turned, other=0.0)
        x = x * cos + tl.where(first, -pair, pair) * sin
    return x


@triton.jit(do_not_specialize=["table_ptr", "table_stride"])
def _place_kernel(
    rows_ptr,
    q_norm_ptr,
    k_norm_ptr,
    cos_ptr,
    sin_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    lengths_ptr,
    eps,
    half,
    page_tokens,
    row_stride,
    k_page_stride,
    k_token_stride,
    k_head_stride,
    v_page_stride,
    v_token_stride,
    v_head_stride,
    table_stride,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    KEY_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    head, token = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, value = tl.arange(0, KEY), tl.arange(0, VALUE)
    x_ptr = rows_ptr + token * row_stride + head * KEY_SIZE
    if cos_ptr is not None:
        cos_ptr += token * half
        sin_ptr += token * half
    if head < HEADS:
        q = _placed(x_ptr, q_norm_ptr, cos_ptr, sin_ptr, eps, half, channel, KEY_SIZE, INTERLEAVED)
        q_ptr += (token * HEADS + head) * KEY_SIZE
        tl.store(q_ptr + channel, q.to(q_ptr.dtype.element_ty), mask=channel < KEY_SIZE)
        return

    place = tl.load(lengths_ptr + token) - 1
    page, slot = tl.load(table_ptr + token * table_stride + place // page_tokens), place % page_tokens
    if head < HEADS + GROUPS:
        k = _placed(x_ptr, k_norm_ptr, cos_ptr, sin_ptr, eps, half, channel, KEY_SIZE, INTERLEAVED)
        k_ptr += page * k_page_stride + slot * k_token_stride + (head - HEADS) * k_head_stride
        tl.store(k_ptr + channel, k.to(k_ptr.dtype.element_ty), mask=channel < KEY_SIZE)
    else:
        group = head - HEADS - GROUPS
        x_ptr = rows_ptr + token * row_stride + (HEADS + GROUPS) * KEY_SIZE + group * VALUE_SIZE
        v = tl.load(x_ptr + value, mask=value < VALUE_SIZE)
        v_ptr += page * v_page_stride + slot * v_token_stride + group * v_head_stride
        tl.store(v_ptr + value, v, mask=value < VALUE_SIZE)


def gqa_decode_layer(
    rows: Tensor,
    layer: GqaHeads,
    angles: Angles | None,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
) -> Tensor:
    """As `decode_layer.gqa_decode_layer`."""
    sequences, page_tokens = rows.shape[0], k_pages.shape[1]
    cos, sin = angles or (None, None)
    assert all(x.stride(-1) == 1 for x in (rows, k_pages, v_pages, block_table, lengths))
    assert cos is None or sin is None or (cos.is_contiguous() and sin.is_contiguous())
    q = torch.empty(sequences, layer.heads, layer.key, dtype=rows.dtype, device=rows.device)
    launch(
        _place_kernel,
        (layer.heads + 2 * layer.groups, sequences),
        rows,
        layer.q_norm,
        layer.k_norm,
        cos,
        sin,
        q,
        k_pages,
        v_pages,
        block_table,
        lengths,
        layer.eps,
        0 if cos is None else cos.shape[1],
        page_tokens,
        rows.stride(0),
        *k_pages.stride()[:3],
        *v_pages.stride()[:3],
        block_table.stride(0),
        num_warps=1,
        num_stages=1,
        HEADS=layer.heads,
        GROUPS=layer.groups,
        KEY_SIZE=layer.key,
        VALUE_SIZE=layer.value,
        KEY=block(layer.key),
        VALUE=block(layer.value),
        INTERLEAVED=layer.interleaved,
    )
    gate = torch.unflatten(rows[:, -layer.widths[-1] :], -1, (layer.heads, layer.value)) if layer.gated else None
    where = (k_pages, v_pages, block_table, lengths)
    return paged_decode_attention(q, *where, layer.scale, sinks=layer.sinks, gate=gate).flatten(1)
