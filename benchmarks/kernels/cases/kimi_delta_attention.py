"""Kimi Delta Attention at the sizes of Kimi-Linear: prompts of 4K to 128K tokens, and many short ones."""

from functools import partial
from importlib import import_module

import torch

from benchmarks.kernels.case import Asked, Case, CpuCase, Make, Run
from benchmarks.kernels.delta_rule_inputs import (
    BATCHES,
    KIMI_LINEAR,
    Model,
    Prompts,
    bytes_moved,
    for_fla,
    operations,
)
from prfaas_kernels.kimi_delta_attention import kda_log_decay, kda_reference, kimi_delta_attention

_TOKENS = 8192


def _prefill(model: Model, lens: tuple[int, ...], device: torch.device) -> Run:
    x = Prompts.of(model, lens, device)
    return lambda: kimi_delta_attention(x.q, x.k, x.v, x.log_decay, x.beta, x.states, x.spans)


def _fla(model: Model, lens: tuple[int, ...], device: torch.device) -> Run:
    rule = import_module("fla.ops.kda").chunk_kda
    inputs, options = for_fla(model, lens, device)
    return lambda: rule(*inputs, **options)


def _case(model: Model, name: str) -> Case:
    lens = BATCHES[name]
    peers: dict[str, Make] = {"fla": partial(_fla, model, lens)}
    return Case(
        "kimi_delta_attention",
        f"{model.name}, {name}",
        partial(_prefill, model, lens),
        bytes_moved(model, lens),
        operations(model, lens),
        peers,
        asked=Asked(1.0, of="fla"),
    )


def _log_decay(model: Model, device: torch.device) -> Run:
    x = torch.randn(_TOKENS, model.decays, device=device, dtype=torch.bfloat16)
    a_log, dt_bias = torch.randn(model.heads, device=device), torch.randn(model.decays, device=device)
    return lambda: kda_log_decay(x, a_log, dt_bias)


CASES = (
    *(_case(KIMI_LINEAR, name) for name in BATCHES),
    Case(
        "kimi_delta_attention",
        "log decays, Kimi-Linear, 8K tokens",
        partial(_log_decay, KIMI_LINEAR),
        6 * _TOKENS * KIMI_LINEAR.decays,
        asked=Asked(0.80),
    ),
)


def _cpu_case() -> CpuCase:
    model = Model("", 4, 4, by_channel=True, size=64)
    x = Prompts.of(model, (512,), torch.device("cpu"), torch.float32, context=0)
    state = torch.zeros(4, 64, 64)
    return CpuCase(
        "kimi_delta_attention",
        "512 tokens, 4 heads of 64, fp32",
        lambda: kimi_delta_attention(x.q, x.k, x.v, x.log_decay, x.beta, x.states, x.spans),
        lambda: kda_reference(x.q, x.k, x.v, x.log_decay, x.beta, state)[0],
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
