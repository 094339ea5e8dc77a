"""Norms at the sizes of a prompt of 8,192 tokens."""

import torch

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.norm import rms_norm, rms_norm_reference

_TOKENS, _HIDDEN = 8192, 2304


def _rms_norm(device: torch.device) -> Run:
    x = torch.randn(_TOKENS, _HIDDEN, device=device, dtype=torch.bfloat16)
    weight = torch.ones(_HIDDEN, device=device, dtype=torch.bfloat16)
    return lambda: rms_norm(x, weight, 1e-6)


CASES = (Case("norm", "rms_norm, Kimi-Linear, 8K tokens", _rms_norm, 4 * _TOKENS * _HIDDEN),)


def _cpu_case() -> CpuCase:
    x, weight = torch.randn(512, _HIDDEN), torch.randn(_HIDDEN)
    return CpuCase(
        "norm",
        "rms_norm, 512 x 2304, fp32",
        lambda: rms_norm(x, weight, 1e-6),
        lambda: rms_norm_reference(x, weight, 1e-6),
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
