import pytest
import torch

from prfaas_kernels.norm import (
    add_rms_norm,
    rms_norm,
    rms_norm_gated,
    rms_norm_gated_reference,
    rms_norm_reference,
    silu_and_mul,
    silu_and_mul_reference,
)
from prfaas_kernels.norm.cpu import Activation
from tests.kernels.error_ratio import error_ratio

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-3}

pytestmark = pytest.mark.usefixtures("form")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, 65])
def test_rms_norm(rows: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(rows, 48).to(dtype), torch.randn(48).to(dtype)
    out = rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_reference(x, weight, 1e-5)) < TOLERANCE[dtype]


@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gated_norm_rounds_once(dtype: torch.dtype, activation: Activation) -> None:
    x, weight = torch.randn(63, 4, 32), torch.randn(32).to(dtype)
    gate = torch.unflatten(torch.randn(63, 140).to(dtype)[:, 5:-7], 1, (4, 32))  # part of a wider projection
    before = x.clone()
    out = rms_norm_gated(x, gate, weight, 1e-5, dtype, activation)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_gated_reference(x, gate, weight, 1e-5, activation)) < TOLERANCE[dtype]
    assert torch.equal(x, before)


@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
def test_gate_of_extreme_values(activation: Activation) -> None:
    gate = torch.tensor([[-1e30, -100.0, -88.5, 0.0, 88.5, 100.0, 1e30, 1.0]])
    x, weight = torch.ones(1, 8), torch.ones(8)
    out = rms_norm_gated(x, gate, weight, 0.0, torch.float32, activation)
    torch.testing.assert_close(out, rms_norm_gated_reference(x, gate, weight, 0.0, activation).nan_to_num())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 48), (65, 48), (5, 3, 17)])
def test_add_then_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, residual = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    weight, total = torch.randn(shape[-1]), x + residual
    out = add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(residual, total)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_reference(total, weight, 1e-5)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("rows", "inner"), [(0, 24), (1, 24), (65, 24), (70, 1000), (3, 7)])
def test_silu_and_mul(rows: int, inner: int, dtype: torch.dtype) -> None:
    gate_up = torch.randn(rows, 2 * inner + 3).to(dtype)[:, 1:-2]
    out = silu_and_mul(gate_up)
    assert out.dtype == dtype
    assert out.shape == (rows, inner)
    if rows:
        assert error_ratio(out, silu_and_mul_reference(gate_up)) < TOLERANCE[dtype]


def test_nan_is_not_hidden() -> None:
    x = torch.ones(1, 32).bfloat16()
    x[0, 3] = torch.nan
    assert rms_norm(x, torch.ones(32), 1e-6).isnan().all()


def test_zero_row_stays_zero() -> None:
    assert torch.equal(rms_norm(torch.zeros(2, 8), torch.ones(8), 1e-6), torch.zeros(2, 8))
