"""Rotary embedding of queries and keys at the sizes of a prompt of 8,192 tokens."""

from functools import partial

import torch

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.rotary import apply_rotary, rotary_cos_sin, rotary_inverse_frequencies, rotary_reference

_TOKENS, _THETA = 8192, 1e7


def _rotary(width: int, heads: int, size: int, rotary_dim: int, interleaved: bool, device: torch.device) -> Run:
    """Turns the first heads of a projection `width` wide."""
    projected = torch.randn(_TOKENS, width, device=device, dtype=torch.bfloat16)
    x = torch.unflatten(projected[:, : heads * size], 1, (heads, size))
    cos, sin = torch.randn(2, _TOKENS, rotary_dim // 2, device=device)
    return lambda: apply_rotary(x, cos, sin, interleaved=interleaved)


def _tails(width: int, heads: int, size: int, rope: int, device: torch.device) -> Run:
    """Turns all of the last `rope` channels of each head."""
    projected = torch.randn(_TOKENS, width, device=device, dtype=torch.bfloat16)
    x = torch.unflatten(projected[:, : heads * size], 1, (heads, size))[..., -rope:]
    cos, sin = torch.randn(2, _TOKENS, rope // 2, device=device)
    return lambda: apply_rotary(x, cos, sin, interleaved=True)


def _moved(heads: int, size: int, rotary_dim: int) -> int:
    return _TOKENS * (4 * heads * size + 4 * rotary_dim)


CASES = (
    Case(
        "rotary",
        "Qwen3.5, 32 query heads of 256, 8K tokens",
        partial(_rotary, 17408, 32, 256, 64, False),
        _moved(32, 256, 64),
    ),
    Case(
        "rotary",
        "MiMo, 64 query heads of 192, 8K tokens",
        partial(_rotary, 13568, 64, 192, 64, False),
        _moved(64, 192, 64),
    ),
    Case(
        "rotary",
        "Qwen3-235B, 64 query heads of 128, 8K tokens",
        partial(_rotary, 9216, 64, 128, 128, False),
        _moved(64, 128, 128),
    ),
    Case("rotary", "Ring-2.5, 64 tails of 64, 8K tokens", partial(_tails, 12288, 64, 192, 64), _moved(64, 64, 64)),
    Case(
        "rotary",
        "Ring-2.5, half of 64 heads of 128, 8K tokens",
        partial(_rotary, 32768, 64, 128, 64, True),
        _moved(64, 128, 64),
    ),
)


def _cpu_case(interleaved: bool) -> CpuCase:
    x, positions = torch.randn(512, 8, 128), torch.arange(512)
    table = rotary_cos_sin(positions, rotary_inverse_frequencies(64, _THETA))
    return CpuCase(
        "rotary",
        f"512 x 8 x 128, half turned, fp32{', interleaved' if interleaved else ''}",
        lambda: apply_rotary(x, *table, interleaved=interleaved),
        lambda: rotary_reference(x, positions, 64, _THETA, interleaved),
        tolerance=5e-5,
    )


CPU_CASES = (_cpu_case(False), _cpu_case(True))
