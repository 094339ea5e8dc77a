"""Partials of disjoint keys: their merge in Triton, and its definition against one softmax over all keys."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.merge_partials.reference import merge_partials_reference
from prfaas_kernels.merge_partials.triton import join_partials, merge_partials
from tests.kernels.error_ratio import error_ratio

B, H = 2, 3


def parts_of(scores: Tensor, values: Tensor, cuts: list[int]) -> Partial:
    """[N, B, H, Dv] and [N, B, H] of scores [B, H, L] and values [B, L, H, Dv], cut before `cuts`; NaN where empty."""
    out, peak, total = [], [], []
    for start, stop in zip([0, *cuts], [*cuts, scores.shape[2]], strict=True):
        some, mine = scores[..., start:stop], values[:, start:stop]
        peaks = some.amax(2) if stop > start else some.new_full((B, H), -torch.inf)
        weights = (some - peaks[..., None]).exp()
        sums = torch.einsum("bhl,blhd->bhd", weights, mine)
        out.append(sums if stop > start else torch.full_like(sums, torch.nan))
        peak.append(peaks)
        total.append(weights.sum(2))
    return Partial(torch.stack(out), torch.stack(peak), torch.stack(total))


def case(device: torch.device, size: int = 20, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    return spread * torch.randn(B, H, 100, device=device), torch.randn(B, 100, H, size, device=device)


def whole(scores: Tensor, values: Tensor, sinks: Tensor | None = None) -> Tensor:
    if sinks is not None:
        scores = torch.cat([scores, sinks[None, :, None].expand(B, -1, 1)], dim=-1)
    return torch.einsum("bhl,blhd->bhd", scores.double().softmax(-1)[..., : values.shape[1]], values.double())


CUTS = [[], [1], [50, 50], [0, 30, 100], list(range(1, 100))]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("size", [20, 192])
def test_any_cut_is_exact(cuts: list[int], size: int, device: torch.device) -> None:
    scores, values = case(device, size)
    parts = parts_of(scores, values, cuts)
    out = merge_partials(parts.out, parts.peak, parts.total, dtype=torch.float32)
    assert error_ratio(out, whole(scores, values)) < 1e-6


@pytest.mark.parametrize("spread", [3.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinks_and_gates(spread: float, dtype: torch.dtype, device: torch.device) -> None:
    scores, values = case(device, spread=spread)
    parts = parts_of(scores, values, [30, 30, 70])
    sinks, gate = torch.tensor([-50.0, 0.0, 9.0], device=device), torch.randn(B, 5, 25, device=device).to(dtype)
    gate = gate[:, 1:4, :20]
    out = merge_partials(parts.out, parts.peak, parts.total, sinks=sinks, gate=gate, dtype=dtype)
    assert out.dtype is dtype
    wanted = whole(scores, values, sinks) * gate.double().sigmoid()
    assert error_ratio(out, wanted) < (2e-6 if dtype is torch.float32 else 4e-3)


@pytest.mark.parametrize("with_sinks", [False, True])
def test_no_keys_at_all_give_zeros(with_sinks: bool, device: torch.device) -> None:
    scores, values = case(device)
    nothing = parts_of(scores[..., :0], values[:, :0], [0])
    sinks = torch.randn(H, device=device) if with_sinks else None
    out = merge_partials(nothing.out, nothing.peak, nothing.total, sinks=sinks, dtype=torch.float32)
    assert out.eq(0).all()


@pytest.mark.parametrize("cuts", CUTS)
def test_joined_parts_are_parts(cuts: list[int], device: torch.device) -> None:
    scores, values = case(device)
    joined, wanted = join_partials(parts_of(scores, values, cuts)), parts_of(scores, values, [])
    assert error_ratio(joined.out, wanted.out[0]) < 1e-6
    assert torch.equal(joined.peak, wanted.peak[0])
    assert error_ratio(joined.total, wanted.total[0]) < 1e-6


@pytest.mark.parametrize("cuts", CUTS)
def test_reference_is_one_softmax(cuts: list[int], device: torch.device) -> None:
    scores, values = case(device)
    parts, sinks = parts_of(scores, values, cuts), torch.randn(H, device=device)
    parts = Partial(parts.out.nan_to_num(), parts.peak, parts.total)
    out = merge_partials_reference(parts.out, parts.peak, parts.total, sinks=sinks)
    assert error_ratio(out, whole(scores, values, sinks)) < 1e-6
