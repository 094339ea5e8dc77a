"""Router and experts at the sizes of decode steps and of a prompt of 8,192 tokens."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.case import Case, CpuCase, Make, Run
from prfaas_kernels.moe import Routing, apply_experts, apply_experts_reference, route, route_reference


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    hidden: int
    inner: int
    experts: int
    routing: Routing
    biased: bool = True


_KIMI = _Model("Kimi-Linear", 2304, 1024, 256, Routing(8, 1, 1, renormalize=True, scaling=2.446))
_QWEN = _Model("Qwen3.5", 4096, 1024, 512, Routing(10, 1, 1, renormalize=True, scaling=1.0, score="softmax"), False)
_MIMO = _Model("MiMo", 4096, 2048, 256, Routing(8, 1, 1, renormalize=True, scaling=1.0))
_RING = _Model("Ring-2.5", 8192, 2048, 256, Routing(8, 8, 4, renormalize=True, scaling=2.5))
_PROMPT = 8192


def _hit(tokens: int, model: _Model) -> int:
    """Experts that random routing hits, on average."""
    return round(model.experts * (1 - (1 - model.routing.top_k / model.experts) ** tokens))


def _moved(tokens: int, model: _Model) -> int:
    """Weights of the experts that are hit; tokens in and out."""
    return 2 * _hit(tokens, model) * 3 * model.hidden * model.inner + 4 * tokens * model.hidden


def _ids(tokens: int, model: _Model, device: torch.device) -> Tensor:
    """Of random routing, the same on every machine."""
    if device.type == "meta":
        return torch.empty(tokens, model.routing.top_k, dtype=torch.int64, device=device)
    scores = torch.rand(tokens, model.experts, generator=torch.Generator().manual_seed(0))
    return scores.topk(model.routing.top_k).indices.to(device)


def _weights(model: _Model, device: torch.device) -> tuple[Tensor, Tensor]:
    def stack(*shape: int) -> Tensor:
        # In place, since there are gigabytes of them.
        return torch.empty(shape, device=device, dtype=torch.bfloat16).normal_(std=shape[-1] ** -0.5)

    return stack(model.experts, 2 * model.inner, model.hidden), stack(model.experts, model.hidden, model.inner)


def _experts(tokens: int, model: _Model, device: torch.device) -> Run:
    x = torch.randn(tokens, model.hidden, device=device, dtype=torch.bfloat16)
    weights = torch.rand(tokens, model.routing.top_k, device=device)
    ids, (gate_up, down) = _ids(tokens, model, device), _weights(model, device)
    return lambda: apply_experts(x, weights, ids, gate_up, down)


def _route(tokens: int, model: _Model, device: torch.device) -> Run:
    logits = torch.randn(tokens, model.experts, device=device)
    bias = torch.randn(model.experts, device=device) if model.biased else None
    return lambda: route(logits, bias, model.routing)


def _experts_case(tokens: int, model: _Model, name: str) -> Case:
    make: Make = partial(_experts, tokens, model)
    operations = 6 * tokens * model.routing.top_k * model.hidden * model.inner
    return Case("moe", f"experts, {model.name}, {name}", make, _moved(tokens, model), operations)


def _route_case(model: _Model) -> Case:
    moved = _PROMPT * (4 * model.experts + 12 * model.routing.top_k)
    return Case("moe", f"route, {model.name}, 8K tokens", partial(_route, _PROMPT, model), moved)


CASES = (
    *(_route_case(model) for model in (_KIMI, _QWEN, _RING)),
    _experts_case(1, _KIMI, "decode of 1"),
    _experts_case(64, _KIMI, "decode of 64"),
    _experts_case(1024, _KIMI, "1K tokens"),
    _experts_case(_PROMPT, _KIMI, "8K tokens"),
    _experts_case(64, _QWEN, "decode of 64"),
    _experts_case(_PROMPT, _QWEN, "8K tokens"),
    _experts_case(_PROMPT, _MIMO, "8K tokens"),
)


def _cpu_experts(tokens: int) -> CpuCase:
    x = torch.randn(tokens, 256).bfloat16()
    gate_up, down = (torch.randn(32, 256, 256) / 16).bfloat16(), (torch.randn(32, 256, 128) / 11).bfloat16()
    weights, ids = route(torch.randn(tokens, 32), None, replace(_KIMI.routing, top_k=4))
    return CpuCase(
        "moe",
        f"experts, {tokens} tokens, 4 of 32 of 256 x 128, bf16",
        lambda: apply_experts(x, weights, ids, gate_up, down),
        lambda: apply_experts_reference(x, weights, ids, gate_up, down),
        tolerance=2e-2,
    )


def _cpu_route() -> CpuCase:
    logits, bias = torch.randn(64, 256), torch.randn(256)

    def placed(weights: Tensor, ids: Tensor) -> Tensor:
        return torch.zeros(64, 256).scatter_(1, ids, weights)

    return CpuCase(
        "moe",
        "route, 64 tokens, 8 of 256 in 4 of 8 groups",
        lambda: placed(*route(logits, bias, _RING.routing)),
        lambda: placed(*route_reference(logits, bias, _RING.routing)),
        tolerance=1e-6,
    )


CPU_CASES = (_cpu_experts(8), _cpu_experts(64), _cpu_route())
