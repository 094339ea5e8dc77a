"""Latent attention of prompts, and of a short chunk, in the sizes of Kimi-Linear."""

from functools import partial
from typing import Any

import torch

from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from benchmarks.kernels.sdpa import sdpa_peers
from prfaas_kernels.mla import mla_prefill, mla_reference
from prfaas_kernels.spans import Spans

_PAGE, _HEADS, _NOPE, _ROPE, _VALUE, _RANK = 64, 32, 128, 64, 128, 512


def _mla(tokens: int, context: int, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Run:
    new: dict[str, Any] = {"device": device, "dtype": dtype}
    count = (context + tokens) // _PAGE
    q = torch.randn(tokens, _HEADS, _NOPE + _ROPE, **new)
    pages = torch.randn(count, _PAGE, _RANK + _ROPE, **new)
    kv_up = torch.randn(_HEADS, _NOPE + _VALUE, _RANK, **new) * _RANK**-0.5
    table, spans = torch.randperm(count)[None].to(device), Spans.packed((tokens,), (context,), device)
    return lambda: mla_prefill(q, pages, table, spans, kv_up, _ROPE)


def _bytes(tokens: int, length: int) -> int:
    weights = _HEADS * (_NOPE + _VALUE) * _RANK
    return 2 * (tokens * _HEADS * (_NOPE + _ROPE + _VALUE) + length * (_RANK + _ROPE) + weights)


def _whole(tokens: int) -> Case:
    """A prompt: its keys and values are expanded once."""
    expanding = 2 * tokens * _HEADS * (_NOPE + _VALUE) * _RANK
    return Case(
        "mla",
        f"prefill, Kimi-Linear, {tokens // 1024}K tokens",
        partial(_mla, tokens, 0),
        _bytes(tokens, tokens),
        operations=expanding + tokens * (tokens + 1) * _HEADS * (_NOPE + _ROPE + _VALUE),
        # Their keys and values come expanded.
        peers=sdpa_peers(tokens, _HEADS, _HEADS, _NOPE + _ROPE, _VALUE, ("flash",)),
        asked=Asked(0.85, of="SDPA"),
    )


def _short(tokens: int, context: int) -> Case:
    """A chunk so short that it is attended to in latent space."""
    absorbing = 2 * tokens * _HEADS * (_NOPE + _VALUE) * _RANK
    return Case(
        "mla",
        f"prefill, Kimi-Linear, {tokens} tokens after {context // 1024}K",
        partial(_mla, tokens, context),
        _bytes(tokens, context + tokens),
        operations=absorbing + 2 * tokens * (context + tokens // 2) * _HEADS * (2 * _RANK + _ROPE),
    )


_IN_FP32 = Case(
    "mla",
    "prefill, Kimi-Linear, 64 tokens after 32K, fp32",
    partial(_mla, 64, 32 << 10, dtype=torch.float32),
    bytes_moved=0,
    timed=False,
)
"""The kernel that needs most shared memory."""

CASES = (_whole(8 << 10), _whole(128 << 10), _short(64, 32 << 10), _IN_FP32)


def _cpu_case() -> CpuCase:
    tokens, context, heads, nope, rope, rank = 192, 320, 4, 32, 16, 64
    q, latents = torch.randn(tokens, heads, nope + rope), torch.randn(context + tokens, rank + rope)
    kv_up = torch.randn(heads, 2 * nope, rank) / rank**0.5
    pages, table = latents.view(-1, _PAGE, rank + rope), torch.arange(8)[None]
    spans = Spans.packed((tokens,), (context,))
    return CpuCase(
        "mla",
        "prefill, 192 tokens after 320, fp32",
        lambda: mla_prefill(q, pages, table, spans, kv_up, rope),
        lambda: mla_reference(q, latents, kv_up, rope),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
