from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from prfaas_kernels.chunked_prefill_attention.reference import chunked_prefill_attention_reference
from prfaas_kernels.chunked_prefill_attention.triton import chunked_prefill_attention
from prfaas_kernels.chunked_prefill_attention.triton_join import parts_of
from prfaas_kernels.spans import Spans
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.paged import paged
from tests.kernels.triton.tolerance import BF16, FP32, FP32_OF_BF16

LENS, CONTEXTS = (1, 0, 63, 65, 200), (100, 77, 0, 64, 37)


class Batch:
    """Sequences of `lens` new tokens after `contexts`, packed with gaps between them, their keys in shuffled pages."""

    def __init__(
        self,
        device: torch.device,
        lens: tuple[int, ...] = LENS,
        contexts: tuple[int, ...] = CONTEXTS,
        *,
        heads: int = 4,
        groups: int = 2,
        key: int = 64,
        value: int = 64,
        page: int = 64,
        dtype: torch.dtype = torch.bfloat16,
        window: int | None = None,
    ) -> None:
        starts = [5 + 3 * i + sum(lens[:i]) for i in range(len(lens))]
        rows = tuple((start, start + n) for start, n in zip(starts, lens, strict=True))
        self.spans = Spans.of(rows, contexts, device)
        self.scale = key**-0.5
        lengths = [n + context for n, context in zip(lens, contexts, strict=True)]
        new: dict[str, Any] = {"device": device, "dtype": dtype}
        self.k = [torch.randn(n, groups, key, **new) for n in lengths]
        self.v = [torch.randn(n, groups, value, **new) for n in lengths]
        unread = [0 if window is None else max(0, context - window + 1) for context in contexts]
        self.k_pages, self.v_pages, self.table = paged([self.k, self.v], page, unread)
        self.window = window
        self.tolerances = (BF16, FP32_OF_BF16) if dtype is torch.bfloat16 else (FP32, FP32)
        wide = torch.full((rows[-1][1] + 4, heads + 1, key), torch.nan, **new)
        self.q, self.gate = wide[:, 1:], torch.randn(len(wide), heads, 2 * value, **new)[..., value:]
        for start, stop in rows:
            self.q[start:stop] = 2 * torch.randn(stop - start, heads, key, **new)

    def check(
        self,
        *,
        sinks: Tensor | None = None,
        gated: bool = False,
        scale: float | None = None,
    ) -> None:
        """Compares every span with the reference; the rows between them are not written."""
        gate = self.gate if gated else None
        out, lse = chunked_prefill_attention(
            self.q,
            self.k_pages,
            self.v_pages,
            self.table,
            self.spans,
            scale or self.scale,
            sinks=sinks,
            window=self.window,
            gate=gate,
        )
        assert (out.dtype, lse.dtype) == (self.q.dtype, torch.float32)
        written = torch.zeros(len(out), dtype=torch.bool)
        for (start, stop), k, v in zip(self.spans.rows, self.k, self.v, strict=True):
            rows = slice(start, stop)
            written[rows] = True
            expected, total = chunked_prefill_attention_reference(
                self.q[rows],
                k,
                v,
                scale or self.scale,
                sinks=sinks,
                window=self.window,
                gate=None if gate is None else gate[rows],
            )
            if start < stop:
                assert error_ratio(out[rows], expected) < self.tolerances[0]
                assert error_ratio(lse[rows], total) < self.tolerances[1]
        assert out[~written].isnan().all()
        assert lse[~written].isnan().all()


def test_reference_agrees_with_sdpa(device: torch.device) -> None:
    q, k, v = (torch.randn(65, heads, 24, device=device) for heads in (6, 2, 2))
    by_head = [x.transpose(0, 1)[None] for x in (q, k, v)]
    theirs = scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], is_causal=True, enable_gqa=True)
    out, _ = chunked_prefill_attention_reference(q, k, v, 24**-0.5)
    assert error_ratio(out, theirs[0].transpose(0, 1)) < 1e-6


