"""Which spans are attended to in which form, and tables of them on the device: made once for all layers of a step.

Knows sizes; no queries and no latents.
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prfaas_kernels.mla.triton_rounds import Piece, cut_rounds
from prfaas_kernels.spans import Spans

_KEPT = 8  # a step needs one


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A spans that are attended to in latent space, of n rows in all."""

    spans: Spans
    """With rows side by side."""
    rows: Tensor
    """[n] int64: where those rows are among all."""
    sequences: Tensor
    """[A] int64 rows of the block table."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """Spans whose keys and values are expanded, a round after another."""

    rounds: tuple[tuple[Piece, ...], ...]
    tables: tuple[Tensor, ...]
    """The pieces of each round, [pieces, 8] int32."""


def longest_absorbed(expanded: int, rank: int) -> int:
    """The longest span for which latent space is cheaper: longer products against expanding each cached token once.

    Compares multiplications per head and cached token, t (2 rank + rope) < t (nope + rope + v) + rank (nope + v) for
    t tokens; `expanded` is nope + v.
    """
    longer = 2 * rank - expanded
    return sys.maxsize if longer <= 0 else (rank * expanded - 1) // longer


@functools.lru_cache(maxsize=_KEPT)
def plan(
    rows: tuple[tuple[int, int], ...],
    context_lens: tuple[int, ...],
    longest: int,
    round_tokens: int,
    device: torch.device,
) -> tuple[Absorbed | None, Expanded | None]:
    """Spans of up to `longest` tokens in latent space, others in rounds of `round_tokens`; None where there are none.

    `rows` and `context_lens` are those of the step's `Spans`. Its tensors are shared: nobody may write to them.
    """
    lens = [stop - start for start, stop in rows]
    short = [i for i, n in enumerate(lens) if 0 < n <= longest]
    long = [i for i, n in enumerate(lens) if n > longest]
    return (
        _absorbed(rows, context_lens, short, device) if short else None,
        _expanded(rows, context_lens, long, round_tokens, device) if long else None,
    )


def _absorbed(
    rows: Sequence[tuple[int, int]], context_lens: Sequence[int], which: list[int], device: torch.device
) -> Absorbed:
    lens = tuple(rows[i][1] - rows[i][0] for i in which)
    packed = Spans.packed(lens, tuple(context_lens[i] for i in which), device)
    places = torch.cat([torch.tensor(which), *(torch.arange(*rows[i]) for i in which)])
    sequences, some = torch.split(places.to(device, non_blocking=True), [len(which), sum(lens)])
    return Absorbed(packed, some, sequences)


def _expanded(
    rows: Sequence[tuple[int, int]],
    context_lens: Sequence[int],
    which: list[int],
    round_tokens: int,
    device: torch.device,
) -> Expanded:
    rounds = cut_rounds([rows[i] for i in which], [context_lens[i] for i in which], which, round_tokens)
    table = torch.tensor([piece for pieces in rounds for piece in pieces], dtype=torch.int32)
    tables = torch.split(table.to(device, non_blocking=True), [len(pieces) for pieces in rounds])
    return Expanded(tuple(tuple(pieces) for pieces in rounds), tuple(tables))
