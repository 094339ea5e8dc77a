"""Lightning attention at the sizes of MiniMax-M1: 64 heads of 128 x 128."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.lightning_attention import lightning_attention, lightning_decode, lightning_reference
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_HEADS, _SIZE = 64, 128
_STATE_BYTES = _SIZE * _SIZE * 4


def _inputs(tokens: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values as slices of one projection, and a decay for each head."""
    qkv = torch.randn(tokens, _HEADS, 3 * _SIZE, device=device, dtype=torch.bfloat16)
    q, k, v = torch.split(qkv, _SIZE, dim=2)
    return q, k, v, -(2.0 ** (-8 * torch.arange(1, _HEADS + 1) / _HEADS)).to(device)


def _states(sequences: int, heads: int, size: int, device: torch.device | str) -> StateRows:
    rows = torch.randperm(sequences * heads).view(sequences, heads) * (size * size * 4)
    arena = torch.zeros(sequences * heads * size * size * 4, dtype=torch.uint8, device=device)
    rows = rows.to(device)
    return StateRows(arena, rows, rows, ((0, size * size),), (size, size), torch.float32)


def _prefill(tokens: int, device: torch.device) -> Run:
    inputs, states = _inputs(tokens, device), _states(1, _HEADS, _SIZE, device)
    spans = Spans.packed((tokens,), (1,), device)
    return lambda: lightning_attention(*inputs, states, spans)


def _decode(sequences: int, device: torch.device) -> Run:
    inputs, states = _inputs(sequences, device), _states(sequences, _HEADS, _SIZE, device)
    return lambda: lightning_decode(*inputs, states)


def _fla(tokens: int, device: torch.device) -> Run:
    from fla.ops.lightning_attn import (  # type: ignore[import-not-found]  # noqa: PLC0415
        chunk_lightning_attn,
    )

    q, k, v, _ = (x.contiguous()[None] for x in _inputs(tokens, device))
    return lambda: chunk_lightning_attn(q, k, v, layer_idx=0, num_layers=80, output_final_state=True)


def _prefill_case(tokens: int) -> Case:
    state = 4 * _SIZE * _SIZE  # of one token: reading the state, and adding to it
    return Case(
        "lightning_attention",
        f"MiniMax-M1, {tokens // 1024}K tokens",
        partial(_prefill, tokens),
        bytes_moved=tokens * _HEADS * 4 * _SIZE * 2 + 2 * _HEADS * _STATE_BYTES,
        operations=tokens * _HEADS * state,
        peers={"fla": partial(_fla, tokens)},
    )


def _decode_case(sequences: int) -> Case:
    return Case(
        "lightning_attention",
        f"MiniMax-M1, decode, batch of {sequences}",
        partial(_decode, sequences),
        bytes_moved=sequences * _HEADS * (2 * _STATE_BYTES + 4 * _SIZE * 2),
    )


CASES = (
    _prefill_case(1024),
    _prefill_case(4096),
    _prefill_case(32_768),
    _prefill_case(131_072),
    _decode_case(1),
    _decode_case(64),
)


def _cpu_case() -> CpuCase:
    tokens, heads, size = 300, 4, 64
    q, k, v = (torch.randn(tokens, heads, size) for _ in range(3))
    decay, states = -torch.rand(heads), _states(1, heads, size, "cpu")
    spans = Spans.packed((tokens,), (0,))
    return CpuCase(
        "lightning_attention",
        "300 tokens, 4 heads of 64 x 64, fp32",
        lambda: lightning_attention(q, k, v, decay, states, spans),
        lambda: lightning_reference(q, k, v, decay, torch.zeros(heads, size, size))[0],
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
