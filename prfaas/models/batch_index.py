"""Where each token of a batch is written and what each sequence reads, worked out once for all layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from prfaas.core.decoder_spec import Rotary
from prfaas.models.batch import ForwardBatch
from prfaas.models.row_table import RowTable
from prfaas_kernels.rotary import rotary_cos_sin
from prfaas_kernels.spans import Spans

_NONE = Spans.of((), ())

Angles = Mapping[Rotary, tuple[Tensor, Tensor]]
"""Cosines and sines of every token's position, [T, dims / 2] each."""


@dataclass(frozen=True, slots=True)
class Round:
    """Spans of different sequences: their states can move on all at once. R = rows of all state tensors."""

    spans: Spans
    read: Tensor
    """[S, R] where the rows of each span's states are before it, in bytes; not read at a context of 0."""
    written: Tensor
    """[S, R] where they go."""


@dataclass(frozen=True, slots=True)
class BatchIndex:
    """A `ForwardBatch` resolved against the pages of a cache. D = `num_decodes`, R = rows of all state tensors."""

    num_decodes: int
    decode_rows: Tensor
    """[D, R] where the rows of each decoded sequence's states are and stay, in bytes."""
    moves: tuple[Tensor, Tensor] | None
    """Where the rows of some decoded sequences are and should be, before anything is computed; [M, R] each."""
    decode_lengths: Tensor
    """[D] tokens that each decoded sequence reads, the new one included."""
    decode_pages: Tensor
    """[D, P] cut to the longest decoded sequence."""
    token_pages: Tensor
    """[T] page of each new token."""
    token_offsets: Tensor
    """[T] its place in that page."""
    spans: Spans
    """All that is not decoded."""
    span_pages: Tensor
    """[S, P] cut to the longest of their sequences."""
    rounds: tuple[Round, ...]
    """The same spans; one that continues another is in a later round."""
    angles: Angles


def index_batch(
    batch: ForwardBatch, page_tokens: int, rows: RowTable, frequencies: Mapping[Rotary, Tensor]
) -> BatchIndex:
    """Resolves positions to pages and angles, and state pages to rows.

    Asserts what the engine guarantees of decodes: one token, a context.
    """
    decodes = batch.num_decodes
    assert sum(batch.query_lens) == batch.token_ids.shape[0]
    assert all(n == 1 for n in batch.query_lens[:decodes])
    assert all(n > 0 for n in batch.context_lens[:decodes])
    assert not any(batch.continues[: decodes + 1])
    if decodes == len(batch.query_lens):
        return _index_decodes(batch, page_tokens, rows, frequencies)
    positions, sequences = _positions(batch)
    longest = max(batch.context_lens[:decodes], default=0) + 1
    spans = _spans(batch)
    furthest = max(context + length for context, length in zip(spans.context_lens, spans.lens, strict=True))
    return BatchIndex(
        num_decodes=decodes,
        decode_rows=rows.resolve(batch.state_to[:decodes]),
        moves=_moves(batch, rows),
        decode_lengths=positions[:decodes] + 1,
        decode_pages=batch.block_table[:decodes, : -(-longest // page_tokens)],
        token_pages=batch.block_table[sequences, positions // page_tokens],
        token_offsets=positions % page_tokens,
        spans=spans,
        span_pages=batch.block_table[decodes:, : -(-furthest // page_tokens)],
        rounds=_rounds(batch, spans, rows),
        angles={rotary: rotary_cos_sin(positions, inverse) for rotary, inverse in frequencies.items()},
    )


def _index_decodes(
    batch: ForwardBatch, page_tokens: int, rows: RowTable, frequencies: Mapping[Rotary, Tensor]
) -> BatchIndex:
    """Of decodes alone, in few operations on tensors: they are as many as a small model's whole layer has."""
    contexts, device = batch.context_lens, batch.token_ids.device
    positions = torch.tensor(contexts, device=device)
    places = torch.tensor([divmod(context, page_tokens) for context in contexts], device=device)  # [D, 2]
    return BatchIndex(
        num_decodes=batch.num_decodes,
        decode_rows=rows.resolve(batch.state_to),
        moves=_moves(batch, rows),
        decode_lengths=positions + 1,
        decode_pages=batch.block_table[:, : max(contexts) // page_tokens + 1],
        token_pages=batch.block_table.gather(1, places[:, :1])[:, 0],
        token_offsets=places[:, 1],
        spans=_NONE,
        span_pages=batch.block_table[:0],
        rounds=(),
        angles={rotary: rotary_cos_sin(positions, inverse) for rotary, inverse in frequencies.items()},
    )


def _positions(batch: ForwardBatch) -> tuple[Tensor, Tensor]:
    """Of each packed token: its position in its sequence, and the sequence's index. Both [T]."""
    device = batch.token_ids.device
    contexts = torch.tensor(batch.context_lens, device=device)
    lens = torch.tensor(batch.query_lens, device=device)
    total = int(batch.token_ids.shape[0])
    sequences = torch.repeat_interleave(torch.arange(len(lens), device=device), lens, output_size=total)
    firsts = contexts - (lens.cumsum(0) - lens)  # position of a sequence's token = its row + this
    return torch.arange(total, device=device) + firsts[sequences], sequences


def _moves(batch: ForwardBatch, rows: RowTable) -> tuple[Tensor, Tensor] | None:
    """For decodes that continue from other pages than they write: from a snapshot, or to one."""
    if batch.state_from is batch.state_to:
        return None
    read, written = batch.state_from[: batch.num_decodes], batch.state_to[: batch.num_decodes]
    moved = (read != written).any(1)
    return (rows.resolve(read[moved]), rows.resolve(written[moved])) if moved.any() else None


def _spans(batch: ForwardBatch) -> Spans:
    first = batch.num_decodes
    ends = list(accumulate(batch.query_lens[first:], initial=first))
    return Spans.of(tuple(pairwise(ends)), batch.context_lens[first:], batch.token_ids.device)


def _rounds(batch: ForwardBatch, spans: Spans, rows: RowTable) -> tuple[Round, ...]:
    first = batch.num_decodes
    read, written = rows.resolve(batch.state_from[first:]), rows.resolve(batch.state_to[first:])
    numbers = _round_numbers(batch.continues[first:])
    if max(numbers) == 0:
        return (Round(spans, read, written),)
    found = []
    for number in range(max(numbers) + 1):
        some = [i for i, n in enumerate(numbers) if n == number]
        found.append(Round(spans.some(some), read[some], written[some]))
    return tuple(found)


def _round_numbers(continues: tuple[bool, ...]) -> list[int]:
    """How many spans of the same sequence come before each."""
    numbers: list[int] = []
    for goes_on in continues:
        numbers.append(numbers[-1] + 1 if goes_on else 0)
    return numbers
