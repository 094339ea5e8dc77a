"""The fused decode of a delta rule layer against its parts' references, one token after another."""

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d import conv_reference
from prfaas_kernels.delta_decode import DeltaLayer, delta_decode
from prfaas_kernels.gated_delta_rule import gdn_log_decay, gdn_reference
from prfaas_kernels.kimi_delta_attention import kda_log_decay, kda_reference
from prfaas_kernels.norm import rms_norm_gated_reference
from prfaas_kernels.pages.reference import gather_rows_reference, scatter_rows_reference
from tests.kernels.error_ratio import error_ratio

SPARE = 5
UNUSED_ROWS = 3
POISON = 0xFF
"""Four of it are a NaN in fp32, and two in bf16."""
Sizes = tuple[int, int, int, int]
"""Hk, K, H, V"""

pytestmark = pytest.mark.usefixtures("form")


@dataclass
class Case:
    layer: DeltaLayer
    qkv: Tensor
    gate: Tensor
    decay: Tensor
    beta: Tensor
    arena: Tensor
    state_rows: Tensor
    conv_rows: Tensor
    channels: int
    """Of a cached input, with those that are not this layer's."""

    def run(self) -> Tensor:
        rows = (self.qkv, self.gate, self.decay, self.beta)
        return delta_decode(*rows, self.layer, self.arena, self.state_rows, self.conv_rows)

    def states(self) -> Tensor:
        """[B, H, K, V]"""
        sizes = (self.layer.key, self.layer.value)
        rows = gather_rows_reference(self.arena, self.state_rows, self.layer.key * self.layer.value, torch.float32)
        return torch.unflatten(rows, -1, sizes)

    def convs(self) -> Tensor:
        """[B, W-1, C], of this layer's channels."""
        return gather_rows_reference(self.arena, self.conv_rows, self.channels, self.qkv.dtype)[..., self.columns]

    @property
    def columns(self) -> Tensor:
        """Channels of this layer among the cached."""
        return torch.cat([torch.arange(start, stop) for start, stop in self.layer.ranges])


def make_case(
    batch: int,
    sizes: Sizes,
    by_channel: bool,
    dtype: torch.dtype = torch.float32,
    taps: int = 4,
    of_ranks: bool = False,
) -> Case:
    """Inputs are slices of a wider projection; what is kept lies scattered in an arena; all that is nobody's is NaN.

    A rank has some of the channels of each cached input.
    """
    key_heads, key, heads, value = sizes
    decays = heads * key if by_channel else heads
    widths = [2 * key_heads * key + heads * value, heads * value, decays, heads]
    row = torch.full((batch, sum(widths) + 2 * SPARE), torch.nan, dtype=dtype)
    row[:, SPARE:-SPARE] = torch.randn(batch, sum(widths)).to(dtype)
    qkv, gate, decay, beta = torch.split(row[:, SPARE:-SPARE], widths, dim=1)
    activation: Literal["sigmoid", "silu"] = "sigmoid" if by_channel else "silu"
    starts = (0, key_heads * key, 2 * key_heads * key)
    if of_ranks:
        starts = (SPARE, 2 * SPARE + key_heads * key, 3 * SPARE + 2 * key_heads * key)
    layer = DeltaLayer(
        key_heads=key_heads,
        key=key,
        heads=heads,
        value=value,
        conv=torch.randn(taps, widths[0]).to(dtype),
        conv_starts=starts,
        a_log=torch.randn(heads),
        dt_bias=torch.randn(decays),
        norm=torch.randn(value).to(dtype),
        eps=1e-6,
        activation=activation,
    )
    channels = widths[0] + (4 * SPARE if of_ranks else 0)
    arena, (state_rows, conv_rows) = scattered(
        (batch, heads, 4 * key * value), (batch, taps - 1, channels * dtype.itemsize)
    )
    scatter_rows_reference(arena, state_rows, torch.randn(batch, heads, key * value))
    case = Case(layer, qkv, gate, decay, beta, arena, state_rows, conv_rows, channels)
    inputs = torch.full((batch, taps - 1, channels), torch.nan, dtype=dtype)
    inputs[..., case.columns] = torch.randn(batch, taps - 1, widths[0]).to(dtype)
    scatter_rows_reference(arena, conv_rows, inputs)
    return case


