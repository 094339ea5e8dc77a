"""Router on all tokens at once; experts by a compiled kernel for few tokens, else one after another on theirs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prfaas_kernels.linear import PackedWeight, linear
from prfaas_kernels.moe import compiled
from prfaas_kernels.moe.routing import Routing
from prfaas_kernels.norm import silu_and_mul

Experts = Tensor | Sequence[Tensor | PackedWeight]
"""One weight per expert: a stack [E, O, I], or a sequence of [O, I]."""

_FEW_CHOICES = 64  # up to here reading the experts' weights takes longer than multiplying with them


def _mask_groups(choice: Tensor, routing: Routing) -> Tensor:
    """Lowers to -inf every expert outside a token's best groups; a group's worth is the sum of its two best."""
    groups = torch.unflatten(choice, -1, (routing.num_groups, -1))  # [T, G, E/G]
    worth = groups.topk(min(2, groups.shape[-1]), dim=-1).values.sum(-1)  # [T, G]
    best = worth.topk(routing.groups_per_token, dim=-1).indices
    outside = torch.ones_like(worth, dtype=torch.bool).scatter_(-1, best, False)
    return groups.masked_fill(outside[..., None], -torch.inf).flatten(-2)


def route(logits: Tensor, bias: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor]:
    """Picks `top_k` experts per token from router `logits` [T, E] (DeepSeek-V3, arXiv 2412.19437, Eq. 12-16).

    Scores are sigmoids or a softmax over all experts, as `routing.score` says; `bias` [E] is added to them for the
    choice only. Returns weights [T, k] fp32 and ids [T, k] int64.
    """
    scores = logits.float().sigmoid() if routing.score == "sigmoid" else logits.float().softmax(-1)
    choice = scores if bias is None else scores + bias
    if routing.groups_per_token < routing.num_groups:
        choice = _mask_groups(choice, routing)
    ids = choice.topk(routing.top_k, dim=-1, sorted=False).indices
    weights = scores.gather(-1, ids)
    if routing.renormalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * routing.scaling, ids


def apply_experts(x: Tensor, weights: Tensor, ids: Tensor, gate_up: Experts, down: Experts) -> Tensor:
    """`sum_k weights[t, k] * expert[ids[t, k]](x[t])` with a SwiGLU per expert.

    `x` [T, D], `weights` [T, k] fp32, `ids` [T, k]; per expert `gate_up` [2I, D] (gate rows first) and `down` [D, I],
    stacked or as a sequence of weights, packed or not: packed is best for many tokens, a stack for few. Returns [T, D]
    in the dtype of `x`. Tokens are sorted by expert, so that each hit expert costs two products.
    """
    tokens, top_k = ids.shape
    if tokens == 0:
        return torch.empty_like(x)
    stacks = (gate_up, down) if isinstance(gate_up, Tensor) and isinstance(down, Tensor) else None
    if stacks and ids.numel() <= _FEW_CHOICES and compiled.fits(x, *stacks):
        return compiled.experts(x, weights, ids, *stacks)
    flat = ids.flatten()
    order = flat.argsort(stable=True)  # [T*k] rows of (token, choice), grouped by expert
    rows = x.index_select(0, order // top_k)  # [T*k, D]
    counts = torch.bincount(flat, minlength=len(gate_up)).tolist()
    done = [
        linear(silu_and_mul(linear(part, gate_up[expert])), down[expert])
        for expert, part in enumerate(torch.split(rows, counts))
        if counts[expert]
    ]
    by_choice = torch.cat(done).index_select(0, order.argsort())
    mixed = torch.bmm(weights.to(x.dtype)[:, None], by_choice.view(tokens, top_k, x.shape[1]))  # [T, 1, D]
    return mixed.squeeze(1)
