"""Norms and gates in Triton against their references."""

import pytest
import torch

from prfaas_kernels.norm import rms_norm_gated_reference, rms_norm_reference, silu_and_mul_reference
from prfaas_kernels.norm.cpu import Activation
from prfaas_kernels.norm.triton import add_rms_norm, rms_norm, rms_norm_gated, silu_and_mul
from tests.kernels.error_ratio import error_ratio

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 8e-3}
"""The interpreter cuts bfloat16 off where a GPU rounds it."""


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "shape", [(48,), (1, 48), (63, 64), (65, 1), (200, 130), (3, 9000), (2, 16384), (5, 3, 17), (2, 3, 5, 24)]
)
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(shape, device=device).to(dtype)
    weight = torch.randn(shape[-1], device=device)
    out = rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_reference(x, weight, 1e-5)) < TOLERANCE[dtype]


@pytest.mark.parametrize("weight_dtype", TOLERANCE)
def test_part_of_a_projection_is_read_where_it_lies(weight_dtype: torch.dtype, device: torch.device) -> None:
    projected = torch.full((65, 300), torch.nan, device=device).bfloat16()
    projected[:, 40:140] = torch.randn(65, 100, device=device).bfloat16()
    part, weight = projected[:, 40:][:, :100], torch.randn(100, device=device).to(weight_dtype)
    assert error_ratio(rms_norm(part, weight, 1e-5), rms_norm_reference(part, weight, 1e-5)) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_heads_of_a_projection(dtype: torch.dtype, device: torch.device) -> None:
    projected = torch.full((65, 9 * 32), torch.nan, device=device).to(dtype)
    projected[:, 32:160] = torch.randn(65, 128, device=device).to(dtype)
    heads, weight = torch.unflatten(projected[:, 32:160], 1, (4, 32)), torch.randn(32, device=device)
    assert error_ratio(rms_norm(heads, weight, 1e-5), rms_norm_reference(heads, weight, 1e-5)) < TOLERANCE[dtype]


def test_columns_that_are_not_dense(device: torch.device) -> None:
    x, weight = torch.randn(40, 30, device=device).t(), torch.randn(40, device=device)
    assert error_ratio(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5)) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(48,), (1, 48), (65, 130), (2, 9000), (5, 3, 17), (2, 3, 2, 24)])
def test_add_then_norm(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x, residual = torch.randn(shape, device=device).to(dtype), torch.randn(shape, device=device).to(dtype)
    weight, total = torch.randn(shape[-1], device=device), x + residual
    out = add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(residual, total, rtol=2**-7 if dtype is torch.bfloat16 else 0.0, atol=0.0)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_reference(residual, weight, 1e-5)) < TOLERANCE[dtype]


def test_residual_may_be_part_of_rows_but_its_columns_are_dense(device: torch.device) -> None:
    wide, x = torch.randn(7, 40, device=device), torch.randn(7, 24, device=device)
    before, weight = wide.clone(), torch.ones(24, device=device)
    add_rms_norm(x, wide[:, 8:32], weight, 1e-5)
    before[:, 8:32] += x
    assert torch.equal(wide, before)
    with pytest.raises(AssertionError, match="dense rows"):
        add_rms_norm(torch.zeros(40, 7, device=device), wide.t(), torch.ones(7, device=device), 1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("tokens", [1, 63])
def test_gated_norm(tokens: int, dtype: torch.dtype, activation: Activation, device: torch.device) -> None:
    x, weight = torch.randn(tokens, 4, 32, device=device), torch.randn(32, device=device).to(dtype)
    projected = torch.full((tokens, 140), torch.nan, device=device).to(dtype)
    projected[:, 5:-7] = 3 * torch.randn(tokens, 128, device=device).to(dtype)
    gate = torch.unflatten(projected[:, 5:-7], 1, (4, 32))
    before = x.clone()
    out = rms_norm_gated(x, gate, weight, 1e-5, dtype, activation)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_gated_reference(x, gate, weight, 1e-5, activation)) < TOLERANCE[dtype]
    assert torch.equal(x, before)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # as meant: 1 / (1 + inf) is 0
@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
def test_gate_of_extreme_values(activation: Activation, device: torch.device) -> None:
    gate = torch.tensor([[-1e30, -100.0, -88.5, 0.0, 88.5, 100.0, 1e30, 1.0]], device=device)
    x, weight = torch.ones(1, 8, device=device), torch.ones(8, device=device)
    out = rms_norm_gated(x, gate, weight, 1e-12, torch.float32, activation)
    torch.testing.assert_close(out, rms_norm_gated_reference(x, gate, weight, 1e-12, activation).nan_to_num())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("rows", "inner"), [(0, 24), (1, 24), (65, 24), (70, 1000), (3, 7), (2, 5000)])
def test_silu_and_mul(rows: int, inner: int, dtype: torch.dtype, device: torch.device) -> None:
    wide = torch.full((rows, 2 * inner + 3), torch.nan, device=device).to(dtype)
    wide[:, 1:-2] = 3 * torch.randn(rows, 2 * inner, device=device).to(dtype)
    out = silu_and_mul(wide[:, 1:-2])
    assert out.dtype == dtype
    assert out.shape == (rows, inner)
    if rows:
        assert error_ratio(out, silu_and_mul_reference(wide[:, 1:-2])) < TOLERANCE[dtype]


@pytest.mark.parametrize("shape", [(16,), (2, 3, 4, 10)])
def test_silu_and_mul_of_any_rank(shape: tuple[int, ...], device: torch.device) -> None:
    gate_up = torch.randn(shape, device=device)
    assert error_ratio(silu_and_mul(gate_up), silu_and_mul_reference(gate_up)) < 1e-6


def test_nan_is_not_hidden_and_stays_in_its_row(device: torch.device) -> None:
    x = torch.ones(3, 32, device=device).bfloat16()
    x[1, 3] = torch.nan
    out = rms_norm(x, torch.ones(32, device=device), 1e-6)
    assert out[1].isnan().all()
    assert out[::2].isfinite().all()


def test_zero_row_stays_zero_and_no_rows_are_fine(device: torch.device) -> None:
    weight = torch.ones(8, device=device)
    assert rms_norm(torch.zeros(2, 8, device=device), weight, 1e-6).eq(0).all()
    assert rms_norm(torch.zeros(0, 8, device=device), weight, 1e-6).shape == (0, 8)
