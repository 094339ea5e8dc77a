"""Decode steps of the delta rule layers of Kimi-Linear, Qwen3-Next and Qwen3.5, of 1 to 128 sequences."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.case import Asked, Case, CpuCase, Run
from benchmarks.kernels.delta_rule_inputs import KIMI_LINEAR, QWEN3_5, QWEN3_NEXT, Model
from prfaas_kernels.delta_decode import DeltaLayer, delta_decode
from prfaas_kernels.delta_decode.reference import delta_decode_reference
from prfaas_kernels.pages import gather_rows

_TAPS = 4


def _layer(model: Model, device: torch.device, dtype: torch.dtype) -> DeltaLayer:
    q, k, v = model.widths
    return DeltaLayer(
        key_heads=model.key_heads,
        key=model.size,
        heads=model.heads,
        value=model.size,
        conv=torch.randn(_TAPS, q + k + v, device=device, dtype=dtype),
        conv_starts=(0, q, q + k),
        a_log=torch.randn(model.heads, device=device),
        dt_bias=torch.randn(model.decays, device=device),
        norm=torch.ones(model.size, device=device, dtype=dtype),
        eps=1e-6,
        activation="sigmoid" if model.by_channel else "silu",
    )


def _projected(model: Model, batch: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """What is convolved, the gate, decays and write strengths: slices of one row."""
    widths = [sum(model.widths), model.heads * model.size, model.decays, model.heads]
    return list(torch.split(torch.randn(batch, sum(widths), device=device, dtype=dtype), widths, dim=1))


def _rows(model: Model, batch: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """An arena of zeros, and where states and cached inputs lie in it."""
    state, conv = 4 * model.size**2, sum(model.widths) * dtype.itemsize
    states = torch.arange(batch * model.heads).view(batch, -1) * state
    convs = batch * model.state_bytes + torch.arange(batch * (_TAPS - 1)).view(batch, -1) * conv
    num_bytes = batch * (model.state_bytes + (_TAPS - 1) * conv)
    return torch.zeros(num_bytes, dtype=torch.uint8, device=device), states.to(device), convs.to(device)


def _step(model: Model, batch: int, device: torch.device) -> Run:
    layer = _layer(model, device, torch.bfloat16)
    qkv, gate, decay, beta = _projected(model, batch, device, torch.bfloat16)
    arena, states, convs = _rows(model, batch, device, torch.bfloat16)
    return lambda: delta_decode(qkv, gate, decay, beta, layer, arena, states, convs)


def _bytes(model: Model, batch: int) -> int:
    """States read and written; cached inputs read and moved on; rows in and out; taps."""
    channels, out = sum(model.widths), model.heads * model.size
    rows = 2 * (channels + 2 * out + model.decays + model.heads) + 2 * 2 * (_TAPS - 1) * channels
    return batch * (2 * model.state_bytes + rows) + 2 * _TAPS * channels


CASES = tuple(
    Case(
        "delta_decode",
        f"{model.name}, {batch} sequences",
        partial(_step, model, batch),
        _bytes(model, batch),
        asked=Asked(0.80) if batch == 128 else None,
    )
    for model in (KIMI_LINEAR, QWEN3_NEXT, QWEN3_5)
    for batch in (1, 32, 128)
)


def _cpu_case() -> CpuCase:
    model, batch, device = Model("", 2, 4, by_channel=False, size=64), 4, torch.device("cpu")
    layer = _layer(model, device, torch.float32)
    qkv, gate, decay, beta = _projected(model, batch, device, torch.float32)
    arena, states, convs = _rows(model, batch, device, torch.float32)
    before = torch.unflatten(gather_rows(arena, states, model.size**2, torch.float32), -1, (model.size, model.size))
    inputs = gather_rows(arena, convs, sum(model.widths), torch.float32)

    def run() -> Tensor:
        arena.zero_()
        return delta_decode(qkv, gate, decay, beta, layer, arena, states, convs)

    return CpuCase(
        "delta_decode",
        "4 sequences, 2 and 4 heads of 64, fp32",
        run,
        lambda: delta_decode_reference(qkv, gate, decay, beta, layer, before, inputs)[0],
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
