"""The gated delta rule at the sizes of Qwen3-Next and Qwen3.5: prompts of 4K to 128K tokens, and many short ones."""

from functools import partial
from importlib import import_module

import torch

from benchmarks.kernels.case import Asked, Case, CpuCase, Make, Run
from benchmarks.kernels.delta_rule_inputs import (
    BATCHES,
    QWEN3_5,
    QWEN3_NEXT,
    Model,
    Prompts,
    bytes_moved,
    for_fla,
    operations,
)
from prfaas_kernels.gated_delta_rule import gated_delta_rule, gdn_log_decay, gdn_reference

_TOKENS = 8192


def _prefill(model: Model, lens: tuple[int, ...], device: torch.device) -> Run:
    x = Prompts.of(model, lens, device)
    return lambda: gated_delta_rule(x.q, x.k, x.v, x.log_decay, x.beta, x.states, x.spans)


def _fla(model: Model, lens: tuple[int, ...], device: torch.device) -> Run:
    rule = import_module("fla.ops.gated_delta_rule").chunk_gated_delta_rule
    inputs, options = for_fla(model, lens, device)

    def run() -> object:
        out, state = rule(*inputs, **options)
        # Before 0.5 it wants a key head for each value head, and without them leaves out the heads that have none.
        assert state.shape == options["initial_state"].shape, "flash-linear-attention is older than 0.5"
        return out

    return run


def _case(model: Model, name: str) -> Case:
    lens = BATCHES[name]
    peers: dict[str, Make] = {"fla": partial(_fla, model, lens)}
    return Case(
        "gated_delta_rule",
        f"{model.name}, {name}",
        partial(_prefill, model, lens),
        bytes_moved(model, lens),
        operations(model, lens),
        peers,
        asked=Asked(1.0, of="fla"),
    )


def _log_decay(model: Model, device: torch.device) -> Run:
    a = torch.randn(_TOKENS, model.heads, device=device, dtype=torch.bfloat16)
    a_log, dt_bias = torch.randn(2, model.heads, device=device)
    return lambda: gdn_log_decay(a, a_log, dt_bias)


CASES = (
    *(_case(model, name) for model in (QWEN3_NEXT, QWEN3_5) for name in BATCHES),
    Case("gated_delta_rule", "log decays, Qwen3-Next, 8K tokens", partial(_log_decay, QWEN3_NEXT), 6 * _TOKENS * 32),
)


def _cpu_case() -> CpuCase:
    model = Model("", 2, 4, by_channel=False, size=64)
    x = Prompts.of(model, (512,), torch.device("cpu"), torch.float32, context=0)
    state = torch.zeros(4, 64, 64)
    return CpuCase(
        "gated_delta_rule",
        "512 tokens, 2 and 4 heads of 64, fp32",
        lambda: gated_delta_rule(x.q, x.k, x.v, x.log_decay, x.beta, x.states, x.spans),
        lambda: gdn_reference(x.q, x.k, x.v, x.log_decay, x.beta, state)[0],
        tolerance=1e-5,
    )


CPU_CASES = (_cpu_case(),)
