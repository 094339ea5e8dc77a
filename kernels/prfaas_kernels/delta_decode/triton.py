"""A delta rule layer's decode in Triton: the convolution by channels, then each head's state, read and written once."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.delta_decode.layer import DeltaLayer
from prfaas_kernels.delta_rule.triton_decay import softplus
from prfaas_kernels.launch import block, launch

_CHANNELS = 512  # that a program convolves, at most


# Of tables of many layers each takes its columns: where these begin must not make a kernel of its own.
@triton.jit(do_not_specialize_on_alignment=["rows_ptr"])
def _convolve_kernel(
    x_ptr,
    taps_ptr,
    cache_ptr,
    rows_ptr,
    out_ptr,
    channels,
    keys,
    q_start,
    k_start,
    v_start,
    x_stride,
    taps_stride,
    rows_stride,
    TAPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sequence = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * CHANNELS
    channel = first + tl.arange(0, CHANNELS)
    there = channel < channels
    shift = tl.where(first < keys, q_start, tl.where(first < 2 * keys, k_start - keys, v_start - 2 * keys))
    size: tl.constexpr = cache_ptr.dtype.element_ty.primitive_bitwidth // 8
    row = rows_ptr + sequence * rows_stride
    total = tl.zeros((CHANNELS,), dtype=tl.float32)
    window = ()
    for tap in tl.static_range(TAPS - 1):
        cached = cache_ptr + tl.multiple_of(tl.load(row + tap) // size, 16) + shift + channel
        window += (tl.load(cached, mask=there, other=0.0),)  # type: ignore[assignment]
    window += (tl.load(x_ptr + sequence * x_stride + channel, mask=there, other=0.0),)  # type: ignore[assignment]
    for tap in tl.static_range(TAPS):
        weight = tl.load(taps_ptr + tap * taps_stride + channel, mask=there, other=0.0)
        total += window[tap].to(tl.float32) * weight.to(tl.float32)
    # Stores come last: among the loads, each would hold up the next until what it stores has arrived. And some threads
    # may load what others store: all have what they need before one of them writes.
    tl.debug_barrier()
    for tap in tl.static_range(TAPS - 1):
        cached = cache_ptr + tl.multiple_of(tl.load(row + tap) // size, 16) + shift + channel
        tl.store(cached, window[tap + 1], mask=there)
    tl.store(out_ptr + sequence * channels + channel, total / (1.0 + tl.exp(-total)), mask=there)


@triton.jit(do_not_specialize_on_alignment=["rows_ptr"])
def _step_kernel(
    mixed_ptr,
    gate_ptr,
    decay_ptr,
    beta_ptr,
    a_log_ptr,
    dt_bias_ptr,
    norm_ptr,
    arena_ptr,
    rows_ptr,
    out_ptr,
    channels,
    keys,
    gate_stride,
    decay_stride,
    beta_stride,
    rows_stride,
    scale,
    eps,
    SHARED: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    BY_CHANNEL: tl.constexpr,
    SILU: tl.constexpr,
):
    head = tl.program_id(0)
    heads = tl.num_programs(0)
    sequence = tl.program_id(1).to(tl.int64)
    key = tl.arange(0, KEYS)
    value = tl.arange(0, VALUES)
    in_key = key < K
    in_value = value < V

    row = tl.multiple_of(tl.load(rows_ptr + sequence * rows_stride + head) // 4, 16)
    cell = arena_ptr + row + key[:, None] * V + value[None, :]
    within = in_key[:, None] & in_value[None, :]
    state = tl.load(cell, mask=within, other=0.0)

    mixed = mixed_ptr + sequence * channels
    q = tl.load(mixed + head // SHARED * K + key, mask=in_key, other=0.0)
    k = tl.load(mixed + keys + head // SHARED * K + key, mask=in_key, other=0.0)
    v = tl.load(mixed + 2 * keys + head * V + value, mask=in_value, other=0.0)
    q *= scale * tl.rsqrt(tl.sum(q * q, axis=0) + 1e-6)
    k *= tl.rsqrt(tl.sum(k * k, axis=0) + 1e-6)
    rate = tl.exp(tl.load(a_log_ptr + head))
    if BY_CHANNEL:
        bias = tl.load(dt_bias_ptr + head * K + key, mask=in_key, other=0.0)
        raw = tl.load(decay_ptr + sequence * decay_stride + head * K + key, mask=in_key, other=0.0).to(tl.float32)
        state *= tl.exp(-rate * softplus(raw + bias))[:, None]
    else:
        raw = tl.load(decay_ptr + sequence * decay_stride + head).to(tl.float32)
        state *= tl.exp(-rate * softplus(raw + tl.load(dt_bias_ptr + head)))
    beta = tl.sigmoid(tl.load(beta_ptr + sequence * beta_stride + head).to(tl.float32))

    # Recalled and read from the same state, so that the two sums do not wait for each other.
    recalled = tl.sum(state * k[:, None], axis=0)
    out = tl.sum(state * q[:, None], axis=0)
    written = beta * (v - recalled)
    out += tl.sum(q * k, axis=0) * written
    tl.store(cell, state + k[:, None] * written[None, :], mask=within)

    gate = tl.load(gate_ptr + sequence * gate_stride + head * V + value, mask=in_value, other=0.0).to(tl.float32)
    weight = tl.load(norm_ptr + value, mask=in_value, other=0.0).to(tl.float32)
    opened = tl.sigmoid(gate)
    if SILU:
        opened *= gate
    normed = out * tl.rsqrt(tl.sum(out * out, axis=0) / V + eps) * weight
    target = out_ptr + (sequence * heads + head) * V + value
    tl.store(target, (normed * opened).to(out_ptr.dtype.element_ty), mask=in_value)


def delta_decode(
    qkv: Tensor,
    gate: Tensor,
    decay: Tensor,
    beta: Tensor,
    layer: DeltaLayer,
    arena: Tensor,
    state_rows: Tensor,
    conv_rows: Tensor,
) -> Tensor:
    """As `cpu.delta_decode`."""
    assert all(x.stride(1) == 1 for x in (qkv, gate, decay, beta, layer.conv, state_rows, conv_rows) if x.shape[1] > 1)
    mixed = _convolve(qkv, layer, arena, conv_rows)
    batch, keys = qkv.shape[0], layer.key_heads * layer.key
    out = torch.empty(batch, layer.heads * layer.value, dtype=qkv.dtype, device=qkv.device)
    launch(
        _step_kernel,
        (layer.heads, batch),
        mixed,
        gate,
        decay,
        beta,
        layer.a_log,
        layer.dt_bias,
        layer.norm,
        arena.view(torch.float32),
        state_rows,
        out,
        mixed.shape[1],
        keys,
        gate.stride(0),
        decay.stride(0),
        beta.stride(0),
        state_rows.stride(0),
        layer.key**-0.5,
        layer.eps,
        SHARED=layer.heads // layer.key_heads,
        K=layer.key,
        V=layer.value,
        KEYS=block(layer.key),
        VALUES=block(layer.value),
        BY_CHANNEL=layer.by_channel,
        SILU=layer.activation == "silu",
        num_warps=_warps(block(layer.key) * block(layer.value)),
        num_stages=1,
    )
    return out


def _convolve(qkv: Tensor, layer: DeltaLayer, arena: Tensor, conv_rows: Tensor) -> Tensor:
    """[B, C] fp32 after convolution and SiLU; the inputs join those cached."""
    batch, channels = qkv.shape
    keys = layer.key_heads * layer.key
    together = math.gcd(keys, _CHANNELS)  # no program has channels of two of q, k and v
    out = torch.empty(batch, channels, dtype=torch.float32, device=qkv.device)
    launch(
        _convolve_kernel,
        (triton.cdiv(channels, together), batch),
        qkv,
        layer.conv,
        arena.view(qkv.dtype),
        conv_rows,
        out,
        channels,
        keys,
        *layer.conv_starts,
        qkv.stride(0),
        layer.conv.stride(0),
        conv_rows.stride(0),
        TAPS=layer.conv.shape[0],
        CHANNELS=together,
    )
    return out


def _warps(elements: int) -> int:
    """Of a program that holds a state: 128 elements a thread, so that two programs' registers fit a processor."""
    return min(16, max(1, elements // 4096))
