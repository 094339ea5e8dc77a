import pytest
import torch

from prfaas_kernels.norm import rms_norm, rms_norm_gated, rms_norm_gated_reference, rms_norm_reference
from tests.kernels.error_ratio import error_ratio

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [1, 65])
def test_rms_norm(rows: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(rows, 48).to(dtype), torch.randn(48).to(dtype)
    out = rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_reference(x, weight, 1e-5)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gated_norm_rounds_once(dtype: torch.dtype) -> None:
    x, gate, weight = torch.randn(63, 4, 32), torch.randn(63, 4, 32).to(dtype), torch.randn(32).to(dtype)
    before = x.clone()
    out = rms_norm_gated(x, gate, weight, 1e-5, dtype)
    assert out.dtype == dtype
    assert error_ratio(out, rms_norm_gated_reference(x, gate, weight, 1e-5)) < TOLERANCE[dtype]
    assert torch.equal(x, before)


def test_zero_row_stays_zero() -> None:
    assert torch.equal(rms_norm(torch.zeros(2, 8), torch.ones(8), 1e-6), torch.zeros(2, 8))