def scattered(*tables: tuple[int, int, int]) -> tuple[Tensor, list[Tensor]]:
    """A poisoned arena, and a table [B, n] of offsets in it, in random order, for each (B, n, bytes of a row).

    Tables are slices of wider ones.
    """
    found, end = [], 0
    for batch, rows, num_bytes in tables:
        size = -(-num_bytes // 64) * 64
        offsets = end + torch.randperm(batch * (rows + UNUSED_ROWS)).view(batch, -1) * size
        end += offsets.numel() * size
        found.append(offsets[:, 1 : 1 + rows])
    return torch.full((end,), POISON, dtype=torch.uint8), found


def expected(case: Case, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Output [H V], state and cached inputs of one sequence by the references."""
    layer = case.layer
    mixed, inputs = conv_reference(case.qkv[i : i + 1], layer.conv, case.convs()[i])
    q, k, v = torch.split(mixed, layer.widths, dim=1)
    q, k = (torch.unflatten(x, 1, (layer.key_heads, layer.key)) for x in (q, k))
    v = torch.unflatten(v, 1, (layer.heads, layer.value))
    log_decay = kda_log_decay if layer.by_channel else gdn_log_decay
    reference = kda_reference if layer.by_channel else gdn_reference
    decays = log_decay(case.decay[i : i + 1].float(), layer.a_log, layer.dt_bias)
    out, state = reference(q, k, v, decays, case.beta[i : i + 1].float().sigmoid(), case.states()[i])
    gate = torch.unflatten(case.gate[i : i + 1], 1, (layer.heads, layer.value))
    return rms_norm_gated_reference(out, gate, layer.norm, layer.eps, layer.activation).flatten(), state, inputs


def assert_steps(case: Case, tolerance: float, state_tolerance: float) -> None:
    wanted = [expected(case, i) for i in range(len(case.qkv))]
    out = case.run()
    assert out.dtype == case.qkv.dtype
    assert error_ratio(out, torch.stack([one for one, _, _ in wanted])) < tolerance
    assert error_ratio(case.states(), torch.stack([state for _, state, _ in wanted])) < state_tolerance
    assert torch.equal(case.convs().float(), torch.stack([inputs for _, _, inputs in wanted]))


GDN_SIZES = [(2, 16, 6, 24), (1, 15, 3, 7), (2, 64, 4, 64), (4, 128, 4, 128), (1, 33, 2, 130)]


@pytest.mark.parametrize("sizes", GDN_SIZES)
@pytest.mark.parametrize("of_ranks", [False, True])
def test_a_decay_for_each_head(sizes: Sizes, of_ranks: bool) -> None:
    assert_steps(make_case(3, sizes, by_channel=False, of_ranks=of_ranks), 2e-6, 1e-6)


@pytest.mark.parametrize("sizes", [(4, 16, 4, 16), (3, 15, 3, 15), (2, 64, 2, 64), (2, 128, 2, 128)])
@pytest.mark.parametrize("of_ranks", [False, True])
def test_a_decay_for_each_channel(sizes: Sizes, of_ranks: bool) -> None:
    assert_steps(make_case(3, sizes, by_channel=True, of_ranks=of_ranks), 2e-6, 1e-6)


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("by_channel", [False, True])
def test_batches_in_bfloat16(batch: int, by_channel: bool) -> None:
    assert_steps(make_case(batch, (2, 32, 2, 32), by_channel, torch.bfloat16), 1e-2, 1e-2)


@pytest.mark.parametrize("taps", [2, 3, 8])
def test_taps(taps: int) -> None:
    assert_steps(make_case(2, (2, 16, 2, 16), by_channel=False, taps=taps), 2e-6, 1e-6)


def test_heads_too_large_for_the_kernel() -> None:
    assert_steps(make_case(2, (1, 300, 1, 16), by_channel=False), 2e-6, 1e-6)


def test_several_steps_in_a_row() -> None:
    case = make_case(2, (2, 16, 4, 16), by_channel=False)
    for _ in range(6):
        assert_steps(case, 2e-6, 1e-6)


@pytest.mark.parametrize("of_ranks", [False, True])
def test_nothing_else_is_touched(of_ranks: bool) -> None:
    case = make_case(3, (2, 16, 6, 24), by_channel=False, of_ranks=of_ranks)
    before = case.arena.clone()
    case.run()
    size = case.qkv.element_size()
    for start, stop in case.layer.ranges:
        poison(before, case.conv_rows + start * size, (stop - start) * size)
        poison(case.arena, case.conv_rows + start * size, (stop - start) * size)
    for arena in (before, case.arena):
        poison(arena, case.state_rows, 4 * case.layer.key * case.layer.value)
    assert torch.equal(case.arena, before)
    assert case.qkv.isfinite().all()


def poison(arena: Tensor, offsets: Tensor, num_bytes: int) -> None:
    for offset in offsets.flatten().tolist():
        arena[offset : offset + num_bytes] = POISON
