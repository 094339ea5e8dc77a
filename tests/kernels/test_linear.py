import pytest
import torch

from prfaas_kernels.linear import linear, linear_reference
from tests.kernels.error_ratio import error_ratio


@pytest.mark.parametrize("rows", [0, 1, 63, 300])
@pytest.mark.parametrize(("inner", "out"), [(64, 96), (512, 512)])
def test_agrees_with_reference_small_and_large(rows: int, inner: int, out: int) -> None:
    x, weight = torch.randn(rows, inner), torch.randn(out, inner)
    if rows == 0:
        assert linear(x, weight).shape == (0, out)
    else:
        assert error_ratio(linear(x, weight), linear_reference(x, weight)) < 1e-6


def test_strided_input() -> None:
    wide, weight = torch.randn(300, 1100), torch.randn(512, 512)
    x = wide[:, 500:1012]
    assert error_ratio(linear(x, weight), linear_reference(x, weight)) < 1e-6


def test_strided_weight() -> None:
    x, weight = torch.randn(300, 512), torch.randn(512, 512).T
    assert error_ratio(linear(x, weight), linear_reference(x, weight)) < 1e-6


def test_bfloat16() -> None:
    x, weight = torch.randn(65, 128).bfloat16(), torch.randn(96, 128).bfloat16()
    out = linear(x, weight)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, linear_reference(x, weight)) < 5e-3
