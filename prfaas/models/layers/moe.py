"""Routed experts with an optional shared one."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prfaas.models.layers.mlp import Mlp
from prfaas_kernels.linear import linear
from prfaas_kernels.moe import Experts, Routing, apply_experts, route


@dataclass(frozen=True)
class Moe:
    """A router in fp32 over all E experts, the N of them that this rank holds, and what every token passes."""

    router: Tensor
    """[E, hidden] fp32"""
    router_bias: Tensor | None
    """[E] fp32"""
    gate_up: Experts
    """N of [2I, hidden]"""
    down: Experts
    """N of [hidden, I]"""
    first: int
    """The number of this rank's first expert."""
    shared: Mlp | None
    shared_score: Tensor | None
    """[1, hidden]"""
    routing: Routing

    def __call__(self, x: Tensor) -> Tensor:
        logits = functional.linear(x.float(), self.router)  # [T, E]
        weights, ids = self._local(*route(logits, self.router_bias, self.routing))
        out = apply_experts(x, weights, ids, self.gate_up, self.down)
        if self.shared is None:
            return out
        always = self.shared(x)
        if self.shared_score is not None:
            always = always.mul_(linear(x, self.shared_score).sigmoid())
        return out.add_(always)

    def _local(self, weights: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Choices of other ranks' experts keep their place with weight 0, on this rank's first expert."""
        if len(self.gate_up) == self.router.shape[0]:
            return weights, ids
        local = ids - self.first
        elsewhere = (local < 0) | (local >= len(self.gate_up))
        return weights.masked_fill(elsewhere, 0), torch.where(elsewhere, 0, local)
