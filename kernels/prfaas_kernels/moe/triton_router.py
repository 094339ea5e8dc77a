"""The router in Triton: a program chooses the experts of some tokens, all in registers. Knows nothing of experts."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, launch
from prfaas_kernels.moe.routing import Routing

_ROWS = 4  # a row for each of a program's four warps, so that no reduction crosses warps


@triton.jit
def _best(values, AXIS: tl.constexpr):
    """Where the largest value is, the first if there are several; keeps the axis."""
    return tl.expand_dims(tl.argmax(values, axis=AXIS), AXIS)


@triton.jit(do_not_specialize=["rows"])
def _route_kernel(
    logits_ptr, bias_ptr, weights_ptr, ids_ptr, rows, experts, stride, scaling,
    SOFTMAX: tl.constexpr, RENORMALIZE: tl.constexpr, TOP_K: tl.constexpr, GROUPS: tl.constexpr,
    GROUPS_PER_TOKEN: tl.constexpr, ROWS: tl.constexpr, GROUP_BLOCK: tl.constexpr, EXPERT_BLOCK: tl.constexpr,
    CHOICE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Slots are GROUP_BLOCK groups of EXPERT_BLOCK experts: more than there are where a number is no power of two."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    slot = tl.arange(0, GROUP_BLOCK * EXPERT_BLOCK)
    size = experts // GROUPS
    expert = slot // EXPERT_BLOCK * size + slot % EXPERT_BLOCK
    real = (slot % EXPERT_BLOCK < size) & (slot // EXPERT_BLOCK < GROUPS)
    there = (row < rows)[:, None] & real[None, :]
    logits = tl.load(logits_ptr + row.to(tl.int64)[:, None] * stride + expert[None, :], mask=there, other=0.0)
    logits = logits.to(tl.float32)
    if SOFTMAX:
        logits = tl.where(real[None, :], logits, float("-inf"))
        powers = tl.exp(logits - tl.max(logits, axis=1)[:, None])
        scores = powers / tl.sum(powers, axis=1)[:, None]
    else:
        scores = tl.sigmoid(logits)
    choice = scores
    if bias_ptr is not None:
        choice += tl.load(bias_ptr + expert, mask=real, other=0.0).to(tl.float32)[None, :]
    choice = tl.where(real[None, :], choice, float("-inf"))

    if GROUPS_PER_TOKEN < GROUPS:
        by_group = tl.reshape(choice, (ROWS, GROUP_BLOCK, EXPERT_BLOCK))
        worth = tl.max(by_group, axis=2)
        if EXPERT_BLOCK > 1:
            inside = tl.arange(0, EXPERT_BLOCK)[None, None, :]
            others = tl.where(inside == _best(by_group, 2), float("-inf"), by_group)
            second = tl.max(others, axis=2)
            worth += tl.where(second == float("-inf"), 0.0, second)  # a group of one expert has no second
        group = tl.arange(0, GROUP_BLOCK)[None, :]
        kept = tl.zeros((ROWS, GROUP_BLOCK), tl.int32)
        for _ in range(GROUPS_PER_TOKEN):
            best = group == _best(worth, 1)
            kept = tl.where(best, 1, kept)
            worth = tl.where(best, float("-inf"), worth)
        by_group = tl.where(tl.expand_dims(kept, 2) == 1, by_group, float("-inf"))
        choice = tl.reshape(by_group, (ROWS, GROUP_BLOCK * EXPERT_BLOCK))

    column = tl.arange(0, CHOICE_BLOCK)[None, :]
    weights = tl.zeros((ROWS, CHOICE_BLOCK), tl.float32)
    ids = tl.zeros((ROWS, CHOICE_BLOCK), tl.int32)
    for i in range(TOP_K):
        best = _best(choice, 1)
        chosen = slot[None, :] == best
        weights = tl.where(column == i, tl.sum(tl.where(chosen, scores, 0.0), axis=1)[:, None], weights)
        ids = tl.where(column == i, best // EXPERT_BLOCK * size + best % EXPERT_BLOCK, ids)
        choice = tl.where(chosen, float("-inf"), choice)
    if RENORMALIZE:
        weights = weights / (tl.sum(weights, axis=1) + 1e-20)[:, None]
    to = row.to(tl.int64)[:, None] * TOP_K + column
    chosen = (row < rows)[:, None] & (column < TOP_K)
    tl.store(weights_ptr + to, weights * scaling, mask=chosen)
    # Logits that are NaN may choose a slot without an expert; no id may point outside of the weights.
    tl.store(ids_ptr + to, tl.minimum(ids, experts - 1).to(tl.int64), mask=chosen)


def route(logits: Tensor, bias: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor]:
    """As `cpu.route`."""
    rows, experts = logits.shape
    assert experts % routing.num_groups == 0
    assert logits.stride(1) == 1 or experts == 1
    weights = torch.empty(rows, routing.top_k, dtype=torch.float32, device=logits.device)
    ids = torch.empty(rows, routing.top_k, dtype=torch.int64, device=logits.device)
    limited = routing.groups_per_token < routing.num_groups
    groups = routing.num_groups if limited else 1
    launch(
        _route_kernel,
        (triton.cdiv(rows, _ROWS),),
        logits,
        bias,
        weights,
        ids,
        rows,
        experts,
        logits.stride(0),
        routing.scaling,
        SOFTMAX=routing.score == "softmax",
        RENORMALIZE=routing.renormalize,
        TOP_K=routing.top_k,
        GROUPS=groups,
        GROUPS_PER_TOKEN=routing.groups_per_token if limited else 1,
        ROWS=_ROWS,
        GROUP_BLOCK=block(groups, 1),
        EXPERT_BLOCK=block(experts // groups, 1),
        CHOICE_BLOCK=block(routing.top_k, 1),
    )
    return weights, ids
