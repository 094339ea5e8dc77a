from typing import Any

import pytest
import torch

from prfaas_kernels.mla.reference import mla_reference
from prfaas_kernels.mla.triton_expanded import attend_expanded
from prfaas_kernels.mla.triton_plan import longest_absorbed, plan
from prfaas_kernels.mla.triton_prefill import mla_prefill
from prfaas_kernels.mla.triton_rounds import cut_rounds
from prfaas_kernels.spans import Spans
from tests.kernels.error_ratio import error_ratio
from tests.kernels.triton.paged import paged
from tests.kernels.triton.tolerance import EXPANDED_BF16, EXTREME, FP32

LENS, CONTEXTS = (1, 0, 63, 65), (100, 77, 0, 37)


class Batch:
    """Sequences of `lens` new tokens after `contexts`, packed with gaps between them, their latents in pages."""

    def __init__(
        self,
        device: torch.device,
        lens: tuple[int, ...] = LENS,
        contexts: tuple[int, ...] = CONTEXTS,
        *,
        heads: int = 2,
        nope: int = 16,
        rope: int = 8,
        value: int = 24,
        rank: int = 40,
        page: int = 16,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        starts = [5 + 3 * i + sum(lens[:i]) for i in range(len(lens))]
        rows = tuple((start, start + n) for start, n in zip(starts, lens, strict=True))
        self.spans = Spans.of(rows, contexts, device)
        new: dict[str, Any] = {"device": device, "dtype": dtype}
        lengths = [n + context for n, context in zip(lens, contexts, strict=True)]
        self.latents = [torch.randn(n, rank + rope, **new) for n in lengths]
        self.pages, self.table = paged([self.latents], page, (0,) * len(lens))
        self.kv_up = torch.randn(heads, nope + value, rank, **new) / rank**0.5
        self.q = torch.full((rows[-1][1] + 4, heads + 1, nope + rope), torch.nan, **new)[:, :-1]
        for start, stop in rows:
            self.q[start:stop] = 2 * torch.randn(stop - start, heads, nope + rope, **new)
        self.rope = rope

    def check(self, tolerance: float, out: torch.Tensor) -> None:
        """Compares every span with the reference; the rows between them are not written."""
        assert out.dtype == self.q.dtype
        between = torch.ones(len(out), dtype=torch.bool)
        for (start, stop), latents in zip(self.spans.rows, self.latents, strict=True):
            between[start:stop] = False
            if start < stop:
                expected = mla_reference(self.q[start:stop].cpu(), latents.cpu(), self.kv_up.cpu(), self.rope)
                assert error_ratio(out[start:stop].cpu(), expected) < tolerance
        assert out[between].isnan().all()

    def prefill(self) -> torch.Tensor:
        return mla_prefill(self.q, self.pages, self.table, self.spans, self.kv_up, self.rope)

    def expanded(self, round_tokens: int) -> torch.Tensor:
        _, expanded = plan(self.spans.rows, self.spans.context_lens, 0, round_tokens, self.q.device)
        assert expanded is not None
        value = self.kv_up.shape[1] - self.q.shape[2] + self.rope
        out = torch.empty(*self.q.shape[:2], value, dtype=self.q.dtype, device=self.q.device)
        attend_expanded(self.q, self.pages, self.table, expanded, self.kv_up, self.rope, out)
        return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FP32), (torch.bfloat16, EXPANDED_BF16)])
@pytest.mark.parametrize("rope", [0, 8])
def test_short_and_long_spans_together(device: torch.device, rope: int, dtype: torch.dtype, tolerance: float) -> None:
    batch = Batch(device, rope=rope, dtype=dtype)  # of these sizes, a span of 63 tokens is expanded
    batch.check(tolerance, batch.prefill())


@pytest.mark.parametrize("round_tokens", [8192, 100, 64])
def test_rounds_that_cut_sequences(device: torch.device, round_tokens: int) -> None:
    batch = Batch(device, (1, 65, 200), (100, 0, 37), page=64)
    batch.check(FP32, batch.expanded(round_tokens))


