"""The definitions of router and experts, one token at a time, in fp32."""

import torch
from torch import Tensor

from prfaas_kernels.moe.routing import Routing


def _allowed(choice: Tensor, routing: Routing) -> set[int]:
    groups = choice.view(routing.num_groups, -1)  # [G, E/G]
    scores = [float(group.sort(descending=True).values[:2].sum()) for group in groups]
    best = sorted(range(len(scores)), key=lambda g: -scores[g])[: routing.groups_per_token]
    size = groups.shape[1]
    return {group * size + i for group in best for i in range(size)}


def route_reference(logits: Tensor, bias: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor]:
    """Expert weights [T, k] and ids [T, k] for router `logits` [T, E]; `bias` [E] sways the choice, not the weight."""
    weights, ids = [], []
    for row in logits.float():
        scores = 1 / (1 + (-row).exp()) if routing.score == "sigmoid" else row.exp() / row.exp().sum()
        choice = scores if bias is None else scores + bias.float()
        allowed = _allowed(choice, routing)
        chosen = sorted(allowed, key=lambda e: -float(choice[e]))[: routing.top_k]
        weight = scores[chosen]
        if routing.renormalize:
            weight = weight / weight.sum()
        weights.append(weight * routing.scaling)
        ids.append(torch.tensor(chosen))
    return torch.stack(weights), torch.stack(ids)


def apply_experts_reference(x: Tensor, weights: Tensor, ids: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """`sum_k weights[t, k] * expert[ids[t, k]](x[t])` for `x` [T, D], a SwiGLU per expert, in fp32."""
    out = torch.zeros_like(x, dtype=torch.float32)
    for t in range(x.shape[0]):
        for weight, expert in zip(weights[t], ids[t].tolist(), strict=True):
            gate, up = (gate_up[expert].float() @ x[t].float()).chunk(2)
            out[t] += weight * (down[expert].float() @ (gate * torch.sigmoid(gate) * up))
    return out