def test_reference_by_hand() -> None:
    q, k = torch.zeros(3, 1, 8), torch.randn(3, 1, 8)  # all weights are equal
    v, gate = torch.tensor([3.0, 6.0, 30.0])[:, None, None], torch.zeros(3, 1, 1)
    out, lse = chunked_prefill_attention_reference(q, k, v, 1.0, sinks=torch.zeros(1), window=2, gate=gate)
    assert out.flatten().tolist() == pytest.approx([0.75, 1.5, 6])
    assert lse.exp().flatten().tolist() == pytest.approx([2, 3, 3])


@pytest.mark.parametrize(("heads", "groups", "page"), [(4, 2, 64), (8, 1, 16), (6, 2, 8), (3, 3, 12), (12, 3, 128)])
def test_uneven_spans_over_shuffled_pages(device: torch.device, heads: int, groups: int, page: int) -> None:
    Batch(device, heads=heads, groups=groups, page=page).check()


@pytest.mark.parametrize(("key", "value"), [(128, 128), (192, 128), (256, 256), (96, 80), (20, 24)])
def test_head_sizes(device: torch.device, key: int, value: int) -> None:
    Batch(device, (70, 1), (61, 129), key=key, value=value).check()


@pytest.mark.parametrize("page", [64, 16])
def test_float32(device: torch.device, page: int) -> None:
    Batch(device, page=page, groups=1, dtype=torch.float32).check()


@pytest.mark.parametrize("window", [None, 1, 40, 128])
def test_sinks_windows_and_gates(device: torch.device, window: int | None) -> None:
    batch = Batch(device, groups=1, window=window)
    batch.check(sinks=3 * torch.randn(4, device=device), gated=True)


@pytest.mark.parametrize(("tokens", "context", "window"), [(200, 600, 300), (300, 50, 200), (40, 500, 129)])
def test_windows_over_many_blocks(device: torch.device, tokens: int, context: int, window: int) -> None:
    Batch(device, (tokens,), (context,), heads=2, groups=2, window=window).check()


@pytest.mark.parametrize("window", [None, 7])
def test_huge_logits(device: torch.device, window: int | None) -> None:
    Batch(device, window=window).check(scale=1e3, sinks=torch.tensor([-torch.inf, 0, 1e4, 1e4], device=device))


def test_few_queries_take_a_long_context_in_parts(device: torch.device) -> None:
    batch = Batch(device, (3, 0, 20, 1), (1600, 800, 30, 0))
    assert parts_of(programs=6, multiprocessors=132, keys=1620) == 3
    batch.check(sinks=3 * torch.randn(4, device=device), gated=True)
    batch.check()


def test_parts_fill_a_gpu_and_are_not_too_short() -> None:
    assert parts_of(programs=100, multiprocessors=132, keys=1 << 17) == 1
    assert parts_of(programs=20, multiprocessors=132, keys=1 << 17) == 6
    assert parts_of(programs=20, multiprocessors=132, keys=100) == 1
    assert parts_of(programs=0, multiprocessors=132, keys=0) == 1


def test_a_chunk_in_two(device: torch.device) -> None:
    batch = Batch(device, (150,), (0,))
    (start, stop), cut = batch.spans.rows[0], 66
    whole, parts = (
        [
            chunked_prefill_attention(
                batch.q, batch.k_pages, batch.v_pages, batch.table, Spans.of((rows,), (context,), device), 0.1
            )[0][rows[0] : rows[1]]
            for rows, context in cuts
        ]
        for cuts in ([((start, stop), 0)], [((start, start + cut), 0), ((start + cut, stop), cut)])
    )
    assert error_ratio(torch.cat(parts), whole[0]) < BF16


def test_pages_that_sequences_share(device: torch.device) -> None:
    batch = Batch(device, (30, 30), (64, 64))
    batch.table[1, 0] = batch.table[0, 0]
    batch.k[1][:64], batch.v[1][:64] = batch.k[0][:64], batch.v[0][:64]
    batch.check()


def test_no_rows(device: torch.device) -> None:
    Batch(device, (0, 0), (5, 0)).check()
