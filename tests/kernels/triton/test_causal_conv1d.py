"""The convolution of spans by Triton's kernel, against one token after another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from prfaas_kernels.causal_conv1d import conv_reference
from prfaas_kernels.causal_conv1d.triton import causal_conv1d
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.poisoned_states import POISON, sparse_bytes, states_of, written_rows

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 6e-3}  # the interpreter cuts off what bf16 has no bits for


def check(x: Tensor, weight: Tensor, before: Tensor, spans: Spans, *, in_place: bool, tolerance: float = 1e-6) -> None:
    """Runs the kernel on states `before` [S, W-1, C], which are left out where there is no context."""
    known = torch.tensor(spans.context_lens, device=x.device) > 0
    poisoned = torch.where(known[:, None, None], before, torch.nan)
    states = states_of(poisoned, (x.shape[1],), in_place=in_place)
    out = causal_conv1d(x, weight, states, spans)
    after = written_rows(states, x.shape[1])
    outside = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    for i, (start, stop) in enumerate(spans.rows):
        outside[start:stop] = False
        old = before[i] * known[i]
        assert torch.equal(after[i], torch.cat([old, x[start:stop]])[stop - start :])
        if stop > start:
            assert error_ratio(out[start:stop], conv_reference(x[start:stop], weight, old)[0]) < tolerance
    assert out[outside].isnan().all()


def inputs(rows: int, channels: int, taps: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return (torch.randn(rows, channels, device=device).to(dtype), torch.randn(taps, channels, device=device).to(dtype))


def test_the_reference_agrees_with_torch(device: torch.device) -> None:
    x, weight = inputs(50, 24, 4, torch.float32, device)
    before = torch.randn(3, 24, device=device)
    theirs = functional.conv1d(torch.cat([before, x]).T[None], weight.T[:, None], groups=24)
    assert error_ratio(conv_reference(x, weight, before)[0], functional.silu(theirs)[0].T) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 4, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("context", [0, 5])
def test_one_span(device: torch.device, dtype: torch.dtype, tokens: int, context: int) -> None:
    x, weight = inputs(tokens, 24, 4, dtype, device)
    before = torch.randn(1, 3, 24, device=device).to(dtype)
    spans = Spans.packed((tokens,), (context,), device)
    check(x, weight, before, spans, in_place=True, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("taps", [2, 3, 4, 7])
def test_uneven_spans_with_gaps(device: torch.device, taps: int, in_place: bool) -> None:
    x, weight = inputs(160, 150, taps, torch.float32, device)
    rows = ((3, 3), (4, 70), (70, 71), (75, 77), (80, 160))
    spans = Spans.of(rows, (7, 0, 9, 0, 1), device)
    check(x, weight, torch.randn(5, taps - 1, 150, device=device), spans, in_place=in_place)


def test_a_slice_of_wider_rows(device: torch.device) -> None:
    wide, weight = inputs(70, 300, 4, torch.bfloat16, device)
    spans = Spans.packed((30, 40), (0, 3), device)
    before = torch.randn(2, 3, 130, device=device).bfloat16()
    check(wide[:, 20:150], weight[:, :130].contiguous(), before, spans, in_place=True, tolerance=6e-3)


@pytest.mark.parametrize("parts", [((0, 24),), ((8, 20), (40, 52)), ((4, 20), (30, 34), (60, 64))])
@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_a_ranks_channels_of_rows_that_it_shares(
    device: torch.device, parts: tuple[tuple[int, int], ...], tokens: int
) -> None:
    x, weight = inputs(tokens, 24, 4, torch.float32, device)
    rows = torch.randn(1, 3, 64, device=device)
    mine = torch.cat([torch.arange(start, stop) for start, stop in parts]).to(device)
    states = states_of(rows, (24,), parts=parts, in_place=True)
    out = causal_conv1d(x, weight, states, Spans.packed((tokens,), (3,), device))
    expected, after = conv_reference(x, weight, rows[0][:, mine])
    assert error_ratio(out, expected) < 1e-6
    wanted = rows.clone()
    wanted[0][:, mine] = after
    assert torch.equal(written_rows(states, 64), wanted)


def test_cut_in_two_equals_one_go(device: torch.device) -> None:
    x, weight = inputs(90, 24, 4, torch.float32, device)
    states = states_of(torch.full((1, 3, 24), torch.nan, device=device), (24,), in_place=True)
    whole = causal_conv1d(x, weight, states, Spans.packed((90,), (0,), device))
    parts = [
        causal_conv1d(x[start:stop], weight, states, Spans.packed((stop - start,), (start,), device))
        for start, stop in ((0, 2), (2, 3), (3, 67), (67, 90))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_only_the_states_rows_change(device: torch.device) -> None:
    x, weight = inputs(9, 20, 4, torch.float32, device)
    states = states_of(torch.randn(2, 3, 20, device=device), (20,))
    untouched = states.arena.clone()
    causal_conv1d(x, weight, states, Spans.packed((1, 8), (4, 4), device))
    for where in states.written.flatten().tolist():
        states.arena[where : where + 80] = POISON
    assert torch.equal(states.arena, untouched)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of what the gate closes on
def test_large_values_do_not_overflow(device: torch.device) -> None:
    x, weight = inputs(40, 16, 4, torch.float32, device)
    spans = Spans.packed((40,), (4,), device)
    check(1e4 * x, weight, torch.randn(1, 3, 16, device=device), spans, in_place=True)


def test_states_far_into_the_arena(device: torch.device, tmp_path: Path) -> None:
    """Offsets of more elements than 31 bits count."""
    base = 2**32 * 2
    arena = sparse_bytes(base + 4096, tmp_path, device)
    rows = torch.arange(base, base + 192, 64, device=device)[None]
    states = StateRows(arena, rows, rows, ((0, 16),), (16,), torch.bfloat16)
    x, weight = inputs(5, 16, 4, torch.bfloat16, device)
    before = torch.randn(3, 16, device=device).bfloat16()
    states.store_all(before[None])
    out = causal_conv1d(x, weight, states, Spans.packed((5,), (3,), device))
    assert error_ratio(out, conv_reference(x, weight, before)[0]) < 6e-3
    assert torch.equal(states.load_all()[0], x[2:])


def test_rows_far_apart(device: torch.device, tmp_path: Path) -> None:
    memory = sparse_bytes(2**33 + 4096, tmp_path, device).view(torch.bfloat16)
    x, weight = inputs(5, 16, 4, torch.bfloat16, device)
    far = memory.as_strided((5, 16), (2**30, 1)).copy_(x)
    before = torch.randn(2, 3, 16, device=device).bfloat16()
    check(far, weight, before, Spans.packed((1, 4), (3, 0), device), in_place=True, tolerance=6e-3)
