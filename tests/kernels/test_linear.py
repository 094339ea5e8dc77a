import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prfaas_kernels.linear import PackedWeight, linear, linear_reference, pack_linear
from prfaas_kernels.linear.sizes import few_sizes
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


@pytest.mark.parametrize("rows", [1, 9, 65])
def test_bfloat16(rows: int) -> None:
    x, weight = torch.randn(rows, 128).bfloat16(), torch.randn(96, 128).bfloat16()
    out = linear(x, weight)
    assert out.shape == (rows, 96)
    assert out.dtype == torch.bfloat16
    assert error_ratio(out, linear_reference(x, weight)) < 5e-3


@pytest.mark.parametrize("rows", [0, 1, 7, 9, 17, 65, 129, 300])
def test_packed_weight_gives_what_the_plain_one_gives(rows: int) -> None:
    x, weight = torch.randn(rows, 128).bfloat16(), torch.randn(96, 128).bfloat16()
    packed = pack_linear(weight)
    assert isinstance(packed, PackedWeight)
    assert packed.shape == weight.shape
    out = linear(x, packed)
    assert out.shape == (rows, 96)
    assert out.dtype == torch.bfloat16
    if rows:
        assert error_ratio(out, linear_reference(x, weight)) < 5e-3


def test_packed_weight_with_strided_input_and_from_a_strided_weight() -> None:
    x, weight = torch.randn(50, 300).bfloat16()[:, 100:228], torch.randn(128, 96).bfloat16().T
    assert error_ratio(linear(x, pack_linear(weight)), linear_reference(x, weight)) < 5e-3


def test_fp32_weight_is_left_as_it_is() -> None:
    weight = torch.randn(8, 8)
    assert pack_linear(weight) is weight


@given(st.integers(1, 1 << 20))
def test_rows_are_rounded_to_few_sizes(rows: int) -> None:
    size = few_sizes(rows)
    assert rows <= size <= max(8, rows * 5 / 4)
    assert few_sizes(size) == size
    assert len(f"{size:b}".rstrip("0")) <= 3  # three leading bits: four sizes from one power of two to the next
