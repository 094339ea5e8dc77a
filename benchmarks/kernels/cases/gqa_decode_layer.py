"""An attention layer's decode between its projections: norms, rotation, the cache, attention."""

import torch

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.gqa_decode_layer import GqaHeads, gqa_decode_layer

_PAGE = 64


def _heads(
    heads: int, groups: int, key: int, value: int, device: torch.device, dtype: torch.dtype, norms: bool, gated: bool
) -> GqaHeads:
    q_norm, k_norm = (torch.ones(key, device=device, dtype=dtype) if norms else None for _ in range(2))
    return GqaHeads(heads, groups, key, value, key**-0.5, q_norm, k_norm, 1e-6, False, None, gated)


def _run(layer: GqaHeads, sequences: int, tokens: int, rotated: int, device: torch.device, dtype: torch.dtype) -> Run:
    each = -(-tokens // _PAGE)
    pages, groups = sequences * each, layer.groups
    rows = torch.randn(sequences, sum(layer.widths), device=device, dtype=dtype)
    k_pages, v_pages = (
        torch.randn(pages, _PAGE, groups, size, device=device, dtype=dtype) for size in (layer.key, layer.value)
    )
    table = torch.randperm(pages).view(sequences, each).to(device)
    lengths = torch.full((sequences,), tokens).to(device)
    turns = torch.randn(sequences, rotated // 2, device=device)
    angles = (turns.cos(), turns.sin())
    return lambda: gqa_decode_layer(rows, layer, angles, k_pages, v_pages, table, lengths)


_SIZES = {  # heads, key heads, channels of keys and of values, rotated ones, norms, gate
    "Qwen3-235B": (64, 4, 128, 128, 128, True, False),
    "Qwen3.5": (32, 2, 256, 256, 64, True, True),
    "MiMo-V2-Flash": (64, 4, 192, 128, 64, False, False),
}


def _case(model: str, sequences: int, tokens: int) -> Case:
    heads, groups, key, value, rotated, norms, gated = _SIZES[model]

    def make(device: torch.device) -> Run:
        layer = _heads(heads, groups, key, value, device, torch.bfloat16, norms, gated)
        return _run(layer, sequences, tokens, rotated, device, torch.bfloat16)

    per_query = heads * (key + value * (2 if gated else 1)) + 2 * groups * (key + value)
    return Case(
        "gqa_decode_layer",
        f"decode layer, {model}, {sequences} x {tokens // 1024}K",
        make,
        2 * sequences * (tokens * groups * (key + value) + per_query),
        2 * sequences * tokens * heads * (key + value),
    )


CASES = tuple(_case(model, 32, 8192) for model in _SIZES)


def _cpu_case() -> CpuCase:
    cpu, tokens = torch.device("cpu"), 500
    layer = _heads(8, 2, 64, 64, cpu, torch.float32, norms=False, gated=False)
    rows = torch.randn(1, sum(layer.widths))
    k_pages, v_pages = (torch.randn(8, _PAGE, 2, 64) for _ in range(2))
    table, lengths = torch.arange(8)[None], torch.full((1,), tokens)
    q, k, v, _ = torch.split(rows, layer.widths, dim=-1)
    keys, values = (
        torch.cat([pages.flatten(0, 1)[: tokens - 1], new.view(1, 2, 64)])
        for pages, new in ((k_pages, k), (v_pages, v))
    )
    return CpuCase(
        "gqa_decode_layer",
        "decode layer, 500 tokens, 8 / 2 heads, fp32",
        lambda: gqa_decode_layer(rows, layer, None, k_pages, v_pages, table, lengths),
        lambda: gqa_reference(q.view(1, 8, 64), keys, values, layer.scale).flatten(1),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
