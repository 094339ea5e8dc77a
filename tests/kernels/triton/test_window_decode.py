"""Decode over the rings of a sliding window in Triton, against attention over all tokens."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.state_rows import StateRows
from prfaas_kernels.window_attention.triton_decode import window_decode
from tests.kernels.error_ratio import error_ratio
from tests.kernels.scattered_rows import scattered_rows

LENGTHS = [1, 2, 7, 65, 66, 200]


def rings(tokens: list[Tensor], window: int, offset: int) -> StateRows:
    """All but the last of each sequence's tokens at their places, among NaN, `offset` groups into every row."""
    groups, size = tokens[0].shape[1:]
    dims = (len(tokens), window - 1, groups + offset, size)
    states = torch.full(dims, torch.nan, dtype=tokens[0].dtype, device=tokens[0].device)
    for i, x in enumerate(tokens):
        for position in range(max(0, len(x) - window), len(x) - 1):
            states[i, position % (window - 1), offset:] = x[position]
    at = scattered_rows(states)
    part = (offset * size, (offset + groups) * size)
    return StateRows(at.arena, at.read, at.written, (part,), (groups, size), at.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("window", "sinks"), [(2, False), (8, True), (65, True), (66, False), (128, True)])
def test_reads_its_ring_and_joins_it(window: int, sinks: bool, dtype: torch.dtype, device: torch.device) -> None:
    heads, groups, key, value = 6, 2, 24, 20
    tokens = [[torch.randn(n, groups, size, device=device).to(dtype) for n in LENGTHS] for size in (key, value)]
    q = torch.randn(len(LENGTHS), heads, key + 8, device=device).to(dtype)[..., :key]
    k, v = (torch.stack([x[-1] for x in part]) for part in tokens)
    k_rings, v_rings = rings(tokens[0], window, 0), rings(tokens[1], window, 3)
    before = [x.load_all() for x in (k_rings, v_rings)]
    logits = 2 * torch.randn(heads, device=device) if sinks else None
    lengths = torch.tensor(LENGTHS, device=device)
    out = window_decode(q, k, v, k_rings, v_rings, lengths, 0.2, sinks=logits)
    wanted = [
        gqa_reference(q[i, None], k, v, 0.2, sinks=logits, window=window)
        for i, (k, v) in enumerate(zip(*tokens, strict=True))
    ]
    assert error_ratio(out, torch.cat(wanted)) < (5e-6 if dtype is torch.float32 else 1e-2)
    for at, new, old in ((k_rings, k, before[0]), (v_rings, v, before[1])):
        for i, length in enumerate(LENGTHS):
            old[i, (length - 1) % (window - 1)] = new[i]
        assert torch.equal(at.load_all().view(torch.uint8), old.view(torch.uint8))


@pytest.mark.parametrize(("heads", "key", "value"), [(2, 192, 128), (40, 16, 16)])
def test_heads_of_other_sizes(heads: int, key: int, value: int, device: torch.device) -> None:
    tokens = [[torch.randn(n, 2, size, device=device) for n in (3, 90)] for size in (key, value)]
    q = 5 * torch.randn(2, heads, key, device=device)
    k, v = (torch.stack([x[-1] for x in part]) for part in tokens)
    at = (rings(tokens[0], 80, 0), rings(tokens[1], 80, 0))
    out = window_decode(q, k, v, *at, torch.tensor([3, 90], device=device), key**-0.5)
    wanted = [
        gqa_reference(q[i, None], k, v, key**-0.5, window=80) for i, (k, v) in enumerate(zip(*tokens, strict=True))
    ]
    assert error_ratio(out, torch.cat(wanted)) < 5e-6
