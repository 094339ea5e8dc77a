"""Norms and gates at the sizes of a prompt of 8,192 tokens, and of a decode step."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.norm import (
    add_rms_norm,
    rms_norm,
    rms_norm_gated,
    rms_norm_gated_reference,
    rms_norm_reference,
    silu_and_mul,
    silu_and_mul_reference,
)
from prfaas_kernels.norm.cpu import Activation

_TOKENS, _EPS = 8192, 1e-6


def _weight(size: int, device: torch.device) -> Tensor:
    return torch.ones(size, device=device, dtype=torch.bfloat16)


def _randn(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, device=device, dtype=torch.bfloat16)


def _rms_norm(hidden: int, device: torch.device) -> Run:
    x, weight = _randn(device, _TOKENS, hidden), _weight(hidden, device)
    return lambda: rms_norm(x, weight, _EPS)


def _torch_rms_norm(hidden: int, device: torch.device) -> Run:
    x, weight = _randn(device, _TOKENS, hidden), _weight(hidden, device)
    return lambda: functional.rms_norm(x, weight.shape, weight, _EPS)


def _latent_norm(device: torch.device) -> Run:
    projected, weight = _randn(device, _TOKENS, 32 * 192 + 576), _weight(512, device)
    return lambda: rms_norm(projected[:, -576:][:, :512], weight, _EPS)


def _add(tokens: int, hidden: int, device: torch.device) -> Run:
    x, residual, weight = _randn(device, tokens, hidden), _randn(device, tokens, hidden), _weight(hidden, device)
    return lambda: add_rms_norm(x, residual, weight, _EPS)


def _gated(heads: int, projected: int, activation: Activation, device: torch.device) -> Run:
    """The gate is part of a projection that is `projected` wide."""
    x, weight = torch.randn(_TOKENS, heads, 128, device=device), _weight(128, device)
    gate = torch.unflatten(_randn(device, _TOKENS, projected)[:, -heads * 128 :], 1, (heads, 128))
    return lambda: rms_norm_gated(x, gate, weight, _EPS, torch.bfloat16, activation)


def _silu(inner: int, device: torch.device) -> Run:
    gate_up = _randn(device, _TOKENS, 2 * inner)
    return lambda: silu_and_mul(gate_up)


CASES = (
    Case(
        "norm",
        "rms_norm, Kimi-Linear, 8K tokens",
        partial(_rms_norm, 2304),
        4 * _TOKENS * 2304,
        peers={"torch": partial(_torch_rms_norm, 2304)},
    ),
    Case("norm", "rms_norm, latents of Kimi-Linear, 8K tokens", _latent_norm, 4 * _TOKENS * 512),
    Case("norm", "add_rms_norm, Kimi-Linear, 8K tokens", partial(_add, _TOKENS, 2304), 8 * _TOKENS * 2304),
    Case("norm", "add_rms_norm, Qwen3.5, 8K tokens", partial(_add, _TOKENS, 4096), 8 * _TOKENS * 4096),
    Case("norm", "add_rms_norm, Ring-2.5, 8K tokens", partial(_add, _TOKENS, 8192), 8 * _TOKENS * 8192),
    Case("norm", "add_rms_norm, Qwen3.5, decode of 64", partial(_add, 64, 4096), 8 * 64 * 4096),
    Case(
        "norm",
        "rms_norm_gated, Kimi-Linear, 8K tokens",
        partial(_gated, 32, 4 * 4096, "sigmoid"),
        8 * _TOKENS * 32 * 128,
    ),
    Case("norm", "rms_norm_gated, Qwen3.5, 8K tokens", partial(_gated, 64, 20608, "silu"), 8 * _TOKENS * 64 * 128),
    Case("norm", "silu_and_mul, Kimi-Linear's dense layer, 8K tokens", partial(_silu, 9216), 6 * _TOKENS * 9216),
    Case("norm", "silu_and_mul, shared expert, 8K tokens", partial(_silu, 1024), 6 * _TOKENS * 1024),
)


def _cpu_norm() -> CpuCase:
    x, weight = torch.randn(512, 2304), torch.randn(2304)
    return CpuCase(
        "norm",
        "rms_norm, 512 x 2304, fp32",
        lambda: rms_norm(x, weight, _EPS),
        lambda: rms_norm_reference(x, weight, _EPS),
        tolerance=1e-5,
    )


def _cpu_gated() -> CpuCase:
    x, gate, weight = torch.randn(512, 32, 128), torch.randn(512, 32, 128).bfloat16(), torch.randn(128)
    return CpuCase(
        "norm",
        "rms_norm_gated, 512 x 32 x 128, bf16",
        lambda: rms_norm_gated(x, gate, weight, _EPS, torch.bfloat16),
        lambda: rms_norm_gated_reference(x, gate, weight, _EPS),
        tolerance=5e-3,
    )


def _cpu_silu() -> CpuCase:
    gate_up = torch.randn(512, 2 * 1024).bfloat16()
    return CpuCase(
        "norm",
        "silu_and_mul, 512 x 1024, bf16",
        lambda: silu_and_mul(gate_up),
        lambda: silu_and_mul_reference(gate_up),
        tolerance=5e-3,
    )


CPU_CASES = (_cpu_norm(), _cpu_gated(), _cpu_silu())
