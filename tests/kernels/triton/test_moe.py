"""Router and experts in Triton against their references."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from prfaas_kernels.moe import Routing, apply_experts_reference, route_reference, triton_sort
from prfaas_kernels.moe.triton import apply_experts, route
from prfaas_kernels.moe.triton_sort import FEW, Tiles, sort_choices
from tests.kernels.error_ratio import error_ratio

EXPERTS = 16
ROUTING = Routing(top_k=4, num_groups=1, groups_per_token=1, renormalize=True, scaling=2.5)
GROUPED = replace(ROUTING, num_groups=4, groups_per_token=2)
SOFTMAX = replace(ROUTING, score="softmax", scaling=1.0)
ROUTINGS = [
    (EXPERTS, ROUTING),
    (EXPERTS, GROUPED),
    (EXPERTS, replace(GROUPED, renormalize=False)),
    (EXPERTS, SOFTMAX),
    (EXPERTS, replace(ROUTING, top_k=2, num_groups=EXPERTS, groups_per_token=2)),  # groups of one expert
    (30, replace(GROUPED, top_k=5, num_groups=6, groups_per_token=4)),  # no power of two anywhere
    (30, replace(SOFTMAX, top_k=7)),
    (512, replace(SOFTMAX, top_k=10)),
    (256, replace(GROUPED, top_k=8, num_groups=8, groups_per_token=4)),
]
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}


def by_expert(weights: Tensor, ids: Tensor, experts: int) -> Tensor:
    """Weights at their expert's place, [T, E]: the order of choices is free."""
    return torch.zeros(len(ids), experts).scatter(1, ids.cpu(), weights.cpu())


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("routing", ROUTINGS, ids=lambda it: f"{it[1].top_k}of{it[0]}-{it[1].score}")
@pytest.mark.parametrize("tokens", [1, 63])
def test_router_agrees_with_reference(
    tokens: int, routing: tuple[int, Routing], biased: bool, device: torch.device
) -> None:
    experts, how = routing
    logits, bias = 2 * torch.randn(tokens, experts), torch.randn(experts) if biased else None
    weights, ids = route(logits.to(device), None if bias is None else bias.to(device), how)
    assert (weights.dtype, ids.dtype) == (torch.float32, torch.int64)
    expected = route_reference(logits, bias, how)
    assert error_ratio(by_expert(weights, ids, experts), by_expert(*expected, experts)) < 1e-6


def test_router_reads_part_of_wider_rows(device: torch.device) -> None:
    wide = torch.full((65, 40), torch.nan, device=device)
    wide[:, 3 : 3 + EXPERTS] = torch.randn(65, EXPERTS, device=device)
    weights, ids = route(wide[:, 3 : 3 + EXPERTS], None, SOFTMAX)
    expected = route_reference(wide[:, 3 : 3 + EXPERTS].cpu(), None, SOFTMAX)
    assert error_ratio(by_expert(weights, ids, EXPERTS), by_expert(*expected, EXPERTS)) < 1e-6


@pytest.mark.parametrize("how", [ROUTING, GROUPED, SOFTMAX])
def test_equal_logits_choose_the_first_experts(how: Routing, device: torch.device) -> None:
    weights, ids = route(torch.zeros(3, EXPERTS, device=device), None, how)
    assert ids.tolist() == [[0, 1, 2, 3]] * 3
    assert weights.allclose(torch.full_like(weights, how.scaling / 4))


def test_bias_sways_the_choice_but_not_the_weight(device: torch.device) -> None:
    bias = torch.zeros(EXPERTS, device=device)
    bias[3] = 10
    how = replace(ROUTING, top_k=1, renormalize=False, scaling=1.0)
    weights, ids = route(torch.zeros(1, EXPERTS, device=device), bias, how)
    assert ids.tolist() == [[3]]
    assert weights.tolist() == [[0.5]]


def test_large_logits(device: torch.device) -> None:
    logits = torch.randn(5, EXPERTS)
    logits[:, 7], logits[:, 2] = 80.0, -80.0
    for how in (ROUTING, SOFTMAX):
        weights, ids = route(logits.to(device), None, how)
        assert (
            error_ratio(by_expert(weights, ids, EXPERTS), by_expert(*route_reference(logits, None, how), EXPERTS))
            < 1e-6
        )


@pytest.mark.filterwarnings("ignore:invalid value")
def test_logits_that_are_no_numbers_choose_experts_that_exist(device: torch.device) -> None:
    logits = torch.full((2, 30), torch.nan, device=device)
    _, ids = route(logits, None, replace(SOFTMAX, top_k=7))
    assert ids.ge(0).all()
    assert ids.lt(30).all()


def test_router_of_no_tokens(device: torch.device) -> None:
    weights, ids = route(torch.zeros(0, EXPERTS, device=device), None, SOFTMAX)
    assert weights.shape == ids.shape == (0, 4)


def check_tiles(tiles: Tiles, ids: Tensor, weights: Tensor, experts: int, rows: int) -> None:
    """Every choice that counts is in exactly one tile of its expert, and in order."""
    keys = torch.where(weights == 0, experts, ids).flatten().cpu()
    expected = keys.argsort(stable=True)
    assert torch.equal(tiles.order.cpu().long(), expected)
    assert torch.equal(tiles.experts.cpu().long(), keys[expected])
    places = []
    for first in tiles.first.tolist():
        if first >= 0:
            within = tiles.experts[first : first + rows].cpu()
            places += [first + i for i in range(len(within)) if within[i] == within[0]]
    assert sorted(places) == list(range(int((keys < experts).sum())))


