"""A layer's fused decode in Triton against its CPU form, and every entry of the cache that it must not touch."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gqa import GqaHeads, decode_layer
from prfaas_kernels.gqa.triton import gqa_decode_layer
from prfaas_kernels.rotary import rotary_cos_sin, rotary_inverse_frequencies
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.scattered_pages import scattered_pages

LENGTHS = [1, 17, 64, 65, 150]


def layer_of(
    device: torch.device, heads: tuple[int, int], sizes: tuple[int, int], norms: str, interleaved: bool, full: bool
) -> GqaHeads:
    """`norms` names which of "q" and "k" are normalised; a `full` layer has sinks and gates."""
    q_norm, k_norm = (2 * torch.rand(sizes[0], device=device) if name in norms else None for name in "qk")
    sinks = torch.randn(heads[0], device=device) if full else None
    return GqaHeads(*heads, *sizes, 0.2, q_norm, k_norm, 1e-6, interleaved, sinks, full)


def same_but_nan(one: Tensor, other: Tensor) -> float:
    assert torch.equal(one.isnan(), other.isnan())
    return error_ratio(one.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "sizes", "rotated", "norms", "interleaved", "full"),
    [
        ((4, 2), (32, 32), 32, "qk", False, True),
        ((4, 2), (32, 32), 8, "qk", True, False),
        ((6, 2), (24, 20), 6, "", False, True),
        ((3, 1), (24, 20), 2, "q", True, False),
        ((4, 4), (96, 64), 0, "k", False, True),
    ],
)
def test_agrees_with_the_cpu(
    heads: tuple[int, int],
    sizes: tuple[int, int],
    rotated: int,
    norms: str,
    interleaved: bool,
    full: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    layer = layer_of(device, heads, sizes, norms, interleaved, full)
    before = [[torch.randn(n, heads[1], size, device=device).to(dtype) for n in LENGTHS] for size in sizes]
    for sequence in (*before[0], *before[1]):
        sequence[-1] = torch.nan  # to be written
    k_pages, v_pages, table = scattered_pages(*before, page_tokens=64)
    rows = torch.randn(len(LENGTHS), sum(layer.widths) + 5, device=device).to(dtype)[:, 2:-3]
    lengths = torch.tensor(LENGTHS, device=device)
    angles = rotary_cos_sin(lengths - 1, rotary_inverse_frequencies(rotated, 1e4).to(device)) if rotated else None
    ours, theirs = ((k_pages.clone(), v_pages.clone()) for _ in range(2))
    out = gqa_decode_layer(rows, layer, angles, *ours, table, lengths)
    wanted = decode_layer.gqa_decode_layer(rows, layer, angles, *theirs, table, lengths)
    assert out.dtype is dtype
    tolerance = 5e-6 if dtype is torch.float32 else 1.5e-2
    assert error_ratio(out, wanted) < tolerance
    assert same_but_nan(ours[0], theirs[0]) < tolerance
    assert same_but_nan(ours[1], theirs[1]) == 0
