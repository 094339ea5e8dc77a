"""Attention of prompts, and of a chunk of one, in the sizes of the models with full attention."""

from functools import partial
from typing import Any

import torch

from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from benchmarks.kernels.sdpa import sdpa_peers
from prfaas_kernels.chunked_prefill_attention import chunked_prefill_attention
from prfaas_kernels.chunked_prefill_attention.reference import chunked_prefill_attention_reference
from prfaas_kernels.spans import Spans

_PAGE = 64
_ASKED = Asked(0.85, of="SDPA")


def _attention(
    tokens: int, context: int, heads: int, groups: int, key: int, value: int, gated: bool, device: torch.device
) -> Run:
    new: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    pages = (context + tokens) // _PAGE
    q = torch.randn(tokens, heads, key, **new)
    k_pages, v_pages = (torch.randn(pages, _PAGE, groups, size, **new) for size in (key, value))
    table = torch.randperm(pages)[None].to(device)
    gate = torch.randn(tokens, heads, value, **new) if gated else None
    spans = Spans.packed((tokens,), (context,), device)
    return lambda: chunked_prefill_attention(q, k_pages, v_pages, table, spans, key**-0.5, gate=gate)


def _count(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)


def _case(
    model: str, tokens: int, heads: int, groups: int, key: int, value: int, *, context: int = 0, gated: bool = False
) -> Case:
    length = context + tokens
    seen = tokens * context + tokens * (tokens + 1) // 2  # keys, added up over queries
    queries = tokens * heads * (key + value * (2 if gated else 1))
    whole = {} if context else sdpa_peers(tokens, heads, groups, key, value)
    return Case(
        "chunked_prefill_attention",
        f"{model}, {_count(tokens)} tokens" + (f" after {_count(context)}" if context else ""),
        partial(_attention, tokens, context, heads, groups, key, value, gated),
        2 * (queries + length * groups * (key + value)) + 4 * tokens * heads,
        operations=2 * seen * heads * (key + value),
        peers=whole,
        asked=_ASKED if whole else None,
    )


_8K, _128K = 8 << 10, 128 << 10

CASES = (
    _case("Qwen3-235B", _8K, 64, 4, 128, 128),
    _case("Qwen3-235B, a rank of 4", _128K, 16, 1, 128, 128),
    _case("Qwen3-235B", _8K, 64, 4, 128, 128, context=_128K - _8K),
    _case("Qwen3-Next", _8K, 16, 2, 256, 256, gated=True),
    _case("Qwen3-Next", _128K, 16, 2, 256, 256, gated=True),
    _case("Qwen3-Next", 128, 16, 2, 256, 256, context=_128K, gated=True),
    _case("Qwen3.5-397B", _8K, 32, 2, 256, 256, gated=True),
    _case("MiMo, full attention", _8K, 64, 4, 192, 128),
)


def _cpu_case() -> CpuCase:
    tokens, context, heads, groups, size = 256, 700, 8, 2, 64
    length = context + tokens
    q, k, v = (torch.randn(n, h, size) for n, h in ((tokens, heads), (length, groups), (length, groups)))
    table = torch.randperm(-(-length // _PAGE))[None]
    k_pages, v_pages = (torch.zeros(table.shape[1], _PAGE, groups, size) for _ in range(2))
    for pages, x in ((k_pages, k), (v_pages, v)):
        for page, part in zip(table[0].tolist(), torch.split(x, _PAGE), strict=True):
            pages[page, : len(part)] = part
    spans, scale = Spans.packed((tokens,), (context,)), size**-0.5
    return CpuCase(
        "chunked_prefill_attention",
        "256 tokens after 700, 8 heads of 64, fp32",
        lambda: chunked_prefill_attention(q, k_pages, v_pages, table, spans, scale)[0],
        lambda: chunked_prefill_attention_reference(q, k, v, scale)[0],
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