def test_rounds_that_end_where_a_block_of_queries_does(device: torch.device) -> None:
    batch = Batch(device, (150,), (0,))
    batch.check(FP32, batch.expanded(64))


@pytest.mark.parametrize("page", [8, 12, 64])
def test_short_spans_in_latent_space(device: torch.device, page: int) -> None:
    batch = Batch(device, (5, 1, 20), (0, 63, 100), page=page, rank=128, heads=8)
    batch.check(FP32, batch.prefill())


def test_sizes_of_kimi_linear(device: torch.device) -> None:
    sizes: dict[str, Any] = {"nope": 128, "rope": 64, "value": 128, "rank": 512, "heads": 2, "page": 64}
    short = Batch(device, (3,), (70,), **sizes)
    short.check(FP32, short.prefill())
    long = Batch(device, (180,), (70,), **sizes)
    long.check(FP32, long.prefill())
    long.check(FP32, long.expanded(200))


def test_huge_logits(device: torch.device) -> None:
    batch = Batch(device)
    batch.q *= 20
    batch.check(EXTREME, batch.prefill())
    batch.check(EXTREME, batch.expanded(50))


def test_a_chunk_in_two(device: torch.device) -> None:
    batch = Batch(device, (150,), (0,))
    (start, stop), cut = batch.spans.rows[0], 66
    whole, first, second = (
        mla_prefill(batch.q, batch.pages, batch.table, Spans.of((rows,), (context,), device), batch.kv_up, 8)
        for rows, context in (((start, stop), 0), ((start, start + cut), 0), ((start + cut, stop), cut))
    )
    parts = torch.cat([first[start : start + cut], second[start + cut : stop]])
    assert error_ratio(parts, whole[start:stop]) < FP32


def test_no_tokens(device: torch.device) -> None:
    batch = Batch(device, (0, 0), (5, 0))
    batch.check(0, batch.prefill())


def test_all_layers_of_a_step_share_a_plan(device: torch.device) -> None:
    rows, contexts = ((3, 5), (7, 7), (7, 200)), (4, 9, 0)
    short, long = plan(rows, contexts, 2, 100, device)
    assert plan(rows, contexts, 2, 100, device) == (short, long)
    assert plan.cache_info().hits > 0
    assert short is not None
    assert long is not None
    assert (short.rows.tolist(), short.sequences.tolist()) == ([3, 4], [0])
    assert (short.spans.rows, short.spans.context_lens) == (((0, 2),), (4,))
    assert [table.tolist() for table in long.tables] == [[list(piece) for piece in pieces] for pieces in long.rounds]
    assert {piece.sequence for pieces in long.rounds for piece in pieces} == {2}
    assert plan(rows[1:2], contexts[1:2], 2, 100, device) == (None, None)


@pytest.mark.parametrize(("nope", "value", "rank"), [(128, 128, 512), (16, 24, 40), (32, 32, 32), (32, 32, 16)])
def test_the_longest_span_in_latent_space(nope: int, value: int, rank: int) -> None:
    longest = longest_absorbed(nope + value, rank)

    def cheaper(tokens: int) -> bool:
        return tokens * 2 * rank < tokens * (nope + value) + rank * (nope + value)

    assert cheaper(min(longest, 1_000_000))
    assert longest > 1_000_000 or not cheaper(longest + 1)


def test_rounds_hold_every_key_once() -> None:
    rounds = cut_rounds([(0, 5), (9, 10), (10, 30)], [95, 19, 0], [4, 5, 6], 64)
    found = [(piece.sequence, key) for pieces in rounds for piece in pieces for key in range(piece.first, piece.end)]
    assert found == [(i, key) for i, length in ((4, 100), (5, 20), (6, 20)) for key in range(length)]
    for pieces in rounds:
        ends = [0, *(piece.offset + piece.keys for piece in pieces)]
        assert [piece.offset for piece in pieces] == ends[:-1]
        assert ends[-1] <= 64
        assert len({piece.sequence for piece in pieces}) == len(pieces)
