"""Router on all tokens at once, experts one after another on the tokens that chose them."""

import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.linear import linear
from prfaas_kernels.moe.routing import Routing


def _mask_groups(choice: Tensor, routing: Routing) -> Tensor:
    """Lowers to -inf every expert outside a token's best groups; a group's worth is the sum of its two best."""
    groups = torch.unflatten(choice, -1, (routing.num_groups, -1))  # [T, G, E/G]
    worth = groups.topk(min(2, groups.shape[-1]), dim=-1).values.sum(-1)  # [T, G]
    best = worth.topk(routing.groups_per_token, dim=-1).indices
    outside = torch.ones_like(worth, dtype=torch.bool).scatter_(-1, best, False)
    return groups.masked_fill(outside[..., None], -torch.inf).flatten(-2)


def route(logits: Tensor, bias: Tensor, routing: Routing) -> tuple[Tensor, Tensor]:
    """Picks `top_k` experts per token from router `logits` [T, E] (DeepSeek-V3, arXiv 2412.19437, Eq. 12-16).

    `bias` [E] is added to the sigmoid scores for the choice only. Returns weights [T, k] fp32 and ids [T, k] int64.
    """
    scores = logits.float().sigmoid()
    choice = scores + bias
    if routing.groups_per_token < routing.num_groups:
        choice = _mask_groups(choice, routing)
    ids = choice.topk(routing.top_k, dim=-1, sorted=False).indices
    weights = scores.gather(-1, ids)
    if routing.renormalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * routing.scaling, ids


def apply_experts(x: Tensor, weights: Tensor, ids: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """`sum_k weights[t, k] * expert[ids[t, k]](x[t])` with a SwiGLU per expert.

    `x` [T, D], `weights` [T, k] fp32, `ids` [T, k], `gate_up` [E, 2I, D] (gate rows first), `down` [E, D, I].
    Returns [T, D] in the dtype of `x`. Tokens are sorted by expert, so that each hit expert costs two products.
    """
    tokens, top_k = ids.shape
    flat = ids.flatten()
    order = flat.argsort(stable=True)  # [T*k] rows of (token, choice), grouped by expert
    rows = x[order // top_k]  # [T*k, D]
    counts = torch.bincount(flat, minlength=gate_up.shape[0]).tolist()
    parts = torch.split(rows, [count for count in counts if count])
    hit = [expert for expert, count in enumerate(counts) if count]
    done = [_swiglu(part, gate_up[e], down[e]) for e, part in zip(hit, parts, strict=True)]
    by_choice = torch.empty_like(rows)
    by_choice[order] = torch.cat(done) if done else rows
    mixed = torch.bmm(weights.to(x.dtype)[:, None], by_choice.view(tokens, top_k, x.shape[1]))  # [T, 1, D]
    return mixed.squeeze(1)


def _swiglu(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = linear(x, gate_up).chunk(2, dim=-1)
    return linear(functional.silu(gate) * up, down)
