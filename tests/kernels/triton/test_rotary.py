"""Rotary embedding in Triton against its reference."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.rotary import rotary_cos_sin, rotary_inverse_frequencies, rotary_reference
from prfaas_kernels.rotary.triton import apply_rotary
from tests.kernels.error_ratio import error_ratio

THETA = 1e4


def table(positions: Tensor, rotary_dim: int) -> tuple[Tensor, Tensor]:
    return rotary_cos_sin(positions, rotary_inverse_frequencies(rotary_dim, THETA).to(positions.device))


@pytest.mark.parametrize("tokens", [1, 63, 200])
@pytest.mark.parametrize(("size", "rotary_dim"), [(24, 2), (24, 16), (24, 24), (192, 64), (64, 64), (40, 26)])
@pytest.mark.parametrize("interleaved", [False, True])
def test_agrees_with_reference(
    tokens: int, size: int, rotary_dim: int, interleaved: bool, device: torch.device
) -> None:
    x, positions = torch.randn(tokens, 3, size), torch.randint(0, 1000, (tokens,))
    out = apply_rotary(x.to(device), *table(positions.to(device), rotary_dim), interleaved=interleaved).cpu()
    # Angles up to 1000 radians are fp32 products, hence rounded to 3e-5.
    assert error_ratio(out, rotary_reference(x, positions, rotary_dim, THETA, interleaved)) < 5e-5
    assert torch.equal(out[..., rotary_dim:], x[..., rotary_dim:])


@pytest.mark.parametrize("interleaved", [False, True])
def test_is_exact_where_angles_are_small(interleaved: bool, device: torch.device) -> None:
    x, positions = torch.randn(4, 3, 16), torch.arange(4)
    out = apply_rotary(x.to(device), *table(positions.to(device), 16), interleaved=interleaved).cpu()
    assert error_ratio(out, rotary_reference(x, positions, 16, THETA, interleaved)) < 2e-7
    assert torch.equal(out[0], x[0])


@pytest.mark.parametrize("interleaved", [False, True])
def test_bfloat16_is_computed_in_float32(interleaved: bool, device: torch.device) -> None:
    x, turned = torch.randn(7, 3, 24, device=device).bfloat16(), table(torch.arange(7, device=device), 16)
    exact = apply_rotary(x.float(), *turned, interleaved=interleaved)
    out = apply_rotary(x, *turned, interleaved=interleaved)
    assert out.dtype == torch.bfloat16
    # Within a step: the interpreter cuts bfloat16 off where a GPU rounds it.
    torch.testing.assert_close(out, exact.bfloat16(), rtol=2**-7, atol=0.0)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reads_strided_heads_and_nothing_beside_them(
    dtype: torch.dtype, interleaved: bool, device: torch.device
) -> None:
    projected = torch.full((65, 4 * 24 + 8), torch.nan, device=device).to(dtype)
    heads = torch.unflatten(projected[:, 3 : 3 + 96], 1, (4, 24))[..., 4:20]  # the last channels of wider heads
    heads.copy_(torch.randn(65, 4, 16, device=device))
    before, turned = projected.clone(), table(torch.arange(65, device=device), 12)
    out = apply_rotary(heads, *turned, interleaved=interleaved)
    assert out.is_contiguous()
    assert torch.equal(out, apply_rotary(heads.contiguous(), *turned, interleaved=interleaved))
    assert out.isfinite().all()
    assert torch.equal(projected.nan_to_num(), before.nan_to_num())


def test_part_of_a_wider_table(device: torch.device) -> None:
    x, wide = torch.randn(5, 2, 16, device=device), torch.full((2, 9, 30), torch.nan, device=device)
    cos, sin = wide[:, 2:7, 4:12]
    cos.copy_(torch.randn(5, 8))
    sin.copy_(torch.randn(5, 8))
    assert torch.equal(apply_rotary(x, cos, sin), apply_rotary(x, cos.contiguous(), sin.contiguous()))
    assert apply_rotary(x, cos, sin).isfinite().all()


def test_no_tokens(device: torch.device) -> None:
    empty = torch.zeros(0, 4, device=device)
    assert apply_rotary(torch.zeros(0, 2, 8, device=device), empty, empty).shape == (0, 2, 8)
