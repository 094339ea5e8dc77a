import pytest
import torch

from prfaas_kernels.rotary import apply_rotary, rotary_cos_sin, rotary_inverse_frequencies, rotary_reference
from tests.kernels.error_ratio import error_ratio

THETA = 1e4


def table(positions: torch.Tensor, rotary_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    return rotary_cos_sin(positions, rotary_inverse_frequencies(rotary_dim, THETA))


@pytest.mark.parametrize("tokens", [1, 2, 65])
@pytest.mark.parametrize("rotary_dim", [2, 16, 24])
@pytest.mark.parametrize("interleaved", [False, True])
def test_agrees_with_reference(tokens: int, rotary_dim: int, interleaved: bool) -> None:
    x, positions = torch.randn(tokens, 3, 24), torch.randint(0, 1000, (tokens,))
    out = apply_rotary(x, *table(positions, rotary_dim), interleaved=interleaved)
    # Angles up to 1000 radians are fp32 products, hence rounded to 3e-5.
    assert error_ratio(out, rotary_reference(x, positions, rotary_dim, THETA, interleaved)) < 5e-5
    assert torch.equal(out[..., rotary_dim:], x[..., rotary_dim:])


@pytest.mark.parametrize("interleaved", [False, True])
def test_is_exact_where_angles_are_small(interleaved: bool) -> None:
    x, positions = torch.randn(4, 3, 16), torch.arange(4)
    out = apply_rotary(x, *table(positions, 16), interleaved=interleaved)
    assert error_ratio(out, rotary_reference(x, positions, 16, THETA, interleaved)) < 2e-7
    assert torch.equal(out[0], x[0])


def test_first_pair_turns_by_one_radian_per_position() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    cos, sin = torch.tensor(2.0).cos(), torch.tensor(2.0).sin()
    turned = table(torch.tensor([2]), 4)
    assert torch.allclose(apply_rotary(x, *turned)[0, 0], torch.tensor([cos, 0, sin, 0]))
    assert torch.allclose(apply_rotary(x, *turned, interleaved=True)[0, 0], torch.tensor([cos, sin, 0, 0]))


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_distance_only(interleaved: bool) -> None:
    q, k = torch.randn(1, 1, 16), torch.randn(1, 1, 16)

    def score(i: int, j: int) -> float:
        left = apply_rotary(q, *table(torch.tensor([i]), 16), interleaved=interleaved)
        right = apply_rotary(k, *table(torch.tensor([j]), 16), interleaved=interleaved)
        return float((left * right).sum())

    assert abs(score(5, 2) - score(103, 100)) < 1e-4
    assert abs(score(5, 2) - score(5, 4)) > 1e-3


@pytest.mark.parametrize("interleaved", [False, True])
def test_bfloat16_is_rounded_once(interleaved: bool) -> None:
    x, turned = torch.randn(7, 3, 24).bfloat16(), table(torch.arange(7), 16)
    exact = apply_rotary(x.float(), *turned, interleaved=interleaved)
    assert torch.equal(apply_rotary(x, *turned, interleaved=interleaved), exact.bfloat16())


def test_reads_strided_heads_and_leaves_them_alone() -> None:
    projected = torch.randn(5, 2 * 16 + 8)
    x, before = torch.unflatten(projected[:, :32], 1, (2, 16)), projected.clone()
    out = apply_rotary(x, *table(torch.arange(5), 8))
    assert torch.equal(out, apply_rotary(x.contiguous(), *table(torch.arange(5), 8)))
    assert torch.equal(projected, before)
