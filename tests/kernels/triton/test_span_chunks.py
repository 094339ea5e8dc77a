"""Tables of chunks, and what they and those of states must not do: make a kernel for every layer and step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prfaas_kernels.causal_conv1d.triton import causal_conv1d
from prfaas_kernels.gated_delta_rule.triton import gated_delta_rule, gdn_log_decay
from prfaas_kernels.kimi_delta_attention.triton import kimi_delta_attention
from prfaas_kernels.launch import recorded
from prfaas_kernels.lightning_attention.triton import lightning_attention
from prfaas_kernels.span_chunks import SpanChunks
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows
from tests.kernels.triton.variant import Variant, variant

HEADS, SIZE, TAPS = 2, 16, 4
WIDTH = HEADS * SIZE
META = torch.device("meta")


def empty(*dims: int) -> Tensor:
    return torch.empty(dims, device=META)


def states(sequences: int, column: int, rows: int, *dims: int) -> StateRows:
    """Whose table is columns of that of all layers."""
    table = torch.empty(sequences, 77, dtype=torch.int64, device=META)[:, column : column + rows]
    arena = torch.empty(2**20, dtype=torch.uint8, device=META)
    return StateRows(arena, table, table, ((0, torch.Size(dims).numel()),), dims, torch.float32)


def convolution(lens: tuple[int, ...], column: int) -> None:
    spans = Spans.packed(lens, (1,) * len(lens), META)
    causal_conv1d(empty(sum(lens), WIDTH), empty(TAPS, WIDTH), states(len(lens), column, TAPS - 1, WIDTH), spans)


def by_head(lens: tuple[int, ...], column: int) -> None:
    rows, found = empty(3, sum(lens), HEADS, SIZE), states(len(lens), column, HEADS, SIZE, SIZE)
    log_decay = gdn_log_decay(empty(sum(lens), HEADS), empty(HEADS), empty(HEADS))
    spans = Spans.packed(lens, (1,) * len(lens), META)
    gated_delta_rule(rows[0], rows[1], rows[2], log_decay, empty(sum(lens), HEADS), found, spans)


def by_channel(lens: tuple[int, ...], column: int) -> None:
    rows, found = empty(4, sum(lens), HEADS, SIZE), states(len(lens), column, HEADS, SIZE, SIZE)
    spans = Spans.packed(lens, (1,) * len(lens), META)
    kimi_delta_attention(rows[0], rows[1], rows[2], rows[3], empty(sum(lens), HEADS), found, spans)


def lightning(lens: tuple[int, ...], column: int) -> None:
    rows, found = empty(3, sum(lens), HEADS, SIZE), states(len(lens), column, HEADS, SIZE, SIZE)
    spans = Spans.packed(lens, (1,) * len(lens), META)
    lightning_attention(rows[0], rows[1], rows[2], empty(HEADS), found, spans)


@pytest.mark.parametrize("op", [convolution, by_head, by_channel, lightning])
def test_layers_and_steps_share_kernels(op: Callable[[tuple[int, ...], int], None]) -> None:
    def variants(lens: tuple[int, ...], column: int) -> set[Variant]:
        with recorded(90) as launches:
            op(lens, column)
        return {variant(launch) for launch in launches}

    short = variants((17,), 0)
    assert variants((16,), 1) == variants((1,), 0) == variants((333, 0, 20), 3) == short
    long = variants((4000,), 0)
    assert variants((20_000,), 1) == variants((4000, 17, 300), 0) == long


def test_chunks_end_with_their_spans() -> None:
    chunks = SpanChunks.of(Spans.of(((150, 150), (4, 70), (70, 198)), (0, 3, 0)))
    assert list(zip(chunks.starts.tolist(), chunks.stops.tolist(), chunks.spans.tolist(), strict=True)) == [
        (150, 150, 0),
        (4, 68, 1),
        (68, 70, 1),
        (70, 134, 2),
        (134, 198, 2),
    ]
    assert chunks.first.tolist() == [0, 1, 3]
    tables = (chunks.starts, chunks.stops, chunks.spans, chunks.first)
    assert {(x.dtype, x.data_ptr() % 16) for x in tables} == {(torch.int32, 0)}


def test_no_spans_have_no_chunks() -> None:
    chunks = SpanChunks.of(Spans.of((), ()))
    assert len(chunks) == len(chunks.first) == 0


def test_layers_of_a_step_share_a_table() -> None:
    rows = ((3, 70), (80, 81))
    assert SpanChunks.of(Spans.of(rows, (0, 1))) is SpanChunks.of(Spans.of(rows, (5, 0)))


def test_short_spans_beside_a_long_one_have_no_programs_to_spare() -> None:
    with recorded(90) as launches:
        convolution((6400, *[10] * 100), 0)
    assert [launch.grid for launch in launches] == [(200,)]
