import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from prfaas_kernels.window_attention.reference import ring_reference, window_prefill_reference
from prfaas_kernels.window_attention.triton_prefill import window_prefill
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.tolerance import BF16, FP32

KEY, VALUE, SCALE = 48, 32, 48**-0.5
LENS, CONTEXTS = (1, 0, 63, 65, 200, 3), (100, 77, 0, 64, 37, 5)


def rings(
    sequences: list[Tensor], contexts: tuple[int, ...], entries: int, in_place: bool
) -> tuple[StateRows, list[Tensor]]:
    """The rings of sequences' tensors [L, G, D] before their new tokens, scattered in an arena full of NaN.

    A rank's share lies in the middle of each row. Also returns what `written` should hold afterwards.
    """
    x = sequences[0]
    size, first = math.prod(x.shape[1:]), 16
    row = -(-(size + 2 * first) * x.element_size() // 64) * 64
    shape = (2, len(sequences), entries)
    arena = torch.full((max(1, shape[0] * shape[1] * entries) * row // x.element_size(),), torch.nan, dtype=x.dtype)
    read, written = torch.randperm(shape[0] * shape[1] * entries).view(shape) * row
    states = StateRows(
        arena.view(torch.uint8).to(x.device),
        read.to(x.device),
        (read if in_place else written).to(x.device),
        ((first, first + size),),
        tuple(x.shape[1:]),
        x.dtype,
    )
    for i, (sequence, context) in enumerate(zip(sequences, contexts, strict=True)):
        if min(entries, context) > 0:
            held = StateRows(**{name: getattr(states, name) for name in states.__slots__} | {"written": states.read})
            known = ring_reference(sequence[:context], entries)
            known[context:] = torch.nan
            held.store(i, known)
    return states, [ring_reference(sequence, entries) for sequence in sequences]


def check(
    device: torch.device,
    window: int,
    *,
    lens: tuple[int, ...] = LENS,
    contexts: tuple[int, ...] = CONTEXTS,
    heads: int = 4,
    groups: int = 2,
    dtype: torch.dtype = torch.float32,
    tolerance: float = FP32,
    in_place: bool = True,
    sinks: Tensor | None = None,
    scale: float = SCALE,
) -> None:
    """Compares every span, and its ring afterwards, with the reference."""
    starts = [2 + 3 * i + sum(lens[:i]) for i in range(len(lens))]
    spans = Spans.of(tuple((start, start + n) for start, n in zip(starts, lens, strict=True)), contexts, device)
    lengths = [n + context for n, context in zip(lens, contexts, strict=True)]
    new: dict[str, Any] = {"device": device, "dtype": dtype}
    k = [torch.randn(n, groups, KEY, **new) for n in lengths]
    v = [torch.randn(n, groups, VALUE, **new) for n in lengths]
    k_rings, k_expected = rings(k, contexts, window - 1, in_place)
    v_rings, v_expected = rings(v, contexts, window - 1, in_place)
    packed = torch.full((starts[-1] + lens[-1] + 2, heads * KEY + groups * (KEY + VALUE)), torch.nan, **new)
    parts = torch.split(packed, [heads * KEY, groups * KEY, groups * VALUE], dim=1)
    q, k_new, v_new = (torch.unflatten(x, 1, (-1, size)) for x, size in zip(parts, (KEY, KEY, VALUE), strict=True))
    for i, (start, stop) in enumerate(spans.rows):
        q[start:stop] = 2 * torch.randn(stop - start, heads, KEY, **new)
        k_new[start:stop], v_new[start:stop] = k[i][contexts[i] :], v[i][contexts[i] :]

    out = window_prefill(q, k_new, v_new, k_rings, v_rings, spans, scale, window, sinks=sinks)

    between = torch.ones(len(out), dtype=torch.bool)
    for i, (start, stop) in enumerate(spans.rows):
        between[start:stop] = False
        if start < stop:
            logits = None if sinks is None else sinks.cpu()
            expected = window_prefill_reference(
                q[start:stop].cpu(), k[i].cpu(), v[i].cpu(), scale, window, sinks=logits
            )
            assert error_ratio(out[start:stop].cpu(), expected) < tolerance
        held = min(lengths[i], window - 1)
        for states, ring in ((k_rings, k_expected[i]), (v_rings, v_expected[i])):
            now = StateRows(**{name: getattr(states, name) for name in states.__slots__} | {"read": states.written})
            assert torch.equal(now.load(i, 1)[:held], ring[:held])
    assert out.dtype == dtype
    assert out[between].isnan().all()


def test_reference_agrees_with_sdpa() -> None:
    q, k, v = torch.randn(20, 4, KEY), torch.randn(50, 2, KEY), torch.randn(50, 2, VALUE)
    ago = torch.arange(30, 50)[:, None] - torch.arange(50)
    by_head = [x.transpose(0, 1)[None] for x in (q, k, v)]
    seen = (ago >= 0) & (ago < 7)
    theirs = scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], attn_mask=seen, enable_gqa=True)
    assert error_ratio(window_prefill_reference(q, k, v, SCALE, 7), theirs[0].transpose(0, 1)) < 1e-6


def test_ring_reference_by_hand() -> None:
    assert ring_reference(torch.tensor([5.0, 6, 7, 8, 9]), 3).tolist() == [8, 9, 7]
    assert ring_reference(torch.tensor([5.0]), 3).tolist() == [5, 0, 0]


@pytest.mark.parametrize("window", [1, 2, 64, 100])
@pytest.mark.parametrize("in_place", [True, False])
def test_windows(device: torch.device, window: int, in_place: bool) -> None:
    check(device, window, in_place=in_place)


@pytest.mark.parametrize(("heads", "groups"), [(16, 2), (3, 3), (6, 2), (4, 1)])
def test_heads_and_sinks(device: torch.device, heads: int, groups: int) -> None:
    sinks = 3 * torch.randn(heads, device=device)
    check(device, 40, lens=(65, 5), contexts=(10, 90), heads=heads, groups=groups, sinks=sinks)


def test_bfloat16(device: torch.device) -> None:
    check(device, 50, dtype=torch.bfloat16, tolerance=BF16, in_place=False)


def test_huge_logits(device: torch.device) -> None:
    sinks = torch.tensor([-torch.inf, 0, 1e4, 1e4], device=device)
    check(device, 30, scale=1e3, dtype=torch.bfloat16, tolerance=BF16, sinks=sinks)


def test_no_new_tokens(device: torch.device) -> None:
    check(device, 20, lens=(0, 0, 0), contexts=(0, 7, 50), in_place=False)
