"""The short convolution at the sizes of Kimi-Linear, whole and cut over two ranks, and of Qwen3.5."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.case import Case, CpuCase, Run
from prfaas_kernels.causal_conv1d import causal_conv1d, conv_reference
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows

_CHANNELS, _TAPS = 12_288, 4
_RANK_PARTS = ((2048, 4096), (6144, 8192), (10_240, 12_288))


def _states(sequences: int, channels: int, parts: tuple[tuple[int, int], ...], device: torch.device) -> StateRows:
    rows = torch.arange(sequences * (_TAPS - 1)).view(sequences, -1).to(device) * (2 * _CHANNELS)
    arena = torch.zeros(sequences * (_TAPS - 1) * 2 * _CHANNELS, dtype=torch.uint8, device=device)
    return StateRows(arena, rows, rows, parts, (channels,), torch.bfloat16)


def _conv(lens: tuple[int, ...], parts: tuple[tuple[int, int], ...], device: torch.device) -> Run:
    channels = sum(stop - start for start, stop in parts)
    x = torch.randn(sum(lens), channels, device=device, dtype=torch.bfloat16)
    weight = torch.randn(_TAPS, channels, device=device, dtype=torch.bfloat16)
    states, spans = _states(len(lens), channels, parts, device), Spans.packed(lens, (1,) * len(lens), device)
    return lambda: causal_conv1d(x, weight, states, spans)


def _dao(tokens: int, device: torch.device) -> Run:
    from causal_conv1d import causal_conv1d_fn  # type: ignore[import-not-found]  # noqa: PLC0415

    x = torch.randn(1, tokens, _CHANNELS, device=device, dtype=torch.bfloat16).transpose(1, 2)
    weight = torch.randn(_CHANNELS, _TAPS, device=device, dtype=torch.bfloat16)
    return lambda: causal_conv1d_fn(x, weight, activation="silu")


CASES = (
    Case(
        "causal_conv1d",
        "Kimi-Linear and Qwen3.5 (12,288 channels), 32K tokens",
        partial(_conv, (32_768,), ((0, _CHANNELS),)),
        bytes_moved=4 * 32_768 * _CHANNELS,
        peers={"causal-conv1d": partial(_dao, 32_768)},
    ),
    Case(
        "causal_conv1d",
        "Kimi-Linear, one of two ranks, 8 prompts of 300 to 16K tokens",
        partial(_conv, (16_384, 300, 4096, 1000, 2048, 700, 8192, 48), _RANK_PARTS),
        bytes_moved=4 * 32_768 * _CHANNELS // 2,
    ),
)


def _cpu_case() -> CpuCase:
    x, weight, before = torch.randn(512, 1024), torch.randn(_TAPS, 1024), torch.zeros(_TAPS - 1, 1024)
    rows = torch.arange(_TAPS - 1)[None] * 4096
    arena = torch.zeros((_TAPS - 1) * 4096, dtype=torch.uint8)
    states = StateRows(arena, rows, rows, ((0, 1024),), (1024,), torch.float32)
    spans = Spans.packed((512,), (0,))

    def reference() -> Tensor:
        return conv_reference(x, weight, before)[0]

    return CpuCase(
        "causal_conv1d",
        "512 x 1024, fp32",
        lambda: causal_conv1d(x, weight, states, spans),
        reference,
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
