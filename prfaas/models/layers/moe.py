"""Routed experts with optional shared ones."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from prfaas.models.layers.mlp import Mlp
from prfaas_kernels.moe import Routing, apply_experts, route


@dataclass(frozen=True)
class Moe:
    """A sigmoid router in fp32, its experts, and an MLP that every token passes. E experts of width I."""

    router: Tensor
    """[E, hidden] fp32"""
    router_bias: Tensor
    """[E] fp32"""
    gate_up: Tensor
    """[E, 2I, hidden]"""
    down: Tensor
    """[E, hidden, I]"""
    shared: Mlp | None
    routing: Routing

    def __call__(self, x: Tensor) -> Tensor:
        logits = functional.linear(x.float(), self.router)  # [T, E]
        weights, ids = route(logits, self.router_bias, self.routing)
        out = apply_experts(x, weights, ids, self.gate_up, self.down)
        return out if self.shared is None else out.add_(self.shared(x))
