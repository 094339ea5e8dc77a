"""Sliding windows whose tokens lie in rings of state rows, against attention over all tokens."""

import pytest
import torch
from torch import Tensor

from prfaas_kernels.gqa import gqa_reference
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from prfaas_kernels.window_attention import window_decode, window_prefill
from tests.kernels.error_ratio import error_ratio
from tests.kernels.scattered_rows import scattered_rows

HEADS, GROUPS, KEY, VALUE = 6, 2, 24, 20
SCALE = KEY**-0.5
Sequence = tuple[Tensor, Tensor, Tensor]


def sequence(length: int, dtype: torch.dtype = torch.float32) -> Sequence:
    q, k, v = (torch.randn(length, *dims) for dims in ((HEADS, KEY), (GROUPS, KEY), (GROUPS, VALUE)))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def rings(tokens: list[Tensor], contexts: list[int], window: int) -> StateRows:
    """The last `window` - 1 of each sequence's first `contexts` tokens at their places, NaN at all others."""
    states = torch.full((len(tokens), window - 1, *tokens[0].shape[1:]), torch.nan, dtype=tokens[0].dtype)
    for i, (x, context) in enumerate(zip(tokens, contexts, strict=True)):
        for position in range(max(0, context - window + 1), context):
            states[i, position % (window - 1)] = x[position]
    return scattered_rows(states)


def ring_is(actual: Tensor, x: Tensor, window: int) -> bool:
    """Whether a ring holds the last tokens of all of `x`."""
    last = range(max(0, len(x) - window + 1), len(x))
    return all(torch.equal(actual[position % (window - 1)], x[position]) for position in last)


@pytest.mark.parametrize("window", [2, 8, 65])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_reads_its_ring_and_joins_it(window: int, with_sinks: bool, dtype: torch.dtype) -> None:
    lengths = [1, 5, 7, 64, 65, 300]
    all_tokens = [sequence(length, dtype) for length in lengths]
    contexts = [length - 1 for length in lengths]
    k_rings, v_rings = (rings([one[part] for one in all_tokens], contexts, window) for part in (1, 2))
    sinks = torch.randn(HEADS) if with_sinks else None
    q, k, v = (torch.stack([one[part][-1] for one in all_tokens]) for part in range(3))
    out = window_decode(q, k, v, k_rings, v_rings, torch.tensor(lengths), SCALE, sinks=sinks)
    expected = [gqa_reference(q[-1:], k, v, SCALE, sinks=sinks, window=window) for q, k, v in all_tokens]
    assert error_ratio(out, torch.cat(expected)) < (2e-6 if dtype == torch.float32 else 5e-3)
    for i, (_, k, v) in enumerate(all_tokens):
        assert ring_is(k_rings.load(i, 1), k, window)
        assert ring_is(v_rings.load(i, 1), v, window)


@pytest.mark.parametrize("window", [2, 8, 65])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_prefill_of_uneven_spans_reads_rings_and_fills_them(window: int, with_sinks: bool) -> None:
    lens, contexts = (1, 70, 0, 3, 200), (5, 0, 9, 64, 130)
    all_tokens = [sequence(context + length) for length, context in zip(lens, contexts, strict=True)]
    k_rings, v_rings = (rings([one[part] for one in all_tokens], list(contexts), window) for part in (1, 2))
    sinks = torch.randn(HEADS) if with_sinks else None
    spans = Spans.packed(lens, contexts)
    q, k, v = (torch.cat([x[part][n:] for x, n in zip(all_tokens, contexts, strict=True)]) for part in range(3))
    out = window_prefill(q, k, v, k_rings, v_rings, spans, SCALE, window, sinks=sinks)
    for i, ((start, stop), (queries, keys, values)) in enumerate(zip(spans.rows, all_tokens, strict=True)):
        new = queries[len(queries) - (stop - start) :]
        expected = gqa_reference(new, keys, values, SCALE, sinks=sinks, window=window)
        assert stop == start or error_ratio(out[start:stop], expected) < 2e-6
        assert ring_is(k_rings.load(i, 1), keys, window)
        assert ring_is(v_rings.load(i, 1), values, window)