@pytest.mark.parametrize("rows", [16, 64])
@pytest.mark.parametrize("tokens", [1, 5, 63, 200, 300])
def test_tiles_hold_every_choice_once(tokens: int, rows: int, device: torch.device) -> None:
    ids, weights = torch.randint(0, 9, (tokens, 4), device=device), torch.rand(tokens, 4, device=device)
    ids[ids == 3] = 4  # nobody chose 3
    weights[ids == 7] = 0
    assert (ids.numel() <= FEW) == (tokens < 300)
    check_tiles(sort_choices(ids, weights, 9, rows), ids, weights, 9, rows)


@pytest.mark.parametrize("tokens", [40, FEW + 1])
@pytest.mark.parametrize("expert", [0, 8])
def test_tiles_of_one_expert(tokens: int, expert: int, device: torch.device) -> None:
    ids, weights = torch.full((tokens, 1), expert, device=device), torch.ones(tokens, 1, device=device)
    check_tiles(sort_choices(ids, weights, 9, 16), ids, weights, 9, 16)


def weights_of(experts: int, inner: int, hidden: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        (torch.randn(experts, 2 * inner, hidden) / hidden**0.5).to(dtype),
        (torch.randn(experts, hidden, inner) / inner**0.5).to(dtype),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("tokens", "hidden", "inner"), [(1, 32, 20), (1, 24, 48), (7, 136, 72), (63, 32, 20)])
def test_experts_agree_with_reference(
    tokens: int, hidden: int, inner: int, dtype: torch.dtype, device: torch.device
) -> None:
    x, (gate_up, down) = torch.randn(tokens, hidden).to(dtype), weights_of(EXPERTS, inner, hidden, dtype)
    weights, ids = route_reference(torch.randn(tokens, EXPERTS), None, ROUTING)
    out = apply_experts(*(part.to(device) for part in (x, weights, ids, gate_up, down)))
    assert out.dtype == dtype
    assert error_ratio(out.cpu(), apply_experts_reference(x, weights, ids, gate_up, down)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("tokens", "experts"), [(100, 4), (200, 2)])  # blocks of 64 rows, and of 128
@pytest.mark.parametrize("few", [0, FEW])
def test_many_tokens_for_few_experts(
    few: int, tokens: int, experts: int, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_sort, "FEW", few)
    x, (gate_up, down) = torch.randn(tokens, 24).to(dtype), weights_of(experts, 40, 24, dtype)
    weights, ids = torch.rand(tokens, 1), torch.randint(0, experts, (tokens, 1))
    out = apply_experts(*(part.to(device) for part in (x, weights, ids, gate_up, down)))
    expected = torch.empty(tokens, 24)
    for expert in range(experts):
        gate, up = (x.float() @ gate_up[expert].float().t()).chunk(2, dim=-1)
        made = weights * ((gate * gate.sigmoid() * up) @ down[expert].float().t())
        expected = torch.where(ids == expert, made, expected)
    assert error_ratio(out.cpu(), expected) < TOLERANCE[dtype]


def test_choices_of_weight_zero_are_not_computed(device: torch.device) -> None:
    x, (gate_up, down) = torch.randn(9, 32), weights_of(EXPERTS, 20, 32, torch.float32)
    weights, ids = torch.rand(9, 4), torch.randint(1, EXPERTS, (9, 4))
    weights[::2, 1], ids[::2, 1] = 0.0, 0
    weights[4], ids[4] = 0.0, 0
    expected = apply_experts_reference(x, weights, ids, gate_up, down)
    gate_up[0], down[0] = torch.nan, torch.nan
    out = apply_experts(*(part.to(device) for part in (x, weights, ids, gate_up, down))).cpu()
    assert error_ratio(out, expected) < 5e-6
    assert out[4].eq(0).all()


def test_rows_that_are_part_of_wider_ones(device: torch.device) -> None:
    wide, (gate_up, down) = torch.full((9, 50), torch.nan), weights_of(EXPERTS, 20, 32, torch.float32)
    wide[:, 5:37] = torch.randn(9, 32)
    weights, ids = torch.rand(9, 4), torch.randint(0, EXPERTS, (9, 4))
    out = apply_experts(wide.to(device)[:, 5:37], *(part.to(device) for part in (weights, ids, gate_up, down)))
    assert error_ratio(out.cpu(), apply_experts_reference(wide[:, 5:37], weights, ids, gate_up, down)) < 5e-6


def test_results_do_not_depend_on_the_other_tokens(device: torch.device) -> None:
    x, (gate_up, down) = torch.randn(12, 32), weights_of(EXPERTS, 20, 32, torch.float32)
    weights, ids = torch.rand(12, 4), torch.randint(0, EXPERTS, (12, 4))
    x, weights, ids, gate_up, down = (part.to(device) for part in (x, weights, ids, gate_up, down))
    assert torch.equal(
        apply_experts(x, weights, ids, gate_up, down)[:3], apply_experts(x[:3], weights[:3], ids[:3], gate_up, down)
    )


def test_experts_of_no_tokens_and_packed_ones(device: torch.device) -> None:
    gate_up, down = (part.to(device) for part in weights_of(EXPERTS, 20, 32, torch.float32))
    x, weights = torch.zeros(0, 32, device=device), torch.zeros(0, 4, device=device)
    assert apply_experts(x, weights, weights.long(), gate_up, down).shape == (0, 32)
    with pytest.raises(AssertionError, match="packed"):
        apply_experts(x, weights, weights.long(), list(gate_up), list(down))
