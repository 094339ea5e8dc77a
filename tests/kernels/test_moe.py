from dataclasses import replace

import pytest
import torch
from torch import Tensor

from prfaas_kernels.linear import pack_linear
from prfaas_kernels.moe import Routing, apply_experts, apply_experts_reference, route, route_reference
from tests.kernels.error_ratio import error_ratio

EXPERTS, HIDDEN, INNER = 16, 24, 20
ROUTING = Routing(top_k=4, num_groups=1, groups_per_token=1, renormalize=True, scaling=2.5)
GROUPED = replace(ROUTING, num_groups=4, groups_per_token=2)
SOFTMAX = replace(ROUTING, score="softmax", scaling=1.0)


def by_expert(weights: Tensor, ids: Tensor) -> Tensor:
    """Weights at their expert's place, [T, E]: top-k order is free."""
    return torch.zeros(len(ids), EXPERTS).scatter(1, ids, weights)


@pytest.mark.parametrize("routing", [ROUTING, GROUPED, replace(GROUPED, renormalize=False), SOFTMAX])
@pytest.mark.parametrize("tokens", [1, 63, 200])
def test_router_agrees_with_reference(tokens: int, routing: Routing) -> None:
    logits, bias = 2 * torch.randn(tokens, EXPERTS), torch.randn(EXPERTS)
    ours, theirs = route(logits, bias, routing), route_reference(logits, bias, routing)
    assert error_ratio(by_expert(*ours), by_expert(*theirs)) < 1e-6


def test_softmax_is_over_all_experts() -> None:
    logits = 2 * torch.randn(9, EXPERTS)
    weights, ids = route(logits, None, replace(SOFTMAX, renormalize=False))
    assert error_ratio(weights, logits.softmax(-1).gather(1, ids)) < 1e-6
    assert torch.equal(ids.sort().values, logits.topk(4).indices.sort().values)


def test_groups_of_one_expert() -> None:
    routing = replace(ROUTING, top_k=2, num_groups=EXPERTS, groups_per_token=2)
    logits, bias = torch.randn(9, EXPERTS), torch.zeros(EXPERTS)
    ours, theirs = route(logits, bias, routing), route_reference(logits, bias, routing)
    assert error_ratio(by_expert(*ours), by_expert(*theirs)) < 1e-6


def test_bias_sways_the_choice_but_not_the_weight() -> None:
    bias = torch.zeros(EXPERTS)
    bias[3] = 10
    weights, ids = route(torch.zeros(1, EXPERTS), bias, replace(ROUTING, top_k=1, renormalize=False, scaling=1.0))
    assert ids.tolist() == [[3]]
    assert weights.tolist() == [[0.5]]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("inner", [INNER, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 2, 7, 16])
def test_few_tokens_in_the_sizes_of_the_compiled_kernel(tokens: int, dtype: torch.dtype, inner: int) -> None:
    x = torch.randn(tokens, 32).to(dtype)
    gate_up = (torch.randn(EXPERTS, 2 * inner, 32) / 5).to(dtype)
    down = (torch.randn(EXPERTS, 32, inner) / 5).to(dtype)
    weights, ids = route(torch.randn(tokens, EXPERTS), None, SOFTMAX)
    out = apply_experts(x, weights, ids, gate_up, down)
    assert out.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    assert error_ratio(out, apply_experts_reference(x, weights, ids, gate_up, down)) < tolerance


@pytest.mark.usefixtures("form")
def test_few_tokens_all_on_one_expert() -> None:
    x, gate_up, down = torch.randn(9, 16), torch.randn(EXPERTS, 32, 16), torch.randn(EXPERTS, 16, 16)
    weights, ids = torch.rand(9, 1), torch.full((9, 1), 15)
    out = apply_experts(x, weights, ids, gate_up, down)
    assert error_ratio(out, apply_experts_reference(x, weights, ids, gate_up, down)) < 2e-6


@pytest.mark.parametrize("tokens", [1, 5, 63, 200])
def test_experts_agree_with_reference(tokens: int) -> None:
    x = torch.randn(tokens, HIDDEN)
    gate_up, down = torch.randn(EXPERTS, 2 * INNER, HIDDEN) / 5, torch.randn(EXPERTS, HIDDEN, INNER) / 5
    weights, ids = route(torch.randn(tokens, EXPERTS), torch.zeros(EXPERTS), GROUPED)
    out = apply_experts(x, weights, ids, gate_up, down)
    assert error_ratio(out, apply_experts_reference(x, weights, ids, gate_up, down)) < 2e-6


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("tokens", [1, 8, 65])
def test_packed_experts_in_bfloat16(tokens: int) -> None:
    x = torch.randn(tokens, HIDDEN).bfloat16()
    gate_up = (torch.randn(EXPERTS, 2 * INNER, HIDDEN) / 5).bfloat16()
    down = (torch.randn(EXPERTS, HIDDEN, INNER) / 5).bfloat16()
    weights, ids = route(torch.randn(tokens, EXPERTS), None, SOFTMAX)
    packed = [pack_linear(w) for w in gate_up], [pack_linear(w) for w in down]
    out = apply_experts(x, weights, ids, *packed)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, apply_experts_reference(x, weights, ids, gate_up, down)) < 2e-2


def test_experts_of_no_tokens() -> None:
    ids = torch.zeros(0, 4, dtype=torch.int64)
    out = apply_experts(
        torch.zeros(0, 8), torch.zeros(0, 4), ids, torch.zeros(EXPERTS, 6, 8), torch.zeros(EXPERTS, 8, 3)
    )
    assert out.shape == (0, 8)


def test_all_tokens_on_one_expert() -> None:
    x, gate_up, down = (
        torch.randn(65, HIDDEN),
        torch.randn(EXPERTS, 2 * INNER, HIDDEN),
        torch.randn(EXPERTS, HIDDEN, INNER),
    )
    weights, ids = torch.rand(65, 1), torch.full((65, 1), 7)
    out = apply_experts(x, weights, ids, gate_up, down)
    assert error_ratio(out, apply_experts_reference(x, weights, ids, gate_up, down)) < 2e-6
